// Suspending and resuming: the running work, a wait for one Pending with a time or without, the guard of with_timeout.
#include <limits>

#include "core.hpp"

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
  if (ts.task != &s) return;  // suspended in run_in_place(), which has done all this; `s` may be gone
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
  if (!w.state && w.task && undelivered(*w.task)) [[unlikely]] {  // slept enough, but cancelled before it goes on
    clear_flag(*w.task, PendingState::kUndelivered);
    w.cancelled = true;
  }
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

void interrupt_wait(PendingState& task) noexcept {
  Suspension* const w = task.suspended;
  if (w && w->detach && w->detach(w)) {
    task.suspended = nullptr;
    w->cancelled = true;
    w->home->submit(w);
  } else if (!w || !w->cancelled) {  // it runs, or is being resumed: the next wait is told
    set_flag(task, PendingState::kUndelivered);
  }
}

Suspension* wait_to_leave(PendingState& s) noexcept {
  const PendingState::Word f = s.word.load(std::memory_order_acquire);
  if (f & PendingState::kTimer) {       // cancelled before it began: its timer must not keep it
    if (s.delay) drop_timer(*s.delay);  // else it has fired meanwhile, or found itself cancelled
    return nullptr;
  }
  if (f & PendingState::kDone) return nullptr;
  if (!(f & PendingState::kUndelivered))
    return nullptr;  // the coroutine met it by itself before this word of it arrived
  Suspension* const w = s.suspended;
  return w && w->detach ? w : nullptr;  // it runs, or is about to: the next await tells it
}

void resume_cancelled(PendingState& s, Suspension& w) noexcept {
  clear_flag(s, PendingState::kUndelivered);
  s.suspended = nullptr;
  w.cancelled = true;
  w.home->submit(&w);
}

// ---- one Pending ----

namespace {

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

namespace {

/// A cancellation that is due when the wait begins goes on to what is awaited, as it would a moment later. True: that
/// is an operation, whose end is to be waited for.
bool pass_on_what_is_due(PendingWait& w) {
  PendingState* const task = this_thread().task;
  if (!w.state || w.keep || !cancellation_due() || !cancel(*w.state, kCancelledWaiter)) return false;
  if (!w.state->is(PendingState::kOperation)) return false;
  clear_flag(*task, PendingState::kUndelivered);
  return true;
}

}  // namespace

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
  if (w.state->done() && !cancellation_due()) return false;
  check_self(*w.state);
  const bool due = pass_on_what_is_due(w);
  if (!begin_suspend(w, h)) return false;
  w.cancelled = due;
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

}  // namespace

PendingState* passes_on_to(Suspension& s) noexcept {
  if (s.detach != &detach_pending && s.detach != &detach_timed) return nullptr;
  PendingState* const awaited = static_cast<PendingWait&>(s).state;
  if (!awaited || s.keep || (awaited->is(PendingState::kOperation) && !awaited->is(PendingState::kProtected)))
    return nullptr;
  return awaited;
}

bool leave(Suspension& s) noexcept {
  auto& w = static_cast<PendingWait&>(s);
  auto* const timed = s.detach == &detach_timed ? static_cast<TimedWait*>(&w) : nullptr;
  if ((timed && timed->timed_out) || !remove_waiter(*w.state, w)) return false;
  if (timed) remove_timer(*timed->home, timed->timer);
  return true;
}

namespace {

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
  const bool due = pass_on_what_is_due(w);
  if (!begin_suspend(w, h)) return false;
  w.cancelled = due;
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
  if (due || timeout_ns == std::numeric_limits<std::int64_t>::max()) return true;
  if (timeout_ns <= 0 && !w.state) {
    w.timed_out = true;
    w.home->push_local(&w);
    return true;
  }
  w.timer.when = time_after(w.home->now(), timeout_ns);
  w.home->timers.add(w.timer);
  return true;
}

void forget_timed(TimedWait& w) noexcept {
  remove_timer(*w.home, w.timer);
  if (w.state) remove_waiter(*w.state, w);
}

// ---- with_timeout ----

namespace {

void note_fired(TimeoutGuard& guard) noexcept {
  guard.fired = true;
  guard.older = std::exchange(guard.home->fired_guards, &guard);
}

/// Out of the list of its Core. True: a guard around it has fired, too.
bool forget_fired(TimeoutGuard& guard) noexcept {
  bool another = false;
  for (TimeoutGuard** at = &guard.home->fired_guards; *at;) {
    if (*at == &guard) {
      *at = guard.older;
      continue;
    }
    another |= (*at)->task == guard.task;
    at = &(*at)->older;
  }
  return another;
}

void guard_due(Op* op, OpAct why) {
  if (why != OpAct::run) return;
  auto& guard = *static_cast<TimeoutGuard*>(static_cast<TimerNode*>(op));
  note_fired(guard);
  interrupt_wait(*guard.task);
}

}  // namespace

void begin_guard(TimeoutGuard& guard, std::int64_t timeout_ns) {
  const ThreadState& ts = this_thread();
  if (!ts.task) throw NoRunningCaller("with_timeout: no work of a Caller runs in " + describe_this_thread());
  guard.home = ts.core;
  guard.task = ts.task;
  guard.act = &guard_due;
  if (timeout_ns <= 0) {
    note_fired(guard);
    return set_flag(*ts.task, PendingState::kUndelivered);
  }
  Core& core = *ts.core;
  guard.when = time_after(core.now(), timeout_ns);
  core.timers.add(guard);
}

bool end_guard(TimeoutGuard& guard) noexcept {
  if (!guard.fired) {
    if (guard.position != TimerNode::kIdle) guard.home->timers.remove(guard);
    return false;
  }
  const bool another = forget_fired(guard);  // what it has interrupted counts as this one's: it begins anew
  const PendingState::Word w = lock_word(*guard.task);
  const bool ours = !(w & PendingState::kCancelled);
  constexpr PendingState::Word undelivered = PendingState::kUndelivered;
  if (!(w & PendingState::kDone)) unlock_word(*guard.task, !ours ? w : another ? w | undelivered : w & ~undelivered);
  return ours;
}

void drop_guard(TimeoutGuard& guard) noexcept {
  if (guard.fired) forget_fired(guard);
  if (guard.position != TimerNode::kIdle) remove_timer(*guard.home, guard);
}

}  // namespace caller::detail
