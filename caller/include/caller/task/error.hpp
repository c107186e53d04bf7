// The errors of tasks: one code each, a type where there is more to know than a text. All of them, and the exceptions
// of tasks themselves, cross processes by name.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <caller/export.hpp>
#include <caller/task/status.hpp>

namespace caller::task {

/// Codes of every failure of the task module. Zero means success and has no name.
enum class Errc {
  tasking = 1,               ///< no other code fits
  retry,                     ///< a task asks for another try
  serialization,             ///< a value cannot be written or read
  invalid_task_options,      ///< options of a task that make no sense
  task_routing,              ///< a call cannot be routed
  different_arguments,       ///< a call of the same key with other arguments is under way
  invocation,                ///< of one invocation; see InvocationError
  invocation_not_found,      ///< no invocation of that id
  state_backend,             ///< the store cannot be used
  runner,                    ///< a runner cannot go on
  runner_not_executable,     ///< this runner cannot run here
  config,                    ///< a configuration that cannot be used
  config_multi_inheritance,  ///< the same field in two parents
  already_initialized,       ///< a component was replaced after it was used
  invocation_status,         ///< a status that does not fit; see StatusError
  status_transition,         ///< one status cannot follow the other
  status_ownership,          ///< another runner owns the invocation
  status_race,               ///< somebody else was faster
  cycle_detected,            ///< a call would wait for itself
  pending_lock,              ///< an invocation is being taken by another runner
  unknown_task,              ///< no task of that name is known here
  task_failed,               ///< a task ended by an exception of a type not known here
  cancelled,                 ///< the invocation was taken back
  timed_out,                 ///< the task ran longer than its time-out, or a wait for it did
  worker_crashed,            ///< the process that executed the task ended in the midst of it
  unreadable,                ///< what is stored makes no sense
};

/// The category of Errc. Thread-safety: any thread. Errors: none.
CALLER_API const std::error_category& error_category() noexcept;
inline std::error_code make_error_code(Errc e) noexcept { return {static_cast<int>(e), error_category()}; }

/// Named data of an error, in the order of its constructor.
using ErrorDetails = std::vector<std::pair<std::string, std::string>>;

/// Base of every error of the module. `name()` and `details()` are what crosses processes.
/// Thread-safety: immutable. Errors: none. Source: pynenc PynencError.
class CALLER_API TaskingError : public std::system_error {
public:
  /// An error without data.
  explicit TaskingError(const std::string& text) : TaskingError(Errc::tasking, text) {}
  TaskingError(Errc code, std::string text, ErrorDetails details = {});
  ~TaskingError() override;
  /// The text it was made with.
  const char* what() const noexcept override { return text_.c_str(); }
  /// The name of the class, as it crosses processes.
  virtual std::string_view name() const noexcept { return "TaskingError"; }
  /// By name, as texts.
  const ErrorDetails& details() const noexcept { return details_; }
  /// One of the details; empty when there is none.
  std::string detail(std::string_view key) const;

private:
  std::string text_;
  ErrorDetails details_;
};

#define CALLER_TASK_ERROR(Name) \
  ~Name() override;             \
  std::string_view name() const noexcept override { return #Name; }

/// Thrown by a task that wants another try, whatever `retry_for` says. Source: pynenc RetryError.
class CALLER_API RetryError : public TaskingError {
public:
  explicit RetryError(const std::string& text = "retry");
  CALLER_TASK_ERROR(RetryError)
};

/// A value that cannot be written or read: `what()` says which one, and where in it. Source: pynenc SerializationError.
class CALLER_API SerializationError : public TaskingError {
public:
  explicit SerializationError(const std::string& text);
  CALLER_TASK_ERROR(SerializationError)
};

/// Of a task. Source: pynenc TaskError.
class CALLER_API TaskError : public TaskingError {
public:
  TaskError(const std::string& task_id, const std::string& text, Errc code = Errc::tasking, ErrorDetails more = {});
  CALLER_TASK_ERROR(TaskError)
  /// Of which task.
  std::string task_id() const { return detail("task_id"); }
};
/// Lists every option that is wrong. Source: pynenc InvalidTaskOptionsError.
class CALLER_API InvalidTaskOptionsError : public TaskError {
public:
  InvalidTaskOptionsError(const std::string& task_id, const std::string& text);
  CALLER_TASK_ERROR(InvalidTaskOptionsError)
};
/// No task of that name is registered in this process. Source: pynenc's import error of a task's module.
class CALLER_API UnknownTaskError : public TaskError {
public:
  UnknownTaskError(const std::string& task_id, const std::string& text);
  CALLER_TASK_ERROR(UnknownTaskError)
};
/// A call cannot be routed. Source: pynenc TaskRoutingError.
class CALLER_API TaskRoutingError : public TaskError {
public:
  TaskRoutingError(const std::string& task_id, const std::string& text, Errc code = Errc::task_routing,
                   ErrorDetails more = {});
  CALLER_TASK_ERROR(TaskRoutingError)
};
/// An invocation with the same key arguments and other ones is there already; `difference()` is for people.
/// Source: pynenc InvocationConcurrencyWithDifferentArgumentsError.
class CALLER_API InvocationConcurrencyWithDifferentArgumentsError : public TaskRoutingError {
public:
  InvocationConcurrencyWithDifferentArgumentsError(const std::string& task_id, const std::string& existing_id,
                                                   const std::string& difference);
  CALLER_TASK_ERROR(InvocationConcurrencyWithDifferentArgumentsError)
  /// The one that was there.
  std::string existing_invocation_id() const { return detail("existing_invocation_id"); }
  /// How its arguments differ, for people.
  std::string difference() const { return detail("difference"); }
};

/// Of one invocation. Source: pynenc InvocationError.
class CALLER_API InvocationError : public TaskingError {
public:
  InvocationError(const std::string& invocation_id, const std::string& text, Errc code = Errc::invocation,
                  ErrorDetails more = {});
  CALLER_TASK_ERROR(InvocationError)
  /// Of which invocation.
  std::string invocation_id() const { return detail("invocation_id"); }
};
/// It was taken back before its end. Source: –
class CALLER_API InvocationCancelledError : public InvocationError {
public:
  explicit InvocationCancelledError(const std::string& invocation_id);
  CALLER_TASK_ERROR(InvocationCancelledError)
};
/// It ran longer than the option `timeout` of its task. Source: Celery TimeLimitExceeded.
class CALLER_API TaskTimeoutError : public InvocationError {
public:
  TaskTimeoutError(const std::string& invocation_id, const std::string& text);
  CALLER_TASK_ERROR(TaskTimeoutError)
};
/// Its process ended while it executed: by a crash, an exit, or a kill of the system's. Source: Celery
/// WorkerLostError.
class CALLER_API WorkerCrashedError : public InvocationError {
public:
  /// `end`: how the process ended, `SIGSEGV` or `exit code 3`.
  WorkerCrashedError(const std::string& invocation_id, const std::string& task_id, const std::string& end);
  CALLER_TASK_ERROR(WorkerCrashedError)
  /// Whose code it executed.
  std::string task_id() const { return detail("task_id"); }
  /// As it was given.
  std::string end() const { return detail("end"); }
};
/// Somebody else is taking it. Source: pynenc PendingInvocationLockError.
class CALLER_API PendingInvocationLockError : public InvocationError {
public:
  explicit PendingInvocationLockError(const std::string& invocation_id);
  CALLER_TASK_ERROR(PendingInvocationLockError)
};
/// A status that does not fit. Source: pynenc InvocationStatusError.
class CALLER_API InvocationStatusError : public InvocationError {
public:
  InvocationStatusError(const std::string& invocation_id, const std::string& text, Errc code = Errc::invocation_status,
                        ErrorDetails more = {});
  CALLER_TASK_ERROR(InvocationStatusError)
};
/// `to` cannot follow `from`. Source: pynenc InvocationStatusTransitionError.
class CALLER_API InvocationStatusTransitionError : public InvocationStatusError {
public:
  InvocationStatusTransitionError(const std::string& invocation_id, Status from, Status to);
  CALLER_TASK_ERROR(InvocationStatusTransitionError)
};
/// The invocation belongs to `owner`, and not to `runner`. Source: pynenc InvocationStatusOwnershipError.
class CALLER_API InvocationStatusOwnershipError : public InvocationStatusError {
public:
  InvocationStatusOwnershipError(const std::string& invocation_id, Status status, const std::string& owner,
                                 const std::string& runner);
  CALLER_TASK_ERROR(InvocationStatusOwnershipError)
};
/// Expected one status, found another: somebody was faster. Source: pynenc InvocationStatusRaceConditionError.
class CALLER_API InvocationStatusRaceConditionError : public InvocationStatusError {
public:
  InvocationStatusRaceConditionError(const std::string& invocation_id, Status expected, Status found);
  CALLER_TASK_ERROR(InvocationStatusRaceConditionError)
};

/// The store cannot be used. Source: pynenc StateBackendError.
class CALLER_API StateBackendError : public TaskingError {
public:
  explicit StateBackendError(const std::string& text, Errc code = Errc::state_backend, ErrorDetails details = {});
  CALLER_TASK_ERROR(StateBackendError)
};
/// Source: pynenc InvocationNotFoundError.
class CALLER_API InvocationNotFoundError : public StateBackendError {
public:
  explicit InvocationNotFoundError(const std::string& invocation_id);
  CALLER_TASK_ERROR(InvocationNotFoundError)
  /// Of which invocation.
  std::string invocation_id() const { return detail("invocation_id"); }
};

/// What is stored cannot be read, now or later, though the store can be used. Source: –
class CALLER_API UnreadableError : public StateBackendError {
public:
  explicit UnreadableError(const std::string& text);
  CALLER_TASK_ERROR(UnreadableError)
};

/// A runner cannot go on. Source: pynenc RunnerError.
class CALLER_API RunnerError : public TaskingError {
public:
  explicit RunnerError(const std::string& text, Errc code = Errc::runner);
  CALLER_TASK_ERROR(RunnerError)
};
/// This runner executes nothing here. Source: pynenc RunnerNotExecutableError.
class CALLER_API RunnerNotExecutableError : public RunnerError {
public:
  explicit RunnerNotExecutableError(const std::string& text);
  CALLER_TASK_ERROR(RunnerNotExecutableError)
};

/// A configuration that cannot be used. Source: pynenc ConfigError.
class CALLER_API ConfigError : public TaskingError {
public:
  explicit ConfigError(const std::string& text, Errc code = Errc::config);
  CALLER_TASK_ERROR(ConfigError)
};
/// Source: pynenc ConfigMultiInheritanceError.
class CALLER_API ConfigMultiInheritanceError : public ConfigError {
public:
  explicit ConfigMultiInheritanceError(const std::string& text);
  CALLER_TASK_ERROR(ConfigMultiInheritanceError)
};
/// A component was replaced after it was used. Source: pynenc AlreadyInitializedError.
class CALLER_API AlreadyInitializedError : public TaskingError {
public:
  explicit AlreadyInitializedError(const std::string& text);
  CALLER_TASK_ERROR(AlreadyInitializedError)
};
/// A call would wait for itself; the path of calls is in the text. Source: pynenc CycleDetectedError.
class CALLER_API CycleDetectedError : public TaskingError {
public:
  explicit CycleDetectedError(const std::string& path);
  CALLER_TASK_ERROR(CycleDetectedError)
  /// The calls, from the one that would wait to itself.
  std::string path() const { return detail("path"); }
};
#undef CALLER_TASK_ERROR

/// An exception as it is stored: a type's name, its words, the data of a TaskingError, and what caused it.
/// Thread-safety: as any value. Errors: none. Source: pynenc SerializedException.
struct CALLER_API ExceptionRecord {
  /// The name of the type.
  std::string type;
  /// What() of it.
  std::string message;
  /// Of a TaskingError.
  ErrorDetails details;
  /// What was nested in it; null: nothing.
  std::shared_ptr<const ExceptionRecord> cause;

  /// What stands behind `error`; nested exceptions become causes, sixteen of them at most.
  static ExceptionRecord of(const std::exception_ptr& error);
  /// The exception itself: of its own type if that is registered here, else a TaskFailed.
  std::exception_ptr exception() const;
  /// Throws exception().
  [[noreturn]] void rethrow() const { std::rethrow_exception(exception()); }

  /// As stores keep it.
  std::string to_json() const;
  /// Errors: SerializationError.
  static ExceptionRecord from_json(std::string_view json);
};

/// A task ended by an exception of a type that is not registered here. `type()` is the name of its type.
/// Thread-safety: immutable. Errors: none. Source: pynenc's pickled exceptions; differs: nothing is executed to read
/// one.
class CALLER_API TaskFailed : public TaskingError {
public:
  /// `record`: what was stored.
  explicit TaskFailed(std::shared_ptr<const ExceptionRecord> record);
  ~TaskFailed() override;
  std::string_view name() const noexcept override { return "TaskFailed"; }
  /// The name of the type it stands for.
  const std::string& type() const noexcept { return record_->type; }
  /// All that is known.
  const ExceptionRecord& record() const noexcept { return *record_; }

private:
  std::shared_ptr<const ExceptionRecord> record_;
};

namespace detail {
CALLER_API std::string type_name(const std::type_info& type);
CALLER_API void register_exception(const std::type_info& type, std::string name,
                                   std::function<std::exception_ptr(const ExceptionRecord&)> make);

/// `e` as it was thrown: with what caused it nested in it.
template <class E>
std::exception_ptr with_causes(E e, const ExceptionRecord& record) {
  if (!record.cause) return std::make_exception_ptr(std::move(e));
  try {
    try {
      record.cause->rethrow();
    } catch (...) {
      std::throw_with_nested(std::move(e));
    }
  } catch (...) {
    return std::current_exception();
  }
}
}  // namespace detail

/// From now on an E that crosses processes comes back as an E, made from its words, with its causes nested in it.
///
/// `name` must be the same in every process; the default is the type's own. The standard library's exceptions and those
/// of this module are registered already. Thread-safety: any thread. Errors: none. Source: –
template <class E>
  requires std::is_constructible_v<E, const std::string&>
void register_exception(std::string name = detail::type_name(typeid(E))) {
  detail::register_exception(typeid(E), std::move(name),
                             [](const ExceptionRecord& r) { return detail::with_causes(E(r.message), r); });
}

}  // namespace caller::task

template <>
struct std::is_error_code_enum<caller::task::Errc> : std::true_type {};
