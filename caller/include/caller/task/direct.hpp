// Tasks that look like the function they are made of: calling one gives its value.
#pragma once

#include <functional>
#include <utility>

#include <caller/task/app.hpp>

namespace caller::task {

/// What App::direct_task() gives. A call waits for the result; of a coroutine function it gives a coroutine to await.
/// With `parallel`, the call's arguments are made into those of many calls, whose results, in that order, `aggregate`
/// makes one of.
/// Thread-safety: any thread. Errors: those of Task, and of Invocation::result(). Source: pynenc Pynenc.direct_task.
template <class R, class... A, bool Async>
class DirectTask<R(A...), Async> {
public:
  /// Makes the arguments of many calls of those of one.
  using Parallel = std::function<std::vector<std::tuple<A...>>(const A&...)>;
  /// Makes one result of theirs.
  using Aggregate = detail::AggregateOf<R>;

  /// See App::direct_task().
  explicit DirectTask(Task<R(A...)> task, Parallel parallel = {}, Aggregate aggregate = {})
      : task_(std::move(task)), parallel_(std::move(parallel)), aggregate_(std::move(aggregate)) {}

  /// The task behind it.
  const Task<R(A...)>& task() const noexcept { return task_; }

  /// Calls it, and gives the value, or an awaitable.
  template <class... B>
    requires(sizeof...(B) <= sizeof...(A))
  std::conditional_t<Async, Coro<R>, R> operator()(B&&... given) const {
    if constexpr (!std::is_void_v<R>) {
      if (parallel_) {
        const auto calls = std::apply(parallel_, task_.args(std::forward<B>(given)...));
        if constexpr (Async)
          return aggregated(task_.parallelize(calls), aggregate_);
        else
          return aggregate_(task_.parallelize(calls).ordered_results());
      }
    }
    if constexpr (Async)
      return task_(std::forward<B>(given)...).async_result();
    else
      return task_(std::forward<B>(given)...).result();
  }

private:
  static Coro<R> aggregated(InvocationGroup<R> group, Aggregate aggregate)
    requires(!std::is_void_v<R>)
  {
    auto all = co_await group.async_results();
    co_return aggregate(std::move(all));
  }
  Task<R(A...)> task_;
  Parallel parallel_;
  Aggregate aggregate_;
};

namespace detail {
template <bool Async, class Signature, class... More>
DirectTask<Signature, Async> direct(Task<Signature> task, More... more) {
  return DirectTask<Signature, Async>(std::move(task), std::move(more)...);
}
}  // namespace detail

template <class F>
auto App::direct_task(std::string id, F f, Params params, TaskOptions options) const {
  constexpr bool async = detail::ResultOf<typename detail::FunctionOf<F>::Result>::is_coroutine;
  return detail::direct<async>(task(std::move(id), std::move(f), params, std::move(options)));
}
template <class F, class Parallel, class Aggregate>
auto App::direct_task(std::string id, F f, Params params, TaskOptions options, Parallel parallel,
                      Aggregate aggregate) const {
  constexpr bool async = detail::ResultOf<typename detail::FunctionOf<F>::Result>::is_coroutine;
  return detail::direct<async>(task(std::move(id), std::move(f), params, std::move(options)), std::move(parallel),
                               std::move(aggregate));
}

}  // namespace caller::task
