// A coroutine that awaits a call which is next in the queue anyway runs it on the spot. Nothing but the time may tell.
#include "support/coro.hpp"

#include <atomic>
#include <csetjmp>
#include <functional>
#include <string>
#include <thread>
#include <vector>

using namespace caller;
using namespace caller::test;

namespace {

/// Runs `body` as a coroutine that has waited once, with whole batches of the queue.
void in_batches(ManualLoop& loop, std::function<Coro<void>()> body) {
  const auto outcome = loop.caller.call_soon([&body]() -> Coro<void> {
    co_await yield_now();
    co_await body();
  });
  loop.settle();
  REQUIRE(outcome.done());
  outcome.result();
}

std::jmp_buf* innermost = nullptr;

std::exception_ptr catch_fault(void (*body)(void*), void* argument) {
  std::jmp_buf here;
  std::jmp_buf* const outer = innermost;
  innermost = &here;
  const bool fault = setjmp(here) != 0;
  if (!fault) body(argument);
  innermost = outer;
  return fault ? std::make_exception_ptr(std::runtime_error("fault")) : nullptr;
}

}  // namespace

TEST_CASE("what an awaited call queues runs before the coroutine that waits for the call") {
  ManualLoop loop;
  std::string order;
  in_batches(loop, [&]() -> Coro<void> {
    const Caller c;
    const auto queueing = [&] {
      order += 'a';
      c.post([&] { order += 'b'; });
    };
    co_await c.call_soon(queueing);
    order += 'c';
    c.post([&] { order += 'd'; });
    co_await c.call_soon([&] { order += 'e'; });
    order += 'f';
    co_await c.call_soon([&] { order += 'g'; });
    order += 'h';
  });
  CHECK(order == "abcdefgh");
}

TEST_CASE("batches and single entries count the same") {
  std::size_t counts[2];
  for (const bool single : {false, true}) {
    ManualLoop loop;
    const auto outcome = loop.caller.call_soon([]() -> Coro<void> {
      const Caller c;
      co_await yield_now();
      for (int i = 0; i < 2000; ++i) co_await c.call_soon([] {});
    });
    std::size_t n = 0;
    while (!outcome.done()) n += single ? detail::step(loop.caller.core()) : loop.caller.poll();
    counts[single] = n;
  }
  CHECK(counts[0] == counts[1]);
  CHECK(counts[0] > 4000);
}

TEST_CASE("a coroutine that awaits calls without end keeps out neither other threads nor timers") {
  Caller loop(caller::manual);
  std::atomic<int> seen{0};
  const auto timer = loop.call_later(1ms, [&] { ++seen; });
  std::thread other;
  const auto outcome = loop.call_soon([&]() -> Coro<int> {
    const Caller c;
    other = std::thread([&seen, c] { c.post([&] { ++seen; }); });
    int n = 0;
    for (; seen < 2 && n < 100'000'000; ++n) co_await c.call_soon([] {});
    co_return n;
  });
  loop.run_until(outcome);
  other.join();
  CHECK(seen == 2);
}

TEST_CASE("a call that cancels the coroutine which waits for it does so there and then") {
  ManualLoop loop;
  bool thrown = false, cancelled_itself = false, went_on = false;
  const auto outcome = loop.caller.call_soon([&]() -> Coro<void> {
    const Caller c;
    const PendingBase me = current_pending();
    co_await yield_now();
    const auto cancelling = [&] {
      me.cancel("by the call");
      cancelled_itself = current_pending().cancelled();
    };
    try {
      co_await c.call_soon(cancelling);
    } catch (const PendingCancelled&) {
      thrown = true;
    }
    co_await c.call_soon([] {});
    went_on = true;
  });
  loop.settle();
  CHECK(thrown);
  CHECK(cancelled_itself);
  CHECK(went_on);
  CHECK(outcome.done());
  CHECK(outcome.cancelled());
}

TEST_CASE("a call that turns the loop does not hold up its waiter when that is cancelled meanwhile") {
  for (const int more : {0, 1, 3}) {
    CAPTURE(more);
    ManualLoop loop;
    Pending<> gate;
    int ran = 0;
    bool call_ended = false, waiter_first = false;
    const auto outcome = loop.caller.call_soon([&]() -> Coro<void> {
      const Caller c;
      const PendingBase me = current_pending();
      const auto turning = [&] {
        c.post([me] { me.cancel(); });
        gate.wait({.shield = true});
        call_ended = true;
      };
      const std::function<void()> counting = [&ran] { ++ran; };
      co_await yield_now();
      // The awaiter is at the same place of the frame each time.
      for (int i = 0; i <= more; ++i) {
        const std::function<void()> next = i == 0 ? std::function<void()>(turning) : counting;
        try {
          co_await c.call_soon(next);
        } catch (const PendingCancelled&) {
        }
      }
      waiter_first = !call_ended;
      gate.set_result();
    });
    loop.settle();
    CHECK(outcome.done());
    CHECK(call_ended);
    CHECK(waiter_first);
    CHECK(ran == more);
  }
}

