// JSON of other people's making, read so that working on it is safe.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string_view>

namespace caller::kernel {

/// Copying and writing a value recurse, so what is nested deeper would end the process.
///
/// Units: levels of arrays and objects.
inline constexpr std::size_t kDeepestJson = 500;

/// Whether the text, as far as it is JSON, is nested deeper than kDeepestJson.
///
/// Thread-safety: any thread.
/// Errors: none.
/// Source: none.
inline bool nested_too_deep(std::string_view text) {
  std::size_t depth = 0;
  bool in_text = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_text) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        in_text = false;
    } else if (c == '"') {
      in_text = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kDeepestJson) return true;
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
  return false;
}

/// The value of a text; discarded where it is no JSON, ill-formed UTF-8, or nested too deep.
///
/// Thread-safety: any thread.
/// Errors: none.
/// Source: none.
inline nlohmann::json parse_json(std::string_view text) {
  if (nested_too_deep(text)) return nlohmann::json(nlohmann::json::value_t::discarded);
  return nlohmann::json::parse(text, nullptr, false);
}

}  // namespace caller::kernel
