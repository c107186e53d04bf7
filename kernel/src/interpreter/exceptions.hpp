// Exceptions of cells as Jupyter shows them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "interpreter.hpp"

namespace caller::kernel {

/// A line of a cell.
struct Place {
  std::string cell;  ///< `Cell [7]`
  unsigned line = 0;
  std::string function;  ///< empty: the statements of the cell itself
};

/// The lines an instruction stands for, innermost first.
using Locate = std::function<std::vector<Place>(const void* address)>;

/// Describes the exception in flight, with those nested in it and the lines of cells it was thrown from.
/// Thread-safety: any thread. Errors: none.
CellError describe_exception(int cell_number, const Locate& locate);

}  // namespace caller::kernel
