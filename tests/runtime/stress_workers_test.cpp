// The pool of to_thread at random: full, and with workers that come and end at any moment.
#include "support/stress.hpp"

#include <atomic>
#include <optional>

using namespace caller;
using namespace caller::test;

TEST_CASE("stress: a pool that is full, while its workers retire and others come, leaves no call waiting") {
  MESSAGE("CALLER_SEED=" << seed());
  constexpr unsigned kThreads = 3;
  const std::size_t rounds = std::max<std::size_t>(1, steps() / 100);
  Random random(1);
  for (std::size_t round = 0; round < rounds; ++round) {
    CallerOptions options;
    options.max_workers = 1 + random.below(3);
    options.max_idle_workers = random.below(3);
    options.worker_idle_timeout = random.one_in(2) ? Duration(1us * random.below(100)) : Duration(1h);
    Caller c(new_thread, options);
    const bool stops = random.one_in(3);
    std::atomic<unsigned> running{0}, most{0}, began{0};
    std::atomic<int> made{0}, cancelled{0}, lost{0};
    const auto work = [&](unsigned spins) {
      const unsigned now = ++running;
      for (unsigned seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
      }
      ++began;
      for (unsigned i = 0; i < spins; ++i) (void)running.load();
      --running;
    };
    std::optional<std::thread> stopper;
    if (stops) {
      stopper.emplace([&c, after = random.below(300)] {
        std::this_thread::sleep_for(after * 1us);
        c.stop();
      });
    }
    on_threads(kThreads, [&](unsigned t) {
      Random own(static_cast<unsigned>(round) * kThreads + t + 2);
      std::vector<Pending<>> calls;
      try {
        for (int i = 0; i < 30; ++i) {
          calls.push_back(c.to_thread(work, own.below(200)));
          ++made;
          if (own.one_in(8)) (void)calls.back().cancel();
          if (own.one_in(6)) (void)calls[own.below(static_cast<unsigned>(calls.size()))].wait_done({.timeout = 30s});
          if (own.one_in(10)) std::this_thread::sleep_for(own.below(150) * 1us);
        }
      } catch (const CallerStopped&) {
        if (!stops) ++lost;
      }
      for (const auto& call : calls) {
        if (!call.wait_done({.timeout = 30s})) {
          ++lost;
        } else if (call.cancelled()) {
          ++cancelled;
        } else if (const auto error = call.exception()) {  // its worker stopped with the Caller
          CHECK_THROWS_AS(std::rethrow_exception(error), CallerStopped);
          stops ? ++cancelled : ++lost;
        }
      }
    });
    if (stopper) stopper->join();
    c.stop();
    CHECK(c.stopped().wait_done({.timeout = 30s}));
    CHECK(lost == 0);
    CHECK(running == 0);
    CHECK(most <= options.max_workers);
    CHECK(static_cast<int>(began) <= made);
    CHECK(static_cast<int>(began) >= made - cancelled);
  }
}
