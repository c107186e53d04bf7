#include "engine.hpp"

#include <chrono>
#include <utility>

namespace caller::task::detail {

namespace {
constexpr auto kAfterError = std::chrono::milliseconds(200);
}

Executor::~Executor() = default;

Engine::Engine(AppPtr app, RunnerOptions options, std::string description, std::size_t slots,
               std::unique_ptr<Executor> executor)
    : app_(std::move(app)),
      options_(std::move(options)),
      description_(std::move(description)),
      slots_(slots),
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
  beat_ = loop_.call_soon([self = shared_from_this()] { return self->keep_alive(); });
  (void)loop_.call_soon([self = shared_from_this()] { return self->serve(); });
}

Pending<void> Engine::stop(bool at_once) {
  on_loop([self = shared_from_this(), at_once] {
    self->stopping_ = true;
    if (at_once)
      for (const auto& [invocation, active] : self->active_) self->ask_to_end(invocation, true);
    self->kick();
  });
  return stopped_;
}

void Engine::end() {
  loop_.stop(true);
  loop_.stopped().wait_done();
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

void Engine::give_back_slot() noexcept {
  on_loop([self = shared_from_this()] { self->release_slot(); });
}
Pending<void> Engine::take_slot_again() {
  Pending<void> granted;
  on_loop([self = shared_from_this(), granted] {
    self->resuming_.push_back(granted);
    self->grant();
  });
  return granted;
}
void Engine::grant() {
  while (!resuming_.empty() && used_ < slots_) {
    if (resuming_.front().set_result()) ++used_;  // else it wants none any more
    resuming_.pop_front();
  }
  working_.store(used_, std::memory_order_relaxed);
}
void Engine::release_slot() {
  --used_;
  grant();
  kick();
}

// ---- the loop ----

/// Any thread. Only the first call since the queue was found empty has anything to do.
void Engine::work_arrived() {
  if (idle_.exchange(false)) on_loop([self = shared_from_this()] { self->kick(); });
}
void Engine::kick() {
  ++kicks_;
  if (sleeping_) std::exchange(sleeping_, std::nullopt)->set_result();
}

Coro<void> Engine::serve() {
  while (!stopping_) {
    const std::uint64_t seen = kicks_;
    if (used_ < slots_ && resuming_.empty()) {
      idle_ = true;  // before we look: what arrives afterwards wakes us
      taking_ = true;
      const Pending<std::vector<InvocationRecord>> asked = store().take(id_, slots_ - used_, options_.queues, true);
      if (!asked.done()) (void)co_await asked.async_wait_done();
      taking_ = false;
      if (const auto error = asked.exception()) {
        early_.clear();
        app_->log("the runner cannot take invocations: " + ExceptionRecord::of(error).message);
        co_await sleep_for(kAfterError);
        continue;
      }
      std::vector<InvocationRecord> list = asked.result();
      const bool some = !list.empty();
      for (auto& record : list) begin(std::move(record));
      early_.clear();
      if (some) continue;
    }
    if (seen != kicks_) continue;
    sleeping_.emplace();
    const Pending<void> sleep = *sleeping_;
    co_await sleep;
  }
  while (!active_.empty()) {
    sleeping_.emplace();
    const Pending<void> sleep = *sleeping_;
    co_await sleep;
  }
  Coro<void> closed = executor_->close();
  co_await std::move(closed);
  (void)beat_.cancel();
  Coro<void> no_triggers = triggers_->stop();
  co_await std::move(no_triggers);
  listener_.reset();
  const Pending<void> forgotten = store().forget_runner(id_);
  (void)co_await forgotten.async_wait_done();
  finished();
  stopped_.set_result();
}

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
    if (kept.count() > 0 && std::chrono::steady_clock::now() >= next_purge) {
      next_purge = std::chrono::steady_clock::now() + kept / 24;
      const Pending<std::size_t> purged = store().purge(kept);
      (void)co_await purged.async_wait_done();
      co_await forget_ended_workflows(app_);
    }
  }
}

// ---- one invocation ----

void Engine::begin(InvocationRecord record) {
  ++used_;
  working_.store(used_, std::memory_order_relaxed);
  Active& active = active_[record.id];
  active.give_up = stopping_;  // it was on its way to us
  active.cancelled = stopping_ || early_.contains(record.id);
  (void)loop_.call_soon([self = shared_from_this(), record = std::move(record)]() mutable {
    return execute(std::move(self), std::move(record));
  });
}

void Engine::ask_to_end(const std::string& invocation, bool give_up) {
  const auto it = active_.find(invocation);
  if (it == active_.end()) {
    if (taking_) early_.insert(invocation);
    return;
  }
  it->second.cancelled = true;
  it->second.give_up = it->second.give_up || give_up;
  if (it->second.begun) executor_->cancel(invocation, give_up);
}

Coro<void> Engine::execute(std::shared_ptr<Engine> self, InvocationRecord record) {
  const std::string id = record.id;
  Active& active = self->active_.at(id);
  active.begun = true;
  Change end{id, active.give_up ? Status::killed : Status::cancelled, self->id_, {}, {}, {}};
  if (!active.cancelled) {
    Coro<Change> work = self->executor_->work(std::move(record));
    end = co_await std::move(work);
  }
  const Status to = end.to;
  // It may fail while it waits for another one, whose end it will not see.
  const bool may_be_paused = to == Status::failed || to == Status::retry;
  std::optional<Change> again;
  if (may_be_paused) again = end;
  const Pending<void> ending = self->store().change(std::move(end));
  self->release_slot();  // before that is written: what is taken next is asked for with it
  const bool ended = co_await self->told(ending);
  if (!ended && may_be_paused) {
    Change resumed{id, Status::resumed, self->id_, {}, {}, {}};
    const Pending<void> resuming = self->store().change(std::move(resumed));
    const bool goes_on = co_await self->told(resuming);
    if (goes_on) {
      const Pending<void> once_more = self->store().change(std::move(*again));
      (void)co_await self->told(once_more);
    }
  }
  if (to == Status::killed) {
    Change back{id, Status::rerouted, {}, {}, {}, {}};
    const Pending<void> going_back = self->store().change(std::move(back));
    (void)co_await self->told(going_back);
  }
  self->active_.erase(id);
  self->kick();
}

Coro<bool> Engine::told(Pending<void> change) const {
  if (!change.done()) (void)co_await change.async_wait_done();
  if (!change.exception()) co_return true;
  app_->log(ExceptionRecord::of(change.exception()).message);
  co_return false;
}

// ---- the runner ----

EngineRunner::~EngineRunner() {
  if (started_) engine_->stop(true).wait_done();
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
