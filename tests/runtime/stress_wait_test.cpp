// Randomised waits: for several at once, within limits of time, and nested in the loop's own thread, while other
// threads end and cancel what is waited for, the waiters, and the Caller.
#include "support/stress.hpp"

#include <algorithm>
#include <memory>

using namespace caller;
using namespace caller::test;

namespace {

using Clock = std::chrono::steady_clock;

/// Frames alive: counted by a variable in each.
struct Alive {
  std::atomic<int>& n;
  explicit Alive(std::atomic<int>& count) : n(count) { ++n; }
  Alive(const Alive&) = delete;
  Alive& operator=(const Alive&) = delete;
  ~Alive() { --n; }
};

bool ended_well(const Pending<int>& p) { return p.done() && !p.cancelled() && !p.exception(); }

/// What Caller::wait promises of its result.
bool right(const std::vector<Pending<int>>& items, const WaitResult<Pending<int>>& result, const WaitSetOptions& how) {
  if (result.done.size() + result.pending.size() != items.size()) return false;
  auto done = result.done.begin(), pending = result.pending.begin();
  for (const auto& item : items) {  // both in the order of the items
    if (done != result.done.end() && *done == item)
      ++done;
    else if (pending != result.pending.end() && *pending == item)
      ++pending;
    else
      return false;
  }
  for (const auto& p : result.done)
    if (!p.done()) return false;
  if (how.timeout || result.pending.empty()) return true;
  if (how.return_when == FIRST_COMPLETED) return !result.done.empty();
  if (how.return_when == ALL_COMPLETED) return false;
  return !std::all_of(result.done.begin(), result.done.end(), ended_well);
}

/// Awaits a while, and awaits once more when it is interrupted.
Coro<int> clean_up_by_awaiting(std::atomic<int>& alive, unsigned microseconds, int value) {
  const Alive frame(alive);
  std::exception_ptr interrupted;
  try {
    co_await sleep_for(microseconds * 1us);
  } catch (const PendingCancelled&) {
    interrupted = std::current_exception();
  }
  if (interrupted) {
    co_await yield_now();
    std::rethrow_exception(interrupted);
  }
  co_return value;
}

constexpr int kOver = -1, kEarly = -2;
Coro<int> limited(std::atomic<int>& alive, std::vector<unsigned> limits, unsigned work, int value) {
  const Alive frame(alive);
  if (limits.empty()) co_return co_await clean_up_by_awaiting(alive, work, value);
  const unsigned limit = limits.back();
  limits.pop_back();
  const auto begun = Clock::now();
  int got = kOver;
  try {
    got = co_await with_timeout(limit * 1us, limited(alive, std::move(limits), work, value));
  } catch (const TimedOut&) {  // of this limit: those within give kOver
    if (Clock::now() - begun < limit * 1us) got = kEarly;
  }
  co_return got;
}

/// Waits in its own loop's thread, `depth` deep, now for this loop and now for the other.
int nested(std::atomic<int>& alive, std::vector<Caller> callers, unsigned depth, Random& random) {
  const Alive frame(alive);
  if (depth == 0) return 0;
  const Caller& next = callers[random.below(static_cast<unsigned>(callers.size()))];
  const bool other = random.one_in(2);
  const unsigned pause = random.below(3) * 10;
  const auto below =
      next.call_soon([&alive, callers, depth, other, pause, stream = random.below(1u << 30)]() -> Coro<int> {
        if (other) co_await sleep_for(pause * 1us);
        Random mine(stream);
        co_return nested(alive, callers, depth - 1, mine) + 1;
      });
  return below.wait();
}

}  // namespace

