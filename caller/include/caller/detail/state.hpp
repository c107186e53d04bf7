// The shared state behind a Pending. docs/ARCHITECTURE.md, "Pending", states the protocol; in short:
//
//   word     a list of Waiters, two low bits (DONE, LOCK) and the flags in its upper 16 bits. Who changes it either
//            compare-and-swaps a word without LOCK, or holds LOCK and stores. Under DONE|LOCK waiters are being
//            resumed.
//   claim    whoever first sets kClaimed decides the outcome. Work that runs to its value needs no claim: it writes the
//            value to its own storage and publishes it by the one step that sets DONE, which fails if somebody claimed
//            or cancelled. So everybody else's value for a state with work goes into a box of its own.
//   cancel   sets kCancelled unless claimed; from then on the outcome can only be "cancelled".
//   begin    the loop sets `begun` and looks at the word; cancel() locks the word and looks at `begun`, with a barrier
//            for all threads between if it may begin in another one, which spares the loop, the one that is hurried,
//            its own (`loops_spare_barrier`). So work which was cancelled first never begins, and work which began
//            first is told. `core` of a call of to_thread is decided before it begins, and to be read only after.
//   core     valid until DONE: a Core ends only after all its unfinished work has; `core` is used under LOCK, not DONE.
//   alone    who finds `refs` to be 1 and holds that reference has the state to itself: no handle, nobody to race with.
//            It looks at `refs` first and at the word only then, which is how others left it; not the other way round.
//   sole     kSole says that the one waiter in the list holds a reference and waits on the loop that will run the work:
//            while `refs` is 2 both are that thread's, so that it changes the word by plain stores. Set and
//            cleared only by that thread, or under LOCK, with the waiter. More references can only come from that
//            thread, and whoever it gives one to may, as ever, only compare-and-swap.
//   owned    kOwned says that the call was made on the thread that runs it and that nobody has changed its word since:
//            while it is unfinished only that thread changes it, and ends it by plain stores (`end_owned`). Another one
//            asks first, and then nobody owns it: disown() sets kAsked, makes a barrier for all threads, and waits for
//            an end that is under way, which `begun` tells. DONE with kOwned says that the work's reference, still
//            counted in `refs`, is gone. Where the system has no barrier for all threads nothing is owned.
#pragma once

#include <any>
#include <atomic>
#include <coroutine>
#include <cstdint>
#include <exception>
#include <functional>
#include <new>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>

#include <caller/context.hpp>
#include <caller/detail/op.hpp>
#include <caller/error.hpp>

namespace caller::detail {

/// Someone to tell of completion. Those with `fire` are told under LOCK and must only queue or signal.
struct Waiter {
  Waiter *prev, *next;  // while in a list
  void (*fire)(Waiter*) noexcept;
};

struct Suspension;
struct Extras;
struct DelayNode;

struct PendingState : Op {
  static_assert(sizeof(void*) == 8, "the flags live in the upper bits of a 64-bit pointer");
  using Word = std::uintptr_t;
  static constexpr int kFlagShift = 48;
  enum Flag : Word {
    kDone = 1,
    kLock = 2,
    kAsked = 4,                          // somebody in another thread takes kOwned away
    kCancelled = Word{1} << kFlagShift,  // cancel() was accepted
    kUndelivered = kCancelled << 1,      // the running coroutine has yet to see it
    kClaimed = kCancelled << 2,          // the outcome is decided
    kProtected = kCancelled << 3,        // cancel() is ignored
    kWork = kCancelled << 4,             // made by a call: a function stands behind it
    kTimer = kCancelled << 5,            // waits in the timer heap: `delay`
    kBoxed = kCancelled << 6,            // the value is in the box of `extras`
    kFailed = kCancelled << 7,           // the error is in `extras`
    kWorker = kCancelled << 8,           // occupies a worker of to_thread
    kForeign = kCancelled << 9,          // has a canceller: cancelled, it is done when its owner completes it
    kOperation = kCancelled << 10,  // of another library, which may write into buffers of the waiter until it is done
    kOperationEnded = kCancelled << 11,  // it has called back
    kHoldsCore = kCancelled << 12,       // it has a reference on its Core
    kSole = kCancelled << 13,            // the first waiter is the only holder but the work, both on the work's loop
    kOwned = kCancelled << 14,           // made, and ended, by the thread of `core`; see "owned" above
  };
  static constexpr Word kFlags = ~((Word{1} << kFlagShift) - 1);
  static constexpr Word kList = ~kFlags & ~Word{7};

