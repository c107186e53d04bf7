// What a loop queues, and the part of a loop that inlined calls touch.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>

#include <caller/detail/memory.hpp>
#include <caller/export.hpp>

namespace caller::detail {

class Core;
struct ContextNode;
struct PendingState;

/// What an Op is asked to do.
enum class OpAct : unsigned char {
  run,      ///< on the loop's thread, in its turn
  proceed,  ///< PendingState only: the same, of work whose word says already that it has begun
  drop,     ///< the loop ends: release everything, run no user code but destructors
  finish,   ///< PendingState only: the root coroutine has ended (or its frame is gone): take its value, free its frame
  destroy,  ///< PendingState only: nobody holds it any more
};

/// One entry of a loop's queue, embedded in what it runs. An Op is in at most one queue.
struct Op {
  Op* next;                 // while queued
  void (*act)(Op*, OpAct);  // set before it is queued
};

/// The queue of a Core. `head` and `tail` belong to the loop's thread. What the loop writes at every entry, what
/// everybody reads, and what other threads write lie on lines of their own.
struct LoopQueue {
  enum Hindrance : std::uint8_t {
    kStopping = 1,  ///< from the moment of stop(): calls are not accepted; any thread sets it
    kDiverted = 2,  ///< a push on the own thread needs more than a place in the list; the own thread sets it
  };
  Op* head = nullptr;
  Op** tail = &head;
  std::uintptr_t own_call = 0;  ///< the word of a call that is made on the own thread
  std::size_t limit = 0;        ///< after as many entries the drain ends; what runs in place takes off; 0: no drain
  PendingState* in_place = nullptr;  ///< the call that runs inside the suspension of its waiter (run_in_place), …
  std::uintptr_t in_place_word = 0;  ///< … and its word as it is as long as nothing happens to it
  alignas(64) std::atomic<std::uint8_t> hindrance{0};
  alignas(64) std::atomic<Op*> inbox{nullptr};

  LoopQueue() = default;
  LoopQueue(const LoopQueue&) = delete;
  LoopQueue& operator=(const LoopQueue&) = delete;
  bool accepting() const noexcept { return !(hindrance.load(std::memory_order_acquire) & kStopping); }
  bool diverted() const noexcept { return hindrance.load(std::memory_order_relaxed) & kDiverted; }
  bool unhindered() const noexcept { return hindrance.load(std::memory_order_acquire) == 0; }
  void stop_accepting() noexcept { hindrance.fetch_or(kStopping, std::memory_order_acq_rel); }
  void divert(bool on) noexcept {
    if (on)
      hindrance.fetch_or(kDiverted, std::memory_order_relaxed);
    else if (diverted())
      hindrance.fetch_and(static_cast<std::uint8_t>(~kDiverted), std::memory_order_relaxed);
  }
  void push_local(Op* op) noexcept {
    op->next = nullptr;
    *tail = op;
    tail = &op->next;
  }
  /// Takes `op` out if there is nothing else on the own thread's side, and the drain may run it and what follows it.
  bool take_only(const Op& op) noexcept {
    if (head != &op || op.next || limit <= 2) return false;
    head = nullptr;
    tail = &head;
    return true;
  }
};

/// What the running code of a thread is.
struct ThreadState {
  Core* core = nullptr;
  LoopQueue* queue = nullptr;  ///< of `core`
  PendingState* task = nullptr;
  ContextNode* context = nullptr;  ///< owned
};

CALLER_API ThreadState& thread_state_of_library() noexcept;
#if defined(CALLER_IN_CELL)
// A cell comes to a thread-local variable of the library by two calls: this is one.
inline ThreadState& this_thread() noexcept { return thread_state_of_library(); }
#else
extern CALLER_API thread_local constinit ThreadState thread_state __attribute__((tls_model("initial-exec")));
inline ThreadState& this_thread() noexcept { return thread_state; }
#endif

/// Queues `op` on `core`. Returns false when the loop has ended; the op is then still the caller's.
/// Thread-safety: any thread; the core must be alive (a handle, or an unfinished Pending of it).
CALLER_API bool submit_slow(Core& core, Op* op) noexcept;
inline bool submit(Core& core, Op* op) noexcept {
  const ThreadState& ts = this_thread();
  if (ts.core == &core && !ts.queue->diverted()) [[likely]] {
    ts.queue->push_local(op);
    return true;
  }
  return submit_slow(core, op);
}

/// The same, unless the Caller was stopped; what is not queued is dropped.
CALLER_API bool submit_or_drop_slow(Core& core, Op* op) noexcept;
inline bool submit_or_drop(Core& core, Op* op) noexcept {
  const ThreadState& ts = this_thread();
  if (ts.core == &core && ts.queue->unhindered()) [[likely]] {
    ts.queue->push_local(op);
    return true;
  }
  return submit_or_drop_slow(core, op);
}

/// For tests: one entry of the queue, and the time of the next timer on the loop's clock (-1: none). Own thread only.
CALLER_API std::size_t step(Core& core) noexcept;
CALLER_API std::int64_t next_timer(Core& core) noexcept;

/// Runs `body(argument)` so that a fault in there, a wild pointer say, ends only that: its frames are left behind as
/// they are. Returns what the fault was; null: `body` came to its end.
using FaultGuard = std::exception_ptr (*)(void (*body)(void*), void* argument);
/// From now on everything a loop runs is run by `guard` (null: by nobody, as at the start). Work that faults ends
/// failed. Thread-safety: any thread.
CALLER_API void set_fault_guard(FaultGuard guard) noexcept;

/// Tells the error handler of `core` (null: the thread's, else the process's) of an error nobody can observe.
CALLER_API void report_error(Core* core, const char* where, const std::exception_ptr& error) noexcept;

}  // namespace caller::detail
