#include <caller/task/options.hpp>

#include <algorithm>
#include <cmath>

namespace caller::task {

ErrorType error_type(std::string name) {
  for (auto& base : errors<std::exception, std::runtime_error, std::logic_error, std::system_error, TaskingError>()) {
    const bool same = base.name == name || base.name == "caller::task::" + name;
    if (same) return {std::move(name), std::move(base.matches)};
  }
  auto matches = [name](const std::exception_ptr& error) { return ExceptionRecord::of(error).type == name; };
  return {std::move(name), std::move(matches)};
}

std::chrono::milliseconds Backoff::before(int n) const noexcept {
  const double wait = static_cast<double>(first.count()) * std::pow(factor, std::max(0, n - 1));
  return std::chrono::milliseconds(static_cast<std::int64_t>(std::min(wait, static_cast<double>(most.count()))));
}

void TaskOptions::validate(const std::string& task_id, const std::vector<std::string>& parameters) const {
  std::string wrong;
  const auto refuse = [&](const std::string& text) { wrong += (wrong.empty() ? "" : "; ") + text; };
  const auto at_least = [&](const char* field, auto value, int least) {
    if (value < least)
      refuse(std::string(field) + ": " + std::to_string(value) + " is less than " + std::to_string(least));
  };
  at_least("parallel_batch_size", parallel_batch_size, 1);
  at_least("max_retries", max_retries, 0);
  at_least("retry_backoff.first", retry_backoff.first.count(), 0);
  at_least("retry_backoff.most", retry_backoff.most.count(), 0);
  if (!(retry_backoff.factor >= 1)) refuse("retry_backoff.factor: less than 1");
  at_least("timeout", timeout.count(), 0);
  at_least("delay", delay.count(), 0);
  if (queue.empty()) refuse("queue: empty");
  for (const auto& key : key_arguments)
    if (std::find(parameters.begin(), parameters.end(), key) == parameters.end())
      refuse("key_arguments: the task has no parameter \"" + key + "\"");
  for (const auto& name : disable_cache_args)
    if (name != "*" && std::find(parameters.begin(), parameters.end(), name) == parameters.end())
      refuse("disable_cache_args: the task has no parameter \"" + name + "\"");
  if (call_result_cache &&
      (registration_concurrency == Concurrency::TASK || registration_concurrency == Concurrency::KEYS))
    refuse("call_result_cache: gives what has the same arguments, registration_concurrency also what has others");
  const auto by_keys = [](Concurrency c) { return c == Concurrency::KEYS; };
  if ((by_keys(running_concurrency) || by_keys(registration_concurrency)) && key_arguments.empty())
    refuse("key_arguments: empty, but concurrency is by keys");
  if (!key_arguments.empty() && !by_keys(running_concurrency) && !by_keys(registration_concurrency))
    refuse("key_arguments: given, but no concurrency is by keys");
  if (on_diff_non_key_args_raise && registration_concurrency == Concurrency::DISABLED)
    refuse("on_diff_non_key_args_raise: has no meaning without registration_concurrency");
  if (!reroute_on_concurrency_control && running_concurrency == Concurrency::DISABLED)
    refuse("reroute_on_concurrency_control: has no meaning without running_concurrency");
  if (!retry_for.empty() && max_retries == 0) refuse("retry_for: has no meaning while max_retries is 0");
  if (!wrong.empty()) throw InvalidTaskOptionsError(task_id, "options of task " + task_id + ": " + wrong);
}

}  // namespace caller::task
