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
  constexpr auto kNever = std::numeric_limits<std::int64_t>::max();
  const auto now = [] { return std::chrono::steady_clock::now().time_since_epoch().count(); };
  std::int64_t end = kNever;
  if (timeout_ns) {
    const std::int64_t from = now();
    end = from + std::clamp<std::int64_t>(*timeout_ns, 0, kNever - from);
  }
  while (word.load(std::memory_order_acquire) == while_it_is) {
    std::int64_t wake = end;
#ifdef __SANITIZE_THREAD__  // which runs handlers of signals in functions that it knows: not in the system call
    const timespec none{};
    (void)::nanosleep(&none, nullptr);
    wake = std::min(end, now() + std::int64_t{50'000'000});
#endif
    const timespec until{static_cast<time_t>(wake / 1'000'000'000), static_cast<long>(wake % 1'000'000'000)};
    const long r = ::syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, while_it_is,
                             wake == kNever ? nullptr : &until, nullptr, FUTEX_BITSET_MATCH_ANY);
    if (r < 0 && errno == ETIMEDOUT && wake == end) return;
  }
}

}  // namespace caller::detail
