// Randomised schedules from several threads: each Pending ends exactly once, each waiter resumes exactly once.
#include "support/stress.hpp"

#include <algorithm>

using namespace caller;
using namespace caller::test;

namespace {

/// What happened to one Pending.
struct Story {
  Pending<int> pending;
  std::atomic<int> decided{0};  // set_result, set_exception and cancel that said yes
  std::atomic<int> called{0}, added{0}, removed{0};
  std::atomic<int> resumed{0}, waiting{0};
};

}  // namespace

TEST_CASE("stress: set, cancel, wait, add and remove callbacks: every Pending ends once, nobody is lost") {
  MESSAGE("CALLER_SEED=" << seed());
  constexpr unsigned kThreads = 6, kPendings = 16;
  const std::size_t rounds = std::max<std::size_t>(1, steps() / (kThreads * kPendings * 2));
  std::vector<Caller> callers;
  for (int i = 0; i < 2; ++i) callers.emplace_back(new_thread);
  std::vector<std::unique_ptr<Story>> stories;
  std::vector<Pending<>> waits;
  std::mutex mutex;
  std::atomic<std::size_t> at_barrier{0};
  const auto barrier = [&](std::size_t phase) {
    ++at_barrier;
    while (at_barrier < phase * kThreads) std::this_thread::yield();
  };
  std::atomic<bool> sound{true};
  on_threads(kThreads, [&](unsigned thread) {
    Random random(thread);
    std::size_t phase = 0;
    for (std::size_t round = 0; round < rounds; ++round) {
      if (thread == 0) {
        stories.clear();
        waits.clear();
        for (unsigned i = 0; i < kPendings; ++i) stories.push_back(std::make_unique<Story>());
      }
      barrier(++phase);
      for (unsigned i = 0; i < kPendings * 2; ++i) {
        Story& s = *stories[random.below(kPendings)];
        switch (random.below(8)) {
          case 0:
            s.decided += s.pending.set_result(1);
            break;
          case 1:
            s.decided += s.pending.cancel("x");
            break;
          case 2:
            s.decided += s.pending.set_exception(std::runtime_error("x"));
            break;
          case 3: {
            ++s.added;
            s.pending.add_done_callback([&s](const PendingBase&) { ++s.called; });
            break;
          }
          case 4: {
            ++s.added;
            const auto id = s.pending.add_done_callback([&s](const PendingBase&) { ++s.called; });
            if (random.one_in(2)) std::this_thread::yield();
            s.removed += s.pending.remove_done_callback(id);
            break;
          }
          case 5: {
            ++s.waiting;
            auto w = callers[random.below(2)].call_soon([&s, p = s.pending]() -> Coro<void> {
              co_await p.async_wait_done({.protect = true});
              ++s.resumed;
            });
            std::lock_guard lock(mutex);
            waits.push_back(w);
            break;
          }
          case 6: {
            ++s.waiting;  // with a time-out that may or may not win
            auto w =
                callers[random.below(2)].call_soon([&s, p = s.pending, d = random.below(20) * 1us]() -> Coro<void> {
                  co_await p.async_wait_done({.timeout = d, .protect = true});
                  ++s.resumed;
                });
            std::lock_guard lock(mutex);
            waits.push_back(w);
            break;
          }
          case 7: {  // a waiter that is cancelled itself: it ends, and takes its place in the list with it
            auto w = callers[random.below(2)].call_soon(
                [p = s.pending]() -> Coro<void> { co_await p.async_wait_done({.protect = true}); });
            if (random.one_in(2)) std::this_thread::yield();
            w.cancel();
            w.wait_done();
            break;
          }
        }
      }
      barrier(++phase);
      if (thread == 0) {
        for (auto& s : stories) s->decided += s->pending.set_result(2);
        for (auto& w : waits) w.wait_done();
        for (auto& s : stories) {
          const bool ok =
              s->decided == 1 && s->pending.done() && s->called + s->removed == s->added && s->resumed == s->waiting &&
              (s->pending.state()->word.load() & ~detail::PendingState::kFlags) == detail::PendingState::kDone;
          if (!ok) {
            sound = false;
            MESSAGE("decided " << s->decided << " added " << s->added << " called " << s->called << " removed "
                               << s->removed << " waiting " << s->waiting << " resumed " << s->resumed);
          }
          if (s->pending.done() && !s->pending.cancelled()) (void)s->pending.exception();
        }
      }
      barrier(++phase);
    }
  });
  CHECK(sound);
}

