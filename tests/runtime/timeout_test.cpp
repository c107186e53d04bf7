// with_timeout, and CallerOptions::spin.
#include <caller/all.hpp>

#include <atomic>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "support/coro.hpp"

using namespace caller;
using caller::test::ManualLoop;
using namespace std::chrono_literals;

namespace {

Coro<int> answer(int n) { co_return n; }
Coro<int> after(Duration d, int n) {
  co_await sleep_for(d);
  co_return n;
}
Coro<void> forever() { co_await sleep_for(1h); }

}  // namespace

ASYNC_TEST_CASE("a coroutine that ends in time gives its value, and leaves no timer") {
  CHECK(co_await with_timeout(1h, answer(1)) == 1);
  CHECK(co_await with_timeout(1h, after(1ms, 2)) == 2);
  CHECK(detail::next_timer(Caller::current().core()) == -1);
}

ASYNC_TEST_CASE("a coroutine whose time is over is cancelled where it waits, and TimedOut comes out") {
  bool cleaned = false;
  auto work = [](bool& done) -> Coro<void> {
    CHECK_CORO_THROWS_AS(co_await sleep_for(1h), PendingCancelled);
    co_await sleep_for(1ms);  // its clean-up may wait
    done = true;
    throw PendingCancelled("as it was told");
  };
  CHECK_CORO_THROWS_AS(co_await with_timeout(5ms, work(cleaned)), TimedOut);
  CHECK(cleaned);
  CHECK_FALSE(current_pending().cancelled());
  co_await sleep_for(1ms);  // nothing of it is left
}

ASYNC_TEST_CASE("the Pending it waits for is cancelled with it") {
  auto p = Caller::current().call_soon(forever);
  auto work = [](Pending<void> awaited) -> Coro<void> { co_await awaited; };
  CHECK_CORO_THROWS_AS(co_await with_timeout(1ms, work(p)), TimedOut);
  CHECK(p.cancelled());
}

ASYNC_TEST_CASE("what a coroutine ends with all the same is what comes out") {
  auto stubborn = []() -> Coro<int> {
    try {
      co_await sleep_for(1h);
    } catch (const PendingCancelled&) {
    }
    co_return 7;
  };
  CHECK(co_await with_timeout(1ms, stubborn()) == 7);
  auto failing = []() -> Coro<int> {
    try {
      co_await sleep_for(1h);
    } catch (const PendingCancelled&) {
    }
    throw std::runtime_error("worse");
  };
  CHECK_CORO_THROWS_AS(co_await with_timeout(1ms, failing()), std::runtime_error);
}

ASYNC_TEST_CASE("its own error, a cancellation it throws included, passes unchanged") {
  auto failing = []() -> Coro<void> {
    co_await yield_now();
    throw std::runtime_error("x");
  };
  CHECK_CORO_THROWS_AS(co_await with_timeout(1h, failing()), std::runtime_error);
  auto leaving = []() -> Coro<void> {
    co_await yield_now();
    throw PendingCancelled("by itself");
  };
  CHECK_CORO_THROWS_AS(co_await with_timeout(1h, leaving()), PendingCancelled);
}

ASYNC_TEST_CASE("no time at all: the first wait is cancelled, work that never waits is not") {
  CHECK_CORO_THROWS_AS(co_await with_timeout(0ms, forever()), TimedOut);
  CHECK_CORO_THROWS_AS(co_await with_timeout(-1s, forever()), TimedOut);
  CHECK(co_await with_timeout(0ms, answer(3)) == 3);
  co_await yield_now();  // not cancelled by what was left over
}

ASYNC_TEST_CASE("of limits one in the other the shorter ends its own part only") {
  auto inner = []() -> Coro<std::string> {
    bool over = false;
    try {
      co_await with_timeout(1ms, forever());
    } catch (const TimedOut&) {
      over = true;
    }
    co_await sleep_for(1ms);
    co_return over ? "inner" : "none";
  };
  CHECK(co_await with_timeout(1h, inner()) == "inner");
  auto outer = []() -> Coro<void> { co_await with_timeout(1h, forever()); };
  CHECK_CORO_THROWS_AS(co_await with_timeout(1ms, outer()), TimedOut);
  CHECK(detail::next_timer(Caller::current().core()) == -1);
}

ASYNC_TEST_CASE("a cancellation of the task stays one, also when the time is over as well") {
  auto task = Caller::current().call_soon([]() -> Coro<void> { co_await with_timeout(1h, forever()); });
  co_await yield_now();
  task.cancel("stop");
  co_await task.async_wait_done({.protect = true});
  CHECK(task.cancelled());
  std::optional<bool> timed_out;
  auto both = Caller::current().call_soon([&]() -> Coro<void> {
    auto slow = []() -> Coro<void> {
      try {
        co_await sleep_for(1h);
      } catch (const PendingCancelled&) {
        current_pending().cancel("now for real");
      }
      co_await sleep_for(1h);
    };
    try {
      co_await with_timeout(1ms, slow());
    } catch (const TimedOut&) {
      timed_out = true;
    } catch (const PendingCancelled&) {
      timed_out = false;
    }
  });
  co_await both.async_wait_done({.protect = true});
  CHECK(both.cancelled());
  CHECK(timed_out == false);
}

TEST_CASE("a limit that comes while the result is on its way does not harm what follows") {
  ManualLoop loop;
  int got = 0;
  bool went_on = false;
  Pending<int> p;
  loop.caller.call_soon([&]() -> Coro<void> {
    auto work = [](Pending<int> awaited) -> Coro<int> { co_return co_await awaited; };
    got = co_await with_timeout(1ms, work(p));
    co_await sleep_for(1ms);
    went_on = true;
  });
  loop.settle();
  p.set_result(5);           // queues the resumption …
  loop.clock.advance(10ms);  // … and the time is over before it is its turn
  loop.settle();
  CHECK(got == 5);
  loop.clock.advance(10ms);
  loop.settle();
  CHECK(went_on);
}

TEST_CASE("a loop that spins hears calls of other threads, runs its timers in time, and sleeps in the end") {
  Caller c(new_thread, {.name = "spinning", .spin = 200us});
  int n = 0;
  for (int i = 0; i < 1000; ++i) c.call_soon([&n] { ++n; }).wait();
  CHECK(n == 1000);
  CHECK(c.call_later(1ms, [] { return 3; }).wait() == 3);
  std::vector<std::thread> threads;
  std::atomic<int> calls{0};
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) c.call_soon([&calls] { ++calls; }).wait();
    });
  for (auto& t : threads) t.join();
  CHECK(calls == 2000);
}
