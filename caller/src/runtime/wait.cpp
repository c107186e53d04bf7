// Waiting for a Pending with all that WaitOptions say: as a thread, in a nested turn of the loop, as a coroutine.
#include <algorithm>
#include <limits>

#include "core.hpp"
#include "futex.hpp"

namespace caller::detail {

namespace {

/// A thread with no loop: it sleeps on the word.
struct ThreadWaiter : Waiter {
  std::atomic<std::uint32_t> fired{0};
  ThreadWaiter() {
    fire = [](Waiter* x) noexcept {
      auto& self = *static_cast<ThreadWaiter*>(x);
      self.fired.store(1, std::memory_order_release);
      futex_wake(self.fired);
    };
  }
};

bool block_thread(PendingState& s, std::optional<std::int64_t> timeout_ns, bool keep) {
  constexpr std::int64_t kLong = 1'000'000;  // beside which being late by some microseconds is nothing
  if (timeout_ns.value_or(kLong) >= kLong && waits_for_new_thread() && wait_awake([&s] { return s.done(); }))
    return true;
  ThreadWaiter w;
  if (!add_waiter(s, w)) return true;
  futex_wait(w.fired, 0, timeout_ns);
  if (!remove_waiter(s, w)) return true;  // done; on return the firing is over
  if (!keep) cancel(s, "a wait for it timed out");
  if (!keep && s.is(PendingState::kOperation)) block_thread(s, std::nullopt, true);
  return false;
}

/// A function that waits on its own loop's thread: the loop turns inside it.
struct NestedWait : Suspension, Waiter {
  PendingState* awaited = nullptr;
  bool woken = false;
  struct Timer : TimerNode {
    NestedWait* owner = nullptr;
  } timer;
};

}  // namespace

bool block_on(PendingState& s, std::optional<std::int64_t> timeout_ns, bool keep, bool shield) {
  if (s.done()) return true;
  ThreadState& ts = this_thread();
  Core* core = ts.core;
  // A loop that only drops things any more (a destructor waits) turns no longer.
  if (core && core->dropping() && core->drop_awaited(s)) return true;
  if (!core || core->dropping()) return block_thread(s, timeout_ns, keep);
  if (&s == ts.task) throw Error(Errc::deadlock, "Pending::wait: work cannot wait for its own Pending");
  PendingState* task = ts.task;
  if (!shield && cancellation_due()) {
    clear_flag(*task, PendingState::kUndelivered);
    if (!keep) cancel(s, kCancelledWaiter);
    if (!keep && s.is(PendingState::kOperation)) block_on(s, std::nullopt, true, true);
    throw PendingCancelled(cancel_message(*task));
  }

  NestedWait w;
  w.awaited = &s;
  w.home = core;
  w.task = task;
  w.act = [](Op* op, OpAct) {
    auto& self = *static_cast<NestedWait*>(static_cast<Suspension*>(op));
    self.woken = true;
    self.home->break_drain();
  };
  w.fire = [](Waiter* x) noexcept {
    auto& self = *static_cast<NestedWait*>(x);
    self.home->submit(static_cast<Suspension*>(&self));
  };
  w.detach = [](Suspension* x) noexcept {
    auto& self = *static_cast<NestedWait*>(x);
    return !self.timed_out && remove_waiter(*self.awaited, self);
  };
  w.timer.owner = &w;
  w.timer.act = [](Op* op, OpAct) {
    auto& self = *static_cast<NestedWait::Timer*>(static_cast<TimerNode*>(op))->owner;
    if (!remove_waiter(*self.awaited, self)) return;
    self.timed_out = self.woken = true;
  };
  if (!add_waiter(s, w)) return true;
  Suspension* const outer = task ? task->suspended : nullptr;
  if (task && !shield) task->suspended = &w;
  if (timeout_ns) {
    w.timer.when = time_after(core->now(), *timeout_ns);
    core->timers.add(w.timer);
  }
  const Core::Pump pump(*core);
  const bool outermost = core->outermost();
  if (outermost) core->enter_running();
  // A stop cancels the work it finds in the Core's list: this work waits, so it belongs there.
  const bool linked = task && !task->linked;
  if (linked) core->link_task(*task);
  bool broken = false;
  bool* const outer_broken = std::exchange(core->nested_broken, &broken);
  core->loop_until([&] { return w.woken || broken || (outermost && core->stop_ready()); });
  core->nested_broken = outer_broken;
  const bool listed = !w.woken && remove_waiter(s, w);
  // Who took it out of the list has queued it, or is about to: it must not lie there when this frame is gone.
  if (!w.woken && !listed) core->loop_until([&] { return w.woken; });
  // A coroutine stays: what it has started in here is younger, and goes before it when the loop is abandoned.
  if (linked && !task->frame()) core->unlink_task(*task);
  core->timers.remove(w.timer);
  if (task) task->suspended = outer;
  if (listed) {  // the loop was stopped under us
    if (outermost) core->finish_if_stopped();
    throw CallerStopped("Pending::wait: the Caller \"" + core->name + "\" was stopped while it turned");
  }
  if (w.cancelled) {
    if (!keep) cancel(s, kCancelledWaiter);
    if (!keep && s.is(PendingState::kOperation)) block_on(s, std::nullopt, true, true);
    throw PendingCancelled(cancel_message(*task));
  }
  if (w.timed_out) {
    if (!keep) cancel(s, "a wait for it timed out");
    if (!keep && s.is(PendingState::kOperation)) block_on(s, std::nullopt, true, true);
    return false;
  }
  return true;
}

}  // namespace caller::detail

