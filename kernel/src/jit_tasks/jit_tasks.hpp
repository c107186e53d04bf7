// Tasks that are functions of notebooks, in a worker that was never told of them.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <caller/task/app.hpp>

#include "interpreter/factory.hpp"

namespace caller::kernel {

/// Compiles functions of notebooks from the source that the store has of them, once each.
///
/// Each function is compiled with all it needs into a session of its own: what another function's cells call the same
/// does not meet it. Variables of the cells are made anew, as they were declared. An application that the cells build
/// is the worker's, if it has the same id. Faults of such code fail the invocation, not the worker.
///
/// Thread-safety: any thread. Errors: see find(). Source: none.
class JitTasks {
public:
  struct Options {
    InterpreterOptions interpreter{};
    /// One line of what was compiled, and of what works less well than it should. In any thread; none: nowhere.
    std::function<void(const std::string&)> log{};
  };
  explicit JitTasks(Options options);
  ~JitTasks();
  JitTasks(const JitTasks&) = delete;
  JitTasks& operator=(const JitTasks&) = delete;

  /// Registers the task of that id with the application, if its store knows the source; for AppOptions::find_task.
  ///
  /// Cancel-safety: none, it takes as long as the compiler does.
  /// Errors: UnknownTaskError with the compiler's words when it does not compile; what the cells' initialisers throw;
  /// StateBackendError.
  void find(const task::App& app, const std::string& task_id);

private:
  class Session;
  std::unique_ptr<Session> session_;
};

}  // namespace caller::kernel
