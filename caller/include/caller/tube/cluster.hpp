// The runner of many processes.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <caller/export.hpp>
#include <caller/tube/runner.hpp>

namespace caller::tube {

/// A process of a cluster came to its end, or could not be started.
///
/// Errors: this is one; its code is Errc::process_lost. Source: none in noob, where it shows as a time-out.
class CALLER_API ProcessError : public Error {
public:
  /// `context`: when it was noticed. Signal 0: it left by itself.
  ProcessError(std::vector<std::string> nodes, int pid, int signal, int exit_code, const std::string& context);
  ~ProcessError() override;
  /// The nodes that ran in it.
  const std::vector<std::string>& nodes() const noexcept { return nodes_; }
  /// the number it had
  int pid() const noexcept { return pid_; }
  /// The signal that ended it; 0: it left by itself, with exit_code().
  int signal() const noexcept { return signal_; }
  /// what it left with, unless a signal ended it
  int exit_code() const noexcept { return exit_code_; }

private:
  std::vector<std::string> nodes_;
  int pid_, signal_, exit_code_;
};

/// An exception of another process whose type is not known here.
/// Source: the exceptions of noob's nodes in other processes, which arrive as texts.
class CALLER_API RemoteError : public std::runtime_error {
public:
  /// `type`: the name of the exception's type there; `what`: its text.
  RemoteError(std::string type, const std::string& what);
  ~RemoteError() override;
  /// The name of the exception's type.
  const std::string& type() const noexcept { return type_; }

private:
  std::string type_;
};

/// Where an exception of another process was thrown, as far as the program there can say (WorkerHooks::where): nested
/// inside of the cause that is innermost.
/// Source: the traceback that noob's ZMQRunner sends along with the text of an exception.
class CALLER_API RemoteTrace : public std::exception {
public:
  /// `lines`: a line for each call, the outermost first.
  explicit RemoteTrace(std::vector<std::string> lines);
  ~RemoteTrace() override;
  /// The innermost call.
  const char* what() const noexcept override { return lines_.empty() ? "" : lines_.back().c_str(); }
  /// a line for each call, the outermost first
  const std::vector<std::string>& lines() const noexcept { return lines_; }

private:
  std::vector<std::string> lines_;
};

/// How processes reach each other.
enum class Transport : unsigned char {
  ipc,  ///< sockets in a folder of its own in TMPDIR or /tmp, for this user only
  tcp,  ///< encrypted, and only for those who were given the key when they were started
};

/// Nodes that share a process.
struct ClusterGroup {
  std::vector<std::string> nodes = {};   ///< their ids
  std::vector<std::string> worker = {};  ///< instead of ClusterOptions::worker
  std::string address = {};              ///< instead of ClusterOptions::address: where this process listens
};

/// The program of one process, and what it is told besides the tube.
struct ClusterProgram {
  std::vector<std::string> worker = {};  ///< as ClusterOptions::worker; empty: that one
  std::string payload = {};              ///< for its WorkerHooks::prepare
};

/// What a ClusterRunner is made with.
struct ClusterOptions {
  Transport transport = Transport::ipc;  ///< how processes reach each other
  /// tcp: where processes listen, a number address of this machine; ports are chosen by the system.
  std::string address = "127.0.0.1";
  /// Nodes not named here have a process each, except that nodes which share an asset, or pass it on, share one, too.
  std::vector<ClusterGroup> groups = {};
  /// The program that runs nodes, with arguments that come before its own. Empty: this program, if it calls
  /// cluster_main(), else `caller-tube-node`. It finds node types in the registry it starts with and in the plugins
  /// that are loaded here.
  std::vector<std::string> worker = {};
  /// Asked once for each process whose group has no worker of its own, with the ids of its nodes, in the thread that
  /// calls init(). With it, a program need know only the types of its own nodes.
  std::function<ClusterProgram(const std::vector<std::string>& nodes)> program = {};
  /// The credit: so many epochs may be at work at once, or fewer if their values take more than max_bytes. Neither
  /// processes nor sockets ever hold more than that.
  std::size_t max_pending = 2048;
  std::size_t max_bytes = std::size_t{64} << 20;  ///< bytes of values of epochs at work
  /// A process that is lost is replaced at once, and run(), run(n) and iter() go on without the epochs that were lost
  /// with it; each is a MetaEvent::Type::error. Otherwise they throw, and the next call replaces it.
  bool restart = false;
  std::chrono::milliseconds start_timeout{10'000};  ///< for a process to come up; not for its nodes to open
  std::chrono::milliseconds stop_timeout{1'000};    ///< for a process to leave; when one is lost, a quarter for the
                                                    ///< others to close their nodes. Then it is killed
};

/// How a process of a cluster stands.
struct ClusterProcess {
  std::vector<std::string> nodes;  ///< those that run in it
  int pid = 0;                     ///< its number
  bool running = false;            ///< it has not been lost
  std::string endpoint;            ///< where its peers reach it
  std::size_t restarts = 0;        ///< how often it was replaced
  std::uint64_t received = 0;      ///< what nodes of other processes have emitted, as far as it came here
  std::uint64_t messages = 0;      ///< in so many messages
  std::uint64_t sent = 0;          ///< what its own nodes have emitted
  std::uint64_t open_most = 0;     ///< how many epochs it had at work at once
  std::uint64_t held_most = 0;     ///< how much of `received` waited at once until it could be used
};

/// Runs every node in a process of its own. Processes hand values to each other directly; this one tells them which
/// epochs may run, gets everything they emit, and gives results in the order of epochs.
///
/// Nodes run in parallel, several epochs at once; stateful ones take the epochs in their order. Values must be able to
/// cross: numbers, texts, lists and maps of such do, objects with a codec (add_codec), references never. The processes
/// are started by the first init() and live as long as the runner, as nodes do. They end with this process, however it
/// ends. A node that is replaced after its process was lost begins anew.
///
/// The hooks that concern a single node (filter_ready() to handle_events()) are those of the other processes: they
/// cannot be replaced here. Callbacks run on the calling thread, and only during a call.
///
/// Thread-safety: unsafe; it may be used by one thread after the other.
/// Cancel-safety: as TubeRunner.
/// Errors: those of TubeRunner; ProcessError; the constructor throws Error(wrong_type) for signals that cannot cross,
/// and Error(not_found) where the library was built without ZeroMQ.
/// Source: noob ZMQRunner; differs: values are not pickled, the amount of work in flight is bounded, a lost process is
/// an error at once.
class CALLER_API ClusterRunner : public TubeRunner {
public:
  /// No process is started before init(). Errors: Error(wrong_type), Error(not_found); see above.
  explicit ClusterRunner(Tube tube, ClusterOptions options = {});
  ~ClusterRunner() override;

  void init() override;
  void deinit() override;
  Result process(const Map& inputs = {}) override;
  Generator<Result> iter(std::optional<std::size_t> n = std::nullopt) override;
  std::vector<Result> run(std::size_t n) override;
  void run() override;
  void disable_node(std::string_view node) override;
  /// As TubeRunner: from the next epoch on.
  void enable_node(std::string_view node) override;

  /// Asks every process how it stands. One that was lost is not running; the next call says so, or replaces it.
  std::vector<ClusterProcess> processes();

  struct Hub;

protected:
  /// For messages.
  const char* class_name() const noexcept override;

private:
  std::unique_ptr<Hub> hub_;
};

/// For programs with node types of their own and no plugin: called first in main(), it makes the program its own
/// worker. In a process that was started to run nodes it does so and does not return; elsewhere it does nothing.
///
///     int main(int argc, char** argv) {
///       register_my_nodes();
///       caller::tube::cluster_main(argc, argv);
///
/// Thread-safety: called once, before threads are started. Errors: none; a worker says on its channel what is wrong.
/// Source: multiprocessing.freeze_support of Python.
CALLER_API void cluster_main(int argc, char** argv);

/// What a program does for the nodes that it runs as a worker, besides running them. All of it is called in its main
/// thread; what is empty does nothing.
struct WorkerHooks {
  /// Makes types of nodes known, before the tube is built, from what ClusterProgram::payload said. What it throws, the
  /// runner's init() throws.
  std::function<void(const std::string& payload)> prepare = {};
  /// Calls `body`, in which nodes are made, opened, closed, or one of them runs.
  std::function<void(const std::function<void()>& body)> call = {};
  /// Where an exception of a node was thrown: see RemoteTrace. No lines: that is not known.
  std::function<std::vector<std::string>(const std::exception_ptr& error)> where = {};
};
/// The same for a program that does more for its nodes. In a worker the hooks are gone before the process ends.
CALLER_API void cluster_main(int argc, char** argv, WorkerHooks hooks);

}  // namespace caller::tube
