// Suspending, resuming, timers, and blocking waits.
#include <cassert>
#include <limits>

#include "core.hpp"
#include "futex.hpp"

namespace caller::detail {

Core& require_core(const char* operation) {
  if (Core* c = this_thread().core) return *c;
  throw NoRunningCaller(std::string(operation) + " in " + describe_this_thread());
}

// ---- the running work ----

namespace {

bool undelivered(const PendingState& s) noexcept {
  return s.word.load(std::memory_order_relaxed) & PendingState::kUndelivered;
}

void came_back(PendingState& s) noexcept {
  ThreadState& ts = this_thread();
  ts.task = nullptr;
  s.context = std::exchange(ts.context, nullptr);
  if (s.finished) {
    if (s.linked) s.core->unlink_task(s);
    return s.act(&s, OpAct::finish);
  }
  if (!s.linked) s.core->link_task(s);
  // Cancelled while it ran: this suspension is the first chance to tell it.
  if (undelivered(s)) [[unlikely]]
    deliver_cancel(s);
}

void resume_now(Suspension& s) noexcept {
  const std::coroutine_handle<> h = s.handle;
  if (PendingState* const task = s.task) [[likely]] {
    task->suspended = nullptr;
    enter_work(*task);
    h.resume();
    came_back(*task);
  } else {
    h.resume();
  }
}

}  // namespace

void coroutine_returned(PendingState& s) noexcept { came_back(s); }

void resume_op(Op* op, OpAct why) {
  if (why == OpAct::run) resume_now(*static_cast<Suspension*>(op));
}

namespace {

void resume_timed_op(Op* op, OpAct why) {
  auto& w = *static_cast<TimedWait*>(static_cast<Suspension*>(op));
  if (why != OpAct::run) return;
  remove_timer(*w.home, w.timer);
  resume_now(w);
}

}  // namespace

bool begin_suspend(Suspension& s, std::coroutine_handle<> h) {
  const ThreadState& ts = this_thread();
  if (!ts.core) [[unlikely]]
    require_core("co_await");
  if (ts.task) [[likely]] {
    if (undelivered(*ts.task)) [[unlikely]] {
      clear_flag(*ts.task, PendingState::kUndelivered);
      s.cancelled = true;
      s.handle = {};
      return false;
    }
    ts.task->suspended = &s;
  }
  s.home = ts.core;
  s.task = ts.task;
  s.handle = h;
  s.act = &resume_op;
  s.detach = nullptr;
  return true;
}

void abort_suspend(Suspension& s) noexcept {
  if (s.task) s.task->suspended = nullptr;
  s.handle = {};
}

void resume_later(Suspension& s) noexcept { s.home->submit(&s); }

void throw_cancelled(Suspension& s) {
  s.cancelled = false;
  PendingState* t = this_thread().task;
  throw PendingCancelled(t ? cancel_message(*t) : "the wait was cancelled");
}

void deliver_cancel(PendingState& s) noexcept {
  const PendingState::Word f = s.word.load(std::memory_order_acquire);
  if (f & PendingState::kTimer) {       // cancelled before it began: its timer must not keep it
    if (s.delay) drop_timer(*s.delay);  // else it has fired meanwhile, or found itself cancelled
    return;
  }
  if (f & PendingState::kDone) return;
  if (!(f & PendingState::kUndelivered)) return;  // the coroutine met it by itself before this word of it arrived
  Suspension* const w = s.suspended;
  if (!w || !w->detach) return;  // it runs, or is about to: the next await tells it
  if (!w->detach(w)) return;
  clear_flag(s, PendingState::kUndelivered);
  s.suspended = nullptr;
  w->cancelled = true;
  w->home->submit(w);
}

// ---- one Pending ----

namespace {

const char kCancelledWaiter[] = "its waiter was cancelled";

/// An operation uses buffers of its waiter, so a waiter that is cancelled passes that on and still waits for the end.
bool cancel_operation(PendingWait& w) noexcept {
  try {
    if (!cancel(*w.state, kCancelledWaiter)) return false;  // it has ended: the waiter is being resumed
    w.cancelled = true;
    clear_flag(*w.task, PendingState::kUndelivered);
  } catch (...) {  // no memory for the message
  }
  return false;
}

}  // namespace

bool detach_pending(Suspension* s) noexcept {
  auto& w = *static_cast<PendingWait*>(s);
  PendingState& awaited = *w.state;
  if (awaited.is(PendingState::kOperation) && !awaited.is(PendingState::kProtected) && !w.keep)
    return cancel_operation(w);
  if (!remove_waiter(awaited, w)) return false;
  if (!w.keep) {
    try {
      cancel(awaited, kCancelledWaiter);
    } catch (...) {  // no memory for the message
    }
  }
  return true;
}

void fire_pending(Waiter* x) noexcept {
  auto& w = *static_cast<PendingWait*>(x);
  submit(*w.home, static_cast<Suspension*>(&w));
}

namespace {

void check_self(const PendingState& s) {
  if (&s == this_thread().task) [[unlikely]]
    throw Error(Errc::deadlock, "co_await: work cannot wait for its own Pending");
}

}  // namespace

bool suspend_on_slow(PendingWait& w, std::coroutine_handle<> h) {
  check_self(*w.state);
  if (!begin_suspend(w, h)) return false;
  w.fire = &fire_pending;
  w.detach = &detach_pending;
  if (add_waiter(*w.state, w)) [[likely]]
    return true;
  abort_suspend(w);
  return false;
}

void forget_wait(PendingWait& w) noexcept {
  // On return nobody uses `w`: either it was taken out, or its firing is over and its loop has dropped it.
  remove_waiter(*w.state, w);
}

// ---- with a time ----

namespace {

bool detach_timed(Suspension* s) noexcept {
  auto& w = *static_cast<TimedWait*>(static_cast<PendingWait*>(s));
  if (w.timed_out) return false;
  if (w.state && !detach_pending(s)) {
    if (w.cancelled) remove_timer(*w.home, w.timer);
    return false;
  }
  remove_timer(*w.home, w.timer);
  return true;
}

void timer_due(Op* op, OpAct why) {
  if (why != OpAct::run) return;
  auto& w = *static_cast<TimedWait::Timer*>(static_cast<TimerNode*>(op))->owner;
  if (w.state && !remove_waiter(*w.state, w)) return;  // done at this moment: it is being resumed
  w.timed_out = true;
  w.home->push_local(&w);
}

}  // namespace

bool suspend_timed(TimedWait& w, std::coroutine_handle<> h, std::int64_t timeout_ns) {
  if (w.state) check_self(*w.state);
  if (!begin_suspend(w, h)) return false;
  w.act = &resume_timed_op;
  w.detach = &detach_timed;
  w.timer.owner = &w;
  w.timer.act = &timer_due;
  if (w.state) {
    w.fire = &fire_pending;
    if (!add_waiter(*w.state, w)) {
      abort_suspend(w);
      return false;
    }
  }
  if (timeout_ns == std::numeric_limits<std::int64_t>::max()) return true;
  if (timeout_ns <= 0 && !w.state) {
    w.timed_out = true;
    w.home->push_local(&w);
    return true;
  }
  const std::int64_t now = w.home->now();
  const std::int64_t left = std::numeric_limits<std::int64_t>::max() - now;
  w.timer.when = now + (timeout_ns < 0 ? 0 : timeout_ns > left ? left : timeout_ns);
  w.home->timers.add(w.timer);
  return true;
}

void forget_timed(TimedWait& w) noexcept {
  remove_timer(*w.home, w.timer);
  if (w.state) remove_waiter(*w.state, w);
}

// ---- with_timeout ----

namespace {

void guard_due(Op* op, OpAct why) {
  if (why != OpAct::run) return;
  auto& guard = *static_cast<TimeoutGuard*>(static_cast<TimerNode*>(op));
  guard.fired = true;
  PendingState& task = *guard.task;
  if (Suspension* const w = task.suspended; w && w->detach && w->detach(w)) {
    task.suspended = nullptr;
    w->cancelled = true;
    w->home->submit(w);
  } else {
    set_flag(task, PendingState::kUndelivered);  // it is being resumed: the next wait is told
  }
}

}  // namespace

void begin_guard(TimeoutGuard& guard, std::int64_t timeout_ns) {
  const ThreadState& ts = this_thread();
  if (!ts.task) throw NoRunningCaller("with_timeout: no work of a Caller runs in " + describe_this_thread());
  guard.home = ts.core;
  guard.task = ts.task;
  guard.act = &guard_due;
  if (timeout_ns <= 0) {
    guard.fired = true;
    return set_flag(*ts.task, PendingState::kUndelivered);
  }
  const std::int64_t now = ts.core->now();
  guard.when = now + std::min(timeout_ns, std::numeric_limits<std::int64_t>::max() - now);
  ts.core->timers.add(guard);
}

bool end_guard(TimeoutGuard& guard) noexcept {
  if (!guard.fired) {
    if (guard.position != TimerNode::kIdle) guard.home->timers.remove(guard);
    return false;
  }
  const PendingState::Word w = lock_word(*guard.task);
  const bool ours = !(w & PendingState::kCancelled);
  if (!(w & PendingState::kDone))
    unlock_word(*guard.task, ours ? w & ~PendingState::Word{PendingState::kUndelivered} : w);
  return ours;
}

// ---- call_later ----

namespace {

/// Its time has come, or never will: the work goes on without its node.
void pass_delay(DelayNode& n, OpAct why) noexcept {
  PendingState& s = *n.state;
  Core& core = *n.core;
  if (s.alone()) {  // without a handle there is nobody else
    s.suspended = nullptr;
    s.word.store(s.word.load(std::memory_order_relaxed) & ~PendingState::Word{PendingState::kTimer},
                 std::memory_order_relaxed);
  } else {  // under the lock: whoever cancels a call with a timer uses its core under the lock
    const PendingState::Word w = lock_word(s);
    s.suspended = nullptr;
    if (!(w & PendingState::kDone)) unlock_word(s, w & ~PendingState::Word{PendingState::kTimer});
  }
  if (n.separate) deallocate(&n, sizeof n);
  if (why == OpAct::run)
    core.push_local(&s);
  else
    s.act(&s, OpAct::drop);
}

/// `fresh`: its handle has not been given to anybody yet.
void arm(DelayNode& n, bool fresh) noexcept {
  using P = PendingState;
  PendingState& s = *n.state;
  n.armed = true;
  if (fresh && s.holders() == 2 && s.word.load(std::memory_order_relaxed) == P::kWork && n.core->accepts_calls()) {
    s.delay = &n;
    s.word.store(P::kWork | P::kTimer, std::memory_order_relaxed);
    return n.core->timers.add(n);
  }
  const PendingState::Word w = lock_word(s);
  if (w & PendingState::kDone) return pass_delay(n, OpAct::drop);
  s.delay = &n;
  unlock_word(s, w | PendingState::kTimer);
  if (w & PendingState::kCancelled || !n.core->accepts_calls()) return pass_delay(n, OpAct::drop);
  n.core->timers.add(n);
}

void delay_act(Op* op, OpAct why) {
  auto& n = *static_cast<DelayNode*>(op);
  if (why == OpAct::run && !n.armed) return arm(n, false);  // it came from another thread
  pass_delay(n, why);
}

}  // namespace

void arm_delay(Core& core, PendingState& s, DelayNode* node, Duration delay) noexcept {
  if (!node) {
    node = ::new (allocate(sizeof(DelayNode))) DelayNode;
    node->separate = true;
  }
  node->core = &core;
  node->state = &s;
  node->act = &delay_act;
  const std::int64_t now = core.now();
  const std::int64_t left = std::numeric_limits<std::int64_t>::max() - now;
  node->when = now + std::min<std::int64_t>(delay.count(), left);
  if (core.on_thread() && !core.between_turns())  // the host must hear of it
    arm(*node, true);
  else if (!core.submit(node))
    pass_delay(*node, OpAct::drop);
}

void unschedule(PendingState& s) noexcept {
  DelayNode& n = *std::exchange(s.delay, nullptr);
  n.core->timers.remove(n);
  if (n.separate) deallocate(&n, sizeof n);
}

void drop_timer(TimerNode& node) noexcept {
  if (node.act != &delay_act) return;
  auto& n = static_cast<DelayNode&>(node);
  n.core->timers.remove(n);
  pass_delay(n, OpAct::drop);
}

void cancel_delays(Core& core) noexcept {
  std::vector<TimerNode*> list;
  core.timers.for_each([&](TimerNode& n) {
    if (n.act == &delay_act) list.push_back(&n);
  });
  for (TimerNode* n : list) drop_timer(*n);
}

// ---- blocking ----

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
  if (!core || core->dropping()) return block_thread(s, timeout_ns, keep);
  if (&s == ts.task) throw Error(Errc::deadlock, "Pending::wait: work cannot wait for its own Pending");
  PendingState* task = ts.task;
  if (!shield && cancellation_due()) {
    clear_flag(*task, PendingState::kUndelivered);
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
    const std::int64_t now = core->now();
    w.timer.when =
        now + std::max<std::int64_t>(0, std::min(*timeout_ns, std::numeric_limits<std::int64_t>::max() - now));
    core->timers.add(w.timer);
  }
  const Core::Pump pump(*core);
  const bool outermost = core->outermost();
  // A stop cancels the work it finds in the Core's list: this work waits, so it belongs there.
  const bool linked = task && !task->linked;
  if (linked) core->link_task(*task);
  bool broken = false;
  bool* const outer_broken = std::exchange(core->nested_broken, &broken);
  core->loop_until([&] { return w.woken || broken || (outermost && core->stop_ready()); });
  core->nested_broken = outer_broken;
  // A coroutine stays: what it has started in here is younger, and goes before it when the loop is abandoned.
  if (linked && !task->frame) core->unlink_task(*task);
  core->timers.remove(w.timer);
  if (task) task->suspended = outer;
  if (!w.woken) {  // the loop was stopped under us
    if (!remove_waiter(s, w)) return true;
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
    if (left) left = std::max(Duration::zero(), *left - Duration(core.now() - start));
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
