// What calls, timers and Callers cost in memory. The bounds are promises: docs say them, so they are not to be raised.
#include <doctest/doctest.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <caller/all.hpp>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "../../bench/count_new.hpp"

using namespace caller;
using namespace std::chrono_literals;

namespace {

#if defined(CALLER_SANITIZED)
constexpr std::int64_t kCallers = 100, kTimers = 100'000;  // a sanitizer's own memory and time are not the subject
#else
constexpr std::int64_t kCallers = 1'000, kTimers = 1'000'000;
#endif
constexpr std::int64_t kPending = 192;           // bytes of a Pending in flight
constexpr std::int64_t kTimer = 320;             // bytes of a Pending with its timer and its place among the timers
constexpr std::int64_t kIdleCaller = 16 * 1024;  // bytes of an idle Caller
constexpr std::int64_t kCachedBlocks = 4 * 1024 * 1024;  // bytes of free blocks the runtime may keep for the next calls

struct Callable32 {
  std::array<std::byte, 32> bytes{};
  int operator()() const noexcept { return static_cast<int>(bytes[0]); }
};
static_assert(sizeof(Callable32) == 32);

/// What operator new gave between the making of this and now.
class Since {
public:
  std::int64_t calls() const noexcept { return bench::new_count().calls - before_.calls; }
  std::int64_t requested() const noexcept { return bench::new_count().requested - before_.requested; }
  std::int64_t bytes() const noexcept { return bench::new_count().bytes - before_.bytes; }

private:
  bench::NewCount before_ = bench::new_count();
};

void report(const std::string& what, std::int64_t bytes, std::int64_t allocations, std::int64_t of = 1) {
  const std::int64_t each = bytes / of;
  const double allocations_each = static_cast<double>(allocations) / static_cast<double>(of);
  MESSAGE(what, ": ", each, " bytes, ", allocations_each, " allocations");
}

/// Bytes of this process's mappings that are in memory: all, and those that hold one of the addresses.
struct Resident {
  std::int64_t all = 0, of_addresses = 0;
};
Resident resident(const std::vector<std::uintptr_t>& addresses) {
  Resident result;
  std::ifstream maps("/proc/self/smaps");
  bool counted = false;
  for (std::string line; std::getline(maps, line);) {
    char* end = nullptr;
    const std::uintptr_t first = std::strtoull(line.c_str(), &end, 16);
    if (end != line.c_str() && *end == '-') {
      const std::uintptr_t last = std::strtoull(end + 1, nullptr, 16);
      counted = std::any_of(addresses.begin(), addresses.end(), [&](auto a) { return a >= first && a < last; });
    } else if (line.starts_with("Rss:")) {
      const std::int64_t bytes = std::strtoll(line.c_str() + 4, nullptr, 10) * 1024;
      result.all += bytes;
      if (counted) result.of_addresses += bytes;
    }
  }
  return result;
}

}  // namespace

TEST_CASE("a Pending in flight with an int and a 32-byte callable costs at most 192 bytes in at most one allocation") {
  const auto size = static_cast<std::int64_t>(sizeof(detail::CallState<Callable32>));
  CHECK(size <= kPending);
  constexpr std::int64_t kMany = 10'000;
  Caller loop(caller::manual, {.backend = Backend::manual});
  std::vector<Pending<int>> list;
  list.reserve(kMany);
  const Since before;
  for (std::int64_t i = 0; i < kMany; ++i) list.push_back(loop.call_soon(Callable32{}));
  const std::int64_t bytes = before.requested(), calls = before.calls();
  report("a Pending in flight, with its share of blocks kept for the next", bytes, calls, kMany);
  CHECK(calls <= kMany);
  CHECK(bytes <= kPending * kMany);
  while (loop.poll() > 0) {
  }
  CHECK(std::all_of(list.begin(), list.end(), [](auto& p) { return p.done(); }));
}

TEST_CASE("a pending timer costs at most 320 bytes in at most two allocations") {
  constexpr std::int64_t kMany = 10'000;
  Caller loop(caller::manual, {.backend = Backend::manual});
  std::vector<Pending<int>> list;
  list.reserve(kMany);
  const Since before;
  for (std::int64_t i = 0; i < kMany; ++i) list.push_back(loop.call_later(1h, Callable32{}));
  loop.poll();
  report("a pending timer", before.bytes(), before.calls(), kMany);
  CHECK(before.bytes() <= kTimer * kMany);
  CHECK(before.calls() <= 2 * kMany);
}

