// A process of nodes: what it does from its start to its end.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <caller/tube/cluster.hpp>
#include <zmq.hpp>

#include "layout.hpp"
#include "node_runner.hpp"
#include "replica.hpp"
#include "transport.hpp"
#include "wire.hpp"

namespace caller::tube::detail {

/// One thread: it takes messages, runs what is ready, and sends what that emitted.
class Worker {
public:
  /// The hooks must outlive it.
  Worker(const Map& setup, const WorkerHooks& hooks);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  /// Until the runner says stop.
  void run();

private:
  struct Peer {
    std::string endpoint;
    zmq::socket_t socket;
  };
  struct Pending {
    Message kind;
    Grant grant;
    Map content;
  };

  void build(const Map& setup);
  void check_types() const;
  /// An exception as it is sent, with what the program can say of it.
  Value told(const std::exception_ptr& error) const;
  // messages
  void drain();
  void handle(std::string_view bytes);
  void handle_events(ByteReader& reader);
  void announce(const Map& content);
  void heard(std::uint64_t round, std::uint32_t from);
  void give_up(const Map& content);
  void send(std::string bytes);
  void send_warnings();
  void answer(const char* what, Map content = {});
  void report(const RecordHead& where, const std::exception_ptr& error);
  // work
  bool apply_pending();
  void grant(Grant given);
  void begin(Grant& grant);
  void set_enabled(const Map& content);
  void enable_all();
  void open_nodes();
  void close_nodes();
  bool work();
  void fire(const Ready& ready);
  void fail(const Ready& ready);
  void emit(const Ready& ready, std::span<const Value> values);
  void append(const RecordHead& head, std::span<const Value> values, std::uint32_t first_signal);
  void flush();
  void reap();

  const WorkerHooks& hooks_;
  std::set<std::string> foreign_;  ///< types that this program does not have: of nodes of others
  zmq::context_t context_;
  Meeting meeting_;
  std::uint32_t self_;
  std::size_t processes_;
  std::string address_;
  std::size_t incarnation_;
  zmq::socket_t commands_, events_;
  std::string endpoint_;
  std::vector<std::optional<Peer>> peers_;  ///< by process

  std::optional<Tube> whole_;
  Layout layout_;
  std::vector<std::uint8_t> needed_, enabled_;  ///< by node of the whole tube
  std::unique_ptr<NodeRunner> runner_;
  std::unique_ptr<Replica> replica_;
  std::unique_ptr<Firing> firing_;

  std::deque<Pending> pending_;       ///< grants and changes that wait for epochs to end
  std::uint64_t granted_ = 0;         ///< the first epoch that neither has begun nor is pending
  std::set<std::uint64_t> given_up_;  ///< epochs that were given up before they began
  std::uint64_t over_before_ = 0;     ///< so were all before this one
  std::vector<Instance*> closed_;
  std::set<std::pair<std::uint64_t, std::uint32_t>> heard_;  ///< pings: of which round, from whom
  std::uint64_t round_ = 0;
  bool round_open_ = false;
  bool stopping_ = false;
  std::size_t open_ = 0;
  std::mutex warnings_mutex_;
  std::vector<std::string> warnings_;  ///< of nodes, perhaps from threads of theirs
  std::string batch_;                  ///< what is to be sent, all of it to everyone who needs any
  std::chrono::steady_clock::time_point batch_since_, last_look_;
  std::uint64_t last_tick_ = 0;
  std::uint64_t sent_ = 0, messages_ = 0, open_most_ = 0;
};

/// What a worker's main() does. Returns its exit code.
int worker_main(WorkerHooks hooks);

}  // namespace caller::tube::detail
