// What is the same for every runner: how an execution ends; and calls of development mode, which run where they are
// made.
#include <cstdint>
#include <string>
#include <utility>

#include "app.hpp"

namespace caller::task::detail {

Change outcome(const TaskDefinition& definition, const InvocationRecord& record, const std::string& runner,
               const std::exception_ptr& error, std::string result) {
  if (!error) {
    std::vector<std::string> data = data_of(result);
    Change success{record.id, Status::success, runner, std::move(result), {}, {}};
    success.data = std::move(data);
    return success;
  }
  static const ErrorType retry = errors<RetryError>().front();
  bool again = record.retries < definition.options.max_retries;
  if (again) {
    again = retry.matches(error);
    for (const auto& type : definition.options.retry_for) again = again || type.matches(error);
  }
  if (again)
    return {record.id, Status::retry, runner, {}, {}, definition.options.retry_backoff.before(record.retries + 1)};
  return {record.id, Status::failed, runner, {}, ExceptionRecord::of(error).to_json(), {}};
}

TaskTimeoutError timeout_error(const TaskDefinition& definition, const std::string& id) {
  return {id, "invocation " + id + " of task " + definition.id + " ran longer than " +
                  std::to_string(definition.options.timeout.count()) + " ms"};
}

void run_here(const AppPtr& app, const std::string& id) {
  static const std::string kHere = "here";
  Store& store = store_of(*app);
  InvocationRecord record = store.get(id).wait();
  const DefinitionPtr definition = app->find_or_ask(record.task_id);
  for (;;) {
    store.change({id, Status::pending, kHere, {}, {}, {}}).wait();
    store.change({id, Status::running, kHere, {}, {}, {}}).wait();
    const auto run = make_run(app, record, kHere, nullptr);
    std::exception_ptr error;
    std::string result;
    with_run(run, [&] {
      try {
        result = definition->plain
                     ? definition->plain(app->options.format, record.args, {})
                     : call_async_from_sync([&] { return definition->coroutine(app->options.format, record.args); });
      } catch (...) {
        error = std::current_exception();
      }
    });
    Change end = outcome(*definition, record, kHere, error, std::move(result));
    const bool again = end.to == Status::retry;
    end.delay = {};  // who waits for the call does not wait longer than it must
    store.change(std::move(end)).wait();
    if (!again) return;
    ++record.retries;
  }
}

}  // namespace caller::task::detail
