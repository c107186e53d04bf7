// Pending<T>: the awaitable, thread-safe result of a call.
#pragma once

#include <any>
#include <chrono>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include <caller/coro.hpp>
#include <caller/detail/value_state.hpp>
#include <caller/export.hpp>

namespace caller {

/// How long: nanoseconds. Waits take any std::chrono::duration that converts without loss.
using Duration = std::chrono::nanoseconds;

/// How to wait for a Pending.
struct WaitOptions {
  std::optional<Duration> timeout{};  ///< none: for ever; zero: look once
  bool protect = false;  ///< a waiter that times out or is cancelled leaves the Pending alone instead of cancelling it
  /// The waiter ignores a cancellation of its own until the Pending is done (or timed out). It does not hold when a
  /// manual Caller is destroyed before its end: waits of its children (and theirs) end then, by PendingCancelled in a
  /// coroutine, by CallerStopped where a thread is blocked.
  bool shield = false;
};

/// What add_done_callback gives, to remove the callback again. Zero is never given.
using CallbackId = std::uint64_t;

/// A Pending of any type: for sets of different ones, callbacks, and everything but the value.
///
/// A cheap shared handle. Default-constructed it is empty (`operator bool` is false) and only comparison and
/// assignment are allowed.
///
/// Thread-safety: any thread, also on one shared state; one handle object: as an int.
/// Errors: see each function.
/// Source: async-kernel Pending.
class CALLER_API PendingBase {
public:
  PendingBase() noexcept = default;
  PendingBase(const PendingBase& other) noexcept : state_(other.state_) {
    if (state_) state_->ref();
  }
  PendingBase(PendingBase&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
  PendingBase& operator=(PendingBase other) noexcept {
    std::swap(state_, other.state_);
    return *this;
  }
  ~PendingBase() {
    if (state_) state_->unref();
  }

  /// false: moved from, or made as nothing
  explicit operator bool() const noexcept { return state_ != nullptr; }
  friend bool operator==(const PendingBase& a, const PendingBase& b) noexcept { return a.state_ == b.state_; }
  friend auto operator<=>(const PendingBase& a, const PendingBase& b) noexcept {
    return std::compare_three_way{}(a.state_, b.state_);
  }

  /// True once there is a result, an error, or the cancelled work has ended. Errors: none.
  bool done() const noexcept { return state_->done(); }

  /// True from the moment cancel() was accepted, also while the work still ends. Errors: none.
  bool cancelled() const noexcept { return state_->is(detail::PendingState::kCancelled); }

  /// Marks the Pending cancelled, at once and irrevocably; it is done when its work has ended.
  ///
  /// Work not yet started never starts. A coroutine sees PendingCancelled thrown at its current suspension point and
  /// may still await in its clean-up. A plain function that takes a std::stop_token sees that; others run to their
  /// end and their result is dropped. Each further call adds its message, and interrupts a coroutine's clean-up;
  /// one that says what was said already, to work that has yet to hear of it, does nothing.
  ///
  /// Returns false (and does nothing) when the Pending is done or protected.
  /// Errors: std::bad_alloc where the Caller of the work, on another thread, cannot be told: nothing has changed then.
  /// Source: async-kernel Pending.cancel.
  bool cancel(std::string message = {}) const { return detail::cancel(*state_, std::move(message)); }

  /// cancel(), then waits for the end of the work. Never throws what the work threw.
  /// Cancel-safety: the waiter may be cancelled; the work stays cancelled. Source: async-kernel Pending.cancel_wait.
  Coro<void> cancel_wait(std::string message = {}) const;

  /// Waits without looking at the outcome: true when done, false on time-out.
  /// Cancel-safety and Errors: as Pending::async_wait, but never throws the work's own error. Units: WaitOptions.
  Coro<bool> async_wait_done(WaitOptions options = {}) const;

  /// Blocks the thread until done: true, or false on time-out. On a Caller's own thread its loop goes on turning.
  /// Thread-safety: any thread. Errors: PendingCancelled when the calling work is cancelled meanwhile.
  bool wait_done(WaitOptions options = {}) const;

  /// Makes this Pending stand for work outside of the runtime, which `canceller` can end: cancel() then marks it
  /// cancelled at once and calls `canceller` with the message, and it is done (as cancelled) when its owner says so, by
  /// set_result() or set_exception().
  ///
  /// Called at most once, by the thread that cancels and outside of locks, or here, when cancel() came before. A second
  /// canceller replaces one that was not called. It is dropped, not called, when the Pending is completed.
  /// Returns false, and drops it, when the Pending has a result or an error, or has a call behind it.
  /// Thread-safety: any thread. Errors: what the canceller throws goes to the error handler.
  /// Source: async-kernel Pending.set_canceller; differs: called once, also when it comes late.
  bool set_canceller(std::function<void(const std::string& message)> canceller) const {
    return detail::set_canceller(*state_, std::move(canceller));
  }

  /// The error, or null when there is a value.
  /// Errors: PendingNotDone; PendingCancelled. Source: async-kernel Pending.exception.
  std::exception_ptr exception() const;

  /// Calls `fn(*this)` once when done, in the thread that completes it, in the order added; at once when done already.
  /// What it throws is given to the error handler and the other callbacks run. The context is the adder's.
  /// Thread-safety: any thread; no callback is lost to a race. Source: async-kernel Pending.add_done_callback.
  CallbackId add_done_callback(std::function<void(PendingBase)> fn) const;

  /// Returns true when the callback was removed before it ran; false: it ran, runs, or never was.
  bool remove_done_callback(CallbackId id) const;

  /// A dictionary for the users of this Pending, freed with it. Thread-safety: unsynchronised.
  /// Source: async-kernel Pending.metadata.
  std::map<std::string, std::any>& metadata() const;

  /// From now on cancel() is ignored, as are time-outs of waiters.
  void protect() const noexcept { detail::protect(*state_); }
  /// protect() was called
  bool is_protected() const noexcept { return state_->is(detail::PendingState::kProtected); }

  /// For the runtime: the state, borrowed; and a handle that takes over a reference.
  detail::PendingState* state() const noexcept { return state_; }
  /// For the runtime: marks the constructor that takes over a reference.
  struct Adopt {};
  /// For the runtime: takes over a reference.
  PendingBase(Adopt, detail::PendingState* s) noexcept : state_(s) {}
  /// For the runtime: a handle with a reference of its own.
  static PendingBase share(detail::PendingState* s) noexcept {
    if (s) s->ref();
    return {Adopt{}, s};
  }

protected:
  detail::PendingState* state_ = nullptr;  ///< null after a move
};

/// `<Pending done 0x…>` for people. Errors: those of the stream.
CALLER_API std::ostream& operator<<(std::ostream& out, const PendingBase& pending);

namespace detail {

[[noreturn]] CALLER_API void refuse_no_exception();

/// `Own`: takes over a reference. Else it needs one only while it waits: until then there is the handle it was made of.
template <class T, bool Own>
struct PendingAwaiter : PendingWait {
  using caller_awaitable = void;
  explicit PendingAwaiter(PendingState* s) noexcept { state = s; }
  PendingAwaiter(const PendingAwaiter&) = delete;
  PendingAwaiter& operator=(const PendingAwaiter&) = delete;
  ~PendingAwaiter() {
    if (handle) forget_wait(*this);
    if (Own || held) static_cast<ValueState<T>*>(state)->leave_to_others();
  }
  /// Own: a call just made, as a rule, which cannot be done yet; suspend_on() looks.
  bool await_ready() const noexcept { return !Own && state->done() && !cancellation_due(); }
  bool await_suspend(std::coroutine_handle<> h) {
    if constexpr (!Own) {
      state->ref();
      held = true;
    }
    return suspend_on(*this, h);
  }
  decltype(auto) await_resume() {
    auto& s = static_cast<ValueState<T>&>(*state);
    if constexpr (Own && std::is_trivially_copyable_v<T>) {
      throw_if_cancelled(*this);
      T value(std::move(s.outcome()));
      handle = {};  // late, so that the compiler sees it in the destructor; there is nothing to forget
      return value;
    }
    handle = {};
    throw_if_cancelled(*this);
    if constexpr (Own && !std::is_void_v<T> && !std::is_reference_v<T>) {
      T& value = s.outcome();
      if constexpr (std::is_copy_constructible_v<T> && !std::is_trivially_copyable_v<T>) {
        // Somebody else may still read the value: only the last holder takes it.
        if (!s.alone()) return T(value);
      }
      return T(std::move(value));
    } else {
      return s.get();
    }
  }
};

}  // namespace detail

/// The result of a call: a value of type T, an error, or cancellation, now or later.
///
/// `co_await p` gives the value (a reference to it; `co_await std::move(p)` moves it out of the last handle) and may be
/// done by any number of waiters on any Callers: each resumes on its own. A default-constructed Pending has no call
/// behind it and is completed by set_result, set_exception or cancel.
///
/// Thread-safety: any thread, also on one shared state; one handle object: as an int.
/// Cancel-safety: a cancelled waiter cancels what it awaits, unless it waits with `protect` or the Pending is
/// protected. Errors: PendingCancelled; what the call threw. An error nobody looked at is reported once to the error
/// handler. Source: async-kernel Pending; asyncio.Future.
template <class T = void>
class Pending : public PendingBase {
public:
  using value_type = T;
  using caller_awaitable = void;

