// What stands behind an App. Internal to this folder.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include <caller/task/app.hpp>
#include <caller/task/components.hpp>
#include <caller/task/workflow.hpp>

#include "client_data.hpp"
#include "here.hpp"
#include "local.hpp"
#include "trigger/book.hpp"

namespace caller::task::detail {

/// The runner of an application, owned by the handles on it: a runner keeps the application, not the other way.
class RunnerBox {
public:
  ~RunnerBox();
  std::unique_ptr<Runner> runner;
  std::atomic<bool> used{false};
};

class AppCore : public std::enable_shared_from_this<AppCore> {
public:
  /// `tells`: of settings that nobody knows. Errors: ConfigError.
  AppCore(AppOptions with, Config config, bool tells = true);
  ~AppCore();
  AppOptions options;  // as configured; constant once a component was used
  TriggerBook triggers;
  ClientData data;

  DefinitionPtr add(std::shared_ptr<TaskDefinition> definition);
  /// Errors: UnknownTaskError.
  DefinitionPtr find(const std::string& id) const;
  /// The same; what is not registered is asked for (AppOptions::find_task). Not on a runner's loop.
  DefinitionPtr find_or_ask(const std::string& id);
  bool has(const std::string& id) const;
  /// Another one whenever an id may have become another task.
  std::uint64_t version() const noexcept { return version_.load(std::memory_order_acquire); }
  /// Once more, after the store has forgotten everything.
  void publish_sources();
  std::vector<std::string> task_ids() const;
  void log(Severity severity, const std::string& text) const noexcept;
  void log(const std::string& text) const noexcept { log(Severity::warning, text); }
  /// Whether calls run where they are made: development mode, or a SyncRunner that was started.
  bool runs_here() const noexcept { return options.dev_mode || sync_runners.load(std::memory_order_relaxed) > 0; }
  std::atomic<int> sync_runners{0};

  Store& store() {
    if (Store* const s = used_store_.load(std::memory_order_acquire)) return *s;
    return use_store();
  }
  /// The store, if it is one of those that share their invocations; else null.
  LocalStore* local_store() {
    (void)store();
    return local_;
  }
  std::shared_ptr<Store> shared_store();
  /// Makes the store without using it, so that errors come early.
  void prepare_store();
  void set_store(std::shared_ptr<Store> store);
  bool store_used() const noexcept { return used_store_.load(std::memory_order_acquire) != nullptr; }

  /// The box of `handle`, or that of another handle, or a new one. The first handle makes it.
  std::shared_ptr<RunnerBox> box(std::shared_ptr<RunnerBox>& handle);
  Runner& use_runner(std::shared_ptr<RunnerBox>& handle);
  void set_runner(std::shared_ptr<RunnerBox>& handle, std::unique_ptr<Runner> runner);
  bool runner_used() const;

  Config config() const;
  void assign(const std::string& name, const std::string& value, const std::string& task_id);
  /// Options as the settings of that kind of runner have them.
  RunnerOptions settle(RunnerKind kind, RunnerOptions given) const;
  /// Those that the program gave for the application's own runner, as far as they are for one of that kind.
  RunnerOptions own_runner_options(RunnerKind kind) const;

private:
  DefinitionPtr with_whole_data(const TaskDefinition& definition);
  void take_settings(TaskDefinition& definition);
  static Coro<std::string> run_with_whole_data(AppCore& app, std::function<Coro<std::string>(Format, std::string)> run,
                                               Format format, std::string args);
  Store& use_store();
  void use_runners_store();
  void settle();

