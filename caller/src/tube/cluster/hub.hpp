// The runner's process: it starts the others, gives them credit, and follows everything they emit.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <zmq.hpp>

#include "../runner_impl.hpp"
#include "layout.hpp"
#include "replica.hpp"
#include "spawn.hpp"
#include "spin.hpp"
#include "transport.hpp"
#include "wire.hpp"

namespace caller::tube {

struct ClusterRunner::Hub {
  Hub(ClusterRunner& owner, ClusterOptions given);
  ~Hub();

  // ---- processes (hub_processes.cpp)
  Map common_setup() const;
  /// Starts those that do not run, and connects all. Errors: ProcessError, what a worker could not build.
  void bring_up();
  /// Opens the nodes. Errors: what a node's constructor or init() throws; the others are closed again.
  void open_nodes();
  void close_nodes() noexcept;
  void shut_down() noexcept;
  void set_enabled(std::uint32_t node, bool on);
  std::vector<ClusterProcess> ask_all();
  /// Replaces lost processes, and opens their nodes if the runner is open. No epoch may run.
  void replace_lost();
  bool complete() const;

  // ---- messages
  void send(std::uint32_t process, zmq::message_t message);
  void broadcast(std::string text);
  /// Handles what has come; false if that was nothing.
  bool receive();
  /// Waits for messages, or the end of a process.
  void wait(int timeout_ms);
  bool message_is_near();
  void pump();
  void handle(std::uint32_t process, std::string_view whole);
  void handle_events(std::string_view whole, detail::ByteReader& reader);
  void handle_error(const Map& content);
  /// Waits until `done(process)` holds for every process that runs.
  template <class Done>
  void wait_for_all(std::string_view what, std::optional<std::chrono::milliseconds> timeout, Done&& done);

  // ---- epochs
  void begin(std::vector<std::optional<Value>> inputs, std::uint64_t count);
  std::size_t window() const;
  /// Begins as many epochs as there is credit for, at most `wanted`, and at most `in_flight` at work.
  void fill(std::size_t in_flight, std::size_t wanted);
  /// A run begins: how fast it goes is not known yet.
  void start_run();
  Result take();
  void drain();
  void drop_all();
  void discard(detail::Instance* root);
  void run_ready();
  void give_up(detail::Instance* root, const std::exception_ptr& error, bool tell);
  void end_stream(const detail::RecordHead& head);
  /// A process has ended: everything that has not is given up.
  void lost(std::uint32_t process);
  [[noreturn]] void throw_lost();
  void ensure();

  struct Process {
    detail::Child child;
    std::string endpoint, route;
    std::optional<ClusterProgram> program;  ///< once it was asked for
    std::size_t incarnation = 0;
    bool started = false;  ///< it runs, as far as is known
    bool opened = false;
    std::uint64_t answered_round = 0;
    std::optional<Map> answer;  ///< to what was asked last
    std::exception_ptr failed;  ///< it could not build the tube
  };

  ClusterRunner& runner;
  ClusterOptions options;
  detail::Layout layout;
  detail::Replica replica;
  std::uint64_t fingerprint;
  std::string tube_bytes;               ///< specification and inputs, the same for every process
  caller::detail::OwnedFolder sockets;  ///< of ipc
  std::optional<detail::Meeting> meeting;
  std::optional<zmq::context_t> context;
  std::optional<zmq::socket_t> socket;
  std::string endpoint;
  int socket_fd = -1;
  detail::Spin spin;
  std::vector<Process> processes;
  std::vector<std::uint8_t> told;  ///< by process: it must be told of single epochs; empty: not known
  std::uint64_t round = 0;
  std::deque<detail::Instance*> epochs;  ///< begun and not taken, oldest first
  bool free_running = false;             ///< in run() or iter(), where lost epochs may be passed over
  std::exception_ptr lost_error;         ///< of a process that ended while nothing ran
  std::uint64_t bytes = 0;               ///< received since the last look at how much an epoch takes
  std::uint64_t bytes_epochs = 0;
  double bytes_per_epoch = 0;
  /// So far ahead that it can be caught up with in a quarter of a second: who leaves a run early waits for that.
  std::size_t ahead = 0, ahead_taken = 0;
  std::chrono::steady_clock::time_point ahead_since;
};

}  // namespace caller::tube
