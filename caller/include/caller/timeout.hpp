// with_timeout: a time limit for a coroutine that runs as part of the awaiting one.
#pragma once

#include <cstdint>
#include <utility>

#include <caller/coro.hpp>
#include <caller/detail/state.hpp>
#include <caller/error.hpp>
#include <caller/export.hpp>
#include <caller/pending.hpp>

namespace caller {

namespace detail {

/// Cancels what the running task awaits when its time is over. Loop's thread only.
struct TimeoutGuard : TimerNode {
  Core* home = nullptr;
  PendingState* task = nullptr;
  TimeoutGuard* older = nullptr;  // of those of its Core that have fired and not ended
  bool fired = false;
};
CALLER_API void begin_guard(TimeoutGuard& guard, std::int64_t timeout_ns);
/// Takes back what it has not delivered yet. True: its time was over, and nobody else has cancelled the task.
CALLER_API bool end_guard(TimeoutGuard& guard) noexcept;
/// For a frame that is destroyed before it ends.
CALLER_API void drop_guard(TimeoutGuard& guard) noexcept;

template <class T>
struct TimeoutAwaiter {
  Coro<T> coro;
  std::int64_t timeout_ns;
  TimeoutGuard guard;
  bool begun = false;

  TimeoutAwaiter(Coro<T>&& c, std::int64_t ns) noexcept : coro(std::move(c)), timeout_ns(ns) {}
  TimeoutAwaiter(const TimeoutAwaiter&) = delete;
  TimeoutAwaiter& operator=(const TimeoutAwaiter&) = delete;
  ~TimeoutAwaiter() {
    if (begun) drop_guard(guard);
  }
  bool await_ready() const noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> parent) {
    begin_guard(guard, timeout_ns);
    begun = true;
    return typename Coro<T>::Awaiter{coro.handle()}.await_suspend(parent);
  }
  T await_resume() {
    begun = false;
    const bool over = end_guard(guard);
    try {
      return coro.handle().promise().take();
    } catch (const PendingCancelled&) {
      if (over) throw_timed_out("with_timeout", timeout_ns);
      throw;
    }
  }
};

}  // namespace detail

/// What with_timeout gives to `co_await`.
template <class T>
class [[nodiscard]] WithTimeout {
public:
  using caller_awaitable = void;
  /// For with_timeout.
  WithTimeout(Duration timeout, Coro<T>&& coro) noexcept : timeout_(timeout), coro_(std::move(coro)) {}
  detail::TimeoutAwaiter<T> operator co_await() && noexcept { return {std::move(coro_), timeout_.count()}; }

private:
  Duration timeout_;
  Coro<T> coro_;
};

/// `co_await with_timeout(50ms, work())`: as `co_await work()`, but at most for that time.
///
/// The coroutine runs as part of the awaiting task, without a Pending of its own. When the time is over it sees
/// PendingCancelled thrown where it waits, once; it may clean up, also by awaiting; when it has left with that,
/// TimedOut is thrown here. A value, or another error, that it ends with all the same is what comes out. A plain
/// function in it is not interrupted.
///
/// Thread-safety: a coroutine of a Caller. Cancel-safety: a cancellation of the task passes through, and stays one.
/// Units: any std::chrono duration; zero or less: the first wait is cancelled.
/// Errors: TimedOut; what the coroutine throws; NoRunningCaller outside of a Caller's work.
/// Source: asyncio.timeout, anyio.fail_after; differs: a function around the coroutine instead of a scope.
template <class T>
WithTimeout<T> with_timeout(Duration timeout, Coro<T> coro) noexcept {
  return {timeout, std::move(coro)};
}

}  // namespace caller
