// What the templates of tasks ask of the library, and what they know of a function. For the library.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <caller/coro.hpp>
#include <caller/export.hpp>
#include <caller/task/app_handle.hpp>
#include <caller/task/codec.hpp>
#include <caller/task/run.hpp>
#include <caller/task/store.hpp>
#include <caller/task/trigger.hpp>

namespace caller::task {

namespace detail {

class LocalCall;
/// A reference on an invocation of a store in this process, which is then not looked for by its id; else empty.
class CALLER_API LocalRef {
public:
  LocalRef() noexcept = default;
  explicit LocalRef(LocalCall& call) noexcept;
  LocalRef(const LocalRef& o) noexcept;
  LocalRef(LocalRef&& o) noexcept : call_(std::exchange(o.call_, nullptr)) {}
  LocalRef& operator=(LocalRef o) noexcept {
    std::swap(call_, o.call_);
    return *this;
  }
  ~LocalRef() {
    if (call_) leave();
  }
  explicit operator bool() const noexcept { return call_ != nullptr; }
  const LocalCall& operator*() const noexcept { return *call_; }
  const LocalCall* operator->() const noexcept { return call_; }

private:
  void leave() noexcept;
  LocalCall* call_ = nullptr;
};

/// A call that is to be routed.
struct Routed {
  std::string id;
  bool reused = false;
  std::string diff_arg{};  // how the arguments of the one that was there differ; empty: not at all
  LocalRef local{};
};
struct CallBytes {
  std::string args;                                         // the map of all of them
  std::vector<std::pair<std::size_t, std::size_t>> places;  // of each in `args`: where it begins and ends
  std::vector<std::string> json{};                          // each, as JSON; none where `args` is JSON itself
  std::string_view json_of(std::size_t i) const {
    return json.empty() ? std::string_view(args).substr(places[i].first, places[i].second - places[i].first)
                        : std::string_view(json[i]);
  }
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
/// The same for one.
CALLER_API Routed route_one_now(const AppPtr& app, const DefinitionPtr& definition, CallBytes call);
/// Calls of a task, routed in batches: each all or none, in their order. Where nothing but being added becomes of them,
/// a batch is made ready while the store writes down the one before: when that fails, the next one may be written, or
/// not, after the error was thrown.
class CALLER_API Batches {
public:
  /// `about`: how many calls there may be.
  Batches(AppPtr app, DefinitionPtr definition, std::size_t about)
      : app_(std::move(app)), definition_(std::move(definition)) {
    all_.reserve(about);
  }
  Batches(const Batches&) = delete;
  Batches& operator=(const Batches&) = delete;
  ~Batches();
  /// Throws what is wrong with it, or with the one before.
  void add(const std::vector<CallBytes>& batch);
  std::vector<Routed> finish() {
    settle(std::exchange(adding_, std::nullopt));
    return std::move(all_);
  }

private:
  void settle(const std::optional<Pending<std::vector<Added>>>& adding);

  AppPtr app_;
  DefinitionPtr definition_;
  std::vector<Routed> all_;
  std::optional<Pending<std::vector<Added>>> adding_;
};
/// The id of the running task's next call of this kind: the same again when the task is run again.
CALLER_API std::string next_call_id(const TaskDefinition& definition, const CallBytes& call);
CALLER_API Coro<std::string> result_of(AppPtr app, std::string id);
CALLER_API std::string result_now(const AppPtr& app, const std::string& id);
CALLER_API std::string result_now(const AppPtr& app, const Routed& routed);
/// Of all, when all have ended, each behind its place: in the order of the calls, or in that of the ends.
CALLER_API std::vector<std::pair<std::size_t, std::string>> results_now(const AppPtr& app,
                                                                        std::span<const Routed* const> calls,
                                                                        bool as_they_ended);
CALLER_API Store& store_of(AppCore& app);
CALLER_API bool runs_here(const AppCore& app) noexcept;
CALLER_API std::string args_id(const std::vector<std::pair<std::string, std::string>>& named);
CALLER_API std::string args_id(const TaskDefinition& definition, const CallBytes& call);
/// The arguments by their names, each as JSON.
CALLER_API std::vector<std::pair<std::string, std::string>> named_of(const TaskDefinition& definition,
                                                                     const CallBytes& call);

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

}  // namespace caller::task
