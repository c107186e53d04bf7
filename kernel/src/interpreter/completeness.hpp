// Whether a cell's text is finished, as far as brackets, strings and the last line tell.
#pragma once

#include "interpreter.hpp"

namespace caller::kernel {

/// Thread-safety: any thread. Errors: none.
Completeness lexical_completeness(const std::string& code);

}  // namespace caller::kernel
