// Whether a cell's text is finished, as far as brackets, strings and the last line tell.
#pragma once

#include "interpreter.hpp"

namespace caller::kernel {

/// Thread-safety: any thread. Errors: none.
Completeness lexical_completeness(const std::string& code);

/// A diagnostic, in the compiler's form, for brackets, comments or raw strings that do not close; empty when all do.
/// Thread-safety: any thread. Errors: none.
std::string unbalanced(const std::string& code, int cell_number);

}  // namespace caller::kernel
