// The debugger as Jupyter clients see it: their requests answered here, or by lldb-dap.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <caller/coro.hpp>
#include <caller/pending.hpp>

#include "cell_directory.hpp"

namespace caller::kernel::debugger {

using json = nlohmann::json;

/// Breakpoints, steps, stacks and variables of cells, by the protocol's debug messages.
///
/// lldb-dap runs as a child while a client debugs. It does not trace the process, which would stop the kernel, too: it
/// talks to a Stub in here. Cells that are compiled meanwhile carry debug information, and are announced to it before
/// they run.
///
/// Thread-safety: `handle` and `stop` on one Caller's thread; the rest any thread.
/// Errors: none; what fails is said in the response.
/// Source: ipykernel Debugger.
class Debugger {
public:
  struct Host {
    std::function<void(const json& event)> publish;  ///< as `debug_event`; from any thread
    /// `[{name, type, value}]` of the session's variables, and `{data, metadata}` of one of them (null: unknown).
    std::function<Pending<json>()> variables;
    std::function<Pending<json>(std::string name)> bundle;
    std::function<void(std::function<Coro<void>()>)> start;  ///< runs a coroutine; from any thread
    std::function<void(std::function<void()>)> elsewhere;    ///< runs something that blocks in a thread of its own
  };

  explicit Debugger(Host host);
  ~Debugger();
  Debugger(const Debugger&) = delete;
  Debugger& operator=(const Debugger&) = delete;

  /// Is all there that debugging needs? Looks each time.
  static bool available();

  /// The response to a request, both as the debug adapter protocol has them.
  Coro<json> handle(json request);

  /// A client debugs: cells are to be compiled for it.
  bool attached() const noexcept { return attached_; }

  /// The name of the file that stands for a cell of this text.
  std::string cell_path(const std::string& code);

  /// An ELF object with debug information, and the addresses its sections were given.
  struct Object {
    std::string elf;
    std::vector<std::pair<std::string, std::uint64_t>> sections;
  };

  /// Tells lldb of code before it runs, so that breakpoints in it hold.
  Coro<void> announce(std::vector<Object> objects);

  /// Running work is stopped: threads that stand at a breakpoint go on, and pass those they meet.
  void let_go();

  /// The session is over; threads that stand go on. Returns at once.
  void release();

  /// Ends everything; threads that stand go on. Blocks for the end of the child, a second at most.
  void stop();

private:
  struct Session;
  using SessionPtr = std::shared_ptr<Session>;

  // One at a time talks to lldb of what changes its view of the process.
  class Turn;
  Coro<Turn> take_turn(SessionPtr session);
  Coro<bool> quiet(SessionPtr session);
  Coro<json> resume(SessionPtr session, std::string command, json arguments);
  Coro<json> ask_quietly(SessionPtr session, std::string command, json arguments);
  Coro<void> let_go_now(SessionPtr session);
  Coro<void> give_up_later(SessionPtr session, Pending<void> in_time);
  Coro<json> ask(SessionPtr session, std::string command, json arguments, std::chrono::milliseconds limit);
  Coro<json> start(json arguments);
  Coro<json> attach(SessionPtr session);
  Coro<json> set_breakpoints(SessionPtr session, json arguments);
  Coro<json> stack_trace(SessionPtr session, json arguments);
  Coro<json> variables(SessionPtr session, json arguments);
  Coro<json> inspect_variables();
  Coro<json> rich_inspect(SessionPtr session, json arguments);
  Coro<json> evaluate(SessionPtr session, json arguments);
  Coro<json> disconnect(SessionPtr session, json arguments);
  json info();
  json dump_cell(const json& arguments);
  json source(const json& arguments);

  void event(const std::weak_ptr<Session>& from, json message);
  void ended(const std::weak_ptr<Session>& from);
  SessionPtr session();
  SessionPtr take_session();
  const std::string& directory();

  Host host_;
  std::atomic<bool> attached_{false};
  std::atomic<int> sequence_{0};
  std::mutex mutex_;  // guards what follows
  SessionPtr session_;
  CellDirectory directory_;
  std::map<std::string, json> breakpoints_;  // by path, as the client set them
  std::set<int> stopped_;
};

}  // namespace caller::kernel::debugger