namespace caller {

bool PendingBase::wait_done(WaitOptions options) const {
  const PendingBase keep = *this;
  std::optional<std::int64_t> ns;
  if (options.timeout) ns = std::max<std::int64_t>(0, options.timeout->count());
  return detail::block_on(*state_, ns, options.protect, options.shield);
}

namespace {

struct DoneAwaiter : detail::TimedWait {
  PendingBase held;
  std::int64_t timeout_ns;
  DoneAwaiter(const PendingBase& p, std::optional<Duration> timeout, bool protect)
      : held(p),
        timeout_ns(timeout ? std::max<std::int64_t>(0, timeout->count()) : std::numeric_limits<std::int64_t>::max()) {
    state = p.state();
    keep = protect;
  }
  DoneAwaiter(const DoneAwaiter&) = delete;
  DoneAwaiter& operator=(const DoneAwaiter&) = delete;
  ~DoneAwaiter() {
    if (handle) detail::forget_timed(*this);
  }
  bool await_ready() const noexcept { return held.done() && !detail::cancellation_due(); }
  bool await_suspend(std::coroutine_handle<> h) { return detail::suspend_timed(*this, h, timeout_ns); }
  bool await_resume() {
    handle = {};
    detail::throw_if_cancelled(*this);
    return !timed_out;
  }
};

struct Done {
  using caller_awaitable = void;
  const PendingBase& pending;
  std::optional<Duration> timeout;
  bool protect;
  DoneAwaiter operator co_await() const { return DoneAwaiter(pending, timeout, protect); }
};

}  // namespace

Coro<bool> PendingBase::async_wait_done(WaitOptions options) const {
  const PendingBase self = *this;
  detail::Core& core = detail::require_core("async_wait");
  const std::int64_t start = options.timeout ? core.now() : 0;
  std::exception_ptr held_back;
  for (;;) {
    std::optional<Duration> left = options.timeout;
    // Cut first: what is left of a time before all times would be one after all times.
    if (left) left = std::max(Duration::zero(), std::max(Duration::zero(), *left) - Duration(core.now() - start));
    bool finished = false;
    try {
      finished = co_await Done{self, left, options.protect || options.shield};
    } catch (const PendingCancelled&) {
      if (!options.shield || core.forsaken()) throw;
      held_back = std::current_exception();
      continue;
    }
    if (!finished && !options.protect) {
      self.cancel("a wait for it timed out");
      // An operation may use the waiter's buffers until it has ended.
      while (self.state()->is(detail::PendingState::kOperation) && !self.is_protected() && !self.done()) {
        try {
          co_await Done{self, std::nullopt, true};
        } catch (const PendingCancelled&) {
          held_back = std::current_exception();
        }
      }
    }
    if (held_back) std::rethrow_exception(held_back);
    co_return finished;
  }
}

Coro<void> PendingBase::cancel_wait(std::string message) const {
  const PendingBase self = *this;
  self.cancel(std::move(message));
  co_await self.async_wait_done({.timeout = {}, .protect = true});
}

}  // namespace caller
