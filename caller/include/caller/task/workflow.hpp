// What the invocations of one workflow share, and code that does the same when it is run again.
//
//   auto order = app.task("shop.order", [=](std::string customer) {
//     const Workflow wf = workflow();
//     const std::string number = wf.uuid();                        // the same after a retry
//     const auto paid = wf.execute_task(pay, customer, number);    // not paid twice
//     wf.set_data("number", number);                               // for every task below
//     return paid.result();
//   }, {"customer"}, {.max_retries = 3});
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <caller/export.hpp>
#include <caller/task/app.hpp>
#include <caller/task/codec.hpp>
#include <caller/task/run.hpp>

namespace caller::task {

namespace detail {
/// For runners, once in a while: of workflows whose beginning was purged, what they kept goes, too. Errors: none; what
/// could not be done now is done the next time.
CALLER_API Coro<void> forget_ended_workflows(AppPtr app);
}  // namespace detail

/// The workflow of the running task: the invocation that began it, and all that was called from there, but for tasks
/// with `force_new_workflow`, which begin one of their own below it.
///
/// random(), utc_now(), uuid() and execute_task() give, each time the same invocation is run, the same again: the n-th
/// call of each gives what the n-th call gave the first time. So a task that failed half-way goes on from there when it
/// runs again. That holds for code that calls them in the same order each time.
///
/// Thread-safety: any thread that belongs to the task; its order is the code's business. Cancel-safety: what was
/// recorded stays. Errors: StateBackendError when the store cannot be used. Source: pynenc WorkflowContext,
/// DeterministicExecutor; differs: what is counted is counted for each invocation, so tasks of one workflow that run at
/// the same time do not get each other's values.
class CALLER_API Workflow {
public:
  /// For the library; tasks ask for their own.
  explicit Workflow(std::shared_ptr<const detail::Run> run);

  /// The invocation that began it.
  const std::string& id() const noexcept { return run_->workflow_id; }
  /// The task of that invocation. Errors: InvocationNotFoundError. Source: pynenc workflow_type.
  std::string type() const;
  /// Whether the running task is that invocation. Source: pynenc is_main_workflow_task.
  bool is_main() const noexcept { return run_->id == run_->workflow_id; }
  /// The id of the workflow it was begun from; none: it is none's. Errors: InvocationNotFoundError.
  std::optional<std::string> parent_id() const;

  /// A value that every task of the workflow can read and replace, kept until the invocation that began the workflow is
  /// purged. None: there is no such value. Errors: SerializationError when it is no T.
  template <class T>
  std::optional<T> get_data(const std::string& key) const {
    const auto bytes = data(key);
    if (!bytes) return std::nullopt;
    return from_bytes<T>(format(), *bytes);
  }
  /// The same, or `fallback` if there is no such value.
  template <class T>
  T get_data(const std::string& key, T fallback) const {
    auto value = get_data<T>(key);
    return value ? std::move(*value) : std::move(fallback);
  }
  /// Sets it, for all tasks of the workflow. Errors: StateBackendError.
  template <class T>
  void set_data(const std::string& key, const T& value) const {
    put_data(key, to_bytes(format(), value));
  }
  /// False: there was none.
  bool erase_data(const std::string& key) const;

  /// From 0 to 1, without 1.
  double random() const;
  /// A UUID in the usual form.
  std::string uuid() const;
  /// The time at the first run. Units: nanoseconds since 1970, UTC.
  Time utc_now() const;
  /// Calls a task, or gives the invocation that this call made at the first run. `wf.execute_task(add, 1, 2)`.
  /// Errors: those of calling the task.
  template <class R, class... A, class... B>
  Invocation<R> execute_task(const Task<R(A...)>& task, B&&... arguments) const {
    return task.call_once(std::forward<B>(arguments)...);
  }

private:
  detail::AppPtr app() const;
  Format format() const;
  std::string data_key(const std::string& key) const;
  std::optional<std::string> data(const std::string& key) const;
  void put_data(const std::string& key, std::string bytes) const;

  std::shared_ptr<const detail::Run> run_;
};

/// Of the running task. Thread-safety: any thread. Errors: RunnerNotExecutableError outside of tasks. Source: pynenc
/// Task.wf.
CALLER_API Workflow workflow();

}  // namespace caller::task
