// The errors of the runtime: one code each, and a type where users catch by name.
#pragma once

#include <cstdint>
#include <string>
#include <system_error>

#include <caller/export.hpp>

namespace caller {

/// Codes of every failure the runtime reports. Zero means success and has no name.
enum class Errc {
  no_running_caller = 1,  ///< the calling thread (or the thread asked for) has no Caller
  caller_exists,          ///< the thread, or the host, already has a Caller
  caller_stopped,         ///< the Caller is stopping or stopped
  not_done,               ///< the Pending has no result yet
  cancelled,              ///< the Pending was cancelled
  timed_out,              ///< a wait ran into its time-out
  mismatch,  ///< an existing Caller differs in name or backend from what was asked for; or a host too few, or too many
  unsupported_backend,   ///< the backend is not built in, or cannot run there
  deadlock,              ///< something would wait for itself
  not_regular_function,  ///< a coroutine function where only a plain one is accepted
  wrong_loop,            ///< a future of another loop
  already_running,       ///< the loop is running already
  wrong_thread,          ///< a call that belongs to the Caller's own thread came from another
  group_failed,          ///< members of a PendingGroup failed
  not_started,           ///< a StartStopTask was waited for before its start()
  stopped_early,         ///< a StartStopTask ended before it was asked to
  receiver_exists,       ///< somebody else waits to receive from the channel
  invalid_argument,      ///< an argument that means nothing: an exception_ptr without an exception
};

/// The category of Errc. Thread-safety: any thread. Errors: none.
CALLER_API const std::error_category& error_category() noexcept;

inline std::error_code make_error_code(Errc e) noexcept { return {static_cast<int>(e), error_category()}; }

/// Base of every error of the runtime; `what()` names the operation and what was found.
class CALLER_API Error : public std::system_error {
public:
  /// `context`: the operation, the id involved and what was found.
  Error(Errc code, const std::string& context);
  ~Error() override;
};

/// No Caller runs in the thread. Source: async-kernel Caller() without a running loop (RuntimeError).
class CALLER_API NoRunningCaller : public Error {
public:
  /// `context`: what was asked for.
  explicit NoRunningCaller(const std::string& context);
  ~NoRunningCaller() override;
};

/// The Caller is stopping or stopped. Source: async-kernel RuntimeError "is stopped".
class CALLER_API CallerStopped : public Error {
public:
  /// `context`: what was asked of which Caller.
  explicit CallerStopped(const std::string& context);
  ~CallerStopped() override;
};

/// The result of a Pending was asked for before it was there. Source: async-kernel PendingNotDone (InvalidStateError).
class CALLER_API PendingNotDone : public Error {
public:
  /// `context`: what was asked of which Pending.
  explicit PendingNotDone(const std::string& context);
  ~PendingNotDone() override;
};

/// The Pending (or the running coroutine's own Pending) was cancelled; `what()` holds the accumulated messages.
/// Source: async-kernel PendingCancelled.
class CALLER_API PendingCancelled : public Error {
public:
  /// `message`: why, as given to cancel().
  explicit PendingCancelled(const std::string& message);
  ~PendingCancelled() override;
};

/// A wait ran into its time-out. Source: async-kernel Pending.wait (TimeoutError).
class CALLER_API TimedOut : public Error {
public:
  /// `context`: which wait, and how long it was.
  explicit TimedOut(const std::string& context);
  ~TimedOut() override;
};
namespace detail {
/// "`wait`, after 1.5 s".
[[noreturn]] CALLER_API void throw_timed_out(const char* wait, std::int64_t nanoseconds);
}  // namespace detail

/// A coroutine function was given where only a plain function is accepted. Source: PyCoroutines NotRegularFunction.
class CALLER_API NotRegularFunction : public Error {
public:
  /// `context`: where a plain function is needed.
  explicit NotRegularFunction(const std::string& context);
  ~NotRegularFunction() override;
};

}  // namespace caller

template <>
struct std::is_error_code_enum<caller::Errc> : std::true_type {};
