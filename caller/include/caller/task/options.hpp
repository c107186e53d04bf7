// What may be set for a task.
#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include <caller/export.hpp>
#include <caller/task/error.hpp>

namespace caller::task {

/// Which other invocations of a task keep one from being registered, or run. Source: pynenc ConcurrencyControlType.
enum class Concurrency : std::uint8_t {
  DISABLED,   ///< none
  TASK,       ///< any of the task
  ARGUMENTS,  ///< those with the same arguments
  KEYS,       ///< those with the same `key_arguments`
};

/// A type of exception, and those derived from it. Made by `errors<E…>()`, or by its name.
struct ErrorType {
  /// The name of the type.
  std::string name;
  /// Whether an exception is one of these.
  std::function<bool(const std::exception_ptr&)> matches;
};

/// `errors<std::runtime_error, MyError>()`. Thread-safety: any thread. Errors: none. Source: pynenc retry_for.
template <class... E>
std::vector<ErrorType> errors() {
  return {ErrorType{detail::type_name(typeid(E)), [](const std::exception_ptr& error) {
                      try {
                        std::rethrow_exception(error);
                      } catch (const E&) {
                        return true;
                      } catch (...) {
                        return false;
                      }
                    }}...};
}

/// By the name under which it crosses processes (see ExceptionRecord): that type itself. `std::exception`,
/// `std::runtime_error`, `std::logic_error`, `std::system_error` and `TaskingError` also mean what is derived from
/// them. Thread-safety: any thread. Errors: none; a name that nobody throws matches nothing. Source: pynenc
/// exception_mapper.
CALLER_API ErrorType error_type(std::string name);

/// How long a retry waits: `first` before the first, each time `factor` times as long, at most `most`.
/// Units: milliseconds; 0: at once. Source: Celery's retry_backoff.
struct Backoff {
  /// Before the first retry.
  std::chrono::milliseconds first{0};
  /// Each time as long as the time before, times this.
  double factor = 2;
  /// Never longer.
  std::chrono::milliseconds most{std::chrono::minutes(10)};
  /// Before the retry number `n`, counted from 1.
  CALLER_API std::chrono::milliseconds before(int n) const noexcept;
  bool operator==(const Backoff&) const = default;
};

/// Options of a task. Source: pynenc ConfigTask.
struct TaskOptions {
  int parallel_batch_size = 100;       ///< calls that parallelize() registers at once
  std::vector<ErrorType> retry_for{};  ///< besides RetryError
  /// After the first try; 0: none.
  int max_retries = 0;
  /// How long each of them waits.
  Backoff retry_backoff{};
  /// Of a kind, one at a time is at work. Others wait, or are refused without `reroute_on_concurrency_control`. Code
  /// that goes on after its time-out or its cancellation is at work until it ends, or its runner does.
  Concurrency running_concurrency = Concurrency::DISABLED;
  /// Of a kind, one at a time waits to be taken; a further call gives that one.
  Concurrency registration_concurrency = Concurrency::DISABLED;
  /// Of Concurrency::KEYS: names of parameters.
  std::vector<std::string> key_arguments{};
  /// A further call with the same keys and other arguments is an error instead.
  bool on_diff_non_key_args_raise = false;
  /// What may not run now waits; else it is refused.
  bool reroute_on_concurrency_control = true;
  /// From its start; then its stop token is set, and it has failed. 0: none.
  std::chrono::milliseconds timeout{0};
  /// From the call until it may be taken; calls that run where they are made do at once. 0: at once.
  std::chrono::milliseconds delay{0};
  /// Higher ones are taken first.
  int priority = 0;
  /// Which runners take it.
  std::string queue = "default";
  /// A call that was made before and has its result, or is under way, gives that invocation, as long as it is stored.
  bool call_result_cache = false;
  /// Arguments that stay with the invocation however large they are (see ClientDataOptions); `*`: all.
  std::vector<std::string> disable_cache_args{};
  /// Each invocation begins a workflow of its own, also when another task calls it.
  bool force_new_workflow = false;

  /// Errors: InvalidTaskOptionsError lists all that is wrong. `parameters`: the names of the task's.
  CALLER_API void validate(const std::string& task_id, const std::vector<std::string>& parameters) const;
};

}  // namespace caller::task
