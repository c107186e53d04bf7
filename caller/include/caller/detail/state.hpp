// The shared state behind a Pending. docs/ARCHITECTURE.md, "Pending", states the protocol; in short:
//
//   word    0, a list of Waiters, LOCK (someone edits the list), DONE, DONE|LOCK (waiters are being resumed).
//   claim   whoever first sets kClaimed in `flags` decides the outcome and is the only one to write value and error.
//   cancel  sets kCancelled unless claimed; from then on the outcome can only be "cancelled".
//   start   kStarted and kCancelled are set by read-modify-write on the same word, so that work which was cancelled
//           first never starts, and work which started first is told.
//   core    valid until DONE: a Core ends only after all its unfinished work has; so `core` is used under LOCK, not
//   DONE.
#pragma once

#include <any>
#include <atomic>
#include <coroutine>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <stop_token>
#include <string>
#include <type_traits>
#include <utility>

#include <caller/context.hpp>
#include <caller/detail/op.hpp>
#include <caller/error.hpp>

namespace caller::detail {

/// Someone to tell of completion. Those with `fire` are told under LOCK and must only queue or signal.
struct Waiter {
  Waiter* prev = nullptr;
  Waiter* next = nullptr;
  void (*fire)(Waiter*) noexcept = nullptr;
};

struct Suspension;
struct Extras;

struct PendingState : Op {
  static constexpr std::uintptr_t kDone = 1, kLock = 2, kMask = 3;
  enum Flag : std::uint32_t {
    kStarted = 1u << 0,      // the work began
    kCancelled = 1u << 1,    // cancel() was accepted
    kUndelivered = 1u << 2,  // the running coroutine has yet to see it
    kClaimed = 1u << 3,      // the outcome is decided
    kProtected = 1u << 4,    // cancel() is ignored
    kObserved = 1u << 5,     // somebody looked at the error
    kHasValue = 1u << 6,
    kWork = 1u << 7,        // made by a call: a function stands behind it
    kFinished = 1u << 8,    // the coroutine reached its end (loop's thread only)
    kTimer = 1u << 9,       // waits in the timer heap (loop's thread only)
    kLinked = 1u << 10,     // is in its Core's list of suspended work (loop's thread only)
    kWorker = 1u << 11,     // occupies a worker of to_thread
    kHoldsCore = 1u << 15,  // the operation has a reference on its Core
    kOperation = 1u << 16,  // of another library, which may write into buffers of the waiter until it is done
  };

  std::atomic<std::uintptr_t> word{0};
  std::atomic<std::uint32_t> refs{1};
  std::atomic<std::uint32_t> flags{0};
  void (*destroy)(PendingState*) noexcept = nullptr;
  void (*finish)(PendingState*) noexcept = nullptr;  // the root coroutine ended: take its value, free its frame
  Core* core = nullptr;
  ContextNode* context = nullptr;   // of the work, until it ends
  Suspension* suspended = nullptr;  // where the coroutine waits (loop's thread only)
  Extras* extras = nullptr;         // created under LOCK
  PendingState* prev_task = nullptr;
  PendingState* next_task = nullptr;
  std::coroutine_handle<> frame{};  // root coroutine, to destroy when the loop is abandoned
  std::exception_ptr error;

