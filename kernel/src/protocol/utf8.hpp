// UTF-8: validity, chunk boundaries, and Jupyter's cursor positions.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace caller::kernel {

/// True when `text` is well-formed UTF-8 (no overlong forms, no surrogates, nothing above U+10FFFF).
///
/// Thread-safety: any thread.
/// Errors: none.
/// Source: Unicode 15, table 3-7.
bool is_utf8(std::string_view text) noexcept;

/// Length in bytes of an unfinished character at the end of `text` (0 to 3): what a stream keeps for its next chunk.
///
/// Thread-safety: any thread.
/// Errors: none.
/// Source: none.
std::size_t unfinished_tail(std::string_view text) noexcept;

/// `text` with every ill-formed sequence replaced by U+FFFD; well-formed text comes back unchanged.
///
/// Thread-safety: any thread.
/// Errors: none.
/// Source: Unicode 15, "U+FFFD substitution of maximal subparts".
std::string to_valid_utf8(std::string text);

/// Jupyter counts cursors in code points, the compiler in bytes. Both directions clamp to the text.
///
/// Thread-safety: any thread.
/// Units: `points` code points, result bytes; and the reverse.
/// Errors: none.
/// Source: Jupyter messaging 5.2, "cursor_pos".
std::size_t byte_offset(std::string_view text, std::size_t points) noexcept;
std::size_t code_points(std::string_view text, std::size_t byte) noexcept;

}  // namespace caller::kernel
