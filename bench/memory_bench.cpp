// Bytes: what is live on the heap for a call in flight, a timer, a Caller. Shown as the counter `bytes`; the bounds
// are checked by tests/checks/memory_test.cpp.
#include <malloc.h>

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "support.hpp"

namespace bench {
namespace {

using caller::Backend;
using caller::Caller;
using caller::Pending;

/// Bytes in use on the heap, of glibc's allocator: another one shows nothing here.
double heap_in_use() {
  const struct mallinfo2 info = mallinfo2();
  return static_cast<double>(info.uordblks + info.hblkhd);
}

struct Callable32 {
  std::array<std::byte, 32> bytes{};
  int operator()() const noexcept { return static_cast<int>(bytes[0]); }
};

constexpr int kMany = 100'000;

template <class Start>
void bytes_of(benchmark::State& state, Start start) {
  double bytes = 0;
  for (auto _ : state) {
    Caller loop(caller::manual, {.name = "bench", .backend = Backend::manual});
    std::vector<Pending<int>> list;
    list.reserve(kMany);
    const double before = heap_in_use();
    for (int i = 0; i < kMany; ++i) list.push_back(start(loop));
    bytes = (heap_in_use() - before) / kMany;
  }
  state.counters["bytes"] = bytes;
}
void caller_bytes_of_pending(benchmark::State& state) {
  bytes_of(state, [](Caller& loop) { return loop.call_soon(Callable32{}); });
}
void caller_bytes_of_timer(benchmark::State& state) {
  bytes_of(state, [](Caller& loop) { return loop.call_later(1h, Callable32{}); });
}
void caller_bytes_of_caller(benchmark::State& state) {
  double bytes = 0;
  for (auto _ : state) {
    const double before = heap_in_use();
    Caller loop(caller::manual, {.name = "bench", .backend = Backend::asio});
    loop.poll();
    bytes = heap_in_use() - before;
  }
  state.counters["bytes"] = bytes;
}
BENCH_ROW(caller, bytes_of_pending)->Iterations(1);
BENCH_ROW(caller, bytes_of_timer)->Iterations(1);
BENCH_ROW(caller, bytes_of_caller)->Iterations(10);

}  // namespace
}  // namespace bench
