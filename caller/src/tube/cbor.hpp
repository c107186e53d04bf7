// CBOR as the processes of a cluster speak it: what bytes are appended to, and what they are read from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <caller/tube/value.hpp>

namespace caller::tube::detail {

/// An object whose codec this process does not have, as it came: it can be handed on.
struct Foreign {
  std::string name;
  Value content;
  friend bool operator==(const Foreign&, const Foreign&) = default;
};
/// From now on such objects are kept instead of being errors. Thread-safety: any thread.
void keep_foreign() noexcept;

/// Appends `value`. Errors: Error(wrong_type), Error(out_of_range); what was appended before the error stays.
void write_cbor(std::string& out, const Value& value);

/// Bytes that are read from the front; whatever they are, nothing beyond them is looked at.
/// Errors: every function throws Error(wrong_type) if they are not what was asked for.
class ByteReader {
public:
  explicit ByteReader(std::string_view bytes) noexcept : bytes_(bytes) {}
  bool empty() const noexcept { return at_ == bytes_.size(); }
  std::size_t left() const noexcept { return bytes_.size() - at_; }
  std::uint8_t byte() { return static_cast<std::uint8_t>(take(1).front()); }
  std::uint32_t word();    ///< four bytes, the lowest first
  std::uint64_t varint();  ///< seven bits a byte, the lowest first
  std::string_view take(std::size_t n) {
    if (n > left()) malformed("it ends too early");
    const std::string_view taken = bytes_.substr(at_, n);
    at_ += n;
    return taken;
  }
  Value value() { return value(0); }
  [[noreturn]] static void malformed(const char* why);

private:
  std::uint64_t head(std::uint8_t low);
  std::uint64_t big_endian(std::size_t n);
  Value value(int depth);
  Value tagged(std::uint64_t tag, int depth);
  std::string_view bytes_;
  std::size_t at_ = 0;
};

inline constexpr std::size_t kMostVarint = 10;  ///< bytes of one
/// Returns the end of what it has put at `out`, where there is room for kMostVarint bytes.
inline char* put_varint(char* out, std::uint64_t n) noexcept {
  for (; n >= 0x80; n >>= 7) *out++ = static_cast<char>(n | 0x80);
  *out++ = static_cast<char>(n);
  return out;
}
inline void write_varint(std::string& out, std::uint64_t n) {
  char bytes[kMostVarint];
  out.append(bytes, static_cast<std::size_t>(put_varint(bytes, n) - bytes));
}

}  // namespace caller::tube::detail
