// The application: its tasks, and where their invocations live.
//
//   using namespace caller::task;
//   App app = AppBuilder{}.app_id("demo").build();                        // everything in memory
//   auto add = app.task("demo.add", [](int x, int y) { return x + y; }, {"x", {"y", 1}}, {.max_retries = 2});
//   auto runner = app.thread_runner({.slots = 4});
//   runner->start();
//   int three = add(1, 2).result();                                       // or co_await add(1, 2)
#pragma once

#include <chrono>
#include <concepts>
#include <coroutine>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include <caller/caller.hpp>
#include <caller/coro.hpp>
#include <caller/export.hpp>
#include <caller/task/app_handle.hpp>
#include <caller/task/client_data.hpp>
#include <caller/task/codec.hpp>
#include <caller/task/config.hpp>
#include <caller/task/error.hpp>
#include <caller/task/logger.hpp>
#include <caller/task/options.hpp>
#include <caller/task/redis.hpp>
#include <caller/task/run.hpp>
#include <caller/task/runner.hpp>
#include <caller/task/sqlite.hpp>
#include <caller/task/store.hpp>
#include <caller/task/trigger.hpp>

namespace caller::task {

class App;

namespace detail {

/// A call that is to be routed.
struct Routed {
  std::string id;
  bool reused = false;
  std::string diff_arg;  // how the arguments of the one that was there differ; empty: not at all
};
struct CallBytes {
  std::string args;                                         // the map of all of them
  std::vector<std::pair<std::string, std::string>> named;   // each, as JSON
  std::vector<std::pair<std::size_t, std::size_t>> places;  // of each in `args`: where it begins and ends
};
CALLER_API Format format_of(const AppCore& app) noexcept;
/// The task as it is with the options that are configured.
CALLER_API DefinitionPtr add_task(AppCore& app, std::shared_ptr<TaskDefinition> definition);
CALLER_API DefinitionPtr task_of(const AppCore& app, const std::string& id, const std::string& signature);
CALLER_API std::string task_json(const TaskDefinition& definition);
CALLER_API std::string task_id_from_json(std::string_view json);
class RunnerBox;
/// All or none; in development mode they run here and now. `id`: of the one call there is; a call of that id that is
/// there already is that one. Empty: new ones.
CALLER_API std::vector<Routed> route_now(const AppPtr& app, const DefinitionPtr& definition,
                                         const std::vector<CallBytes>& calls, const std::string& id = {});
/// The id of the running task's next call of this kind: the same again when the task is run again.
CALLER_API std::string next_call_id(const TaskDefinition& definition, const CallBytes& call);
CALLER_API Coro<std::string> result_of(AppPtr app, std::string id);
CALLER_API std::string result_now(const AppPtr& app, const std::string& id);
/// Of all, when all have ended, each behind its place: in the order of the ids, or in that of the ends.
CALLER_API std::vector<std::pair<std::size_t, std::string>> results_now(const AppPtr& app,
                                                                        const std::vector<std::string>& ids,
                                                                        bool as_they_ended);
CALLER_API Store& store_of(AppCore& app);
CALLER_API bool runs_here(const AppCore& app) noexcept;
CALLER_API std::string args_id(std::vector<std::pair<std::string, std::string>> named);

/// `arguments`: what tells them from others; `make`: of what has matched. The trigger's id.
CALLER_API std::string add_trigger(const AppPtr& app, const Condition& when, DefinitionPtr task,
                                   const std::string& arguments, std::function<CallBytes(const Match&)> make,
                                   bool computed);
CALLER_API std::string emit_event(const AppPtr& app, const std::string& name, const Payload& payload);
CALLER_API std::vector<TriggerRecord> list_triggers(const AppPtr& app);
CALLER_API std::size_t evaluate_triggers(const AppPtr& app);

template <class... B>
inline constexpr bool kComputes = false;
template <class F>
inline constexpr bool kComputes<F> = std::is_invocable_v<F&, const Match&>;

template <class F>
struct FunctionOf : FunctionOf<decltype(&F::operator())> {};
template <class R, class... A>
struct FunctionOf<R (*)(A...)> {
  using Result = R;
  using Arguments = std::tuple<A...>;
};
template <class R, class... A>
struct FunctionOf<R (*)(A...) noexcept> : FunctionOf<R (*)(A...)> {};
template <class C, class R, class... A>
struct FunctionOf<R (C::*)(A...)> : FunctionOf<R (*)(A...)> {};
template <class C, class R, class... A>
struct FunctionOf<R (C::*)(A...) const> : FunctionOf<R (*)(A...)> {};
template <class C, class R, class... A>
struct FunctionOf<R (C::*)(A...) noexcept> : FunctionOf<R (*)(A...)> {};
template <class C, class R, class... A>
struct FunctionOf<R (C::*)(A...) const noexcept> : FunctionOf<R (*)(A...)> {};

/// What FunctionOf knows.
template <class F>
concept TaskFunction =
    std::is_function_v<std::remove_pointer_t<std::decay_t<F>>> || requires { &std::decay_t<F>::operator(); };

/// Parameters without a leading std::stop_token, as plain values.
template <class T>
struct Parameters;
template <class... A>
struct Parameters<std::tuple<A...>> {
  using Values = std::tuple<std::decay_t<A>...>;
  static constexpr bool stops = false;
};
template <class... A>
struct Parameters<std::tuple<std::stop_token, A...>> {
  using Values = std::tuple<std::decay_t<A>...>;
  static constexpr bool stops = true;
};
template <class R>
struct ResultOf {
  using Type = std::decay_t<R>;
  static constexpr bool is_coroutine = false;
};
template <class R>
struct ResultOf<Coro<R>> {
  using Type = std::decay_t<R>;
  static constexpr bool is_coroutine = true;
};
template <>
struct ResultOf<void> {
  using Type = void;
  static constexpr bool is_coroutine = false;
};

template <class R>
R result_from(Format f, std::string_view bytes) {
  if constexpr (std::is_void_v<R>)
    return void(from_bytes<std::monostate>(f, bytes));
  else
    return from_bytes<R>(f, bytes);
}

}  // namespace detail

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

// ---- functions of cells ----

namespace detail {

/// What the compiler of a notebook writes down of a function that is given to App::task: under the address of it, the
/// key of its source, its parameters and, if it can be no task, why. A later one replaces an earlier one.
/// Thread-safety: any thread. Errors: none.
CALLER_API bool know_function(const void* address, std::string key, std::vector<Param> params, std::string fault);
/// The source for that key: its name, a hash of the cells' text, and the text itself as JSON. With an `id`, that and no
/// other is the task's.
struct CellSource {
  std::string name, hash, json, id;
};
CALLER_API void keep_source(const std::string& key, CellSource source);

/// What the task of a function is made with.
struct Known {
  std::string id;
  std::vector<Param> params;
  std::string source;
};
/// Errors: TaskRoutingError when nothing is known of it.
CALLER_API Known known_function(const void* address, const TaskOptions& options);

/// Options as JSON; of `retry_for` only the names, which do not come back. Errors: SerializationError.
CALLER_API std::string options_json(const TaskOptions& options);
CALLER_API TaskOptions options_from_json(const std::string& json);

/// From now on who builds an application of that id in this process gets this one: the cells of a notebook that a
/// worker compiles again say how to make theirs, and mean the worker's. Null: nobody any more.
CALLER_API void share_app(const std::string& app_id, AppPtr app);
CALLER_API AppPtr shared_app(const std::string& app_id);
/// The source of a function of cells, of whatever process; none: the store knows none of that id.
/// Errors: StateBackendError.
CALLER_API std::optional<std::string> stored_source(Store& store, const std::string& task_id);
/// An application of the same id and store whose calls run where they are made.
CALLER_API AppPtr inline_app(const AppPtr& app);
/// The newest application of that id in this process; null: there is none.
CALLER_API AppPtr living_app(const std::string& app_id);

/// What runs the plain tasks that are functions of cells: their code may fault, or never end. Set once, by a kernel.
using CellGuard = std::string (*)(const std::function<std::string()>& body, std::stop_token stop);
CALLER_API void set_cell_guard(CellGuard guard) noexcept;

template <class F>
const void* address_of(const F& f) noexcept {
  if constexpr (std::is_function_v<F>)
    return reinterpret_cast<const void*>(&f);
  else if constexpr (std::is_pointer_v<F>)
    return reinterpret_cast<const void*>(f);
  else
    return std::addressof(f);
}

/// A default argument, as a value of its parameter's type.
template <class F, std::size_t I>
using ParameterType = std::decay_t<std::tuple_element_t<I, typename FunctionOf<std::decay_t<F>>::Arguments>>;
template <class F, std::size_t I>
ParameterType<F, I> default_of(ParameterType<F, I> value) {
  return value;
}

}  // namespace detail

/// How a call came to its invocation. Source: pynenc's DistributedInvocation, ReusedInvocation.
enum class InvocationKind : std::uint8_t {
  distributed,  ///< a runner executes it
  reused,       ///< it was there already; see Invocation::diff_arg()
  synchronous,  ///< it ran at the call
};

namespace detail {
CALLER_API Routed routed_from_json(const AppCore& app, std::string_view json, InvocationKind* kind);
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
  R result() const { return detail::result_from<R>(detail::format_of(*app_), detail::result_now(app_, routed_.id)); }
  /// Of what to_json() gave, also in another process. That its result is an R is seen when it is read.
  /// Errors: SerializationError; TaskRoutingError for an invocation of another application.
  static Invocation from_json(const App& app, std::string_view json);
  /// The same for coroutines: `co_await add(1, 2)`. Cancel-safety: the invocation goes on.
  Coro<R> async_result() const { return get(app_, routed_.id); }
  using caller_awaitable = void;
  struct Awaiter {
    using caller_awaitable = void;
    Coro<R> coro;
    typename Coro<R>::Awaiter inner = std::move(coro).operator co_await();
    bool await_ready() const noexcept { return inner.await_ready(); }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> parent) const noexcept {
      return inner.await_suspend(parent);
    }
    R await_resume() const { return inner.await_resume(); }
  };
  Awaiter operator co_await() const { return Awaiter{async_result()}; }

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
  void wait() const { (void)detail::results_now(app_, ids(), false); }
  /// `co_await group`: as ordered_results(), for coroutines.
  Coro<std::vector<R>> async_results() const
    requires(!std::is_void_v<R>)
  {
    return get(list_);
  }

private:
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
    for (const auto& [i, bytes] : detail::results_now(app_, ids(), as_they_ended))
      out.push_back(detail::result_from<R>(detail::format_of(*app_), bytes));
    return out;
  }
  std::vector<std::string> ids() const {
    std::vector<std::string> out;
    for (const auto& i : list_) out.push_back(i.id());
    return out;
  }
  detail::AppHandle app_;
  std::vector<Invocation<R>> list_;
};

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
    std::vector<detail::CallBytes> calls;
    calls.push_back(bytes<0>(std::forward<B>(given)...));
    return std::move(made(detail::route_now(app_, definition_, calls)).front());
  }

  /// In a task: the same, but when that task is run again, after an error or because its runner vanished, its n-th
  /// equal call gives the invocation that was made the first time. See Workflow::execute_task().
  template <class... B>
    requires(sizeof...(B) <= sizeof...(A))
  Invocation<R> call_once(B&&... given) const {
    std::vector<detail::CallBytes> calls;
    calls.push_back(bytes<0>(std::forward<B>(given)...));
    const std::string id = detail::next_call_id(*definition_, calls.front());
    return std::move(made(detail::route_now(app_, definition_, calls, id)).front());
  }

  /// A call for each tuple, registered in batches of `parallel_batch_size`. Source: pynenc Task.parallelize.
  template <class Calls>
  InvocationGroup<R> parallelize(const Calls& arguments) const {
    std::vector<Invocation<R>> all;
    std::vector<detail::CallBytes> batch;
    const auto send = [&] {
      if (batch.empty()) return;
      for (auto& i : made(detail::route_now(app_, definition_, std::exchange(batch, {})))) all.push_back(std::move(i));
    };
    for (const auto& one : arguments) {
      batch.push_back(std::apply([&](const auto&... v) { return bytes<0>(v...); }, one));
      if (batch.size() == static_cast<std::size_t>(conf().parallel_batch_size)) send();
    }
    send();
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
    Writer w(format, &out.args);
    w.map(sizeof...(A));
    std::size_t i = 0;
    const auto put = [&](const auto& value) {
      w.key(params_[i].name);
      const std::size_t begin = out.args.size();
      encode(w, value);
      out.named.emplace_back(params_[i].name, to_bytes(Format::json, value));
      place(format, begin, out);
      ++i;
    };
    put_all<0>(put, std::forward<B>(given)...);
    for (; i < sizeof...(A); ++i) {
      if (!params_[i].fallback) missing(i);
      w.key(params_[i].name);
      const std::size_t begin = out.args.size();
      w.raw(params_[i].fallback(format));
      out.named.emplace_back(params_[i].name, params_[i].fallback(Format::json));
      place(format, begin, out);
    }
    return out;
  }
  /// Of the argument written last; the last one of all also ended the map, if that needs an end.
  static void place(Format format, std::size_t begin, detail::CallBytes& out) {
    out.places.emplace_back(begin, format == Format::json ? begin + out.named.back().second.size() : out.args.size());
  }
  /// Each argument becomes one of the parameter's type first.
  template <std::size_t I, class Put, class First, class... Rest>
  static void put_all(const Put& put, First&& first, Rest&&... rest) {
    put(static_cast<std::tuple_element_t<I, std::tuple<A...>>>(std::forward<First>(first)));
    put_all<I + 1>(put, std::forward<Rest>(rest)...);
  }
  template <std::size_t I, class Put>
  static void put_all(const Put&) {}

  std::vector<Invocation<R>> made(std::vector<detail::Routed> routed) const {
    const bool here = detail::runs_here(*app_);
    std::vector<Invocation<R>> out;
    out.reserve(routed.size());
    for (auto& r : routed) {
      const auto kind = here       ? InvocationKind::synchronous
                        : r.reused ? InvocationKind::reused
                                   : InvocationKind::distributed;
      out.emplace_back(app_, std::move(r), kind);
    }
    return out;
  }

  detail::AppHandle app_;
  detail::DefinitionPtr definition_;
  std::vector<Param> params_;
};

