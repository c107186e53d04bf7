// How to make the language of a kernel.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "function_source.hpp"

#include "interpreter.hpp"

namespace caller::kernel {

/// Everything has a default that fits a built or installed tree.
struct InterpreterOptions {
  /// Directory with the prelude (`prelude.pch`, `libcaller_prelude.so`, `prelude.args`). Empty: found beside the
  /// program.
  std::string prelude_directory;
  /// Also has what makes functions of cells nodes of tubes, precompiled, if it is there: for processes of nodes.
  bool for_nodes = false;
  /// Further flags for the compiler, as on a command line (`-DX`, `-I/dir`, `-O3`).
  std::vector<std::string> flags;
  /// Optimisation of cells, 0..3.
  int optimisation = 2;
  /// Compiles the cells in a copy of the process, so that neither errors nor crashes of the compiler leave traces. Off,
  /// a failed cell may leave some; for processes too big to fork.
  bool isolate = true;
  /// Uses that copy again as long as nothing fails in it. Off, there is a new one for each cell.
  bool keep_copy = true;
  /// Keeps for each instruction the line it stands for, so that errors name the lines of cells. Costs some memory.
  bool lines = true;
  /// Begins to load what nearly every cell and completion needs, so that the first are not slower than the rest: some
  /// hundred milliseconds of another thread, for which completions wait and cells do not.
  bool warm_up = true;
  /// Told, before a cell runs, of each function that its code gives to `app.task(f)`, by the key under which the code
  /// will ask for it. In the thread that compiles.
  std::function<void(const std::string& key, const FunctionSource& source)> function_given{};
  /// Called with one line when something works less well than it should (no precompiled prelude).
  std::function<void(const std::string&)> log;
};

/// Starts the compiler. Thread-safety: any thread; the result belongs to one thread at a time.
/// Errors: std::runtime_error with the compiler's text when it does not start. Source: clang-repl.
std::unique_ptr<Interpreter> make_clang_interpreter(InterpreterOptions options = {});

}  // namespace caller::kernel
