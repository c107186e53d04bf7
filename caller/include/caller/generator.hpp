// Generators: sequences produced on demand, plain and asynchronous.
#pragma once

#include <coroutine>
#include <cstddef>
#include <exception>
#include <iterator>
#include <memory>
#include <optional>
#include <utility>

#include <caller/coro.hpp>

namespace caller {

/// A plain coroutine that `co_yield`s values; an input range.
///
/// Thread-safety: distinct objects: safe; shared objects: unsafe.
/// Errors: what the body throws leaves through the iterator's increment (or begin()).
/// Source: Python generators; std::generator of C++23.
template <class T>
class [[nodiscard]] Generator {
public:
  struct promise_type {
    T* value = nullptr;
    std::exception_ptr error;
    Generator get_return_object() noexcept {
      return Generator(std::coroutine_handle<promise_type>::from_promise(*this));
    }
    std::suspend_always initial_suspend() const noexcept { return {}; }
    std::suspend_always final_suspend() const noexcept { return {}; }
    std::suspend_always yield_value(T& v) noexcept {
      value = std::addressof(v);
      return {};
    }
    std::suspend_always yield_value(T&& v) noexcept {
      value = std::addressof(v);
      return {};
    }
    void return_void() noexcept { value = nullptr; }
    void unhandled_exception() noexcept {
      value = nullptr;
      error = std::current_exception();
    }
    void await_transform() = delete;
  };

  class Iterator {
  public:
    using iterator_concept = std::input_iterator_tag;
    using value_type = T;
    using difference_type = std::ptrdiff_t;
    T& operator*() const noexcept { return *handle_.promise().value; }
    Iterator& operator++() {
      resume(handle_);
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const Iterator& i, std::default_sentinel_t) noexcept { return i.handle_.done(); }

  private:
    friend Generator;
    explicit Iterator(std::coroutine_handle<promise_type> h) noexcept : handle_(h) {}
    std::coroutine_handle<promise_type> handle_;
  };

  Generator(Generator&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Generator& operator=(Generator&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Generator() {
    if (handle_) handle_.destroy();
  }

  /// Runs the body to its first value. Once for a generator. Errors: what the body throws.
  Iterator begin() {
    resume(handle_);
    return Iterator(handle_);
  }
  /// What `begin()` is compared with.
  std::default_sentinel_t end() const noexcept { return {}; }

  /// The next value, or nothing at the end. Errors: what the body throws.
  std::optional<T> next() {
    if (handle_.done()) return std::nullopt;
    resume(handle_);
    if (handle_.done()) return std::nullopt;
    return std::move(*handle_.promise().value);
  }

private:
  explicit Generator(std::coroutine_handle<promise_type> h) noexcept : handle_(h) {}
  static void resume(std::coroutine_handle<promise_type> h) {
    h.resume();
    if (h.promise().error) std::rethrow_exception(std::exchange(h.promise().error, nullptr));
  }
  std::coroutine_handle<promise_type> handle_;
};

/// A coroutine that `co_yield`s values and may `co_await` between them: `while (auto v = co_await gen.next()) …`.
///
/// It runs as part of the task that awaits next(). Destroying it while suspended at a co_yield destroys its frame.
///
/// Thread-safety: distinct objects: safe; shared objects: unsafe.
/// Cancel-safety: PendingCancelled is thrown where the body waits; it is then at its end.
/// Errors: what the body throws leaves through next().
/// Source: Python asynchronous generators.
template <class T>
class [[nodiscard]] AsyncGenerator {
public:
  struct promise_type {
    std::coroutine_handle<> consumer{};
    std::optional<T> value;
    std::exception_ptr error;

    static void* operator new(std::size_t size) { return detail::allocate(size); }
    static void operator delete(void* p, std::size_t size) noexcept { detail::deallocate(p, size); }

    struct ToConsumer {
      using caller_awaitable = void;
      bool await_ready() const noexcept { return false; }
      std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> h) const noexcept {
        return h.promise().consumer;
      }
      void await_resume() const noexcept {}
    };
    AsyncGenerator get_return_object() noexcept {
      return AsyncGenerator(std::coroutine_handle<promise_type>::from_promise(*this));
    }
    std::suspend_always initial_suspend() const noexcept { return {}; }
    ToConsumer final_suspend() const noexcept { return {}; }
    template <class U>
    ToConsumer yield_value(U&& v) {
      value.emplace(std::forward<U>(v));
      return {};
    }
    void return_void() noexcept {}
    void unhandled_exception() noexcept { error = std::current_exception(); }
    template <class A>
    decltype(auto) await_transform(A&& a) {
      return base.await_transform(std::forward<A>(a));
    }

  private:
    detail::CoroPromiseBase base;
  };

  AsyncGenerator(AsyncGenerator&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  AsyncGenerator& operator=(AsyncGenerator&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~AsyncGenerator() {
    if (handle_) handle_.destroy();
  }

  /// What `co_await next()` waits on.
  struct Next {
    using caller_awaitable = void;
    std::coroutine_handle<promise_type> handle;  ///< for the runtime
    bool await_ready() const noexcept { return !handle || handle.done(); }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> c) const noexcept {
      handle.promise().consumer = c;
      handle.promise().value.reset();
      return handle;
    }
    std::optional<T> await_resume() const {
      if (!handle) return std::nullopt;
      auto& p = handle.promise();
      if (p.error) std::rethrow_exception(std::exchange(p.error, nullptr));
      return std::exchange(p.value, std::nullopt);
    }
  };
  /// The next value, or nothing at the end. Errors: what the body throws.
  Next next() noexcept { return Next{handle_}; }

private:
  explicit AsyncGenerator(std::coroutine_handle<promise_type> h) noexcept : handle_(h) {}
  std::coroutine_handle<promise_type> handle_;
};

namespace detail {
template <class T>
struct IsGenerator : std::false_type {};
template <class T>
struct IsGenerator<Generator<T>> : std::true_type {};
template <class T>
struct IsAsyncGenerator : std::false_type {};
template <class T>
struct IsAsyncGenerator<AsyncGenerator<T>> : std::true_type {};
}  // namespace detail

}  // namespace caller
