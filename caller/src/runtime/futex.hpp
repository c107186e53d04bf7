// Sleeping on a word of memory.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <limits>
#include <optional>

namespace caller::detail {

/// Wakes who sleeps on `word`, if somebody does; the word may be gone already.
inline void futex_wake(std::atomic<std::uint32_t>& word) noexcept {
  ::syscall(SYS_futex, &word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, nullptr, nullptr, 0);
}

/// Sleeps until `word` is another than `while_it_is`, or the time has passed (none: for ever).
inline void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t while_it_is,
                       std::optional<std::int64_t> timeout_ns) noexcept {
  timespec until{};
  if (timeout_ns) {
    const std::int64_t now = std::chrono::steady_clock::now().time_since_epoch().count();
    const std::int64_t left = std::numeric_limits<std::int64_t>::max() - now;
    const std::int64_t end = now + std::clamp<std::int64_t>(*timeout_ns, 0, left);
    until.tv_sec = static_cast<time_t>(end / 1'000'000'000);
    until.tv_nsec = static_cast<long>(end % 1'000'000'000);
  }
  while (word.load(std::memory_order_acquire) == while_it_is) {
    const long r = ::syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, while_it_is,
                             timeout_ns ? &until : nullptr, nullptr, FUTEX_BITSET_MATCH_ANY);
    if (r < 0 && errno == ETIMEDOUT) return;
  }
}

}  // namespace caller::detail
