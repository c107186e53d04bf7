// Exceptions of cells as Jupyter shows them.
#pragma once

#include "interpreter.hpp"

namespace caller::kernel {

/// Describes the exception in flight, with those nested in it. Thread-safety: any thread. Errors: none.
CellError describe_exception(int cell_number);

}  // namespace caller::kernel