  Pending() : PendingBase(Adopt{}, detail::make_plain_state<T>()) {}
  /// For the runtime: takes over a reference; `s` must hold a T.
  Pending(Adopt a, detail::PendingState* s) noexcept : PendingBase(a, s) {}
  /// For the runtime: a handle with a reference of its own; `s` must hold a T.
  static Pending share(detail::PendingState* s) noexcept {
    if (s) s->ref();
    return {Adopt{}, s};
  }

  /// The value. Errors: PendingNotDone, PendingCancelled, or the stored error. Thread-safety: any thread.
  decltype(auto) result() const { return static_cast<detail::ValueState<T>*>(state_)->get(); }

  /// Blocks the thread until done and returns the value (a copy; moved when T cannot be copied).
  ///
  /// On a Caller's own thread the loop goes on turning meanwhile, to any depth; a wait that began later must end first.
  /// Thread-safety: any thread. Units: timeout in any std::chrono duration. Errors: TimedOut; as result().
  T wait(WaitOptions options = {}) const {
    if (!state_->done() && !wait_done(options))
      detail::throw_timed_out("Pending::wait", options.timeout.value_or(Duration{}).count());
    auto& s = *static_cast<detail::ValueState<T>*>(state_);
    if constexpr (std::is_void_v<T> || std::is_reference_v<T> || std::is_copy_constructible_v<T>)
      return s.get();
    else
      return std::move(s.get());
  }

