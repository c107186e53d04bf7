// `caller runner start --jit`: tasks that nobody but notebooks has defined.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <caller/task/app.hpp>

namespace caller::kernel::cli {

/// For AppOptions::find_task. Must outlive the application. Thread-safety: any thread.
class Jit {
public:
  virtual ~Jit() = default;
  /// Errors: see kernel::JitTasks::find().
  virtual void find(const task::App& app, const std::string& task_id) = 0;
};

/// `log`: told what was compiled, in any thread. Errors: std::runtime_error in a build without the kernel.
std::unique_ptr<Jit> make_jit(std::function<void(const std::string&)> log);

}  // namespace caller::kernel::cli
