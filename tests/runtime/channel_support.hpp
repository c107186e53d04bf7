// What the tests of channels share.
#pragma once

#include <memory>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "support/coro.hpp"

namespace caller::test {

/// Threads that are joined before what was declared earlier goes, also when the test is abandoned.
struct Threads {
  std::vector<std::thread> list;
  template <class F>
  void add(F f) {
    list.emplace_back(std::move(f));
  }
  void join() {
    for (auto& t : list)
      if (t.joinable()) t.join();
  }
  Threads() = default;
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  ~Threads() { join(); }
};

/// Counts how many there are, without those that were moved from.
struct Counted {
  std::shared_ptr<int> alive;
  explicit Counted(std::shared_ptr<int> n) : alive(std::move(n)) { ++*alive; }
  Counted(Counted&& o) noexcept : alive(std::move(o.alive)) {}
  Counted& operator=(Counted&&) = delete;
  ~Counted() {
    if (alive) --*alive;
  }
};

/// Its move may throw, once.
struct Fragile {
  int value;
  int* fuse;  // so many moves from now one throws; negative: none
  Fragile(int v, int* f) : value(v), fuse(f) {}
  Fragile(Fragile&& o) : value(o.value), fuse(o.fuse) {
    if (*fuse >= 0 && (*fuse)-- == 0) throw std::runtime_error("fragile");
  }
  Fragile& operator=(Fragile&&) = delete;
};

inline Coro<std::vector<int>> receive_all(Channel<int> ch) {
  std::vector<int> all;
  while (const auto v = co_await ch.receive()) all.push_back(*v);
  co_return all;
}

inline std::vector<int> up_to(int n) {
  std::vector<int> all;
  for (int i = 0; i < n; ++i) all.push_back(i);
  return all;
}

}  // namespace caller::test
