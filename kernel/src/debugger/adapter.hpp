// lldb-dap as a child process, spoken to over its standard streams in the debug adapter protocol.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include <nlohmann/json.hpp>

namespace caller::kernel::debugger {

using json = nlohmann::json;

/// A running lldb-dap.
///
/// Thread-safety: any thread, except the destructor, which must not run in a callback.
/// Errors: constructor: std::system_error when the program does not start.
/// Source: ipykernel DebugpyClient.
class Adapter {
public:
  /// In the child, `socket` is descriptor kSocket.
  static constexpr int kSocket = 9;

  struct Handlers {
    std::function<void(json)> event;  ///< in the reading thread, as all answers
    std::function<void()> ended;      ///< the program has ended, or its output is no protocol; once
  };

  Adapter(const std::string& program, int socket, Handlers handlers);
  /// Ends the program, in the end by force.
  ~Adapter();
  Adapter(const Adapter&) = delete;
  Adapter& operator=(const Adapter&) = delete;

  /// `done` gets the response, or null when the program ends before it answers.
  void request(const std::string& command, json arguments, std::function<void(json)> done);

  pid_t pid() const noexcept { return pid_; }

private:
  void read();
  void received(json message);
  bool write(const json& message);

  Handlers handlers_;
  pid_t pid_ = -1;
  int to_ = -1, from_ = -1;
  std::mutex mutex_;  // guards what follows
  int sequence_ = 0;
  bool ended_ = false;
  std::map<int, std::function<void(json)>> waiting_;
  std::mutex write_mutex_;
  std::thread reader_;
};

}  // namespace caller::kernel::debugger
