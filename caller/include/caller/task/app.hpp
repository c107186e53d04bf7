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
#include <functional>
#include <map>
#include <memory>
#include <optional>
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
#include <caller/task/client_data.hpp>
#include <caller/task/codec.hpp>
#include <caller/task/config.hpp>
#include <caller/task/detail/calls.hpp>
#include <caller/task/detail/cells.hpp>
#include <caller/task/error.hpp>
#include <caller/task/invocation.hpp>
#include <caller/task/logger.hpp>
#include <caller/task/options.hpp>
#include <caller/task/redis.hpp>
#include <caller/task/run.hpp>
#include <caller/task/runner.hpp>
#include <caller/task/sqlite.hpp>
#include <caller/task/store.hpp>
#include <caller/task/task.hpp>
#include <caller/task/trigger.hpp>

namespace caller::task {

/// What an application is made with. What is configured elsewhere goes before all of it but `store` and `log`.
struct AppOptions {
  /// One for all processes that work together.
  std::string app_id = "caller";
  std::shared_ptr<Store> store{};  ///< none: made by name when it is first used
  Format format = Format::json;    ///< of arguments and results; one for all processes
  bool dev_mode = false;           ///< calls run where they are made, at once, without delays
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
      std::string name = detail::args_id(*task.definition_, bytes);
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
      definition->stops = P::stops;
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
    if constexpr (sizeof...(A) > 0 && (detail::kPlain<A> && ...)) {
      std::tuple<A...> values;
      if (format == Format::json && take_plain(bytes, names, values, std::index_sequence_for<A...>())) return values;
    }
    const Document document(format, bytes);
    return arguments_of<A...>(document.root(), names, std::index_sequence_for<A...>());
  }
  template <class... A, std::size_t... I>
  static bool take_plain(std::string_view bytes, const std::vector<std::string>& names, std::tuple<A...>& values,
                         std::index_sequence<I...>) {
    detail::PlainReader r(bytes);
    return ((r.take(I == 0 ? '{' : ',') && r.key(names[I]) && detail::take_plain(r, std::get<I>(values))) && ...) &&
           r.take('}') && r.at_end();
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
