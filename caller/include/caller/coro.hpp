// Coro<T>: the lazy coroutine type.
#pragma once

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <type_traits>
#include <utility>

#include <caller/detail/value_state.hpp>
#include <caller/export.hpp>

namespace caller {

template <class T = void>
class Coro;

namespace detail {

struct CoroPromiseBase {
  std::coroutine_handle<> continuation{};
  union {
    std::exception_ptr error{};  // always taken by who takes the value, and null then: nothing is left to destroy
  };
  PendingState* root;  // of the first coroutine of a call, instead of `continuation`: one of them is always set

  CoroPromiseBase() noexcept {}
  ~CoroPromiseBase() {}
  CoroPromiseBase(const CoroPromiseBase&) = delete;
  CoroPromiseBase& operator=(const CoroPromiseBase&) = delete;

  static void* operator new(std::size_t size) { return allocate(size); }
  static void operator delete(void* p, std::size_t size) noexcept { deallocate(p, size); }

  std::suspend_always initial_suspend() const noexcept { return {}; }

  struct Final {
    bool await_ready() const noexcept { return false; }
    template <class P>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<P> h) const noexcept {
      CoroPromiseBase& p = h.promise();
      if (p.continuation) return p.continuation;
      p.root->finished = true;
      return std::noop_coroutine();  // whoever resumed the root takes the value and frees the frame
    }
    void await_resume() const noexcept {}
  };
  Final final_suspend() const noexcept { return {}; }
  void unhandled_exception() noexcept { error = std::current_exception(); }

  template <class A>
  decltype(auto) await_transform(A&& awaitable);
};

template <class T>
struct CoroPromise : CoroPromiseBase {
  using Stored = std::conditional_t<std::is_reference_v<T>, std::add_pointer_t<T>, T>;
  union {
    Stored value;
  };
  static constexpr bool kTrivial = std::is_trivially_destructible_v<Stored>;
  struct Nothing {};
  [[no_unique_address]] std::conditional_t<kTrivial, Nothing, bool> has_value{};  // for the destructor only

  CoroPromise() noexcept {}
  ~CoroPromise() {
    if constexpr (!kTrivial)
      if (has_value) value.~Stored();
  }
  Coro<T> get_return_object() noexcept;
  template <class U = T>  // the default is for braces: `co_return {a, b};`
    requires std::is_convertible_v<U&&, T> || std::is_constructible_v<T, U&&>
  void return_value(U&& v) {
    if constexpr (std::is_reference_v<T>)
      ::new (static_cast<void*>(std::addressof(value))) Stored(std::addressof(v));
    else
      ::new (static_cast<void*>(std::addressof(value))) Stored(std::forward<U>(v));
    if constexpr (!kTrivial) has_value = true;
  }
  T take() {
    if (error) std::rethrow_exception(std::move(error));
    if constexpr (std::is_reference_v<T>)
      return static_cast<T>(*value);
    else
      return std::move(value);
  }
  /// The value of work that has ended; or `error` says what came in its place.
  void move_into(ValueState<T>& s) noexcept {
    if (error) [[unlikely]]
      return;
    try {
      if constexpr (std::is_reference_v<T>)
        s.emplace(static_cast<T>(*value));
      else
        s.emplace(std::move(value));
    } catch (...) {
      error = std::current_exception();
    }
  }
};

template <>
struct CoroPromise<void> : CoroPromiseBase {
  Coro<void> get_return_object() noexcept;
  void return_void() noexcept {}
  void take() {
    if (error) std::rethrow_exception(std::move(error));
  }
  void move_into(ValueState<void>&) const noexcept {}
};

}  // namespace detail

/// A coroutine that starts when it is awaited, and yields one T. A call of a coroutine function gives one;
/// `Caller::call_soon(f, args…)` makes the call itself.
///
/// `co_await std::move(coro)` runs it as part of the awaiting coroutine's task: same thread, same context, same
/// cancellation. A Coro is awaited once. Destroying one that never ran, or that was abandoned while suspended, destroys
/// its frame. Inside, `co_await` accepts everything of this library and any other awaitable; after a foreign one the
/// coroutine continues on its own Caller.
///
/// A lambda's captures live in the lambda, not in the coroutine: keep the lambda alive while the coroutine runs
/// (every call of Caller does).
///
/// Thread-safety: distinct objects: safe; shared objects: unsafe.
/// Cancel-safety: PendingCancelled is thrown at the innermost suspension point.
/// Errors: what the body throws leaves through co_await.
/// Source: async-kernel coroutine functions; differs: typed.
template <class T>
class [[nodiscard]] Coro {
public:
  using promise_type = detail::CoroPromise<T>;
  using value_type = T;
  using caller_awaitable = void;

