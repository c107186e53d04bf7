// How a task and all that came of it stand, as the cell that runs it shows it.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <string>

#include <caller/task/app.hpp>
#include <caller/task/family.hpp>

#include "magics/task_run.hpp"

namespace caller::kernel::magics {

/// The display: shown when it is made, then as things happen, ten times a second at most, and in the end.
///
/// Thread-safety: one coroutine at a time calls look(); finish() any. Errors: those of the store. Source: pynenc's
/// monitor; the cell is that of the context in force.
class TaskProgress {
public:
  TaskProgress(task::App app, std::string title, std::shared_ptr<TaskRun> run);

  /// Of which invocation; before that there is only the title.
  void follow(const std::string& id);
  /// Looks, and shows it if anything has changed. `last`: with the times of each, and for good.
  Coro<void> look(bool last);

  static Coro<void> keep_looking(std::shared_ptr<TaskProgress> progress);

private:
  void publish(const std::vector<task::Relative>& family, bool update);

  const task::App app_;
  const std::string title_, display_;
  const std::shared_ptr<TaskRun> run_;
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  std::mutex mutex_;
  std::string id_, shown_;
  std::chrono::steady_clock::time_point at_{};
  bool finished_ = false;
};

}  // namespace caller::kernel::magics
