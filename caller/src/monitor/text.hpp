// Bytes of strangers as text: valid, short, and addressable. Internal to this folder.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace caller::monitor {

/// `bytes` as valid UTF-8: what is none becomes U+FFFD. At most `most` bytes of them are looked at; `cut` says whether
/// there were more. Characters of control stay: JSON escapes them, and the page shows them as symbols.
std::string shown(std::string_view bytes, std::size_t most, bool* cut = nullptr);

/// Any bytes as a piece of a path, and back. Errors of the way back: none for what is no such piece.
std::string percent_encoded(std::string_view bytes);
std::optional<std::string> percent_decoded(std::string_view text);

/// The parts of a request's target.
struct Target {
  std::vector<std::string> path;  ///< decoded, without empty pieces
  std::vector<std::pair<std::string, std::string>> query;
  /// The first value of that name; empty: there is none.
  std::string_view value(std::string_view name) const noexcept;
};
std::optional<Target> parse_target(std::string_view text);

/// A number without sign, and nothing else.
std::optional<std::size_t> number(std::string_view text, std::size_t most);

/// Values that are larger are not read as JSON or CBOR.
inline constexpr std::size_t kMostDecoded = 1 << 20;

/// A stored value (JSON or CBOR, which is found out) for people, in JSON's notation; of what is neither, its bytes.
struct ValueText {
  std::string text;
  const char* format;  ///< "json", "cbor", "text" or "bytes"
  bool cut;            ///< `text` is not all of it
  std::size_t size;    ///< of what is stored, in bytes
};
/// `like`: another value of the same record, whose format is clear (arguments are a map, which is one or the other).
ValueText value_text(std::string_view bytes, std::string_view like, std::size_t most);

}  // namespace caller::monitor