  /// `co_await p.async_wait({.timeout = 1s})`: as `co_await p`, with options.
  /// Cancel-safety: see `protect` and `shield`. Errors: TimedOut; as result(). Source: async-kernel Pending.wait.
  Coro<T> async_wait(WaitOptions options = {}) const {
    Pending self = *this;
    if (!co_await self.async_wait_done(options))
      detail::throw_timed_out("Pending::async_wait", options.timeout.value_or(Duration{}).count());
    auto& s = *static_cast<detail::ValueState<T>*>(self.state_);
    if constexpr (std::is_void_v<T>)
      s.get();
    else if constexpr (std::is_reference_v<T> || std::is_copy_constructible_v<T>)
      co_return s.get();
    else
      co_return std::move(s.get());
  }

  /// Completes it with a value. False: it was decided before. Thread-safety: any thread; the first wins.
  template <class... U>
    requires(std::is_void_v<T> ? sizeof...(U) == 0 : sizeof...(U) == 1)
  bool set_result(U&&... value) const {
    auto& s = *static_cast<detail::ValueState<T>*>(state_);
    if (!detail::claim(s)) return false;
    try {
      if (s.is(detail::PendingState::kWork))
        s.emplace_boxed(std::forward<U>(value)...);
      else
        s.emplace(std::forward<U>(value)...);
    } catch (...) {
      detail::set_error(s, std::current_exception());
    }
    detail::complete(s);
    return true;
  }

  /// Completes it with an error. False: it was decided before. Thread-safety: any thread; the first wins.
  /// Errors: Error(invalid_argument) where `error` is null, and the Pending stays as it is.
  bool set_exception(std::exception_ptr error) const {
    if (!error) detail::refuse_no_exception();
    if (!detail::claim(*state_)) return false;
    detail::set_error(*state_, std::move(error));
    detail::complete(*state_);
    return true;
  }
  /// The same with any object as the exception.
  template <class E>
    requires(!std::is_same_v<std::remove_cvref_t<E>, std::exception_ptr> &&
             !std::is_null_pointer_v<std::remove_cvref_t<E>>)
  bool set_exception(E&& error) const {
    return set_exception(std::make_exception_ptr(std::forward<E>(error)));
  }

  detail::PendingAwaiter<T, false> operator co_await() const& { return detail::PendingAwaiter<T, false>(state_); }
  detail::PendingAwaiter<T, true> operator co_await() && {
    return detail::PendingAwaiter<T, true>(std::exchange(state_, nullptr));
  }
};

/// The Pending of the work that is running, empty outside of any. Thread-safety: any thread. Errors: none.
/// Source: async-kernel Caller.current_pending.
CALLER_API PendingBase current_pending() noexcept;

namespace detail {
template <class T>
struct IsPending : std::false_type {};
template <class T>
struct IsPending<Pending<T>> : std::true_type {};
template <class T>
inline constexpr bool is_pending_v = IsPending<std::remove_cvref_t<T>>::value;
}  // namespace detail

}  // namespace caller

template <>
struct std::hash<caller::PendingBase> {
  std::size_t operator()(const caller::PendingBase& p) const noexcept { return std::hash<void*>{}(p.state()); }
};
template <class T>
struct std::hash<caller::Pending<T>> : std::hash<caller::PendingBase> {};
