// Waiting for what nothing tells.
#pragma once

#include <chrono>
#include <thread>

namespace caller::test {

/// Whether it does, within a time that is long on any machine.
template <class F>
bool comes_true(F f) {
  for (const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
       std::chrono::steady_clock::now() < until; std::this_thread::sleep_for(std::chrono::milliseconds(1)))
    if (f()) return true;
  return false;
}

}  // namespace caller::test
