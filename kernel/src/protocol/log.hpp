// The kernel's log: lines to the process's original stderr, never into a notebook.
#pragma once

#include <string_view>

namespace caller::kernel {

enum class LogLevel { debug = 0, info = 1, warning = 2, error = 3, off = 4 };

/// Sets the lowest level that is written. Default: warning.
///
/// Thread-safety: any thread.
/// Errors: none.
/// Source: ipykernel `--log-level`.
void set_log_level(LogLevel level) noexcept;

/// Redirects the log to a descriptor that stays open (used once descriptors 1 and 2 are captured).
///
/// Thread-safety: any thread.
/// Errors: none.
/// Source: none.
void set_log_descriptor(int fd) noexcept;

/// Writes one line in a single write, so that lines of several threads never mix.
///
/// Thread-safety: any thread; safe where memory is short.
/// Errors: none; a log that cannot be written is dropped.
/// Source: none.
void log(LogLevel level, std::string_view text) noexcept;

}  // namespace caller::kernel