  union {
    std::atomic<Word> word;  // of a call: from its launch on
  };
  std::atomic<std::uint32_t> refs;
  // Written by whoever makes or runs the work, read after DONE or on the loop's thread.
  bool has_value = false;
  bool finished = false;  // the coroutine reached its end
  bool linked = false;    // is in its Core's list of suspended work
  /// Of a call: where its block goes, if that is all there is to free once the work and its value are gone.
  std::atomic<std::uint8_t> magazine{kNoMagazine};
  ContextNode* context = nullptr;  // of the work, until it ends
  union {
    Suspension* suspended = nullptr;  // where the work waits (loop's thread only)
    DelayNode* delay;                 // before it begins: its place in the timer heap, under LOCK
  };
  std::atomic<Extras*> extras{nullptr};
  /// Null until the work begins. Then the frame of its root coroutine; `this` if there is none, or none any more;
  /// ending() while and after its thread ends a word that is owned.
  std::atomic<void*> begun{nullptr};
  Core* core;
  PendingState *prev_task, *next_task;  // while `linked`

  PendingState(void (*with)(Op*, OpAct), Core* on, Word w, std::uint32_t holders,
               std::uint8_t block = kNoMagazine) noexcept
      : word(w), refs(holders), magazine(block), core(on) {
    act = with;
  }
  /// Of a call: two hold it, the work and its first handle; launch() sets its word.
  PendingState(void (*with)(Op*, OpAct), Core* on, std::uint8_t block) noexcept : refs(2), magazine(block), core(on) {
    act = with;
  }
  void set_first_word(Word w) noexcept { ::new (static_cast<void*>(&word)) std::atomic<Word>(w); }
  PendingState(const PendingState&) = delete;
  PendingState& operator=(const PendingState&) = delete;