TEST_CASE("an idle Caller costs at most 16 KiB without its thread") {
  for (const Backend backend : {Backend::manual, Backend::asio}) {
    const auto make = [backend] {
      std::optional<Caller> loop;
      loop.emplace(caller::manual, CallerOptions{.backend = backend});
      loop->call_soon([] {});
      loop->poll();
      return loop;
    };
    make();  // what the process needs once
    const Since before;
    const auto loop = make();
    report(std::string("an idle Caller, backend ") + to_string(backend), before.bytes(), before.calls());
    CHECK(before.bytes() <= kIdleCaller);
  }
}

TEST_CASE("an idle Caller with a thread costs at most 16 KiB of heap, its stack aside") {
  const auto address = [] {
    int here = 0;
    return reinterpret_cast<std::uintptr_t>(&here);
  };
  constexpr std::int64_t kMany = 100;
  Caller(caller::new_thread).call_soon([] {}).wait();  // what the process needs once
  const Since before;
  const Resident first = resident({});
  std::vector<Caller> callers;
  std::vector<std::uintptr_t> stacks;
  for (std::int64_t i = 0; i < kMany; ++i) {
    callers.emplace_back(caller::new_thread);
    stacks.push_back(callers.back().call_soon(address).wait());
  }
  const std::int64_t bytes = before.bytes(), calls = before.calls();
  const Resident now = resident(stacks);
  report("a Caller with a thread", bytes, calls, kMany);
  report("its resident memory without its stack", now.all - first.all - now.of_addresses, 0, kMany);
  report("its resident memory with its stack", now.all - first.all, 0, kMany);
  CHECK(bytes <= kIdleCaller * kMany);
}

TEST_CASE("a thousand Callers with threads live at once and stop cleanly") {
  const std::size_t before = Caller::all_callers().size();
  {
    std::vector<Caller> callers;
    std::vector<Pending<std::size_t>> answers;
    for (std::int64_t i = 0; i < kCallers; ++i) callers.emplace_back(caller::new_thread);
    for (auto& c : callers) answers.push_back(c.call_soon([i = answers.size()] { return i; }));
    for (std::size_t i = 0; i < answers.size(); ++i) CHECK(answers[i].wait() == i);
    CHECK(Caller::all_callers().size() == before + callers.size());
    for (auto& c : callers) c.stop();
    for (auto& c : callers) c.stopped().wait();
    for (auto& c : callers) CHECK(c.state() == CallerState::stopped);
  }
  CHECK(Caller::all_callers().size() == before);
}

TEST_CASE("a million timers are added, half of them cancelled, and their Caller stops cleanly") {
  const Since before;
  std::int64_t pending = 0;
  {
    ManualClock clock;
    Caller loop(caller::manual, {.backend = Backend::manual, .clock = &clock});
    std::mt19937 random(3);
    std::vector<Pending<int>> list;
    list.reserve(kTimers);
    const Since added;
    for (std::size_t i = 0; i < kTimers; ++i)
      list.push_back(loop.call_later(1s + random() % 100'000 * 1us, Callable32{}));
    loop.poll();
    pending = added.bytes();
    report("a pending timer", pending, added.calls(), kTimers);
    CHECK(pending <= kTimer * kTimers);

    for (std::size_t i = 0; i < list.size(); i += 2) list[i].cancel();
    while (loop.poll() > 0) {
    }
    const auto cancelled = std::count_if(list.begin(), list.end(), [](auto& p) { return p.cancelled() && p.done(); });
    CHECK(cancelled == kTimers / 2);

    loop.stop();
    while (loop.state() != CallerState::stopped) loop.poll();
    const auto done = std::count_if(list.begin(), list.end(), [](auto& p) { return p.done(); });
    CHECK(done == kTimers);
  }
  report("what is left when all is over", before.bytes(), 0);
  CHECK(before.bytes() <= kCachedBlocks);
}
