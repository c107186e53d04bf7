// A call of a task under way, and several at once.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <caller/caller.hpp>
#include <caller/coro.hpp>
#include <caller/export.hpp>
#include <caller/task/app_handle.hpp>
#include <caller/task/detail/calls.hpp>
#include <caller/task/error.hpp>
#include <caller/task/store.hpp>

namespace caller::task {

class App;

/// How a call came to its invocation. Source: pynenc's DistributedInvocation, ReusedInvocation.
enum class InvocationKind : std::uint8_t {
  distributed,  ///< a runner executes it
  reused,       ///< it was there already; see Invocation::diff_arg()
  synchronous,  ///< it ran at the call
};

namespace detail {
CALLER_API Routed routed_from_json(const AppCore& app, std::string_view json, InvocationKind* kind);

/// Of a coroutine that is made for the one who awaits.
template <class R>
struct ResultAwaiter {
  using caller_awaitable = void;
  Coro<R> coro;
  typename Coro<R>::Awaiter inner = std::move(coro).operator co_await();
  bool await_ready() const noexcept { return inner.await_ready(); }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> parent) const noexcept {
    return inner.await_suspend(parent);
  }
  R await_resume() const { return inner.await_resume(); }
};
}  // namespace detail

/// What is the same for invocations of any result.
/// Thread-safety: any thread. Errors: InvocationNotFoundError once it was purged. Source: pynenc BaseInvocation.
class CALLER_API InvocationBase {
public:
  /// For the library.
  InvocationBase(detail::AppPtr app, detail::Routed routed, InvocationKind kind);
  /// Unique in the store.
  const std::string& id() const noexcept { return routed_.id; }
  /// How the call came to it.
  InvocationKind kind() const noexcept { return kind_; }
  /// Of a reused one: how its arguments differ from the call's; empty: they do not.
  const std::string& diff_arg() const noexcept { return routed_.diff_arg; }
  /// As it is in the store now. Errors: InvocationNotFoundError.
  Status status() const;
  /// How often it was tried again. Errors: InvocationNotFoundError.
  int num_retries() const;
  /// The steps of its life so far, oldest first. Errors: InvocationNotFoundError.
  std::vector<HistoryEntry> history() const;
  /// The invocation whose task made the call; empty: none did.
  std::string parent_id() const;
  /// What waits is cancelled; what runs is asked to end by its stop token. False: it had ended.
  bool cancel() const;
  /// What another process needs to know to wait for it, too. Source: pynenc BaseInvocation.to_json.
  std::string to_json() const;
  /// For the library.
  const detail::Routed& routed() const noexcept { return routed_; }

protected:
  /// For the library.
  detail::AppHandle app_;
  /// For the library.
  detail::Routed routed_;
  /// For the library.
  InvocationKind kind_;
};

/// A call under way.
template <class R>
class [[nodiscard]] Invocation : public InvocationBase {
public:
  /// For the library.
  using InvocationBase::InvocationBase;

  /// Waits for the end. In a task the slot of the waiting one is free meanwhile; in a thread with a Caller its loop
  /// turns.
  ///
  /// Errors: what the task threw (see ExceptionRecord); InvocationCancelledError; TaskRoutingError when it was refused;
  /// CycleDetectedError.
  R result() const { return detail::result_from<R>(detail::format_of(*app_), detail::result_now(app_, routed_)); }
  /// Of what to_json() gave, also in another process. That its result is an R is seen when it is read.
  /// Errors: SerializationError; TaskRoutingError for an invocation of another application.
  static Invocation from_json(const App& app, std::string_view json);
  /// The same for coroutines: `co_await add(1, 2)`. Cancel-safety: the invocation goes on.
  Coro<R> async_result() const { return get(app_, routed_.id); }
  using caller_awaitable = void;
  detail::ResultAwaiter<R> operator co_await() const { return {async_result()}; }

private:
  static Coro<R> get(detail::AppPtr app, std::string id) {
    const std::string bytes = co_await detail::result_of(app, id);
    co_return detail::result_from<R>(detail::format_of(*app), bytes);
  }
};

/// Several calls at once. Source: pynenc DistributedInvocationGroup.
template <class R>
class [[nodiscard]] InvocationGroup {
public:
  /// For the library.
  InvocationGroup(detail::AppPtr app, std::vector<Invocation<R>> list) : app_(std::move(app)), list_(std::move(list)) {}
  /// In the order of the calls.
  const std::vector<Invocation<R>>& invocations() const noexcept { return list_; }
  /// All results in the order in which the invocations ended, when all have. Errors: as Invocation::result().
  std::vector<R> results() const
    requires(!std::is_void_v<R>)
  {
    return all(true);
  }
  /// The same in the order of the calls.
  std::vector<R> ordered_results() const
    requires(!std::is_void_v<R>)
  {
    return all(false);
  }
  /// Waits until all have ended. Errors: as Invocation::result(), of the first that has failed.
  void wait() const { (void)detail::results_now(app_, calls(), false); }
  /// As ordered_results(), for coroutines. Cancel-safety: the invocations go on.
  Coro<std::vector<R>> async_results() const
    requires(!std::is_void_v<R>)
  {
    return get(list_);
  }
  /// As wait(), for coroutines. Cancel-safety: the invocations go on.
  Coro<void> async_wait() const { return end(list_); }
  using caller_awaitable = void;
  /// `co_await group`: all results in the order of the calls; of tasks without results it is async_wait().
  auto operator co_await() const {
    if constexpr (std::is_void_v<R>)
      return detail::ResultAwaiter<void>{async_wait()};
    else
      return detail::ResultAwaiter<std::vector<R>>{async_results()};
  }

private:
  static Coro<void> end(std::vector<Invocation<R>> list) {
    std::exception_ptr error;
    for (const auto& i : list) {
      try {
        (void)co_await i.async_result();
      } catch (const PendingCancelled&) {
        throw;
      } catch (...) {
        if (!error) error = std::current_exception();
      }
    }
    if (error) std::rethrow_exception(error);
  }
  static Coro<std::vector<R>> get(std::vector<Invocation<R>> list) {
    std::vector<R> out;
    for (const auto& i : list) {
      R one = co_await i;
      out.push_back(std::move(one));
    }
    co_return out;
  }
  std::vector<R> all(bool as_they_ended) const {
    std::vector<R> out;
    out.reserve(list_.size());
    for (const auto& [i, bytes] : detail::results_now(app_, calls(), as_they_ended))
      out.push_back(detail::result_from<R>(detail::format_of(*app_), bytes));
    return out;
  }
  std::vector<const detail::Routed*> calls() const {
    std::vector<const detail::Routed*> out;
    out.reserve(list_.size());
    for (const auto& i : list_) out.push_back(&i.routed());
    return out;
  }
  detail::AppHandle app_;
  std::vector<Invocation<R>> list_;
};

}  // namespace caller::task