  const AppOptions given_;
  std::mutex asking_;         // one task at a time is asked for
  mutable std::mutex mutex_;  // of what follows
  Config config_;
  std::map<std::string, DefinitionPtr, std::less<>> tasks_;
  std::atomic<std::uint64_t> version_{0};
  mutable std::recursive_mutex making_;  // of components, whose makers may look at the application
  std::shared_ptr<Store> store_;
  bool store_by_name_ = false;
  std::atomic<Store*> used_store_{nullptr};
  LocalStore* local_ = nullptr;  // written before `used_store_`
  std::weak_ptr<RunnerBox> runner_;

public:
  HereRunner here{*this};  // goes before the store
};

/// As settings name it: `multi_thread`.
std::string_view word(RunnerKind kind) noexcept;
/// The class of its settings.
inline std::string settings_of(RunnerKind kind) { return std::string(word(kind)) + "_runner"; }

/// The definition with its plain function under the guard of cells.
DefinitionPtr guarded(const DefinitionPtr& definition);
/// Puts the source of a function of cells where workers find it. Errors: StateBackendError.
void publish_source(Store& store, const TaskDefinition& definition);
/// A new application, which living_app() finds; of an id that is shared, the one that is shared. Errors: ConfigError.
AppPtr make_app(AppOptions options, Config config);

std::string new_uuid();
/// The same, into 36 bytes.
void put_new_uuid(char* to);
/// Of a call: args_id(), at the end of `out`.
void append_args_id(std::string& out, const TaskDefinition& definition, const CallBytes& call);
/// In hexadecimal: a name for content, not a protection.
std::string sha1_of(std::string_view text);
std::string sha256_of(std::string_view text);
/// Always the same for the same text.
std::string uuid_of(std::string_view text);

/// What a runner makes of the end of an execution: a result, another try, or a failure.
Change outcome(const TaskDefinition& definition, const InvocationRecord& record, const std::string& runner,
               const std::exception_ptr& error, std::string result);

/// Nobody waits for it, and that it fails is no news.
void leave_alone(const PendingBase& step);
/// Whether the store, which has refused a step with that, may take it tomorrow: it is away.
bool store_is_away(const std::exception_ptr& refused);

/// Of an invocation that ran longer than its task may.
TaskTimeoutError timeout_error(const TaskDefinition& definition, const std::string& id);
/// A call that a trigger makes, under an id of its choice.
NewInvocation triggered_call(AppCore& app, const TaskDefinition& definition, const CallBytes& call, std::string id);
/// Looks a little while for what is likely to come soon; not where every processor may be needed for the work itself.
bool ends_soon(const PendingBase& end);
/// Arguments or a result as they were before they were stored.
std::string whole_bytes(AppCore& app, std::string stored);
/// In development mode: what triggers make of what has happened, here and now.
void after_changes(const AppPtr& app);

/// What travels in the context: a Run that is made when its code first asks for it, as most never do.
class LazyRun {
public:
  virtual ~LazyRun();
  std::shared_ptr<const Run> get() const;
  /// As Run::end(), also if there is none yet.
  bool end() const noexcept;

protected:
  LazyRun() = default;

private:
  virtual std::shared_ptr<const Run> make() const = 0;
  mutable std::once_flag once_;
  mutable std::shared_ptr<const Run> run_;
  // Either who makes it sees that it is over, or who ends it sees that it is made.
  mutable std::atomic<const Run*> made_{nullptr};
  mutable std::atomic<bool> over_{false};
};
/// What is started while one lives belongs to `run`.
class RunScope {
public:
  explicit RunScope(std::shared_ptr<LazyRun> run);
  RunScope(const RunScope&) = delete;
  RunScope& operator=(const RunScope&) = delete;
  ~RunScope();

private:
  caller::detail::ContextNode* const before_;
};
/// Whether there is a current_run().
bool in_run() noexcept;

/// Waits until an invocation is final, however it ends. In a task the slot of the waiting one is free meanwhile.
void await_end(const AppPtr& app, const std::string& id);
/// Executes an invocation in the calling thread, at once, with its retries; waits for its end where another runner has
/// it.
void run_here(const AppPtr& app, const std::string& id);

}  // namespace caller::task::detail
