// Workers that take invocations and execute plain functions themselves; the thread runner's way.
#include <exception>
#include <utility>

#include "engine.hpp"
#include "spin.hpp"

namespace caller::task::detail {

namespace {
constexpr auto kSpin = std::chrono::microseconds(20);
}  // namespace

/// Any thread. If there is a slot for it: takes, and gives what that is to workers, so that none wakes for nothing.
void Engine::start_puller() {
  if (closed_.load()) return;
  {
    const Locked lock(*this);
    if (stopping_ || used_ >= slots_ || !resuming_.empty() || spinning_ > 0) return;
    ++used_;
    ++looking_;
    ++pullers_;
  }
  if (local_)
    look_locally();
  else
    look();
}

/// With a slot that has no invocation, as a worker that is yet to be found.
void Engine::look() {
  for (;;) {
    const std::uint64_t seen = arrivals_.load();
    const std::optional<std::size_t> most = begin_taking_or_leave();
    if (!most) return;
    const Pending<std::vector<InvocationRecord>> asked = store().take(id_, *most, options_.queues, true);
    if (!asked.done()) {
      (void)asked.add_done_callback([self = shared_from_this(), most = *most, seen](const PendingBase& p) {
        const auto done = Pending<std::vector<InvocationRecord>>::share(p.state());
        if (self->looked(done, most, seen)) self->look();
      });
      return;
    }
    if (!looked(asked, *most, seen)) return;
  }
}

/// Whether to look again, with the slot.
bool Engine::looked(const Pending<std::vector<InvocationRecord>>& asked, std::size_t most, std::uint64_t seen) {
  std::vector<InvocationRecord> list;
  if (const std::exception_ptr error = taken(asked, most, list)) {
    cannot_take_now(error);
    puller_left();
    return false;
  }
  if (list.empty()) {
    if (seen != arrivals_.load() && keep_slot()) return true;
    puller_left();
    return false;
  }
  {
    const Locked lock(*this);
    pullers_ += list.size() - 1;
  }
  for (auto& record : list) launch_puller(std::move(record));
  if (seen != arrivals_.load()) start_puller();
  return false;
}

/// How many a worker with a slot may take; none: its slot is gone, as somebody else is to have it.
std::optional<std::size_t> Engine::begin_taking() {
  std::optional<std::size_t> most;
  {
    const Locked lock(*this);
    most = begin_taking_locked();
  }
  if (!most) grant();
  return most;
}
/// The same for one that leaves without a slot.
std::optional<std::size_t> Engine::begin_taking_or_leave() {
  const std::optional<std::size_t> most = begin_taking();
  if (!most) {
    puller_left();
    start_puller();  // should nobody have wanted the slot
  }
  return most;
}

std::optional<std::size_t> Engine::begin_taking_locked() {
  if (!stopping_ && resuming_.empty() && used_ <= slots_) {
    const std::ptrdiff_t free = slots_ - used_;
    used_ += free;
    looking_ += free;
    ++taking_;
    return static_cast<std::size_t>(1 + free);
  }
  --used_;
  --looking_;
  return std::nullopt;
}

/// What that gave: each has a slot. Otherwise what is wrong.
std::exception_ptr Engine::taken(const Pending<std::vector<InvocationRecord>>& asked, std::size_t most,
                                 std::vector<InvocationRecord>& list) {
  const std::exception_ptr error = asked.exception();
  if (!error) list = std::move(asked.result());  // nobody else has it
  {
    const Locked lock(*this);
    for (const auto& record : list) know_locked(record, true);
    if (--taking_ == 0) early_.clear();
    looking_ -= static_cast<std::ptrdiff_t>(most);
    used_ -= static_cast<std::ptrdiff_t>(most - list.size());
  }
  if (most > list.size()) grant();
  return error;
}

void Engine::cannot_take_now(const std::exception_ptr& error) noexcept {
  cannot_take(error);
  try {
    (void)loop_.call_later(kAfterError, [self = shared_from_this()] { self->start_puller(); });
  } catch (...) {  // it has stopped
  }
}

void Engine::puller_left() {
  bool stopping = false;
  {
    const Locked lock(*this);
    --pullers_;
    stopping = stopping_;
  }
  if (stopping) on_loop([self = shared_from_this()] { self->kick(); });
}

/// It is counted already, and so is its slot.
void Engine::launch_puller(InvocationRecord record) noexcept {
  launch<&Engine::pull, &Engine::begin>(std::move(record));
}

/// Whether a worker whose slot is another's now gets one to look for more.
bool Engine::keep_slot() {
  const Locked lock(*this);
  if (stopping_ || used_ >= slots_ || !resuming_.empty()) return false;
  ++used_;
  ++looking_;
  return true;
}

/// Whether something arrives before it would be worth to let this thread sleep: waking it takes as long.
bool Engine::arrives_soon(std::uint64_t seen) {
  {
    const Locked lock(*this);
    ++spinning_;
  }
  (void)spin_until(kSpin, [&] { return arrivals_.load(std::memory_order_relaxed) != seen; });
  {
    const Locked lock(*this);
    --spinning_;
  }
  return arrivals_.load() != seen;  // who found us spinning has told before
}

/// With a slot that has no invocation. What it gives are those it has taken, which have a slot each; if none, the slot
/// is gone. `last`: what the worker has executed, whose end is told with that.
Coro<std::vector<InvocationRecord>> Engine::pull_some(std::shared_ptr<Engine> self, std::optional<End> last) {
  std::vector<InvocationRecord> list;
  bool busy = last.has_value();
  for (;;) {
    const std::uint64_t seen = self->arrivals_.load();  // before we look
    const std::optional<std::size_t> most = self->begin_taking();
    if (!most) {
      if (last) self->conclude_later(self->ending(std::move(last->change), std::move(last->active)));
      self->start_puller();  // should nobody have wanted the slot
      co_return list;
    }
    std::optional<Pending<std::vector<InvocationRecord>>> next;
    std::optional<Ending> told;
    if (last) {
      told = Ending{last->change, {}, std::move(last->active)};
      ChangeAndTake both = self->store().change_and_take(std::move(last->change), *most, self->options_.queues);
      told->told = std::move(both.changed);
      next = std::move(both.taken);
      last.reset();
    } else {
      next = self->store().take(self->id_, *most, self->options_.queues, true);
    }
    const Pending<std::vector<InvocationRecord>> asked = std::move(*next);
    if (!asked.done()) (void)co_await asked.async_wait_done();
    const std::exception_ptr error = self->taken(asked, *most, list);
    if (told && told->told.done() && !told->told.exception())
      self->forget(*told);
    else if (told)  // still on its way to the disk, or refused
      self->conclude_later(std::move(*told));
    if (error) {
      self->cannot_take_now(error);
      co_return list;
    }
    if (!list.empty()) {
      // What arrived meanwhile found no slot free, as we had asked for all of them.
      if (seen != self->arrivals_.load()) self->start_puller();
      co_return list;
    }
    if (seen == self->arrivals_.load() && !(std::exchange(busy, false) && self->arrives_soon(seen))) co_return list;
    if (!self->keep_slot()) co_return list;
  }
}

/// None: its slot is another's, or the loop's business.
Coro<std::optional<Engine::End>> Engine::run_here(std::shared_ptr<Engine> self, InvocationRecord record) {
  DefinitionPtr definition;
  try {
    definition = self->app_->find(record.task_id);
  } catch (const std::exception&) {  // the loop finds the same
  }
  const bool plain = definition && definition->plain && definition->options.timeout.count() <= 0;
  ActivePtr active;
  std::shared_ptr<const Run> run;
  std::optional<Pending<std::string>> begun;
  if (plain) {
    run = make_run(self->app_, record, self->id_, self);
    const Locked lock(*self);
    active = self->active_.at(record.id);
    if (!active->cancelled) {
      active->begun = active->here = true;
      with_run(run, [&] {
        active->pending = Caller::current().call_soon(
            [definition, format = self->app_->options.format, args = std::move(record.args)](std::stop_token stop) {
              return definition->plain(format, args, std::move(stop));
            });
      });
      begun = active->pending;
    }
  }
  if (!begun) {
    self->begin(std::move(record));
    co_return std::nullopt;
  }
  const Pending<std::string> running = *begun;
  WaitOptions how;
  how.protect = true;
  (void)co_await running.async_wait_done(how);
  const bool left_waiting = run->end();
  {
    const Locked lock(*self);
    if (std::exchange(active->over, true)) co_return std::nullopt;  // its end was told when it was asked to end
    active->left_waiting = left_waiting;
  }
  if (running.cancelled()) {
    Change ended{record.id, Status::cancelled, self->id_, {}, {}, {}};
    End end{std::move(ended), std::move(active)};
    co_return end;
  }
  std::exception_ptr error = running.exception();
  std::string result;
  if (!error) result = running.result();
  End end{outcome(*definition, record, self->id_, error, std::move(result)), std::move(active)};
  co_return end;
}

void Engine::conclude_later(Ending ending) {
  (void)loop_.call_soon(
      [self = shared_from_this(), ending = std::move(ending)]() mutable { return conclude(self, std::move(ending)); });
}

Coro<void> Engine::pull(std::shared_ptr<Engine> self, InvocationRecord first) {
  std::optional<InvocationRecord> record(std::move(first));
  std::optional<End> last;
  for (;;) {
    if (!record) {
      Coro<std::vector<InvocationRecord>> taking = pull_some(self, std::exchange(last, std::nullopt));
      std::vector<InvocationRecord> list = co_await std::move(taking);
      if (list.empty()) break;
      for (std::size_t i = 1; i < list.size(); ++i) {
        {
          const Locked lock(*self);
          ++self->pullers_;
        }
        self->launch_puller(std::move(list[i]));
      }
      record = std::move(list.front());
    }
    Coro<std::optional<End>> running = run_here(self, std::move(*record));
    record.reset();
    std::optional<End> end = co_await std::move(running);
    if (!end) {
      if (!self->keep_slot()) break;
      continue;
    }
    last = std::move(end);
    const Locked lock(*self);
    ++self->looking_;
  }
  self->puller_left();
}

}  // namespace caller::task::detail