TEST_CASE("stress: what the last handle did before it went counts, however its call begins and ends meanwhile") {
  MESSAGE("CALLER_SEED=" << seed());
  constexpr std::size_t kBatch = 512;
  const Caller loop(new_thread);
  Random random(0);
  std::vector<std::atomic<bool>> ran(kBatch), never(kBatch);
  std::atomic<std::size_t> called{0};
  std::size_t added = 0;
  bool sound = true;
  for (std::size_t round = 0; round < std::max<std::size_t>(1, steps() / kBatch); ++round) {
    for (std::size_t i = 0; i < kBatch; ++i) {
      ran[i] = never[i] = false;
      auto p = loop.call_soon([&ran, i] { ran[i] = true; });
      for (unsigned n = random.below(100); n > 0; --n) std::atomic_signal_fence(std::memory_order_seq_cst);
      if (random.one_in(2)) {
        ++added;
        p.add_done_callback([&called](const PendingBase&) { ++called; });
      } else if (p.cancel() && p.done() && !ran[i]) {
        never[i] = true;  // it ended before it began
      }
    }
    loop.call_soon([] {}).wait();
    for (std::size_t i = 0; i < kBatch; ++i) sound &= !(ran[i] && never[i]);
  }
  CHECK(sound);
  CHECK(called == added);
}

TEST_CASE("stress: calls of every kind while their Caller stops and is destroyed: each ends once") {
  MESSAGE("CALLER_SEED=" << seed());
  constexpr unsigned kThreads = 4, kCalls = 24;
  const std::size_t rounds = std::max<std::size_t>(1, steps() / (kThreads * kCalls * 4));
  for (std::size_t round = 0; round < rounds; ++round) {
    std::atomic<int> made{0}, ended{0};
    auto owner = std::make_unique<Caller>(new_thread, CallerOptions{.max_idle_workers = 1, .max_workers = 3});
    const Caller loose = owner->get({.name = "child", .max_idle_workers = 1, .max_workers = 2});
    std::atomic<unsigned> left{kThreads};
    std::thread ends([&] {
      Random random(100 + static_cast<unsigned>(round));
      const unsigned when = random.below(kThreads + 1);
      while (left > when) std::this_thread::yield();
      if (random.one_in(2)) owner->stop();
      owner.reset();
    });
    on_threads(kThreads, [&](unsigned thread) {
      Random random(static_cast<unsigned>(round) * kThreads + thread);
      std::vector<PendingBase> mine;
      for (unsigned i = 0; i < kCalls; ++i) {
        PendingBase p;
        switch (random.below(7)) {
          case 0:
            p = loose.call_soon([] {});
            break;
          case 1:
            p = loose.call_later(random.below(50) * 1us, [] {});
            break;
          case 2:
            p = loose.call_soon([]() -> Coro<void> { co_await sleep_for(1h); });
            break;
          case 3:
            p = loose.call_soon([]() -> Coro<void> {
              co_await with_pending_group([](PendingGroup&) -> Coro<void> {
                for (int k = 0; k < 3; ++k)
                  Caller::current().call_soon([]() -> Coro<void> { co_await sleep_for(10us); });
                co_await yield_now();
              });
            });
            break;
          case 4:
            try {
              p = loose.to_thread([] { return 1; });
            } catch (const CallerStopped&) {
              continue;
            }
            break;
          case 5:
            loose.queue_call(static_cast<int>(random.below(3)), []() -> Coro<void> { co_await yield_now(); });
            continue;
          case 6: {
            loose.call_direct([] {});
            continue;
          }
        }
        ++made;
        p.add_done_callback([&](const PendingBase&) { ++ended; });
        if (random.one_in(3)) p.cancel();
        mine.push_back(std::move(p));
      }
      --left;
      for (auto& p : mine) p.wait_done();
      for (auto& p : mine)
        if (!p.cancelled()) (void)p.exception();
    });
    ends.join();
    // The callbacks run just after the waiters are told; the loop's thread is joined by now.
    CHECK(made == ended);
  }
}

