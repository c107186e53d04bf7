// When to look for a message before sleeping.
#pragma once

#include <algorithm>
#include <cstdint>
#include <thread>

namespace caller::tube::detail {

/// Whether it is worth while to look for a message before sleeping: not with one processor, and for some time not after
/// it was of no use, or others wanted the processor; ever longer, until it goes well many times in a row.
class Spin {
public:
  bool worth_it() noexcept {
    if (rest_ == 0) return several_processors_;
    --rest_;
    return false;
  }
  void succeeded() noexcept {
    missed_ = 0;
    if (++in_a_row_ % 64 == 0) penalty_ /= 2;
  }
  /// Nothing came.
  void missed() noexcept {
    if (++missed_ < kMisses) return;
    missed_ = kMisses - kMisses / 4;
    rest(kMisses);
  }
  /// Others ran on this processor for long.
  void unwelcome() noexcept { rest(kMost / 64); }

private:
  static constexpr std::uint32_t kMisses = 64, kMost = 16'384;
  void rest(std::uint32_t least) noexcept {
    in_a_row_ = 0;
    penalty_ = std::clamp(2 * penalty_, least, kMost);
    rest_ = penalty_;
  }
  bool several_processors_ = std::thread::hardware_concurrency() > 1;
  std::uint32_t penalty_ = 0, rest_ = 0, in_a_row_ = 0, missed_ = 0;
};

}  // namespace caller::tube::detail
