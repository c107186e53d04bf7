// The source of functions of cells as text, for other processes.
#pragma once

#include <string>

#include "interpreter/function_source.hpp"

namespace caller::kernel {

/// A source as it is stored and sent: JSON. Thread-safety: any thread. Errors: std::invalid_argument for what is none.
std::string source_to_json(const FunctionSource& source);
FunctionSource source_from_json(const std::string& text);

}  // namespace caller::kernel
