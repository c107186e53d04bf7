// What all parts of a running kernel share: the wire, the sockets, iopub, stdin, history.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "interpreter/interrupt.hpp"
#include "protocol/connection.hpp"
#include "protocol/history.hpp"
#include "protocol/message.hpp"
#include "protocol/wire.hpp"
#include "protocol/zmq_io.hpp"
#include "session/iopub.hpp"
#include "session/stdin_broker.hpp"
#include "session/work.hpp"

namespace caller::kernel {

/// The history, while it lives. Threads of cells use it, too: an interrupt that left SQLite there, which waits when
/// another kernel writes, would leave its locks behind.
///
/// Thread-safety: one thread. Errors: none. Source: none.
class UsedHistory {
public:
  explicit UsedHistory(History& history) noexcept : history_(history) {}
  History* operator->() const noexcept { return &history_; }

private:
  const interrupt::Shelter shelter_;
  History& history_;
};

/// Sends and publishes for a kernel, always under the right parent.
///
/// Thread-safety: any thread, after construction.
/// Errors: constructor: KernelError(bind).
/// Source: ipykernel Kernel.session and iopub_socket.
class Session {
public:
  struct Options {
    std::string history_path;  ///< empty: in memory
    int watch_pid = 0;         ///< 0: none
  };
  struct Handlers {
    std::function<void(Request)> request;  ///< a valid message of shell or control; in the I/O thread
    std::function<void()> parent_died;     ///< in the I/O thread
  };

  Session(ConnectionInfo connection, const Options& options, Handlers handlers);
  ~Session();

  void start();
  /// Sends what is left and closes the sockets.
  void stop();

  const ConnectionInfo& connection() const noexcept { return connection_; }
  const std::string& id() const noexcept { return wire_.session(); }
  IopubWriter& iopub() noexcept { return iopub_; }
  StdinBroker& input() noexcept { return input_; }
  UsedHistory history() noexcept { return UsedHistory(history_); }

  /// The reply to a request, on its channel, under the type `x_reply`.
  void reply(const Request& request, const json& content, const json& metadata = json::object());

  /// Publishes under the parent of the running code.
  void publish(const std::string& type, const json& content, const json& metadata = json::object(),
               Frames buffers = {});

  /// Text of the running code; of work_or_newest() where the running thread belongs to none. False: there was no cell
  /// yet.
  bool write(StreamName name, std::string_view text);

  /// Text of the newest cell, whatever runs.
  bool write_as_newest(StreamName name, std::string_view text);

  /// Asks the user; on a Caller's thread other work goes on meanwhile.
  /// Errors: KernelError(no_request, stdin_not_allowed, input_cancelled); PendingCancelled when the running work is
  /// cancelled.
  std::string ask(const std::string& prompt, bool password);

  /// The work of the running code. Of code without one: of the newest cell of the shell that has run a cell on this
  /// thread, else of the newest cell of all. A silent request is never the newest.
  WorkPtr work_or_newest();

  /// On the thread that runs the cell.
  void set_newest(const WorkPtr& work);
  void forget_shell(const std::string& id);

private:
  WorkPtr newest();
  void received(Channel channel, Frames frames);
  void emit(const std::string& type, const Request& parent, const json& content, const json& metadata, Frames buffers);

  ConnectionInfo connection_;
  Handlers handlers_;
  Wire wire_;
  IopubWriter iopub_;
  StdinBroker input_;
  History history_;
  std::mutex stop_mutex_;
  std::mutex newest_mutex_;
  WorkPtr newest_;
  std::map<std::string, WorkPtr> newest_of_shell_;
  std::unique_ptr<ZmqIo> io_;  // last: its thread uses all the others
};

/// The name of the user that runs this process, for message headers.
std::string user_name();

}  // namespace caller::kernel