  bool done() const noexcept { return word.load(std::memory_order_acquire) & kDone; }
  bool is(Flag f) const noexcept { return flags.load(std::memory_order_acquire) & f; }
  void ref() noexcept { refs.fetch_add(1, std::memory_order_relaxed); }
  void unref() noexcept {
    if (refs.load(std::memory_order_acquire) == 1 || refs.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy(this);
  }
};

/// A coroutine suspended by one of our awaiters: how to resume it, and how to take it back when it is cancelled.
struct Suspension : Op {
  std::coroutine_handle<> handle;
  Core* home = nullptr;
  PendingState* task = nullptr;
  bool cancelled = false;
  /// On the home thread: stop waiting. True when the wait was undone and nothing else will resume the coroutine.
  bool (*detach)(Suspension*) noexcept = nullptr;
};

// ---- implemented in the library ----
CALLER_API bool add_waiter(PendingState& s, Waiter& w) noexcept;  // false: done already
CALLER_API bool remove_waiter(PendingState& s,
                              Waiter& w) noexcept;   // false: done, or left before; on return nobody uses `w`
CALLER_API bool claim(PendingState& s) noexcept;     // false: decided by someone else, or cancelled
CALLER_API void complete(PendingState& s) noexcept;  // after a claim
CALLER_API bool cancel(PendingState& s, std::string message);
CALLER_API void finish_state(PendingState& s) noexcept;  // common part of destruction: reports, frees extras
CALLER_API bool begin_work(PendingState& s) noexcept;    // false: cancelled before it began; it is complete then

/// What became of an outcome that work wants to leave.
enum class Settle : unsigned char {
  store,      // store value or error, then complete()
  cancelled,  // cancel() came first: store nothing, then complete()
  lost,       // decided and completed by someone else
};
CALLER_API Settle settle(PendingState& s) noexcept;
/// Settles with an error; a PendingCancelled makes it cancelled. True: complete() is due.
CALLER_API bool settle_error(PendingState& s, std::exception_ptr error) noexcept;
/// Settles as cancelled, and completes.
CALLER_API void end_work_cancelled(PendingState& s, const char* reason) noexcept;
CALLER_API void throw_outcome(PendingState& s);  // not done, cancelled, or an error; returns when there is a value
CALLER_API std::string cancel_message(PendingState& s);
CALLER_API std::stop_token stop_token_of(PendingState& s);

/// Prepares the running coroutine to wait. False: its cancellation is due now (`cancelled` is set); do not suspend.
CALLER_API bool begin_suspend(Suspension& s, std::coroutine_handle<> h);
CALLER_API void abort_suspend(Suspension& s) noexcept;  // it was not necessary after all
CALLER_API void resume_later(Suspension& s) noexcept;   // any thread; queues it on its home
CALLER_API void throw_if_cancelled(Suspension& s);      // in await_resume
CALLER_API bool cancellation_due() noexcept;            // for await_ready

/// A coroutine waiting for one Pending.
struct PendingWait : Suspension, Waiter {
  PendingState* state = nullptr;
  bool keep = false;  // being cancelled does not cancel what is awaited
};
CALLER_API bool suspend_on(PendingWait& w, std::coroutine_handle<> h);
/// For a frame that is destroyed while it waits.
CALLER_API void forget_wait(PendingWait& w) noexcept;

/// An entry of a loop's timer heap; `act` runs on the loop's thread when it is due. Loop's thread only.
struct TimerNode : Op {
  static constexpr std::uint32_t kIdle = ~0u;
  std::int64_t when = 0;  // nanoseconds of the loop's clock
  std::uint32_t position = kIdle;
};
CALLER_API std::int64_t core_now(Core& core) noexcept;
CALLER_API void add_timer(Core& core, TimerNode& node) noexcept;
CALLER_API void remove_timer(Core& core, TimerNode& node) noexcept;

/// A coroutine waiting for one Pending (or none), for a time (or for ever).
struct TimedWait : PendingWait {
  struct Timer : TimerNode {
    TimedWait* owner = nullptr;
  } timer;
  bool timed_out = false;
};
CALLER_API bool suspend_timed(TimedWait& w, std::coroutine_handle<> h, std::int64_t timeout_ns);
CALLER_API void forget_timed(TimedWait& w) noexcept;

/// Blocks the thread until `s` is done (its own loop goes on turning). False: time-out.
CALLER_API bool block_on(PendingState& s, std::optional<std::int64_t> timeout_ns, bool keep, bool shield);

/// On the worker's thread, when the function of a to_thread call has ended: the worker is free again.
CALLER_API void work_of_worker_ended(PendingState& s) noexcept;

/// The running work's own state and Core, null outside.
CALLER_API PendingState* current_task() noexcept;
CALLER_API Core* current_core() noexcept;
CALLER_API Core& require_core(const char* operation);

/// Makes `s` the running work of this thread, with its context, for the life of the scope.
/// On leaving, a root coroutine that has ended is finished, one that has not is remembered by its Core.
class CALLER_API TaskScope {
public:
  explicit TaskScope(PendingState& s) noexcept;
  ~TaskScope();
  TaskScope(const TaskScope&) = delete;
  TaskScope& operator=(const TaskScope&) = delete;

private:
  PendingState& task_;
  PendingState* saved_task_;
  ContextNode* saved_context_;
};

template <class T>
struct ValueState : PendingState {
  using Stored = std::conditional_t<std::is_reference_v<T>, std::add_pointer_t<T>, T>;
  static_assert(alignof(Stored) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__, "over-aligned results are not supported");
  alignas(Stored) unsigned char storage[sizeof(Stored)];

  Stored& stored() noexcept { return *std::launder(reinterpret_cast<Stored*>(storage)); }
  decltype(auto) get() noexcept {
    if constexpr (std::is_reference_v<T>)
      return static_cast<T>(*stored());
    else
      return static_cast<T&>(stored());
  }
  template <class U>
  void emplace(U&& v) {
    if constexpr (std::is_reference_v<T>)
      ::new (static_cast<void*>(storage)) Stored(std::addressof(v));
    else
      ::new (static_cast<void*>(storage)) Stored(std::forward<U>(v));
    flags.fetch_or(kHasValue, std::memory_order_relaxed);
  }
  void destroy_value() noexcept {
    if (is(kHasValue)) stored().~Stored();
  }
};

template <>
struct ValueState<void> : PendingState {
  void emplace() noexcept { flags.fetch_or(kHasValue, std::memory_order_relaxed); }
  void get() noexcept {}
  void destroy_value() noexcept {}
};

/// Settles work with a value. True: complete() is due.
template <class T, class... U>
bool settle_value(ValueState<T>& s, U&&... value) noexcept {
  const Settle how = settle(s);
  if (how == Settle::store) {
    try {
      s.emplace(std::forward<U>(value)...);
    } catch (...) {
      s.error = std::current_exception();
    }
  }
  return how != Settle::lost;
}

/// A Pending with no call behind it.
template <class T>
ValueState<T>* make_plain_state() {
  auto* s = ::new (allocate(sizeof(ValueState<T>))) ValueState<T>();
  s->destroy = [](PendingState* p) noexcept {
    auto* v = static_cast<ValueState<T>*>(p);
    finish_state(*v);
    v->destroy_value();
    v->~ValueState<T>();
    deallocate(v, sizeof(ValueState<T>));
  };
  return s;
}

}  // namespace caller::detail
