// What stands behind an App. Internal to this folder.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include <caller/task/app.hpp>
#include <caller/task/workflow.hpp>

#include "client_data.hpp"
#include "trigger/book.hpp"

namespace caller::task::detail {

class AppCore : public std::enable_shared_from_this<AppCore> {
public:
  explicit AppCore(AppOptions with);
  ~AppCore();
  AppOptions options;
  TriggerBook triggers;
  ClientData data;

  void add(DefinitionPtr definition);
  /// Errors: UnknownTaskError.
  DefinitionPtr find(const std::string& id) const;
  void log(const std::string& text) const noexcept;
  /// Whether calls run where they are made: development mode, or a SyncRunner that was started.
  bool runs_here() const noexcept { return options.dev_mode || sync_runners.load(std::memory_order_relaxed) > 0; }
  std::atomic<int> sync_runners{0};
  /// The application's own, made when it is asked for.
  Runner& runner();

private:
  DefinitionPtr with_whole_data(const TaskDefinition& definition);
  static Coro<std::string> run_with_whole_data(AppCore& app, std::function<Coro<std::string>(Format, std::string)> run,
                                               Format format, std::string args);

  mutable std::mutex mutex_;
  std::map<std::string, DefinitionPtr, std::less<>> tasks_;
  std::once_flag runner_made_;
  std::unique_ptr<Runner> runner_;
};

std::string new_uuid();
/// In hexadecimal: a name for content, not a protection.
std::string sha1_of(std::string_view text);
std::string sha256_of(std::string_view text);
/// Always the same for the same text.
std::string uuid_of(std::string_view text);

/// What a runner makes of the end of an execution: a result, another try, or a failure.
Change outcome(const TaskDefinition& definition, const InvocationRecord& record, const std::string& runner,
               const std::exception_ptr& error, std::string result);

/// Of an invocation that ran longer than its task may.
TaskTimeoutError timeout_error(const TaskDefinition& definition, const std::string& id);
/// A call that a trigger makes, under an id of its choice.
NewInvocation triggered_call(AppCore& app, const TaskDefinition& definition, const CallBytes& call, std::string id);
/// Arguments or a result as they were before they were stored.
std::string whole_bytes(AppCore& app, std::string stored);
/// In development mode: what triggers make of what has happened, here and now.
void after_changes(const AppPtr& app);

/// Executes an invocation that was just registered in the calling thread, with its retries.
void run_here(const AppPtr& app, const std::string& id);

}  // namespace caller::task::detail
