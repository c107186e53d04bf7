// `caller runner`, `caller task` and `caller config`: executes tasks, looks at them, and shows settings.
#pragma once

#include <string>
#include <vector>

#include "application.hpp"

namespace caller::kernel::cli {

struct TaskFlags : ApplicationFlags {
  // runner start
  std::vector<std::string> words;  // the command line
  bool is_worker = false;          // a process of another runner
  bool jit = false;                // compile what notebooks define
  std::string runner;
  std::string slots;
  std::vector<std::string> queues;
  // task …
  std::string id;                // of `task show`
  std::vector<std::string> ids;  // of `task retry` and `task cancel`
  std::string status, task_id, older_than;
  std::size_t limit = 20, offset = 0;
  bool yes = false;
  bool json = false;
  std::string section;  // of `config show`
};

/// Each returns the exit code of the process. Errors: those of caller::task.
int runner_start(const TaskFlags& flags);
int runner_list(const TaskFlags& flags);
int task_list(const TaskFlags& flags);
int task_show(const TaskFlags& flags);
int task_retry(const TaskFlags& flags);
int task_cancel(const TaskFlags& flags);
int task_purge(const TaskFlags& flags);
int config_show(const TaskFlags& flags);

}  // namespace caller::kernel::cli