  bool done() const noexcept { return word.load(std::memory_order_acquire) & kDone; }
  bool is(Flag f) const noexcept { return word.load(std::memory_order_acquire) & f; }
  Extras* extra() const noexcept { return extras.load(std::memory_order_acquire); }
  static constexpr bool is_owned(Word w) noexcept { return (w & (kOwned | kDone)) == kOwned; }
  static constexpr bool ended_owned(Word w) noexcept { return (w & (kOwned | kDone)) == (kOwned | kDone); }
  bool alone() const noexcept {
    const std::uint32_t holding = holders();
    return holding == 1 || (holding == 2 && ended_owned(word.load(std::memory_order_acquire)));
  }
  std::uint32_t holders() const noexcept { return refs.load(std::memory_order_acquire); }
  bool has_begun() const noexcept { return begun.load(std::memory_order_acquire); }
  void set_begun() noexcept { begun.store(this, std::memory_order_release); }
  /// Of the root coroutine, null if there is none. On the loop's thread.
  std::coroutine_handle<> frame() const noexcept {
    void* const p = begun.load(std::memory_order_relaxed);
    return std::coroutine_handle<>::from_address(p == this ? nullptr : p);
  }
  void* ending() noexcept { return reinterpret_cast<unsigned char*>(this) + 1; }
  void ref() noexcept { refs.fetch_add(1, std::memory_order_relaxed); }
  inline bool last() noexcept;
  inline void unref() noexcept;
  void destroy() noexcept {  // by the last holder
    if (has_value || !deallocate_quickly(this, magazine.load(std::memory_order_relaxed))) act(this, OpAct::destroy);
  }
};

/// A coroutine suspended by one of our awaiters: how to resume it, and how to take it back when it is cancelled.
struct Suspension : Op {
  std::coroutine_handle<> handle;  // null: does not wait
  bool cancelled = false;
  bool keep = false;  // a PendingWait: being cancelled does not cancel what is awaited
  bool held = false;  // a PendingAwaiter: it has a reference on what is awaited
  bool timed_out = false;
  // From begin_suspend() on:
  Core* home;
  PendingState* task;
  /// On the home thread: stop waiting. True when the wait was undone and nothing else will resume the coroutine.
  bool (*detach)(Suspension*) noexcept;
};

// ---- implemented in the library ----
CALLER_API bool last_slow(PendingState& s) noexcept;              // last() of a word with kOwned, for who is not alone
CALLER_API bool add_waiter(PendingState& s, Waiter& w) noexcept;  // false: done already
/// False: done, or left before; on return nobody uses `w`.
CALLER_API bool remove_waiter(PendingState& s, Waiter& w) noexcept;
/// False: decided by someone else, or cancelled (with a canceller, it is completed here, as cancelled).
CALLER_API bool claim(PendingState& s) noexcept;
CALLER_API void complete(PendingState& s) noexcept;  // after a claim
CALLER_API bool cancel(PendingState& s, std::string message);
CALLER_API bool set_canceller(PendingState& s, std::function<void(const std::string&)> canceller);
CALLER_API void protect(PendingState& s) noexcept;
CALLER_API void finish_state(PendingState& s) noexcept;  // rare part of destruction: reports, frees what is left
CALLER_API bool begin_work_slow(PendingState& s) noexcept;
/// The work has left its value (or nothing, for void) in its storage. True: it is done, and the work's reference is
/// given up. False: nobody wants the value any more: destroy it, then end_unwanted().
CALLER_API bool publish(PendingState& s) noexcept;
CALLER_API void end_unwanted(PendingState& s) noexcept;
/// What became of an outcome that an operation wants to leave.
enum class Settle : unsigned char {
  store,      // store value or error, then complete()
  cancelled,  // cancel() came first: store nothing, then complete()
  lost,       // decided and completed by someone else
};
CALLER_API Settle settle(PendingState& s) noexcept;
/// Settles with an error; a PendingCancelled makes it cancelled. True: complete() is due.
CALLER_API bool settle_error(PendingState& s, std::exception_ptr error) noexcept;
/// Ends work with an error (a PendingCancelled makes it cancelled) and its context, and gives up the work's reference.
CALLER_API void end_work_failed(PendingState& s, std::exception_ptr error) noexcept;
CALLER_API void set_error(PendingState& s, std::exception_ptr error) noexcept;  // after a claim
/// Decides that the work ends cancelled, and completes; the work's reference stays.
CALLER_API void end_work_cancelled(PendingState& s, const char* reason) noexcept;
/// The loop ends before the work began.
CALLER_API void drop_work(PendingState& s) noexcept;
CALLER_API bool throw_outcome_slow(PendingState& s);
CALLER_API std::string cancel_message(PendingState& s);
CALLER_API std::stop_token stop_token_of(PendingState& s);
CALLER_API void set_box(PendingState& s, void* value, void (*destroy)(void*) noexcept);  // after a claim
CALLER_API void* boxed(PendingState& s) noexcept;

/// Not done, cancelled, or an error: throws. There is a value: true when it is in the box.
inline bool throw_outcome(PendingState& s) {
  using P = PendingState;
  constexpr auto unusual = P::kCancelled | P::kFailed | P::kBoxed;
  if ((s.word.load(std::memory_order_acquire) & (P::kDone | unusual)) == P::kDone) [[likely]]
    return false;
  return throw_outcome_slow(s);
}

/// Set as the library is loaded, if the system has a barrier for all threads of a process at once.
extern CALLER_API std::atomic<bool> loops_spare_barrier;

/// On the loop's thread, before work runs. False: it was cancelled (or the Caller stopped) first, and is complete.
inline bool begin_work(PendingState& s) noexcept {
  using P = PendingState;
  s.set_begun();
  std::atomic_signal_fence(std::memory_order_seq_cst);  // and no more than that: see "begin" above
  P::Word w = s.word.load(std::memory_order_acquire);
  if (w != (P::kWork | P::kOwned)) {
    if (!loops_spare_barrier.load(std::memory_order_relaxed)) w = s.word.fetch_or(0, std::memory_order_acq_rel);
    if (w & ~(P::kList | P::kWork | P::kProtected | P::kWorker | P::kSole)) [[unlikely]]
      return begin_work_slow(s);
  }
  if (this_thread().queue->accepting()) [[likely]]
    return true;
  return begin_work_slow(s);
}

/// Gives up a reference. True: it was the last one.
inline bool PendingState::last() noexcept {
  const std::uint32_t holding = holders();
  if (holding == 1) return true;
  const Word w = word.load(std::memory_order_acquire);
  if (!(w & kOwned)) return refs.fetch_sub(1, std::memory_order_acq_rel) == 1;
  if (holding == 2 && (w & kDone)) return true;
  if (holding != 2 || core != this_thread().core) [[unlikely]]
    return last_slow(*this);
  refs.store(1, std::memory_order_relaxed);  // from two: the other one is the work's, which is this thread's
  return false;
}
inline void PendingState::unref() noexcept {
  if (last()) destroy();
}

/// The end, on its loop's thread, of work that has left its value in its storage and whose word is owned. True: it is
/// done, and the work's reference given up. False: others have asked for the word.
inline bool end_owned(PendingState& s) noexcept {
  using P = PendingState;
  constexpr auto owned = P::kWork | P::kOwned;
  s.begun.store(s.ending(), std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);  // and no more than that, as for "begin"
  if (s.word.load(std::memory_order_acquire) == owned) [[likely]] {
    s.word.store(owned | P::kDone | P::kClaimed, std::memory_order_release);
    return true;
  }
  s.set_begun();
  return false;
}

/// Prepares the running coroutine to wait. False: its cancellation is due now (`cancelled` is set); do not suspend.
CALLER_API bool begin_suspend(Suspension& s, std::coroutine_handle<> h);
CALLER_API void abort_suspend(Suspension& s) noexcept;  // it was not necessary after all
CALLER_API void resume_later(Suspension& s) noexcept;   // any thread; queues it on its home
CALLER_API void throw_cancelled(Suspension& s);
/// In await_resume.
inline void throw_if_cancelled(Suspension& s) {
  if (s.cancelled) [[unlikely]]
    throw_cancelled(s);
}
/// For await_ready.
inline bool cancellation_due() noexcept {
  const PendingState* t = this_thread().task;
  return t && (t->word.load(std::memory_order_relaxed) & PendingState::kUndelivered);
}

/// A coroutine waiting for one Pending.
struct PendingWait : Suspension, Waiter {
  PendingState* state = nullptr;
};
CALLER_API void resume_op(Op* op, OpAct why);
CALLER_API bool detach_pending(Suspension* s) noexcept;
CALLER_API void fire_pending(Waiter* w) noexcept;
CALLER_API bool suspend_on_slow(PendingWait& w, std::coroutine_handle<> h);
/// `task` waits for the call `s`, which was alone in the queue and has been taken out: it is next, and after it the
/// coroutine of `task` if nothing else is queued meanwhile. So both run here, without a way through the loop, as far as
/// that is so. `with`: the word of `s`. True: `s` has ended, and `task` goes on. False: it is suspended; or was, and
/// nothing may touch it.
inline bool run_in_place(LoopQueue& queue, PendingState& s, PendingState& task, PendingState::Word with) noexcept {
  ThreadState& ts = this_thread();
  s.set_begun();
  s.word.store(with, std::memory_order_relaxed);
  task.context = ts.context;  // `s` takes its place
  queue.limit -= 2;           // two entries
  queue.in_place = &s;
  queue.in_place_word = with;
  s.act(&s, OpAct::proceed);
  if (queue.in_place) {
    queue.in_place = nullptr;
    ++queue.limit;  // the second will be one of the queue
    return false;
  }
  ts.task = &task;
  ts.context = std::exchange(task.context, nullptr);
  task.suspended = nullptr;
  return true;
}
/// Waits for `w.state`, on which `w` holds a reference. False: it is done, or the wait is cancelled; do not suspend.
inline bool suspend_on(PendingWait& w, std::coroutine_handle<> h) {
  using P = PendingState;
  const ThreadState& ts = this_thread();
  PendingState* const task = ts.task;
  PendingState& s = *w.state;
  if (!task || (task->word.load(std::memory_order_relaxed) & P::kUndelivered)) [[unlikely]]
    return suspend_on_slow(w, h);
  const auto wait = [&] {
    w.handle = h;
    w.home = ts.core;
    w.task = task;
    w.act = &resume_op;
    w.detach = &detach_pending;
    w.fire = &fire_pending;
    w.prev = w.Waiter::next = nullptr;
    task->suspended = &w;
  };
  const auto self = reinterpret_cast<P::Word>(static_cast<Waiter*>(&w));
  const std::uint32_t holding = s.holders();
  P::Word was = s.word.load(std::memory_order_acquire);
  // A call that waits in this loop's own queue, and no handle but ours? Only of such a one may the core be read: that
  // of a call of to_thread may just be decided.
  if (holding == 2 && ts.core && was == ts.queue->own_call && s.core == ts.core && !s.has_begun()) [[likely]] {
    LoopQueue& queue = *ts.queue;
    wait();
    const P::Word with = P::kWork | self | P::kSole;
    if (task->linked && !queue.in_place && queue.accepting() && queue.take_only(s))
      return !run_in_place(queue, s, *task, with);
    s.word.store(with, std::memory_order_relaxed);
    return true;
  }
  if ((was & (P::kList | P::kLock | P::kDone | P::kAsked)) || task == &s || ((was & P::kOwned) && s.core != ts.core))
      [[unlikely]]
    return suspend_on_slow(w, h);
  wait();
  if (s.word.compare_exchange_strong(was, (was & ~P::Word{P::kOwned}) | self, std::memory_order_acq_rel,
                                     std::memory_order_acquire)) [[likely]]
    return true;
  task->suspended = nullptr;  // it may be done by now, and not wait at all
  return suspend_on_slow(w, h);
}
/// The end of work that has left its value in its storage, where nobody but its one waiter, on the same loop, can see
/// the state. False: it is not so. `w` is its word, with kSole, loaded after `refs` was seen to be two.
inline bool hand_over(PendingState& s, PendingState::Word w) noexcept {
  using P = PendingState;
  LoopQueue& queue = *this_thread().queue;
  constexpr auto done = P::kWork | P::kDone | P::kClaimed;
  if (queue.in_place == &s && queue.in_place_word == w && !queue.head) [[likely]] {
    s.word.store(done, std::memory_order_relaxed);
    s.refs.store(1, std::memory_order_relaxed);
    queue.in_place = nullptr;  // run_in_place() goes on with the waiter
    return true;
  }
  if ((w & ~P::kList) != (P::kWork | P::kSole)) return false;
  auto& wait = static_cast<PendingWait&>(*reinterpret_cast<Waiter*>(w & P::kList));
  if (wait.Waiter::next) [[unlikely]]
    return false;
  s.word.store(done, std::memory_order_relaxed);
  s.refs.store(1, std::memory_order_relaxed);
  queue.push_local(&wait);  // not diverted: it runs us
  return true;
}
/// For a frame that is destroyed while it waits.
CALLER_API void forget_wait(PendingWait& w) noexcept;

/// An entry of a loop's timer heap; `act` runs on the loop's thread when it is due. Loop's thread only.
struct TimerNode : Op {
  static constexpr std::uint32_t kIdle = ~0u;
  std::int64_t when = 0;  // nanoseconds of the loop's clock
  std::uint32_t position = kIdle;
};
CALLER_API void add_timer(Core& core, TimerNode& node) noexcept;
CALLER_API void remove_timer(Core& core, TimerNode& node) noexcept;

/// Stands in the timer heap for a call that is to be made later; holds the work's reference.
struct DelayNode : TimerNode {
  Core* core = nullptr;
  PendingState* state = nullptr;
  bool armed = false;
  bool separate = false;  // has a block of its own
};

/// A coroutine waiting for one Pending (or none), for a time (or for ever).
struct TimedWait : PendingWait {
  struct Timer : TimerNode {
    TimedWait* owner = nullptr;
  } timer;
};
CALLER_API bool suspend_timed(TimedWait& w, std::coroutine_handle<> h, std::int64_t timeout_ns);
CALLER_API void forget_timed(TimedWait& w) noexcept;

/// Blocks the thread until `s` is done (its own loop goes on turning). False: time-out.
CALLER_API bool block_on(PendingState& s, std::optional<std::int64_t> timeout_ns, bool keep, bool shield);

/// On the worker's thread, when the function of a to_thread call has ended: the worker is free again.
CALLER_API void work_of_worker_ended(PendingState& s) noexcept;

/// The running work's own state and Core, null outside.
inline PendingState* current_task() noexcept { return this_thread().task; }
inline Core* current_core() noexcept { return this_thread().core; }
CALLER_API Core& require_core(const char* operation);

/// Makes `s` the running work of this thread, with its context. Only for what the loop runs: it has no work of its own.
inline void enter_work(PendingState& s) noexcept {
  ThreadState& ts = this_thread();
  ts.task = &s;
  ts.context = std::exchange(s.context, nullptr);
}
/// What variables say ends with what has set them.
inline void leave_context() noexcept {
  ThreadState& ts = this_thread();
  if (ts.context) [[unlikely]]
    release(std::exchange(ts.context, nullptr));
}
/// The end of a plain function.
inline void leave_work() noexcept {
  this_thread().task = nullptr;
  leave_context();
}
/// The coroutine of `s`, the running work, came back: true, and no work runs any more, if it began and ended in one go.
inline bool ended_at_once(PendingState& s) noexcept {
  ThreadState& ts = this_thread();
  if (ts.task != &s || !s.finished || s.linked) return false;
  ts.task = nullptr;
  s.context = std::exchange(ts.context, nullptr);
  return true;
}
/// The coroutine of `s` ran and came back: if it has ended it is finished, if not it is remembered by its Core.
CALLER_API void coroutine_returned(PendingState& s) noexcept;

}  // namespace caller::detail