TEST_CASE("stress: waits for several, while these and the waiters end in every way: each item once, by its condition") {
  MESSAGE("CALLER_SEED=" << seed());
  constexpr unsigned kThreads = 4, kItems = 6, kWaiters = 6;
  const std::size_t rounds = std::max<std::size_t>(1, steps() / (kThreads * (kItems + kWaiters)));
  std::vector<Caller> callers;
  for (int i = 0; i < 2; ++i) callers.emplace_back(new_thread);
  std::vector<Pending<int>> items;
  std::vector<Pending<>> waiters;
  std::atomic<int> alive{0}, wrong{0};
  std::atomic<std::size_t> arrived{0};
  on_threads(kThreads, [&](unsigned thread) {
    Random random(thread);
    std::size_t phase = 0;
    const auto meet = [&] {
      ++phase;
      ++arrived;
      while (arrived < phase * kThreads) std::this_thread::yield();
    };
    for (std::size_t round = 0; round < rounds; ++round) {
      if (thread == 0) {
        items.assign(kItems, {});
        for (auto& item : items) item = Pending<int>();
        waiters.clear();
        for (unsigned i = 0; i < kWaiters; ++i) {
          WaitSetOptions how;
          how.return_when = static_cast<ReturnWhen>(random.below(3));
          if (random.one_in(2)) how.timeout = random.below(60) * 1us;
          how.shield = random.one_in(3);
          waiters.push_back(callers[i % 2].call_soon([&alive, &wrong, items, how]() -> Coro<void> {
            const Alive frame(alive);
            const auto result = co_await Caller::current().wait(items, how);
            wrong += !right(items, result, how);
          }));
        }
      }
      meet();
      for (unsigned i = 0; i < kItems; ++i) {
        const auto& item = items[random.below(kItems)];
        switch (random.below(6)) {
          case 0:
            item.set_result(1);
            break;
          case 1:
            item.cancel();
            break;
          case 2:
            item.set_exception(std::runtime_error("item"));
            break;
          case 3:
            waiters[random.below(kWaiters)].cancel();
            break;
          default:
            std::this_thread::yield();
        }
      }
      meet();
      if (thread == 0) {
        for (const auto& item : items) {
          item.set_result(2);
          if (!item.cancelled()) (void)item.exception();
        }
        for (const auto& waiter : waiters) wrong += !waiter.wait_done({.timeout = 60s});
        wrong += alive != 0;
        for (const auto& waiter : waiters) wrong += !waiter.cancelled() && waiter.exception();
      }
      meet();
    }
  });
  CHECK(wrong == 0);
}

TEST_CASE("stress: limits of time within each other, around work that ends and is cancelled at the same moments") {
  MESSAGE("CALLER_SEED=" << seed());
  constexpr unsigned kThreads = 4, kBatch = 16;
  const std::size_t rounds = std::max<std::size_t>(1, steps() / (kThreads * kBatch * 4));
  std::vector<Caller> callers;
  for (int i = 0; i < 2; ++i) callers.emplace_back(new_thread);
  std::atomic<int> alive{0}, wrong{0};
  on_threads(kThreads, [&](unsigned thread) {
    Random random(thread);
    for (std::size_t round = 0; round < rounds; ++round) {
      std::vector<Pending<int>> all;
      std::vector<bool> asked(kBatch);
      for (unsigned i = 0; i < kBatch; ++i) {
        std::vector<unsigned> limits;
        for (unsigned n = random.below(4); n > 0; --n) limits.push_back(random.below(80));
        all.push_back(callers[random.below(2)].call_soon(limited, std::ref(alive), limits, random.below(80), 7));
      }
      for (unsigned i = 0; i < kBatch; ++i)
        if (random.one_in(3)) {
          all[i].cancel();
          asked[i] = true;
        }
      for (unsigned i = 0; i < kBatch; ++i) {
        wrong += !all[i].wait_done({.timeout = 60s});
        if (all[i].cancelled()) {
          wrong += !asked[i];
          continue;
        }
        wrong += all[i].exception() || (all[i].result() != 7 && all[i].result() != kOver);
      }
    }
  });
  CHECK(wrong == 0);
  CHECK(alive == 0);
}

TEST_CASE("stress: waits nested in their loops' threads, cancelled from outside, and under a stop: each ends") {
  MESSAGE("CALLER_SEED=" << seed());
  constexpr unsigned kThreads = 4, kBatch = 8, kDepth = 6;
  const std::size_t rounds = std::max<std::size_t>(1, steps() / (kThreads * kBatch * kDepth));
  std::atomic<int> alive{0}, wrong{0};
  for (std::size_t round = 0; round < rounds; ++round) {
    std::vector<Caller> callers;
    for (int i = 0; i < 2; ++i) callers.emplace_back(new_thread);
    const bool stops = round % 3 == 2;
    on_threads(kThreads, [&](unsigned thread) {
      Random random(static_cast<unsigned>(round) * kThreads + thread);
      std::vector<Pending<int>> all;
      std::vector<bool> asked(kBatch);
      for (unsigned i = 0; i < kBatch; ++i)
        all.push_back(
            callers[random.below(2)].call_soon([&alive, callers, depth = i % kDepth, stream = random.below(1u << 30)] {
              Random mine(stream);
              return nested(alive, callers, depth, mine);
            }));
      for (unsigned i = 0; i < kBatch; ++i)
        if (random.one_in(4)) {
          if (random.one_in(2)) std::this_thread::yield();
          all[i].cancel();
          asked[i] = true;
        }
      if (stops && thread == 0) callers[random.below(2)].stop();
      for (unsigned i = 0; i < kBatch; ++i) {
        wrong += !all[i].wait_done({.timeout = 60s});
        if (all[i].cancelled())
          wrong += !asked[i] && !stops;
        else if (all[i].exception())
          wrong += !stops;
        else
          wrong += all[i].result() != static_cast<int>(i % kDepth);
      }
    });
    for (auto& c : callers) c.stop();
    for (auto& c : callers) wrong += !c.stopped().wait_done({.timeout = 60s});
    CHECK(alive == 0);
  }
  CHECK(wrong == 0);
}
