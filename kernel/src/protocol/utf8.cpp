#include "protocol/utf8.hpp"

#include <algorithm>

namespace caller::kernel {
namespace {

// What stands at the start of `s`: a whole character of `length` bytes, an ill-formed part of `length` bytes, or the
// valid beginning of a character that the text cuts off.
struct Step {
  enum Kind { whole, broken, cut } kind;
  std::size_t length;
};

Step step(std::string_view s) noexcept {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(s[i]); };
  const unsigned char lead = at(0);
  if (lead < 0x80) return {Step::whole, 1};
  std::size_t need = 0;
  unsigned char low = 0x80, high = 0xBF;  // range of the second byte; narrower after some leads
  if (lead >= 0xC2 && lead <= 0xDF) {
    need = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    need = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    need = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {Step::broken, 1};
  }
  for (std::size_t i = 1; i < need; ++i) {
    if (i == s.size()) return {Step::cut, i};
    if (at(i) < low || at(i) > high) return {Step::broken, i};
    low = 0x80;
    high = 0xBF;
  }
  return {Step::whole, need};
}

}  // namespace

bool is_utf8(std::string_view text) noexcept {
  while (!text.empty()) {
    const Step s = step(text);
    if (s.kind != Step::whole) return false;
    text.remove_prefix(s.length);
  }
  return true;
}

std::size_t unfinished_tail(std::string_view text) noexcept {
  const std::size_t longest = std::min<std::size_t>(3, text.size());
  for (std::size_t n = 1; n <= longest; ++n) {
    const std::string_view tail = text.substr(text.size() - n);
    if ((static_cast<unsigned char>(tail[0]) & 0xC0) == 0x80) continue;  // a continuation byte: look further back
    return step(tail).kind == Step::cut ? n : 0;
  }
  return 0;
}

std::string to_valid_utf8(std::string text) {
  if (is_utf8(text)) return text;
  std::string out;
  out.reserve(text.size() + 8);
  for (std::string_view rest = text; !rest.empty();) {
    const Step s = step(rest);
    if (s.kind == Step::whole)
      out.append(rest.substr(0, s.length));
    else
      out.append("\xEF\xBF\xBD");
    rest.remove_prefix(s.length);
  }
  return out;
}

std::size_t byte_offset(std::string_view text, std::size_t points) noexcept {
  std::size_t pos = 0;
  for (; points > 0 && pos < text.size(); --points) pos += step(text.substr(pos)).length;
  return std::min(pos, text.size());
}

std::size_t code_points(std::string_view text, std::size_t byte) noexcept {
  std::size_t points = 0;
  byte = std::min(byte, text.size());
  for (std::size_t pos = 0; pos < byte; ++points) pos += step(text.substr(pos)).length;
  return points;
}

}  // namespace caller::kernel
