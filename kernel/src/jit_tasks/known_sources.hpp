// What the compiler has found out about functions that cells give to `app.task(f)`.
#pragma once

#include <string>

#include "interpreter/function_source.hpp"

namespace caller::kernel {

/// Makes the source of a function known to caller::task, for InterpreterOptions::function_given.
/// Thread-safety: any thread. Errors: none. Source: none.
void keep_source(const std::string& key, const FunctionSource& source);

/// A source as it is stored: JSON. Thread-safety: any thread. Errors: std::invalid_argument for what is none.
std::string source_to_json(const FunctionSource& source);
FunctionSource source_from_json(const std::string& text);

}  // namespace caller::kernel
