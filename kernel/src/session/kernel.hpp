// The kernel: its Callers, its shells, and which of them serves which message.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include <caller/caller.hpp>

#include "debugger/debugger.hpp"
#include "interpreter/interpreter.hpp"
#include "session/active_cells.hpp"
#include "session/cell_streams.hpp"
#include "session/comm_host.hpp"
#include "session/display_host.hpp"
#include "session/fault_host.hpp"
#include "session/interrupts.hpp"
#include "session/kernel_app.hpp"
#include "session/output.hpp"
#include "session/request_scope.hpp"
#include "session/session.hpp"
#include "xeus/face.hpp"

namespace caller::kernel {

class Shell;
struct TubeSession;

/// A running kernel.
///
/// Threads: the I/O thread decodes and routes; the main thread is the Caller of the main shell; each subshell has a
/// Caller; Control serves what must never wait for a shell; Language, its child, owns the interpreter.
///
/// Thread-safety: any thread, unless a function says otherwise.
/// Errors: constructor: KernelError(bind); std::system_error.
/// Source: async-kernel Kernel; ipykernel Kernel.
class Kernel {
public:
  Kernel(const KernelOptions& options, ConnectionInfo connection, Caller main);
  ~Kernel();
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  /// Starts to serve. Returns at once; the caller then runs the main Caller.
  void start();

  Session& session() noexcept { return session_; }
  ActiveCells& cells() noexcept { return cells_; }
  Interrupts& interrupts() noexcept { return interrupts_; }
  /// Runs a Caller of a shell's, or one that these have made, in that thread? Thread-safety: any thread.
  bool owns(std::thread::id thread);
  XeusFace& comms() noexcept { return comms_; }
  const Caller& main() const noexcept { return main_; }
  const Caller& control() const noexcept { return control_; }
  const Caller& language() const noexcept { return language_; }

  /// Everything written so far is on its way to the client.
  void settle() {
    if (output_) output_->settle();
  }
  void renew_input() {
    if (output_) output_->renew_input();
  }

  /// Compiles and runs declarations that belong to the session: a `%reset` brings them back. Waits for it.
  /// Errors: std::runtime_error with the compiler's text; what the initialisers throw.
  void declare(const std::string& code);

  /// Forgets what cells declared. In the compile thread.
  void reset_names(Interpreter& interpreter);

  /// An error of a task that nobody looked at belongs to the cell that started the task.
  void report_unseen(const std::string& where, const std::exception_ptr& error);

  debugger::Debugger& debugger() noexcept { return debugger_; }

  /// What %%tube has left; made by `make` when it is first asked for.
  template <class F>
  TubeSession& tubes(F&& make) {
    const std::lock_guard lock(tubes_mutex_);
    if (!tubes_) tubes_ = make();
    return *tubes_;
  }

  /// Runs `fn(Interpreter&)` in the compile thread.
  /// Errors: std::runtime_error when the interpreter could not start; what `fn` throws.
  template <class F>
  auto with_interpreter(F fn) {
    return language_.call_soon([this, fn = std::move(fn)]() mutable { return fn(require_interpreter()); });
  }

  /// Compiles a cell in the compile thread. A compile that nobody awaits any more ends, too, while nothing of it is in
  /// the session; after that it goes on, its declarations belong to the session, and the next compile waits for it.
  /// Cancel-safety: ends at once. Errors: as with_interpreter.
  Coro<std::variant<CompiledCell, CellError>> compile(std::string code, CompileOptions options);

  /// Where the compiler's prelude is; empty: beside the program.
  std::string prelude_directory() const { return options_.prelude_dir.string(); }

  /// The exception in flight as Jupyter shows it; called inside a catch block. Thread-safety: any thread.
  CellError describe_current(int number);

  /// The shell a message belongs to; null when it names a subshell that does not exist.
  std::shared_ptr<Shell> shell_of(const Message& request);
  std::string create_subshell();
  bool delete_subshell(const std::string& id);
  std::vector<std::string> subshells();

  /// Stops every running cell, whatever it does.

  /// Ends the process: running work is stopped, and where it does not end within the grace period the process exits
  /// without it. Returns at once; later calls do nothing.
  void shut_down();

