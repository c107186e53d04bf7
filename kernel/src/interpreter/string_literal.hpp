// Text as C++ source. A header alone: what writes code for cells is not all linked to the compiler.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>

namespace caller::kernel {

/// `text` as a string literal on one line, in ASCII: any byte may stand in it, and it has no trigraphs.
///
/// Thread-safety: any thread.
/// Errors: none.
/// Source: none.
inline std::string string_literal(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (c < ' ' || c > '~' || c == '?') {
      char octal[8];  // always three digits: the next character is none of them
      std::snprintf(octal, sizeof octal, "\\%03o", static_cast<unsigned>(static_cast<unsigned char>(c)));
      out += octal;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

}  // namespace caller::kernel
