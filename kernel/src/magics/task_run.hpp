// %%task: the code of a cell as a task, and the applications it may be one of.
#pragma once

#include <compare>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <vector>

#include <caller/task/app.hpp>

#include "interpreter/interrupt.hpp"
#include "magics/magics.hpp"

namespace caller::kernel {

/// What the %%task cells of a kernel have left: their applications, and the runners of these.
///
/// Thread-safety: any thread. Errors: those of App and its stores. Source: none.
class TaskSession {
public:
  TaskSession();
  ~TaskSession();  ///< stops the runners
  TaskSession(const TaskSession&) = delete;
  TaskSession& operator=(const TaskSession&) = delete;

  /// Where a task lives; without a store: in the newest application of that id that a cell has made, else in memory.
  struct Place {
    std::string app, sqlite, url;
    auto operator<=>(const Place&) const = default;
  };
  task::App app(const Place& place);
  /// Lets a runner of this kernel serve queue() of the application.
  void serve(const task::App& app);
  /// Tasks that only this kernel can execute, as their code is here, are in a queue of their own: no other kernel on
  /// the store has one of that name, also one of another machine or container, whose process may have the same number.
  /// The dot before its name keeps it from runners that serve all queues.
  const std::string& queue() const noexcept { return queue_; }

private:
  std::mutex mutex_;
  std::string queue_;
  std::map<Place, task::App> apps_;
  std::map<const void*, std::unique_ptr<task::Runner>> runners_;  // by the application they serve, which they keep
};

namespace magics {

/// The kernel's one. Thread-safety: any thread. Errors: none. Source: none.
TaskSession& task_session(Kernel& kernel);

/// The code of a cell, executed as a task: what is between the cell, which waits, and the thread that executes.
///
/// Thread-safety: as each function says. Errors: none. Source: none.
class TaskRun {
public:
  /// `elsewhere`: it executes on another thread than the cell's.
  TaskRun(ActiveCellPtr active, WorkPtr work, CompiledCell cell, bool elsewhere);

  /// Runs all of it in the calling thread; once more after a failure. Returns its result as text. In whichever thread.
  std::string execute();
  /// Ends the code that runs, wherever it is. Any thread.
  void break_off();
  bool stopped() const noexcept { return active_->stop.load(std::memory_order_relaxed) != ActiveCell::Stop::none; }
  /// The last failure, as it was thrown; null: there was none. Any thread.
  std::exception_ptr error() const;
  const WorkPtr& work() const noexcept { return work_; }

private:
  class Here;
  void await(const std::function<Coro<void>()>& start);

  const ActiveCellPtr active_;
  const WorkPtr work_;
  const CompiledCell cell_;
  const bool elsewhere_;
  mutable std::mutex mutex_;
  std::exception_ptr error_;
  Here* here_ = nullptr;  // while it executes
};

}  // namespace magics
}  // namespace caller::kernel
