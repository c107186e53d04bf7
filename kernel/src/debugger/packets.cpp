#include "packets.hpp"

namespace caller::kernel::debugger {
namespace {

constexpr char kDigits[] = "0123456789abcdef";

int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

unsigned sum(std::string_view text) {
  unsigned s = 0;
  for (const char c : text) s += static_cast<unsigned char>(c);
  return s & 0xFF;
}

}  // namespace

std::string frame_packet(std::string_view text) {
  const unsigned s = sum(text);
  std::string out = "$";
  out.append(text);
  out += '#';
  out += kDigits[s >> 4];
  out += kDigits[s & 15];
  return out;
}

std::string escape_binary(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  for (const char c : bytes) {
    if (c == '#' || c == '$' || c == '}' || c == '*') {
      out += '}';
      out += static_cast<char>(c ^ 0x20);
    } else {
      out += c;
    }
  }
  return out;
}

std::string to_hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    out += kDigits[static_cast<unsigned char>(c) >> 4];
    out += kDigits[static_cast<unsigned char>(c) & 15];
  }
  return out;
}

std::string to_hex_number(std::uint64_t n) {
  std::string out;
  do out.insert(out.begin(), kDigits[n & 15]);
  while (n >>= 4);
  return out;
}

std::string to_hex_bytes(std::uint64_t n, std::size_t size) {
  std::string bytes;
  for (std::size_t i = 0; i < size; ++i) bytes += static_cast<char>(n >> (8 * i));
  return to_hex(bytes);
}

std::optional<std::string> from_hex(std::string_view text) {
  if (text.size() % 2) return std::nullopt;
  std::string out;
  for (std::size_t i = 0; i < text.size(); i += 2) {
    const int high = digit(text[i]), low = digit(text[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(high * 16 + low);
  }
  return out;
}

std::optional<std::uint64_t> take_number(std::string_view& text) {
  std::uint64_t n = 0;
  std::size_t i = 0;
  for (; i < text.size() && i < 16 && digit(text[i]) >= 0; ++i) n = n * 16 + static_cast<unsigned>(digit(text[i]));
  if (i == 0) return std::nullopt;
  text.remove_prefix(i);
  return n;
}

PacketReader::Item PacketReader::next() {
  if (buffer_.empty()) return {};
  const auto drop = [this](std::size_t n) { buffer_.erase(0, n); };
  switch (buffer_[0]) {
    case '\x03':
      drop(1);
      return {Kind::interrupt, {}};
    case '+':
      drop(1);
      return {Kind::acknowledged, {}};
    case '-':
      drop(1);
      return {Kind::refused, {}};
    case '$': {
      const auto end = buffer_.find('#');
      if (end == std::string::npos || end + 2 >= buffer_.size()) return {};
      Item item{Kind::packet, buffer_.substr(1, end - 1)};
      const int high = digit(buffer_[end + 1]), low = digit(buffer_[end + 2]);
      if (high < 0 || low < 0 || static_cast<unsigned>(high * 16 + low) != sum(item.text)) item.kind = Kind::damaged;
      drop(end + 3);
      return item;
    }
    default:
      drop(1);
      return {Kind::damaged, {}};
  }
}

}  // namespace caller::kernel::debugger
