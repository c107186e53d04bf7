// A kernel process and a client that costs as little as possible: what is measured is the kernel.
#pragma once

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>
#include <zmq.hpp>

#include "protocol/connection.hpp"
#include "protocol/wire.hpp"

namespace bench {

using caller::kernel::ConnectionInfo;
using caller::kernel::Frames;
using caller::kernel::json;
using Clock = std::chrono::steady_clock;

inline double ms_since(Clock::time_point t) {
  return std::chrono::duration<double, std::milli>(Clock::now() - t).count();
}

/// `name` with a number behind it.
inline std::string numbered(std::string name, int n) { return name.append(std::to_string(n)); }

/// The q-th part of the values, 0.5 for the median.
double quantile(std::vector<double> values, double q);

struct Message {
  std::string type, parent, state;  ///< `state` of a status message
  std::string raw;                  ///< the content, unparsed
  Clock::time_point arrived;
  json content() const { return json::parse(raw); }
};

/// A running kernel, started from a connection file of ours on free ports of 127.0.0.1.
class Process {
public:
  /// `command` holds the word {connection_file}.
  explicit Process(const std::vector<std::string>& command);
  ~Process();
  Process(const Process&) = delete;

  ConnectionInfo info;
  pid_t pid = -1;
  Clock::time_point started;

  /// Milliseconds until the process has ended; negative when it had to be killed after `limit`.
  double wait_end(std::chrono::milliseconds limit);
  bool alive() const { return ::kill(pid, 0) == 0 && ::waitpid(pid, nullptr, WNOHANG) == 0; }
  /// Proportional set size, of the process and of all those of its group, in MiB.
  double memory() const;
  /// User and system time of these so far, in milliseconds.
  double cpu() const;
  std::vector<std::string> group() const;

private:
  std::filesystem::path dir_;
};

class Client {
public:
  explicit Client(const ConnectionInfo& info, std::string identity = "bench");

  enum Where { shell, control, iopub };

  /// Sends a request and returns its id.
  std::string send(Where where, const std::string& type, const json& content = json::object(),
                   const Frames& buffers = {});
  std::string execute(const std::string& code, bool silent = false);
  void send_raw(Where where, const Frames& frames);
  Frames signed_frames(const std::string& header, const std::string& parent, const std::string& metadata,
                       const std::string& content) const;
  json header(const std::string& type);

  /// Takes in what has come; waits up to `limit` for the first. False when nothing came.
  bool pump(std::chrono::milliseconds limit);
  /// Waits until `done`; throws when that takes longer than `limit`.
  void until(const std::function<bool()>& done, const char* what,
             std::chrono::milliseconds limit = std::chrono::seconds(60));

  /// Waits for the reply and the idle message; milliseconds from `begin`.
  double finish(const std::string& id, Clock::time_point begin);
  double run(const std::string& code) {
    const auto begin = Clock::now();
    return finish(execute(code), begin);
  }
  /// A cell that must succeed.
  void must(const std::string& code);
  /// The time until the reply, for messages on control or of the compiler.
  double ask(Where where, const std::string& type, const json& content = json::object());

  /// Asks until an answer is also seen on iopub: from then on nothing is lost there.
  void settle();
  /// The text a cell printed so far.
  std::string text(const std::string& id) const;
  void forget();

  std::unordered_map<std::string, Message> replies;         ///< by the id of the request
  std::unordered_map<std::string, Clock::time_point> idle;  ///< when the idle message of a request came
  std::vector<Message> published;                           ///< other messages on iopub
  std::function<void(const Message&)> on_published;         ///< instead of keeping them
  std::size_t iopub_messages = 0;

private:
  void take(zmq::socket_t& socket, bool is_iopub);

  ConnectionInfo info_;
  std::string identity_;
  caller::kernel::Signer signer_;
  zmq::context_t context_;
  zmq::socket_t shell_, control_, iopub_;
  int count_ = 0;
};

}  // namespace bench
