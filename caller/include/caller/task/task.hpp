// A task: a function that is called here and runs somewhere else.
#pragma once

#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <caller/caller.hpp>
#include <caller/coro.hpp>
#include <caller/export.hpp>
#include <caller/task/app_handle.hpp>
#include <caller/task/codec.hpp>
#include <caller/task/detail/calls.hpp>
#include <caller/task/error.hpp>
#include <caller/task/invocation.hpp>
#include <caller/task/options.hpp>

namespace caller::task {

class App;

/// The name of a parameter, and what stands there when a call leaves it out: `"x"` or `{"y", 1}`.
struct Param {
  /// A parameter that each call must give.
  Param(const char* parameter) : name(parameter) {}
  /// A parameter that each call must give.
  Param(std::string parameter) : name(std::move(parameter)) {}
  /// A parameter with a default.
  template <class T>
  Param(const char* parameter, T value)
      : name(parameter), fallback([value = std::move(value)](Format f) { return to_bytes(f, value); }) {}
  /// As calls and records name it.
  std::string name;
  /// The default, written in a format; null: none.
  std::function<std::string(Format)> fallback;
};
/// The names of a function's parameters, in their order.
using Params = std::initializer_list<Param>;

template <class Signature>
class Task;
/// See direct.hpp.
template <class Signature, bool Async>
class DirectTask;
namespace detail {
template <class R>
struct AggregateFunction {
  using Type = std::function<R(std::vector<R>)>;
};
template <>
struct AggregateFunction<void> {
  using Type = std::nullptr_t;
};
template <class R>
using AggregateOf = typename AggregateFunction<R>::Type;
}  // namespace detail

/// A function of an application that runs somewhere else. Calling it gives an Invocation.
///
/// Thread-safety: any thread. Errors: SerializationError; CycleDetectedError when a task calls itself with the same
/// arguments, directly or not; InvocationConcurrencyWithDifferentArgumentsError. Source: pynenc Task.
template <class R, class... A>
class Task<R(A...)> {
public:
  /// For the library; see App::task.
  Task(detail::AppPtr app, detail::DefinitionPtr definition, std::vector<Param> params)
      : app_(std::move(app)), definition_(std::move(definition)), params_(std::move(params)) {}

  /// As it was given to App::task.
  const std::string& task_id() const noexcept { return definition_->id; }
  /// As configured: what the task was written with, and what goes before that.
  const TaskOptions& conf() const noexcept { return definition_->options; }
  /// Names it for other processes. Source: pynenc Task.to_json.
  std::string to_json() const { return detail::task_json(*definition_); }
  /// Errors: SerializationError; UnknownTaskError; TaskRoutingError when its function is of another type.
  static Task from_json(const App& app, std::string_view json);

  /// The arguments of a call, with those that it leaves out. Errors: TaskRoutingError when one is missing.
  template <class... B>
    requires(sizeof...(B) <= sizeof...(A))
  std::tuple<A...> args(B&&... given) const {
    auto all = std::forward_as_tuple(std::forward<B>(given)...);
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return std::tuple<A...>{argument<I>(all)...};
    }(std::index_sequence_for<A...>());
  }

  /// A call: it is written down, and executed somewhere, later. Arguments left out take their defaults.
  template <class... B>
    requires(sizeof...(B) <= sizeof...(A))
  Invocation<R> operator()(B&&... given) const {
    return made(detail::route_one_now(app_, definition_, bytes<0>(std::forward<B>(given)...)));
  }

  /// In a task: the same, but when that task is run again, after an error or because its runner vanished, its n-th
  /// equal call gives the invocation that was made the first time. See Workflow::execute_task().
  template <class... B>
    requires(sizeof...(B) <= sizeof...(A))
  Invocation<R> call_once(B&&... given) const {
    std::vector<detail::CallBytes> calls;
    calls.push_back(bytes<0>(std::forward<B>(given)...));
    const std::string id = detail::next_call_id(*definition_, calls.front());
    return made(std::move(detail::route_now(app_, definition_, calls, id).front()));
  }