TEST_CASE("stress: timers set and cancelled from everywhere fire once or never") {
  MESSAGE("CALLER_SEED=" << seed());
  constexpr unsigned kThreads = 4;
  const std::size_t each = std::max<std::size_t>(1, steps() / (kThreads * 4));
  Caller c(new_thread);
  std::atomic<int> fired{0}, dropped{0};
  on_threads(kThreads, [&](unsigned thread) {
    Random random(thread);
    std::vector<Pending<>> mine;
    for (std::size_t i = 0; i < each; ++i) {
      mine.push_back(c.call_later(random.below(200) * 1us, [&] { ++fired; }));
      if (random.one_in(2)) mine[random.below(static_cast<unsigned>(mine.size()))].cancel();
    }
    for (auto& p : mine) {
      p.wait_done();
      dropped += p.cancelled();
    }
  });
  c.call_soon([] {}).wait();
  // A cancellation may also meet a function that runs.
  CHECK(fired + dropped >= static_cast<int>(kThreads * each));
}

TEST_CASE("stress: streams over workers, left early and late, lose nothing") {
  MESSAGE("CALLER_SEED=" << seed());
  const std::size_t rounds = std::max<std::size_t>(1, steps() / 400);
  Caller c(new_thread, {.max_workers = 4});
  std::vector<Pending<>> all;
  for (unsigned t = 0; t < 3; ++t)
    all.push_back(c.call_soon([&, t]() -> Coro<void> {
      Random random(t);
      for (std::size_t round = 0; round < rounds; ++round) {
        std::vector<Pending<int>> items;
        for (int i = 0; i < 8; ++i) items.push_back(c.to_thread([i] { return i; }));
        const unsigned leave = random.below(10);
        unsigned got = 0;
        {
          auto stream = c.as_completed(items);
          while (got != leave) {
            auto p = co_await stream.next();
            if (!p) break;
            ++got;
          }
        }
        CHECK(got == std::min(leave, 8u));
        for (auto& p : items) co_await p.async_wait_done({.protect = true});
        co_await yield_now();  // without optimisation g++ resumes by a call, not by a jump: let the stack unwind
      }
    }));
  for (auto& p : all) p.wait();
}

TEST_CASE("stress: groups with members on several threads, cancelled from outside at any moment") {
  MESSAGE("CALLER_SEED=" << seed());
  const std::size_t rounds = std::max<std::size_t>(1, steps() / 200);
  Caller c(new_thread, {.max_workers = 4});
  Random random(1);
  std::atomic<int> running{0};
  for (std::size_t round = 0; round < rounds; ++round) {
    PendingGroupOptions options;
    options.mode = static_cast<int>(random.below(4));
    if (random.one_in(4)) options.timeout = random.below(100) * 1us;
    const bool fails = random.one_in(4);
    auto work = c.call_soon([&, options, fails]() -> Coro<void> {
      struct Count {
        std::atomic<int>& n;
        explicit Count(std::atomic<int>& x) : n(x) { ++n; }
        ~Count() { --n; }
      };
      co_await with_pending_group(options, [&, fails](PendingGroup&) -> Coro<void> {
        for (int i = 0; i < 3; ++i)
          Caller::current().to_thread([&, i, fails] {
            Count count(running);
            Caller::current().call_soon([&]() -> Coro<void> {
              Count inner(running);
              co_await sleep_for(20us);
            });
            if (fails && i == 1) throw std::runtime_error("member");
          });
        co_await yield_now();
      });
    });
    if (random.one_in(2)) std::this_thread::yield();
    if (random.one_in(2)) work.cancel();
    work.wait_done();
    CHECK(running == 0);
    if (!work.cancelled()) (void)work.exception();
  }
}
