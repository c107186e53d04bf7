#include "show/text.hpp"

namespace caller::kernel::show {
namespace {

struct Step {
  char32_t c;
  std::size_t bytes;
};

// The next character; a byte that begins none stands for itself.
Step next(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(at);
  const std::size_t n = first < 0xc2 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 1;
  if (n == 1 || at + n > text.size()) return {first, 1};
  char32_t c = first & (0xffu >> (n + 1));
  for (std::size_t i = 1; i < n; ++i) {
    if ((byte(at + i) & 0xc0u) != 0x80) return {first, 1};
    c = (c << 6u) | (byte(at + i) & 0x3fu);
  }
  return {c, n};
}

std::size_t width_of(char32_t c) {
  if (c < 0x20 || c == 0x7f) return 0;
  if ((c >= 0x300 && c <= 0x36f) || (c >= 0x200b && c <= 0x200f) || c == 0xfeff || (c >= 0xfe00 && c <= 0xfe0f))
    return 0;
  if ((c >= 0x1100 && c <= 0x115f) || (c >= 0x2e80 && c <= 0xa4cf) || (c >= 0xac00 && c <= 0xd7a3) ||
      (c >= 0xf900 && c <= 0xfaff) || (c >= 0xfe30 && c <= 0xfe6f) || (c >= 0xff00 && c <= 0xff60) ||
      (c >= 0x1f300 && c <= 0x1faff) || (c >= 0x20000 && c <= 0x3fffd))
    return 2;
  return 1;
}

}  // namespace

std::string escape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        // XML has no way to write control characters.
        out += static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t' ? ' ' : c;
    }
  return out;
}

std::size_t width(std::string_view text) {
  std::size_t out = 0;
  for (std::size_t at = 0; at < text.size();) {
    const Step s = next(text, at);
    out += width_of(s.c);
    at += s.bytes;
  }
  return out;
}

std::string shorten(std::string_view text, std::size_t columns) {
  if (text.size() <= columns || width(text) <= columns) return std::string(text);
  std::size_t at = 0, used = 0;
  while (at < text.size()) {
    const Step s = next(text, at);
    if (used + width_of(s.c) + 1 > columns) break;
    used += width_of(s.c);
    at += s.bytes;
  }
  return std::string(text.substr(0, at)) + "…";
}

std::string one_line(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return out;
}

}  // namespace caller::kernel::show
