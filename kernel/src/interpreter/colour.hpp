// Diagnostics for those who want no colours.
#pragma once

#include <regex>
#include <string>

namespace caller::kernel {

/// Without the escape sequences that colour it. Thread-safety: any thread. Errors: none. Source: none.
inline std::string without_colour(const std::string& text) {
  static const std::regex colour("\033\\[[0-9;]*m");
  return std::regex_replace(text, colour, "");
}

}  // namespace caller::kernel
