// Where comms of cells end: the kernel's side.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include <caller/coro.hpp>
#include <caller/export.hpp>
#include <caller/kernel/comm.hpp>

namespace caller::kernel {

/// Which message of the protocol is meant.
enum class CommKind { open, message, close };

/// Sends what comms of cells send.
///
/// Thread-safety: every function may be called from any thread, several at a time.
class CALLER_API CommHost {
public:
  virtual ~CommHost();
  /// An id no other comm has.
  virtual std::string new_id() = 0;
  /// Publishes under the running code's request. Errors: std::invalid_argument for what is no JSON.
  virtual void publish(CommKind kind, const std::string& id, const std::string& target, const CommMessage& message) = 0;
  /// The id of the request that the running code belongs to; empty when there was none yet.
  virtual std::string request_id() = 0;
  /// The comm is one of the process from now on, until it is removed.
  virtual void added(const std::string& id, const std::string& target) = 0;
  /// The comm is closed; nothing more comes for it.
  virtual void removed(const std::string& id) = 0;
};

/// Installs the host; null removes it (then comms are closed). It must outlive its use.
/// Thread-safety: any thread. Errors: none. Source: –
CALLER_API void set_comm_host(CommHost* host) noexcept;
/// The host that is installed; null: none. Thread-safety: any thread. Errors: none. Source: –
CALLER_API CommHost* comm_host() noexcept;

/// What a message asks the code of cells to do: one of the two functions, or nothing.
///
/// Thread-safety: one thread. Errors: what the handler throws. Source: –
struct CommCall {
  std::function<void()> plain;           ///< set for a plain handler
  std::function<Coro<void>()> awaiting;  ///< set for a coroutine handler
};

/// The work of a message from a page; none: the comm, or the target, is not one of caller::Comm's.
///
/// The comm is opened or closed here, the handler runs later: hence messages of one comm are handed over in order.
///
/// Thread-safety: any thread. Errors: none. Source: –
CALLER_API std::optional<CommCall> comm_call(CommKind kind, const std::string& id, const std::string& target,
                                             CommMessage message);

}  // namespace caller::kernel
