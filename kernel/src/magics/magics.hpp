// The magics: a table of name -> function.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <caller/coro.hpp>

#include "magics/split.hpp"
#include "session/active_cells.hpp"
#include "session/work.hpp"

namespace caller::kernel {

class Kernel;
class Shell;

/// What a magic may use and change.
struct MagicContext {
  Kernel& kernel;
  Shell& shell;
  WorkPtr work;
  ActiveCellPtr active;
  std::string code;       ///< the C++ code that follows; a magic may replace it
  int optimisation = -1;  ///< for that code
  /// Runs C++ code now; `show` the value of its last expression. An error of it is the cell's.
  std::function<Coro<void>(std::string code, bool show)> run_code;
};

/// Runs one magic.
///
/// Thread-safety: on the Caller of the cell.
/// Cancel-safety: a running command is interrupted.
/// Errors: KernelError(magic) for an unknown name, naming the nearest ones, and for wrong use.
/// Source: IPython magics; the table stands in magics.cpp.
Coro<void> run_magic(MagicContext& context, const MagicLine& line);

/// `%name` and `%%name` of all magics, sorted.
std::vector<std::string> magic_names();

}  // namespace caller::kernel
