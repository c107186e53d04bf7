// What randomised tests share: the number of steps, the seed, threads.
// CALLER_STRESS=N in the environment sets the number of steps (default 20000); CALLER_SEED=N repeats a run.
#pragma once

#include "support/coro.hpp"

#include <functional>
#include <random>
#include <thread>

namespace caller::test {

inline std::size_t number_from(const char* variable, std::size_t otherwise) {
  const char* s = std::getenv(variable);
  return s && *s ? std::strtoul(s, nullptr, 10) : otherwise;
}
inline std::size_t steps() { return number_from("CALLER_STRESS", 20'000); }
inline unsigned seed() {
  static const unsigned s = static_cast<unsigned>(number_from("CALLER_SEED", std::random_device{}()));
  return s;
}

class Random {
public:
  explicit Random(unsigned stream) : engine_(seed() * 1000003u + stream) {}
  unsigned below(unsigned n) { return static_cast<unsigned>(engine_() % n); }
  bool one_in(unsigned n) { return below(n) == 0; }

private:
  std::mt19937 engine_;
};

inline void on_threads(unsigned n, const std::function<void(unsigned)>& work) {
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < n; ++t) threads.emplace_back(work, t);
  for (auto& t : threads) t.join();
}

}  // namespace caller::test