/// What an application is made with. What is configured elsewhere goes before all of it but `store` and `log`.
struct AppOptions {
  /// One for all processes that work together.
  std::string app_id = "caller";
  std::shared_ptr<Store> store{};  ///< none: made by name when it is first used
  Format format = Format::json;    ///< of arguments and results; one for all processes
  bool dev_mode = false;           ///< calls run where they are made, at once
  /// A vanished runner's invocations go back to the queue after this. Runners tell of themselves three times as often.
  std::chrono::milliseconds lease{10'000};
  std::chrono::milliseconds max_pending{5'000};        ///< from taken to begun
  std::chrono::hours auto_final_invocation_purge{24};  ///< 0: never
  ClientDataOptions client_data{};                     ///< large arguments and results
  /// Of what is told to people, in any thread; none: to standard error.
  std::function<void(Severity, const std::string&)> log{};
  std::string store_name = "memory";        ///< see Components
  std::string runner_name = "thread";       ///< what App::runner() gives; see Components
  RunnerOptions runner_options{};           ///< of that one; of another one that is configured only its functions
  Severity logging_level = Severity::info;  ///< what is logged: this, and what is worse
  /// Settings of whatever class, by their names: {"sqlite.path", "demo.db"}.
  std::map<std::string, std::string> values{};
  /// Asked for a task that is not registered, in any thread but no runner's loop: may register it. Errors of it fail
  /// the invocation.
  std::function<void(const App&, const std::string& task_id)> find_task{};
};

/// Tasks, and where their invocations live. Copies are handles on the same application.
/// Thread-safety: any thread. Errors: see each function. Source: pynenc Pynenc.
class CALLER_API App {
public:
  /// Errors: ConfigError for files, settings and names that cannot be used; it lists all of them.
  explicit App(AppOptions options = {});
  /// `config`: made by app_config(), and what was assigned to it. Errors: as the one above.
  App(AppOptions options, Config config);
  /// `config_values`: as AppOptions::values. `config_filepath`: YAML, TOML or JSON. Source: pynenc Pynenc.
  explicit App(std::string app_id, std::map<std::string, std::string> config_values = {},
               std::string config_filepath = {});
  /// For the library: a handle on the same application.
  explicit App(detail::AppPtr core) : core_(std::move(core)) {}
  App(const App& o) : core_(o.core_), runner_(core_.keeps() ? o.runner_ : nullptr) {}
  App(App&&) noexcept = default;
  App& operator=(const App& o) { return *this = App(o); }
  App& operator=(App&&) noexcept = default;
  ~App() = default;

  /// As it was given.
  const std::string& app_id() const noexcept;
  /// Where invocations live; made when it is first asked for. Errors: those of the store's maker.
  Store& store() const;
  /// As configured.
  const AppOptions& conf() const noexcept;
  /// Makes whole what the store holds in parts.
  ClientDataStore client_data_store() const noexcept { return ClientDataStore(core_); }
  /// Where its settings come from.
  Config config() const;
  /// How arguments and results are written.
  Format serializer() const noexcept;
  /// Tells people what the application has to say.
  Logger logger() const;

  /// Assigns a setting, before all other places. What tasks were registered with stays. Errors: ConfigError;
  /// AlreadyInitializedError once the store or the runner was used.
  void assign(const std::string& name, const std::string& value, const std::string& task_id = {}) const;
  /// Errors: AlreadyInitializedError once the store was used.
  void set_store(std::shared_ptr<Store> store) const;
  /// Errors: AlreadyInitializedError once the runner was used.
  void set_runner(std::unique_ptr<Runner> runner) const;
  /// Whether a component was used: "store" or "runner". Errors: ConfigError for another name.
  bool is_initialized(std::string_view component) const;

  /// Loads a shared object and lets it register its tasks; see CALLER_TASKS. It is never unloaded.
  /// Errors: ConfigError when it cannot be loaded, or has no tasks; what registering them throws.
  void load(const std::string& library) const;

  /// The call of an invocation that has ended, once more: a new one, whose id it returns.
  /// Errors: InvocationNotFoundError; InvocationStatusError while it has not ended. Source: –
  std::string retry(const std::string& invocation_id) const;
  /// Forgets every invocation.
  std::size_t purge() const;
  /// Errors: UnknownTaskError with the nearest names.
  detail::DefinitionPtr find_task(const std::string& task_id) const;
  /// A task that was registered somewhere else, by the type of its function: `find_task<int(int, int)>("demo.add")`.
  /// Errors: UnknownTaskError; TaskRoutingError when its function is of another type. Source: pynenc Pynenc.get_task.
  template <class Signature>
  Task<Signature> find_task(const std::string& task_id) const {
    auto definition = detail::task_of(*core_, task_id, detail::type_name(typeid(Signature)));
    std::vector<Param> params;
    for (std::size_t i = 0; i < definition->parameters.size(); ++i) {
      params.emplace_back(definition->parameters[i]);
      params.back().fallback = definition->fallbacks[i];
    }
    return Task<Signature>(core_, std::move(definition), std::move(params));
  }
  /// Ids of all tasks, sorted.
  std::vector<std::string> task_ids() const;

  /// A function, or coroutine function, as a task. `params` names its parameters, but for a leading std::stop_token.
  ///
  /// `id` must be the same in every process. Errors: InvalidTaskOptionsError; TaskRoutingError when the id is taken, or
  /// the names do not match the parameters in number.
  template <class F>
    requires detail::TaskFunction<F>
  auto task(std::string id, F f, Params params = {}, TaskOptions options = {}) const {
    using Function = detail::FunctionOf<F>;
    using P = detail::Parameters<typename Function::Arguments>;
    return make_task<typename detail::ResultOf<typename Function::Result>::Type>(
        std::type_identity<typename P::Values>(), std::move(id), std::move(f), std::vector<Param>(params),
        std::move(options));
  }

  /// Calls `task` whenever `when` matches: with these arguments, or, if there is one function of a Match alone, with
  /// what that gives: a tuple of arguments, one argument, or nothing. What it throws is logged, and nothing is called.
  /// Several threads may call it at once.
  ///
  /// Every process that executes this application's tasks should declare the same triggers, in the same order: those
  /// that differ only in their functions are told apart by it. The store learns of a trigger with the process's next
  /// call, event or runner; what has happened before does not count. Declared twice, it is one. Returns its id.
  /// Errors: ConfigError, SerializationError, TaskRoutingError for arguments that do not fit. Source: pynenc
  /// TriggerBuilder; differs: a condition of an all_of that matches again before the others counts once.
  template <class R, class... A, class... B>
  std::string on(const Condition& when, const Task<R(A...)>& task, B&&... arguments) const {
    if constexpr (detail::kComputes<std::decay_t<B>...>) {
      return on_computed(when, task, std::forward<B>(arguments)...);
    } else {
      detail::CallBytes bytes = task.template bytes<0>(std::forward<B>(arguments)...);
      std::string name = detail::args_id(bytes.named);
      return detail::add_trigger(
          core_, when, task.definition_, name, [bytes = std::move(bytes)](const Match&) { return bytes; }, false);
    }
  }
  /// Tells of an event, which is kept until the triggers that wait for its name have acted on it, for a day at most; it
  /// is forgotten at once if none does. Returns its id. Errors: StateBackendError. Source: pynenc trigger.emit_event.
  std::string emit(const std::string& event, const Payload& payload = {}) const;
  /// All that the store or this process knows. Errors: StateBackendError. Source: –
  std::vector<TriggerRecord> triggers() const;
  /// Does now, in this thread, what runners do when something happens: for programs that have none, and for tests.
  /// Returns how many invocations it added. Errors: StateBackendError. Source: pynenc trigger_loop_iteration.
  std::size_t evaluate_triggers() const;

  /// As task(), but calling it gives the value; of a coroutine function, an awaitable. See DirectTask.
  template <class F>
  auto direct_task(std::string id, F f, Params params = {}, TaskOptions options = {}) const;
  /// One that is made into many calls.
  template <class F, class Parallel, class Aggregate>
  auto direct_task(std::string id, F f, Params params, TaskOptions options, Parallel parallel,
                   Aggregate aggregate) const;

#ifdef CALLER_IN_CELL
  /// In a notebook: a function, coroutine function or lambda of a cell, by its name. `app.task(add)`
  ///
  /// Names and defaults of its parameters are those of its declaration. The id is the name and a hash of the text of
  /// the cells it needs and of the options; that text goes to the store, so that a worker that was never told of the
  /// function compiles and runs it (`caller runner start --jit`). The same function again is the same task.
  /// Errors: InvalidTaskOptionsError; TaskRoutingError for what is no function of a cell; StateBackendError. Source:
  /// pynenc's @app.task.
  template <class F>
    requires detail::TaskFunction<F>
  auto task(const F& f, TaskOptions options = {}) const {
    detail::Known known = detail::known_function(detail::address_of(f), options);
    using Function = detail::FunctionOf<std::decay_t<F>>;
    using P = detail::Parameters<typename Function::Arguments>;
    return make_task<typename detail::ResultOf<typename Function::Result>::Type>(
        std::type_identity<typename P::Values>(), std::move(known.id), std::decay_t<F>(f), std::move(known.params),
        std::move(options), std::move(known.source));
  }
#endif

  /// The application's own runner, the one that is configured; made when it is first asked for: `app.runner().run()`.
  /// It is stopped with the last handle on the application; those in tasks' code do not count. Errors: as
  /// make_runner(), and ConfigError for an unknown name. Source: pynenc Pynenc.runner.
  Runner& runner() const;
  /// One of that kind. What is configured for it, in [runner] or [thread_runner] and so on, goes before `options`.
  /// Errors: ConfigError; RunnerNotExecutableError in a process that executes invocations for a runner of the same
  /// application.
  std::unique_ptr<Runner> make_runner(RunnerKind kind, RunnerOptions options = {}) const;
  /// A runner that executes this application's tasks on threads of this process. It takes nothing before its start().
  std::unique_ptr<Runner> thread_runner(RunnerOptions options = {}) const {
    return make_runner(RunnerKind::thread, std::move(options));
  }
  /// A process for each invocation.
  std::unique_ptr<Runner> process_runner(RunnerOptions options = {}) const {
    return make_runner(RunnerKind::process, std::move(options));
  }
  /// A pool of processes that stay.
  std::unique_ptr<Runner> persistent_process_runner(RunnerOptions options = {}) const {
    return make_runner(RunnerKind::persistent_process, std::move(options));
  }
  /// Processes with threads, as many as there is work for.
  std::unique_ptr<Runner> multi_thread_runner(RunnerOptions options = {}) const {
    return make_runner(RunnerKind::multi_thread, std::move(options));
  }

  /// For the library.
  detail::AppPtr core() const { return core_; }

private:
  template <class R, class F, class... A>
  Task<R(A...)> make_task(std::type_identity<std::tuple<A...>>, std::string id, F f, std::vector<Param> params,
                          TaskOptions options, std::string source = {}) const {
    using Function = detail::FunctionOf<F>;
    using P = detail::Parameters<typename Function::Arguments>;
    constexpr bool is_coroutine = detail::ResultOf<typename Function::Result>::is_coroutine;
    static_assert(!(is_coroutine && P::stops), "a coroutine is cancelled where it waits; it takes no std::stop_token");
    auto definition = std::make_shared<detail::TaskDefinition>();
    definition->id = std::move(id);
    definition->signature = detail::type_name(typeid(R(A...)));
    for (const auto& p : params) {
      definition->parameters.push_back(p.name);
      definition->fallbacks.push_back(p.fallback);
    }
    if (definition->parameters.size() != sizeof...(A))
      throw TaskRoutingError(definition->id, "task " + definition->id + ": " + std::to_string(params.size()) +
                                                 " names for " + std::to_string(sizeof...(A)) + " parameters");
    definition->options = std::move(options);
    definition->replaces = !source.empty();
    definition->source = std::move(source);
    const std::vector<std::string> names = definition->parameters;
    std::optional<detail::AppKeeps> keeps(std::in_place, core_);  // what the function has captured
    if constexpr (is_coroutine) {
      definition->coroutine = [f, names](Format format, std::string bytes) mutable -> Coro<std::string> {
        return run_coroutine<R, A...>(f, arguments<A...>(format, bytes, names), format);
      };
    } else {
      definition->plain = [f, names](Format format, std::string_view bytes,
                                     [[maybe_unused]] std::stop_token stop) mutable {
        std::tuple<A...> values = arguments<A...>(format, bytes, names);
        if constexpr (std::is_void_v<R>) {
          call<P::stops>(f, stop, values, std::index_sequence_for<A...>());
          return to_bytes(format, std::monostate());
        } else {
          return to_bytes<R>(format, call<P::stops>(f, stop, values, std::index_sequence_for<A...>()));
        }
      };
    }
    keeps.reset();
    detail::DefinitionPtr added = detail::add_task(*core_, std::move(definition));
    return Task<R(A...)>(core_, std::move(added), std::move(params));
  }

  template <class R, class... A, class F>
  std::string on_computed(const Condition& when, const Task<R(A...)>& task, F f) const {
    // The application holds its triggers, so these do not hold the application.
    std::optional<detail::AppKeeps> keeps(std::in_place, core_);
    std::function<detail::CallBytes(const Match&)> make = [core = std::weak_ptr<detail::AppCore>(core_.get()),
                                                           definition = task.definition_, params = task.params_,
                                                           f](const Match& match) mutable {
      const Task<R(A...)> to(core.lock(), definition, params);
      return computed(to, f, match);
    };
    keeps.reset();
    return detail::add_trigger(core_, when, task.definition_, "function", std::move(make), true);
  }
  template <class T, class F>
  static detail::CallBytes computed(const T& task, F& f, const Match& match) {
    using Given = std::invoke_result_t<F&, const Match&>;
    if constexpr (std::is_void_v<Given>) {
      f(match);
      return task.template bytes<0>();
    } else if constexpr (detail::IsTuple<std::decay_t<Given>>::value) {
      return std::apply([&](auto&&... v) { return task.template bytes<0>(std::forward<decltype(v)>(v)...); }, f(match));
    } else {
      return task.template bytes<0>(f(match));
    }
  }

  // No generic lambdas here: cells that make tasks compile this, each time.
  template <bool Stops, class F, class... A, std::size_t... I>
  static decltype(auto) call(F& f, [[maybe_unused]] const std::stop_token& stop, std::tuple<A...>& values,
                             std::index_sequence<I...>) {
    if constexpr (Stops)
      return f(stop, std::move(std::get<I>(values))...);
    else
      return f(std::move(std::get<I>(values))...);
  }

  template <class... A>
  static std::tuple<A...> arguments(Format format, std::string_view bytes, const std::vector<std::string>& names) {
    const Document document(format, bytes);
    return arguments_of<A...>(document.root(), names, std::index_sequence_for<A...>());
  }
  template <class... A, std::size_t... I>
  static std::tuple<A...> arguments_of(const Reader& root, const std::vector<std::string>& names,
                                       std::index_sequence<I...>) {
    (void)root, (void)names;
    return std::tuple<A...>{decode<A>(root.at(names[I]))...};
  }

  template <class R, class... A, class F>
  static Coro<std::string> run_coroutine(F f, std::tuple<A...> values, Format format) {
    Coro<R> body = call<false>(f, std::stop_token(), values, std::index_sequence_for<A...>());
    if constexpr (std::is_void_v<R>) {
      co_await std::move(body);
      co_return to_bytes(format, std::monostate());
    } else {
      const R result = co_await std::move(body);
      co_return to_bytes<R>(format, result);
    }
  }

  detail::AppHandle core_;
  mutable std::shared_ptr<detail::RunnerBox> runner_;  // whoever has a handle keeps it; the core does not
};

template <class R>
Invocation<R> Invocation<R>::from_json(const App& app, std::string_view json) {
  InvocationKind kind{};
  detail::Routed routed = detail::routed_from_json(*app.core(), json, &kind);
  return Invocation(app.core(), std::move(routed), kind);
}
template <class R, class... A>
Task<R(A...)> Task<R(A...)>::from_json(const App& app, std::string_view json) {
  return app.find_task<R(A...)>(detail::task_id_from_json(json));
}

/// The invocation whose code runs: which one it is, and of what. Source: pynenc Task.invocation.
struct RunningInvocation {
  std::string id, task_id, call_id;  ///< its own, its task's, its call's
  std::string parent_id;             ///< of which it is a call; empty: none
  std::string workflow_id;           ///< the invocation its workflow began with
  std::string runner_id;             ///< who executes it
  int retries = 0;                   ///< how often it was tried before
  /// The application it belongs to. Errors: none.
  App app() const { return App(core); }
  detail::AppPtr core;  ///< for the library
};
/// Thread-safety: any thread. Errors: RunnerNotExecutableError outside of tasks. Source: pynenc Task.invocation.
CALLER_API RunningInvocation invocation();
/// The same; none outside of tasks.
CALLER_API std::optional<RunningInvocation> try_invocation();
/// Of the running task; outside of tasks one that tells nobody. Thread-safety: any thread. Errors: none. Source: pynenc
/// Task.logger.
CALLER_API Logger logger();

}  // namespace caller::task

#include <caller/task/direct.hpp>
