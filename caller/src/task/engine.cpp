#include "engine.hpp"

#include "runtime/shielded_wait.hpp"

#include <chrono>
#include <utility>

namespace caller::task::detail {

Executor::~Executor() = default;

Engine::Engine(AppPtr app, RunnerOptions options, std::string description, std::size_t slots,
               std::unique_ptr<Executor> executor)
    : app_(std::move(app)),
      options_(std::move(options)),
      description_(std::move(description)),
      slots_(static_cast<std::ptrdiff_t>(slots)),
      id_(new_uuid()),
      loop_(caller::new_thread,
            [&] {
              CallerOptions o;
              o.name = "task-runner";
              if (options_.min_threads) o.max_idle_workers = options_.min_threads;
              return o;
            }()),
      executor_(std::move(executor)) {}

void Engine::start() {
  if (options_.on_start) options_.on_start();
  try {
    executor_->open(*this);
    store().heartbeat(told(), app_->options.lease).wait();
    if (executor_->is_here()) local_ = app_->local_store();
  } catch (...) {
    finished();
    throw;
  }
  listener_ = store().listen(id_, {[self = weak_from_this()] {
                                     if (const auto engine = self.lock()) engine->work_arrived();
                                   },
                                   [self = weak_from_this()](const std::string& invocation) {
                                     if (const auto engine = self.lock())
                                       engine->on_loop([engine, invocation] { engine->ask_to_end(invocation, false); });
                                   }});
  triggers_ = std::make_shared<TriggerService>(app_, loop_, id_);
  triggers_->start();
  if (executor_->is_here()) heart_.emplace(caller::new_thread, CallerOptions{.name = "task-heart"});
  beat_ = (heart_ ? *heart_ : loop_).call_soon([self = shared_from_this()] { return self->keep_alive(); });
  (void)loop_.call_soon([self = shared_from_this()] { return self->serve(); });
}

Pending<void> Engine::stop(bool at_once) {
  {
    const Locked lock(*this);
    stopping_ = true;
  }
  on_loop([self = shared_from_this(), at_once] {
    std::vector<std::string> all;
    {
      const Locked lock(*self);
      if (at_once) {
        for (const auto& [invocation, active] : self->active_) all.push_back(invocation);
        for (const auto& active : self->local_active_) all.emplace_back(active->call->id());
      }
    }
    for (const auto& invocation : all) self->ask_to_end(invocation, true);
    self->kick();
  });
  return stopped_;
}

void Engine::end() {
  caller::detail::end_loop(loop_);
  if (heart_) caller::detail::end_loop(*heart_);
}

void Engine::finished() noexcept {
  try {
    if (options_.on_stop) options_.on_stop();
  } catch (...) {
    app_->log("the runner's on_stop failed: " + ExceptionRecord::of(std::current_exception()).message);
  }
}

RunnerRecord Engine::told() const {
  RunnerRecord r;
  r.id = id_;
  r.description = options_.description.empty() ? description_ : options_.description;
  return r;
}

// ---- slots ----

void Engine::give_back_slot() noexcept { release_slot(); }
Pending<void> Engine::take_slot_again() {
  Pending<void> granted;
  {
    // Not queued where there is one: what arrived meanwhile would find nobody who may take it, and who looked
    // afterwards?
    const Locked lock(*this);
    if (used_ >= slots_ || !resuming_.empty()) {
      resuming_.push_back(granted);
      return granted;
    }
    ++used_;
  }
  granted.set_result();
  return granted;
}
/// Those that get a slot now; it is theirs already.
std::vector<Pending<void>> Engine::grants_locked() {
  std::vector<Pending<void>> out;
  for (; !resuming_.empty() && used_ < slots_; ++used_) {
    out.push_back(std::move(resuming_.front()));
    resuming_.pop_front();
  }
  return out;
}
void Engine::grant() {
  for (;;) {
    std::vector<Pending<void>> granted;
    {
      const Locked lock(*this);
      granted = grants_locked();
    }
    std::ptrdiff_t unwanted = 0;
    for (const auto& p : granted) unwanted += !p.set_result();
    if (unwanted == 0) return;
    const Locked lock(*this);
    used_ -= unwanted;
  }
}
void Engine::release_slot() {
  {
    const Locked lock(*this);
    --used_;
  }
  grant();
  if (executor_->is_here())
    start_puller();
  else
    on_loop([self = shared_from_this()] { self->kick(); });
}

// ---- the loop ----

/// Any thread. Of those that the loop takes, only the first call since the queue was found empty has anything to do.
void Engine::work_arrived() {
  if (executor_->is_here()) {
    arrivals_.fetch_add(1);
    start_puller();
  } else if (idle_.exchange(false)) {
    on_loop([self = shared_from_this()] { self->kick(); });
  }
}
void Engine::kick() {
  ++kicks_;
  if (sleeping_) std::exchange(sleeping_, std::nullopt)->set_result();
}

/// Since `kicks_` was `seen`.
Coro<void> Engine::sleep_unless_kicked(std::uint64_t seen) {
  if (seen != kicks_) co_return;
  sleeping_.emplace();
  const Pending<void> sleep = *sleeping_;
  co_await sleep;
}
void Engine::cannot_take(const std::exception_ptr& error) const {
  app_->log("the runner cannot take invocations: " + ExceptionRecord::of(error).message);
}

/// Takes, for an executor that is elsewhere.
Coro<void> Engine::serve_elsewhere() {
  for (;;) {
    const std::uint64_t seen = kicks_;
    std::size_t free = 0;
    {
      const Locked lock(*this);
      if (stopping_) co_return;
      if (used_ < slots_ && resuming_.empty()) free = static_cast<std::size_t>(slots_ - used_);
      taking_ += free > 0;
    }
    if (free > 0) {
      idle_ = true;  // before we look: what arrives afterwards wakes us
      const Pending<std::vector<InvocationRecord>> asked = store().take(id_, free, options_.queues, true);
      if (!asked.done()) (void)co_await asked.async_wait_done();
      std::vector<InvocationRecord> list;
      const std::exception_ptr error = asked.exception();
      if (!error) list = std::move(asked.result());  // nobody else has it
      {
        const Locked lock(*this);
        for (const auto& record : list) know_locked(record, false);
        if (--taking_ == 0) early_.clear();
      }
      if (error) {
        cannot_take(error);
        co_await sleep_for(kAfterError);
        continue;
      }
      const bool some = !list.empty();
      for (auto& record : list) begin(std::move(record));
      if (some) continue;
    }
    Coro<void> sleeping = sleep_unless_kicked(seen);
    co_await std::move(sleeping);
  }
}

Coro<void> Engine::serve() {
  if (executor_->is_here()) {
    start_puller();
  } else {
    Coro<void> serving = serve_elsewhere();
    co_await std::move(serving);
  }
  for (;;) {
    const std::uint64_t seen = kicks_;
    {
      const Locked lock(*this);
      if (stopping_ && active_.empty() && local_active_.empty() && pullers_ == 0 && codes_ == 0) break;
    }
    Coro<void> sleeping = sleep_unless_kicked(seen);
    co_await std::move(sleeping);
  }
  Coro<void> closed = executor_->close();
  co_await std::move(closed);
  WaitOptions to_the_end;
  to_the_end.protect = true;
  (void)beat_.cancel();
  (void)co_await beat_.async_wait_done(to_the_end);  // a beat after we are forgotten would make us known again
  if (purging_) {
    (void)purging_->cancel();
    (void)co_await purging_->async_wait_done(to_the_end);
  }
  Coro<void> no_triggers = triggers_->stop();
  co_await std::move(no_triggers);
  listener_.reset();
  const Pending<void> forgotten = store().forget_runner(id_);
  (void)co_await forgotten.async_wait_done();
  finished();
  stopped_.set_result();
}

/// On the loop, or, if there is one, in the heart's thread.
Coro<void> Engine::keep_alive() {
  // A purge may look at everything there is, so not at every heartbeat.
  const std::chrono::milliseconds kept = app_->options.auto_final_invocation_purge;
  auto next_purge = std::chrono::steady_clock::now();
  for (;;) {
    co_await sleep_for(app_->options.lease / 3);
    const Pending<void> beat = store().heartbeat(told(), app_->options.lease);
    (void)co_await beat.async_wait_done();
    if (beat.exception()) app_->log("the runner's heartbeat failed: " + ExceptionRecord::of(beat.exception()).message);
    triggers_->beat();
    const Pending<std::vector<std::string>> back = store().recover(app_->options.max_pending);
    (void)co_await back.async_wait_done();
    if (kept.count() > 0 && (!purging_ || purging_->done()) && std::chrono::steady_clock::now() >= next_purge) {
      next_purge = std::chrono::steady_clock::now() + kept / 24;
      purging_ = Caller::current().call_soon([self = shared_from_this()] { return purge_old(self); });
    }
  }
}

/// May take longer than a lease: no beat waits for it.
Coro<void> Engine::purge_old(std::shared_ptr<Engine> self) {
  const AppPtr& app = self->app_;
  const Pending<std::size_t> purged = self->store().purge(app->options.auto_final_invocation_purge);
  (void)co_await purged.async_wait_done();
  if (purged.exception()) app->log("what is old cannot be purged: " + ExceptionRecord::of(purged.exception()).message);
  try {
    co_await forget_ended_workflows(app);
  } catch (const PendingCancelled&) {
    throw;
  } catch (...) {
    app->log("looking for ended workflows: " + ExceptionRecord::of(std::current_exception()).message);
  }
}

// ---- one invocation ----

/// `has_slot`: else it gets one.
void Engine::know_locked(const InvocationRecord& record, bool has_slot) {
  used_ += !has_slot;
  const ActivePtr active = active_[record.id] = std::make_shared<Active>();
  active->give_up = stopping_;  // it was on its way to us
  active->cancelled = stopping_ || early_.contains(record.id);
  active->keyed = !record.running_key.empty();
}

void Engine::begin(InvocationRecord record) {
  (void)loop_.call_soon([self = shared_from_this(), record = std::move(record)]() mutable {
    return execute(std::move(self), std::move(record));
  });
}

void Engine::ask_to_end(const std::string& invocation, bool give_up) {
  std::optional<Pending<std::string>> here;
  ActivePtr known;
  bool keyed = false;
  {
    const Locked lock(*this);
    if (const auto it = active_.find(invocation); it != active_.end()) {
      known = it->second;
    } else {
      for (const auto& active : local_active_)
        if (active->call->id() == invocation) known = active;
    }
    if (!known) {
      if (taking_ > 0) early_.insert(invocation);
      return;
    }
    Active& active = *known;
    active.cancelled = true;
    active.give_up = active.give_up || give_up;
    if (!active.begun || active.over) return;
    if (active.here) {
      active.over = true;  // whatever its code still does
      here = active.pending;
      give_up = active.give_up;
      keyed = active.call ? !active.call->running_key().empty() : active.keyed;
    }
  }
  if (!here) return executor_->cancel(invocation, give_up);
  (void)here->cancel(give_up ? "the runner was stopped" : "cancelled");
  Change end{invocation, give_up ? Status::killed : Status::cancelled, id_, {}, {}, {}};
  std::optional<PendingBase> code;
  if (keyed && !here->done()) {
    end.code_goes_on = true;
    code = *here;
  }
  (void)loop_.call_soon([self = shared_from_this(), told = ending(std::move(end), known, std::move(code))]() mutable {
    return conclude(std::move(self), std::move(told));
  });
  release_slot();
}

/// On the loop. The slot is the invocation's.
Coro<void> Engine::execute(std::shared_ptr<Engine> self, InvocationRecord record) {
  const std::string id = record.id;
  bool cancelled = false, give_up = false;
  ActivePtr active;
  {
    const Locked lock(*self);
    active = self->active_.at(id);
    active->begun = true;
    cancelled = active->cancelled;
    give_up = active->give_up;
  }
  Worked end;
  end.change = {id, give_up ? Status::killed : Status::cancelled, self->id_, {}, {}, {}};
  if (!cancelled) {
    Coro<Worked> work = self->executor_->work(std::move(record));
    end = co_await std::move(work);
  }
  active->left_waiting = end.left_waiting;
  Ending telling = self->ending(std::move(end.change), std::move(active), std::move(end.code));
  self->release_slot();  // before that is written: what is taken next is asked for with it
  Coro<void> rest = conclude(self, std::move(telling));
  co_await std::move(rest);
}

// ---- the runner ----

EngineRunner::~EngineRunner() {
  if (started_) caller::detail::wait_to_the_end(engine_->stop(true));
  engine_->end();
}
void EngineRunner::start() {
  if (used_.exchange(true)) throw RunnerError("runner " + id() + " was started before");
  engine_->start();
  started_ = true;
}
Pending<void> EngineRunner::stop(bool at_once) {
  if (started_) return engine_->stop(at_once);
  Pending<void> done;
  done.set_result();
  return done;
}

}  // namespace caller::task::detail