TEST_CASE("a call awaited in place has its own context and Pending, and its waiter gets its own back") {
  static ContextVar<int> variable;
  ManualLoop loop;
  in_batches(loop, [&]() -> Coro<void> {
    const Caller c;
    const PendingBase me = current_pending();
    PendingBase other;
    variable.set(1);
    const auto changing = [&] {
      CHECK(variable.get_or(0) == 1);
      variable.set(2);
      other = current_pending();
    };
    for (int i = 0; i < 3; ++i) {
      co_await c.call_soon(changing);
      CHECK(variable.get_or(0) == 1);
      CHECK(current_pending() == me);
      CHECK(other);
      CHECK(other != me);
      CHECK(other.done());
    }
  });
  CHECK(variable.get_or(0) == 0);
}

TEST_CASE("values, errors and waits of calls awaited in place arrive") {
  ManualLoop loop;
  in_batches(loop, [&]() -> Coro<void> {
    const Caller c;
    const auto text = [] { return std::string(100, 'x'); };
    const auto failing = []() -> int { throw std::runtime_error("oh"); };
    const auto quick = []() -> Coro<int> { co_return 3; };
    const auto waiting = []() -> Coro<std::string> {
      co_await yield_now();
      co_await Caller().call_soon([] {});
      co_return std::string(50, 'y');
    };
    for (int i = 0; i < 3; ++i) {
      CHECK(co_await c.call_soon(text) == std::string(100, 'x'));
      CHECK_CORO_THROWS_AS(co_await c.call_soon(failing), std::runtime_error);
      CHECK(co_await c.call_soon(quick) == 3);
      CHECK(co_await c.call_soon(waiting) == std::string(50, 'y'));
    }
  });
  CHECK(loop.reports.list().empty());
}

TEST_CASE("a Pending kept by its own call is seen done by another thread, its waiter goes on once") {
  Caller loop(caller::manual);
  const auto outcome = loop.call_soon([]() -> Coro<int> {
    const Caller c;
    int sum = 0;
    co_await yield_now();
    for (int i = 0; i < 500; ++i) {
      std::thread other;
      const auto keeping = [&other, i] {
        other = std::thread([p = current_pending(), i] {
          if (i % 3 == 0)
            p.wait_done();
          else if (i % 3 == 1)
            p.cancel();
        });
        return 1;
      };
      try {
        sum += co_await c.call_soon(keeping);
      } catch (const PendingCancelled&) {
        ++sum;
      }
      other.join();
    }
    co_return sum;
  });
  loop.run_until(outcome);
  CHECK(outcome.result() == 500);
}

TEST_CASE("a call that stops its Caller ends the coroutine that waits for it") {
  ManualLoop loop;
  bool thrown = false;
  const auto outcome = loop.caller.call_soon([&]() -> Coro<void> {
    const Caller c;
    co_await yield_now();
    try {
      co_await c.call_soon([&] { Caller::current().stop(); });
      co_await c.call_soon([] {});
    } catch (const PendingCancelled&) {
      thrown = true;
      throw;
    }
  });
  while (!outcome.done()) loop.caller.poll();
  CHECK(thrown);
  CHECK(outcome.cancelled());
  CHECK(loop.caller.state() == CallerState::stopped);
}

TEST_CASE("a fault in a call awaited in place is its error, and later calls are awaited as before") {
  static auto& kept = *new std::vector<PendingBase>;  // for LeakSanitizer: the runtime keeps faulted work for ever
  detail::set_fault_guard(&catch_fault);
  struct Unset {
    ~Unset() { detail::set_fault_guard(nullptr); }
  } unset;
  ManualLoop loop;
  int faults = 0, ran = 0;
  const auto outcome = loop.caller.call_soon([&]() -> Coro<void> {
    const Caller c;
    const auto fault = [] {
      kept.push_back(current_pending());
      std::longjmp(*innermost, 1);
    };
    co_await yield_now();
    for (int i = 0; i < 3; ++i) {
      CHECK_CORO_THROWS_AS(co_await c.call_soon(fault), std::runtime_error);
      ++faults;
      for (int k = 0; k < 10; ++k) co_await c.call_soon([&] { ++ran; });
    }
  });
  loop.settle();
  CHECK(outcome.done());
  CHECK(faults == 3);
  CHECK(ran == 30);
}
