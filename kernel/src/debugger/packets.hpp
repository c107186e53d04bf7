// The words of the gdb remote protocol: packets, hexadecimal, escapes. Internal to this folder.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace caller::kernel::debugger {

/// `$text#checksum`; the text must be escaped where it is binary.
std::string frame_packet(std::string_view text);

std::string escape_binary(std::string_view bytes);
std::string to_hex(std::string_view bytes);
std::string to_hex_number(std::uint64_t n);
/// Bytes of a little-endian number, as registers are written.
std::string to_hex_bytes(std::uint64_t n, std::size_t size);
std::optional<std::string> from_hex(std::string_view text);
/// A hexadecimal number at the front of `text`, which is shortened by it.
std::optional<std::uint64_t> take_number(std::string_view& text);

/// Takes packets out of a stream of bytes.
class PacketReader {
public:
  void add(std::string_view bytes) { buffer_.append(bytes); }

  enum class Kind { none, packet, interrupt, acknowledged, refused, damaged };
  struct Item {
    Kind kind = Kind::none;
    std::string text;
  };
  Item next();

private:
  std::string buffer_;
};

}  // namespace caller::kernel::debugger
