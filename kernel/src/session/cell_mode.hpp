// How a cell wants to be run: its tags, its first line, the defaults of its request.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "protocol/message.hpp"

namespace caller::kernel {

enum class RunMode {
  queue,   ///< one after the other, the default
  task,    ///< a task of its own; other cells go on
  thread,  ///< on a child Caller
};

/// An execute_request with every default applied.
///
/// The mode is decided by, first match wins: a tag in the cell's metadata, `silent` (a task), the first line of the
/// code, the default. The first line counts only when it is exactly `// queue`, `// task` or `// thread [name=X]
/// [backend=B]`, or the same words after a `%`.
///
/// Thread-safety: distinct objects: safe.
/// Units: timeout: none or above zero.
/// Errors: none.
/// Source: async-kernel `Kernel.get_run_mode`; Jupyter messaging 5.5, "Execute".
struct CellRequest {
  std::string code;  ///< without the line that named the mode (left blank, so that line numbers stay)
  RunMode mode = RunMode::queue;
  std::string thread_name;  ///< empty: any worker
  std::string backend;
  bool silent = false;
  bool store_history = true;
  bool stop_on_error = true;
  bool raises_exception = false;  ///< an error is expected and stops nothing
  std::optional<std::chrono::nanoseconds> timeout;
};

CellRequest read_cell(const json& content, const json& metadata);

}  // namespace caller::kernel
