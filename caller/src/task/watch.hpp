// What stores keep for those who watch tasks; see kWatchKey. Redis does the same in its scripts. Internal to this
// folder.
#pragma once

#include <charconv>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include <caller/task/store.hpp>

namespace caller::task::detail {

/// Whether the value of a watch wants to know of `status`. What is no number wants nothing.
inline bool wants(std::string_view mask, Status status) noexcept {
  std::uint32_t bits = 0;
  const auto [end, error] = std::from_chars(mask.data(), mask.data() + mask.size(), bits);
  return error == std::errc() && end == mask.data() + mask.size() && (bits >> static_cast<unsigned>(status) & 1u);
}

/// Of a number, with as many zeros in front as make `digits`.
inline std::string padded(std::uint64_t number, std::size_t digits) {
  std::string out = std::to_string(number);
  if (out.size() < digits) out.insert(0, digits - out.size(), '0');
  return out;
}

/// Keys of what is waiting to be looked at sort by time.
inline std::string queue_key(Time at) {
  const auto us = std::chrono::duration_cast<std::chrono::microseconds>(at.time_since_epoch()).count();
  return std::string(kChangeKey) + padded(static_cast<std::uint64_t>(us), 20) + "/";
}
inline std::string change_key(Time at, Status status, const std::string& id) {
  return queue_key(at) + "c" + padded(static_cast<std::uint64_t>(status), 2) + "/" + id;
}

/// Texts in one: each behind its length.
inline std::string packed_text(std::string_view text) { return std::to_string(text.size()) + ":" + std::string(text); }

}  // namespace caller::task::detail
