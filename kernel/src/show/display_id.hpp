// Names of displays that are updated.
#pragma once

#include <atomic>
#include <chrono>
#include <string>

namespace caller::kernel::show {

/// `caller-KIND-…`, which no other display has: not of this kernel, and not of an earlier one that the same page shows.
inline std::string fresh_display_id(const std::string& kind) {
  static std::atomic<unsigned> n{0};
  const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
  return "caller-" + kind + "-" + std::to_string(now) + "-" + std::to_string(++n);
}

}  // namespace caller::kernel::show
