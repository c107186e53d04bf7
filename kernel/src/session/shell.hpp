// One shell: a Caller, an execution count, a history, the order of its cells.
#pragma once

#include <atomic>
#include <chrono>
#include <exception>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include <caller/caller.hpp>

#include "session/cell_mode.hpp"
#include "session/kernel.hpp"

namespace caller::kernel {

/// Runs the cells of the main shell or of one subshell.
///
/// Queued cells are one lane of the Caller, so comms and `// task` cells go on while one of them awaits. A failure with
/// stop_on_error refuses at once the execute_requests received before it that do not run yet, by their time stamps;
/// nothing else is touched.
///
/// Thread-safety: any thread.
/// Errors: none; what goes wrong is the reply of the cell.
/// Source: async-kernel Kernel.execute_request; ipykernel subshells.
class Shell : public std::enable_shared_from_this<Shell> {
public:
  Shell(Kernel& kernel, Caller caller, std::string id, int history_session)
      : kernel_(kernel), caller_(std::move(caller)), id_(std::move(id)), history_session_(history_session) {}

  const Caller& caller() const noexcept { return caller_; }
  const std::string& id() const noexcept { return id_; }
  int history_session() const noexcept { return history_session_; }

  /// Takes an execute_request and returns at once.
  void submit(Request request);

private:
  // Holds the place of a request until it runs or is refused; dropped before that, it answers with an error.
  struct Ticket {
    Ticket(std::shared_ptr<Shell> s, Request r);
    ~Ticket();
    Ticket(const Ticket&) = delete;
    Ticket& operator=(const Ticket&) = delete;
    bool take();  // true once: for who answers the request
    const std::shared_ptr<Shell> shell;
    const Request request;
  };

  // What a cell goes through; lives in the coroutine that serves it.
  struct Run {
    CellRequest cell;
    ActiveCellPtr active;
    WorkPtr work;
    std::shared_ptr<CellError> error;  // null: it succeeded
    json expressions = json::object();
  };
  using RunPtr = std::shared_ptr<Run>;

  Coro<void> execute(Request request, CellRequest cell);
  Coro<void> run_cell(RunPtr run);
  Coro<void> run_text(RunPtr run, std::string text, int depth);
  Coro<void> run_code(RunPtr run, std::string code, bool show_result, int optimisation, std::string debug_path = {});
  Coro<void> user_expressions(RunPtr run);
  Coro<json> user_expression(RunPtr run, std::string expression);
  void refuse(Request request, json content);
  void stop_before(Moment failed);
  void abort_waiting();
  json aborted() const;
  CellError describe(const std::exception_ptr& error, const Run& run) const;
  CellError describe_fault(const Run& run) const;  ///< in its handler
  std::string debug_path(const Run& run) const;
  CellError stop_error(const Run& run) const;
  bool aborts(const Message& request);

  Kernel& kernel_;
  Caller caller_;
  std::string id_;
  int history_session_;
  std::atomic<int> count_{0};
  std::mutex abort_mutex_;
  Moment abort_before_;         // a cell failed, or was interrupted: what waited behind it then is not run
  std::list<Ticket*> waiting_;  // oldest first
};

}  // namespace caller::kernel
