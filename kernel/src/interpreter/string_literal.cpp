#include "string_literal.hpp"

#include <cstdio>

namespace caller::kernel {

std::string string_literal(std::string_view text) {
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