  /// Embedded: stops what runs and does not end by itself in a moment, and the main Caller. Returns at once; later
  /// calls do nothing.
  void end_session();

  json kernel_info() const;

private:
  using Handler = void (Kernel::*)(RequestScope&);
  using CommKey = std::pair<std::string, std::string>;  // subshell, comm

  void route(Request request);  // I/O thread
  void serve(const Caller& where, Request request, Handler handler);
  void run_handler(const Request& request, Handler handler);
  void route_comm(Request request);
  Coro<void> serve_comm(Request request);
  void post_comm(Caller where, const CommKey& key);
  Coro<void> serve_next_comm(Caller where, CommKey key);
  void drop_comms(const std::string& subshell);
  Coro<void> debug(Request request);
  debugger::Debugger::Host debug_host();
  Interpreter& require_interpreter();
  void warm_up_later();

  // Control
  void on_kernel_info(RequestScope& scope);
  void on_connect(RequestScope& scope);
  void on_interrupt(RequestScope& scope);
  void on_shutdown(RequestScope& scope);
  void on_history(RequestScope& scope);
  void on_comm_info(RequestScope& scope);
  void on_usage(RequestScope& scope);
  void on_create_subshell(RequestScope& scope);
  void on_delete_subshell(RequestScope& scope);
  void on_list_subshell(RequestScope& scope);
  void on_unknown(RequestScope& scope);
  void on_faulty(RequestScope& scope);
  void on_unknown_subshell(RequestScope& scope);

  // Language
  void on_complete(RequestScope& scope);
  void on_inspect(RequestScope& scope);
  void on_is_complete(RequestScope& scope);

  // a shell's Caller
  void on_comm(RequestScope& scope);

  const KernelOptions options_;
  Caller main_;
  Session session_;
  std::optional<Output> output_;             // of a process of our own
  std::optional<CellStreams> cell_streams_;  // embedded
  SessionDisplay display_;
  Caller control_;
  Caller language_;
  Interrupts interrupts_;
  ActiveCells cells_;
  const bool can_debug_ = !options_.embedded && debugger::Debugger::available();
  std::mutex debug_mutex_;
  Request debug_parent_;  // of debug events: the latest request
  debugger::Debugger debugger_;
  XeusFace comms_;
  SessionComms cell_comms_;
  std::shared_ptr<Interpreter> interpreter_;  // set once in the compile thread, before any use
  std::string interpreter_error_;
  unsigned interpreter_uses_ = 0;          // of the compile thread
  std::vector<std::string> declarations_;  // of the compile thread
  std::mutex tubes_mutex_;
  std::shared_ptr<TubeSession> tubes_;  // ends before the interpreter, whose code it refers to
  std::mutex shells_mutex_;
  std::shared_ptr<Shell> main_shell_;
  std::map<std::string, std::shared_ptr<Shell>> shells_;  // by subshell id
  std::atomic<bool> shutting_down_{false};
  bool ending_ = false;  // of the control thread
  std::unique_ptr<FaultHost> faults_;
  std::unique_ptr<OwnLoops> own_loops_;  // instead

  // The messages of one comm on one shell, in order. There is an entry only while some wait or one is served.
  std::mutex comms_mutex_;
  struct CommQueue {
    std::deque<Request> waiting;
    bool serving = false;
  };
  std::map<CommKey, CommQueue> comm_queues_;

  // The right to serve a queue's next message; lost before that was done (the shell ends), the shell's queues are
  // dropped.
  struct CommTurn {
    CommTurn(Kernel& k, std::string s) : kernel(&k), subshell(std::move(s)) {}
    ~CommTurn() {
      if (kernel) kernel->drop_comms(subshell);
    }
    CommTurn(const CommTurn&) = delete;
    CommTurn& operator=(const CommTurn&) = delete;
    Kernel* kernel;
    std::string subshell;
  };

  // Outlives the kernel: the thread of the grace period may still look at it.
  struct Watch {
    std::mutex mutex;
    bool kernel_gone = false;
  };
  std::shared_ptr<Watch> watch_ = std::make_shared<Watch>();
};

}  // namespace caller::kernel
