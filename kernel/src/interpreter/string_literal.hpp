// Text as C++ source.
#pragma once

#include <string>
#include <string_view>

namespace caller::kernel {

/// `text` as a string literal on one line, in ASCII: any byte may stand in it, and it has no trigraphs.
///
/// Thread-safety: any thread.
/// Errors: none.
/// Source: none.
std::string string_literal(std::string_view text);

}  // namespace caller::kernel
