// What is the same for every runner: how an execution ends.
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

void leave_alone(const PendingBase& step) {
  (void)step.add_done_callback([](const PendingBase& p) {
    if (!p.cancelled()) (void)p.exception();
  });
}

bool store_is_away(const std::exception_ptr& refused) {
  try {
    std::rethrow_exception(refused);
  } catch (const UnreadableError&) {
    return false;
  } catch (const InvocationNotFoundError&) {
    return false;
  } catch (const StateBackendError&) {
    return true;
  } catch (...) {
    return false;
  }
}

TaskTimeoutError timeout_error(const TaskDefinition& definition, const std::string& id) {
  return {id, "invocation " + id + " of task " + definition.id + " ran longer than " +
                  std::to_string(definition.options.timeout.count()) + " ms"};
}

}  // namespace caller::task::detail
