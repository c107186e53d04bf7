// Errors of tubes as their cell shows them.
#pragma once

#include <exception>
#include <optional>

#include "magics/magics.hpp"

namespace caller::kernel::magics {

/// An exception that has come out of another process: with the type and the lines that it had there; and one about a
/// value that cannot go there, with what to do. None for others, which are shown as any exception.
///
/// Thread-safety: on the Caller of the cell. Errors: none. Source: none.
std::optional<CellError> describe_remote(MagicContext& context, const std::exception_ptr& error);

}  // namespace caller::kernel::magics
