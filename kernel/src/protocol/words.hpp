// Text to words, as a shell would cut it.
#pragma once

#include <string>
#include <vector>

namespace caller::kernel {

/// Splits a string into words: blanks separate, single and double quotes and a backslash protect.
///
/// Thread-safety: any thread.
/// Errors: std::invalid_argument for a quote that is never closed.
/// Source: POSIX shell, quoting only.
std::vector<std::string> split_words(const std::string& text);

}  // namespace caller::kernel
