// Looking for what comes soon, before sleeping. Internal.
#pragma once

#include <chrono>
#include <thread>

namespace caller::task::detail {

/// True once `arrived()` is, which is cheap to ask; false when it has not been for `time`. To sleep and to be woken
/// takes about as long as a small task.
///
/// Thread-safety: any thread, with no lock held.
template <class F>
bool spin_until(std::chrono::microseconds time, F arrived) {
  const auto end = std::chrono::steady_clock::now() + time;
  do {
    for (int i = 0; i < 16; ++i)
      if (arrived()) return true;
    std::this_thread::yield();  // who brings it may be on this processor
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

}  // namespace caller::task::detail