  /// A call for each tuple, registered in batches of `parallel_batch_size`. Source: pynenc Task.parallelize.
  template <class Calls>
  InvocationGroup<R> parallelize(const Calls& arguments) const {
    std::size_t about = 0;
    if constexpr (requires { arguments.size(); }) about = static_cast<std::size_t>(arguments.size());
    detail::Batches batches(app_, definition_, about);
    std::vector<detail::CallBytes> batch;
    for (const auto& one : arguments) {
      batch.push_back(std::apply([&](const auto&... v) { return bytes<0>(v...); }, one));
      if (batch.size() < static_cast<std::size_t>(conf().parallel_batch_size)) continue;
      batches.add(batch);
      batch.clear();
    }
    if (!batch.empty()) batches.add(batch);
    std::vector<detail::Routed> routed = batches.finish();
    std::vector<Invocation<R>> all;
    all.reserve(routed.size());
    for (auto& one : routed) all.push_back(made(std::move(one)));
    return InvocationGroup<R>(app_, std::move(all));
  }

private:
  friend class App;  // for triggers
  [[noreturn]] void missing(std::size_t i) const {
    throw TaskRoutingError(task_id(), "task " + task_id() + ": the argument \"" + params_[i].name + "\" is missing");
  }
  template <std::size_t I, class Given>
  std::tuple_element_t<I, std::tuple<A...>> argument(Given& given) const {
    using T = std::tuple_element_t<I, std::tuple<A...>>;
    if constexpr (I < std::tuple_size_v<Given>) {
      return static_cast<T>(std::get<I>(std::move(given)));
    } else {
      if (!params_[I].fallback) missing(I);
      return from_bytes<T>(Format::json, params_[I].fallback(Format::json));
    }
  }
  template <std::size_t I, class... B>
  detail::CallBytes bytes(B&&... given) const {
    const Format format = detail::format_of(*app_);
    detail::CallBytes out;
    out.places.reserve(sizeof...(A));
    out.args.reserve(64);
    Writer w(format, &out.args);
    w.map(sizeof...(A));
    std::size_t i = 0;
    // The last argument also ended the map, if that needs an end.
    const auto place = [&](std::size_t begin) {
      out.places.emplace_back(begin, out.args.size() - (format == Format::json && i + 1 == sizeof...(A)));
      ++i;
    };
    const auto put = [&](const auto& value) {
      w.key(params_[i].name);
      const std::size_t begin = out.args.size();
      encode(w, value);
      if (format != Format::json) out.json.push_back(to_bytes(Format::json, value));
      place(begin);
    };
    put_all<0>(put, std::forward<B>(given)...);
    while (i < sizeof...(A)) {
      if (!params_[i].fallback) missing(i);
      w.key(params_[i].name);
      const std::size_t begin = out.args.size();
      w.raw(params_[i].fallback(format));
      if (format != Format::json) out.json.push_back(params_[i].fallback(Format::json));
      place(begin);
    }
    return out;
  }
  /// Each argument becomes one of the parameter's type first.
  template <std::size_t I, class Put, class First, class... Rest>
  static void put_all(const Put& put, First&& first, Rest&&... rest) {
    put(static_cast<std::tuple_element_t<I, std::tuple<A...>>>(std::forward<First>(first)));
    put_all<I + 1>(put, std::forward<Rest>(rest)...);
  }
  template <std::size_t I, class Put>
  static void put_all(const Put&) {}

  Invocation<R> made(detail::Routed routed) const {
    const auto kind = detail::runs_here(*app_) ? InvocationKind::synchronous
                      : routed.reused          ? InvocationKind::reused
                                               : InvocationKind::distributed;
    return Invocation<R>(app_, std::move(routed), kind);
  }

  detail::AppHandle app_;
  detail::DefinitionPtr definition_;
  std::vector<Param> params_;
};

}  // namespace caller::task
