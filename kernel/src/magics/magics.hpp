// The magics: a table of name -> function.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <caller/coro.hpp>

#include "interpreter/interpreter.hpp"
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
  /// The same for a whole cell, its magics included.
  std::function<Coro<void>(std::string cell)> run_cell;
  /// The error of the cell so far; null while there is none.
  std::function<CellError*()> error;
  /// Makes this the error of the cell; the magic then returns.
  std::function<void(CellError)> fail;
};

/// Runs one magic.
///
/// Thread-safety: on the Caller of the cell.
/// Cancel-safety: a running command is interrupted.
/// Errors: KernelError(magic) for an unknown name, naming the nearest ones, and for wrong use.
/// Source: IPython magics; the table stands in magics.cpp.
Coro<void> run_magic(MagicContext& context, const MagicLine& line);

/// What a magic does and how it is written; `name` with or without its `%`, `%%` for the one of a whole cell. Empty:
/// there is none of that name.
///
/// Thread-safety: any thread.
/// Errors: none.
/// Source: IPython `%magic?`.
std::string magic_help(const std::string& name);

/// `%name` and `%%name` of all magics, sorted.
std::vector<std::string> magic_names();

}  // namespace caller::kernel
