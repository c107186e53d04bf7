// What the compiler has found out about functions that cells give to `app.task(f)`.
#pragma once

#include <string>

#include "interpreter/function_source.hpp"

namespace caller::kernel {

/// Makes the source of a function known to caller::task, for InterpreterOptions::function_given.
/// Thread-safety: any thread. Errors: none. Source: none.
void keep_source(const std::string& key, const FunctionSource& source);

}  // namespace caller::kernel