  Coro() noexcept = default;
  Coro(Coro&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Coro& operator=(Coro&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Coro() {
    if (handle_) handle_.destroy();
  }

  struct Awaiter {
    using caller_awaitable = void;
    std::coroutine_handle<promise_type> handle;
    bool await_ready() const noexcept { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> parent) const noexcept {
      const auto child = handle;  // not loaded again behind the store
      child.promise().continuation = parent;
      return child;
    }
    T await_resume() const { return handle.promise().take(); }
  };
  Awaiter operator co_await() && noexcept { return Awaiter{handle_}; }

  /// it holds a coroutine that has not been awaited
  explicit operator bool() const noexcept { return static_cast<bool>(handle_); }

  /// For the runtime: the frame; and the same with its ownership.
  std::coroutine_handle<promise_type> handle() const noexcept { return handle_; }
  /// the caller destroys it
  std::coroutine_handle<promise_type> release() noexcept { return std::exchange(handle_, {}); }

private:
  friend promise_type;
  explicit Coro(std::coroutine_handle<promise_type> h) noexcept : handle_(h) {}
  std::coroutine_handle<promise_type> handle_{};
};

namespace detail {

template <class T>
Coro<T> CoroPromise<T>::get_return_object() noexcept {
  return Coro<T>(std::coroutine_handle<CoroPromise<T>>::from_promise(*this));
}
inline Coro<void> CoroPromise<void>::get_return_object() noexcept {
  return Coro<void>(std::coroutine_handle<CoroPromise<void>>::from_promise(*this));
}

template <class T>
struct IsCoro : std::false_type {};
template <class T>
struct IsCoro<Coro<T>> : std::true_type {
  using value_type = T;
};
template <class T>
inline constexpr bool is_coro_v = IsCoro<std::remove_cvref_t<T>>::value;

template <class A>
concept OwnAwaitable = requires { typename std::remove_cvref_t<A>::caller_awaitable; };

// ---- awaitables of other libraries: run in a small coroutine of their own, then come home ----

template <class A>
decltype(auto) get_awaiter(A&& a) {
  if constexpr (requires { std::forward<A>(a).operator co_await(); })
    return std::forward<A>(a).operator co_await();
  else if constexpr (requires { operator co_await(std::forward<A>(a)); })
    return operator co_await(std::forward<A>(a));
  else
    return std::forward<A>(a);
}
template <class A>
concept Awaitable = requires(A&& a) {
  { get_awaiter(std::forward<A>(a)).await_ready() } -> std::convertible_to<bool>;
  get_awaiter(std::forward<A>(a)).await_resume();
};
template <class A>
using await_result_t = decltype(get_awaiter(std::declval<A>()).await_resume());

template <class R>
struct ForeignSlot {
  std::mutex mutex;
  Suspension* waiting = nullptr;
  bool done = false;
  std::exception_ptr error;
  std::conditional_t<std::is_void_v<R>, char,
                     std::optional<std::conditional_t<std::is_reference_v<R>, std::remove_reference_t<R>*,
                                                      std::conditional_t<std::is_void_v<R>, char, R>>>>
      value{};

  void finish() noexcept {
    std::lock_guard lock(mutex);
    done = true;
    if (waiting) resume_later(*waiting);
    waiting = nullptr;
  }
};

struct Relay {
  struct promise_type {
    Relay get_return_object() const noexcept { return {}; }
    std::suspend_never initial_suspend() const noexcept { return {}; }
    std::suspend_never final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    void unhandled_exception() const noexcept { std::terminate(); }
  };
};

template <class R, class A>
Relay relay(A awaitable, std::shared_ptr<ForeignSlot<R>> slot) {
  try {
    if constexpr (std::is_void_v<R>)
      co_await std::forward<A>(awaitable);
    else if constexpr (std::is_reference_v<R>)
      slot->value.emplace(std::addressof(co_await std::forward<A>(awaitable)));
    else
      slot->value.emplace(co_await std::forward<A>(awaitable));
  } catch (...) {
    slot->error = std::current_exception();
  }
  slot->finish();
}

template <class A>  // A: T& for an lvalue, T for an rvalue (moved into the relay)
struct ForeignAwaiter : Suspension {
  using caller_awaitable = void;
  using R = await_result_t<A&&>;
  A awaitable;
  std::shared_ptr<ForeignSlot<R>> slot = std::make_shared<ForeignSlot<R>>();

  explicit ForeignAwaiter(A&& a) : awaitable(std::forward<A>(a)) {}
  ForeignAwaiter(const ForeignAwaiter&) = delete;
  ForeignAwaiter& operator=(const ForeignAwaiter&) = delete;
  ~ForeignAwaiter() {
    std::lock_guard lock(slot->mutex);
    slot->waiting = nullptr;
  }
  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> h) {
    if (!begin_suspend(*this, h)) return false;
    detach = [](Suspension* s) noexcept {
      if constexpr (std::is_reference_v<A>) {
        return false;  // the awaited object is not ours: wait for its end
      } else {
        auto& self = *static_cast<ForeignAwaiter*>(s);
        std::lock_guard lock(self.slot->mutex);
        return std::exchange(self.slot->waiting, nullptr) != nullptr;
      }
    };
    try {
      relay<R, A>(std::forward<A>(awaitable), slot);
    } catch (...) {  // it could not be moved, or there is no memory
      abort_suspend(*this);
      throw;
    }
    std::lock_guard lock(slot->mutex);
    if (slot->done) {
      abort_suspend(*this);
      return false;
    }
    slot->waiting = this;
    return true;
  }
  R await_resume() {
    throw_if_cancelled(*this);
    if (slot->error) std::rethrow_exception(slot->error);
    if constexpr (std::is_reference_v<R>)
      return static_cast<R>(**slot->value);
    else if constexpr (!std::is_void_v<R>)
      return std::move(*slot->value);
  }
};

template <class A>
decltype(auto) CoroPromiseBase::await_transform(A&& awaitable) {
  // Ours have an `operator co_await` that makes the awaiter in place: g++ 12 copies an awaiter that is itself the
  // operand.
  static_assert(!(is_coro_v<A> && std::is_lvalue_reference_v<A>), "a Coro runs once: co_await std::move(coro)");
  if constexpr (OwnAwaitable<A>)
    return static_cast<A&&>(awaitable);
  else if constexpr (Awaitable<A>)
    return ForeignAwaiter<A>(std::forward<A>(awaitable));
  else
    static_assert(Awaitable<A>, "this cannot be awaited: it is no Pending, no Coro and no other awaitable");
}

}  // namespace detail
}  // namespace caller
