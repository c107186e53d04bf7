// Durations as long, and as far in the past, as they can be written. Those of Asio: asio_test.cpp, guest_test.cpp.
#include "support/comes_true.hpp"
#include "support/coro.hpp"
#include "support/cpu_time.hpp"

using namespace caller;
using namespace caller::test;

TEST_CASE("an idle worker with all the time there is stays") {
  Caller c(new_thread, {.worker_idle_timeout = Duration::max()});
  const auto worker = c.to_thread([] { return Caller::current(); }).wait();
  // Timers that were due before go off before this one. A worker that stops cancels it.
  const auto nap = []() -> Coro<void> { co_await sleep_for(1ns); };
  CHECK_NOTHROW(worker.call_soon(nap).wait());
  CHECK(worker.running());
}

TEST_CASE("a loop that may spin for ever does") {
  Caller c(new_thread, {.spin = Duration::max()});
  const CpuTime loop = c.call_soon([] { return CpuTime(); }).wait();
  const auto before = loop.used();
  CHECK(comes_true([&] { return loop.used() > before + 20ms; }));
}

TEST_CASE("a wait until before all times is over when it has looked once") {
  Caller c(new_thread);
  const Pending<> never;
  never.protect();
  const auto pending = c.call_soon([&never]() -> Coro<bool> {
    co_return co_await never.async_wait_done({.timeout = Duration::min(), .protect = true});
  });
  REQUIRE(pending.wait_done({.timeout = 20s}));
  CHECK_FALSE(pending.result());
  const auto set = c.call_soon([&never]() -> Coro<void> {
    const std::vector<PendingBase> all{never};
    co_await Caller::current().wait(all, {.timeout = Duration::min()});
  });
  CHECK(set.wait_done({.timeout = 20s}));
  CHECK(c.call_later(Duration::min(), [] {}).wait_done({.timeout = 20s}));
  CHECK(c.call_soon([&never] { return never.wait_done({.timeout = Duration::min(), .protect = true}); }).wait() ==
        false);
}

TEST_CASE("what never comes can be waited for, and ended") {
  ManualLoop loop;
  loop.clock.advance(1h);
  const auto call = loop.caller.call_later(Duration::max(), [] {});
  const auto sleeper = loop.caller.call_soon([]() -> Coro<void> { co_await sleep_for(Duration::max()); });
  const auto limited = loop.caller.call_soon([]() -> Coro<void> {
    auto inner = []() -> Coro<void> { co_await Pending<>(); };
    co_await with_timeout(Duration::max(), inner());
  });
  loop.settle();
  loop.clock.advance(1h);
  loop.settle();
  CHECK_FALSE(call.done());
  CHECK_FALSE(sleeper.done());
  CHECK_FALSE(limited.done());
  for (const PendingBase& p : {PendingBase(call), PendingBase(sleeper), PendingBase(limited)}) p.cancel();
  loop.settle();
  CHECK(call.done());
  CHECK(sleeper.done());
  CHECK(limited.done());
}
