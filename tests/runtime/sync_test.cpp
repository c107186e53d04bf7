// call_async_from_sync, and waits on a loop's own thread.
#include "support/coro.hpp"

#include <thread>

using namespace caller;
using namespace caller::test;

namespace {

Coro<int> add_slowly(int a, int b) {
  co_await sleep_for(1ms);
  co_return a + b;
}
int nested(int depth) {
  if (depth == 0) return 0;
  return 1 + call_async_from_sync(
                 [](int d) -> Coro<int> {
                   co_await yield_now();
                   co_return nested(d);
                 },
                 depth - 1);
}

}  // namespace

TEST_CASE("a coroutine function is called from plain code in a thread with no loop") {
  CHECK(call_async_from_sync(add_slowly, 40, 2) == 42);
  CHECK_THROWS_AS(Caller::current(), NoRunningCaller);
  CHECK(call_async_from_sync([](int v) { return v + 1; }, 1) == 2);
}

TEST_CASE("its error arrives") {
  CHECK_THROWS_AS(call_async_from_sync([]() -> Coro<void> {
                    co_await yield_now();
                    throw std::runtime_error("x");
                  }),
                  std::runtime_error);
}

TEST_CASE("inside a loop it keeps that loop turning, so that what is bound to the loop goes on") {
  ManualLoop loop;
  int turned = 0;
  auto p = loop.caller.call_soon([&] {
    loop.caller.call_soon([&]() -> Coro<void> {
      for (int i = 0; i < 3; ++i) {
        ++turned;
        co_await yield_now();
      }
    });
    const auto where = call_async_from_sync([]() -> Coro<std::thread::id> {
      for (int i = 0; i < 5; ++i) co_await yield_now();
      co_return std::this_thread::get_id();
    });
    CHECK(where == std::this_thread::get_id());
    return turned;
  });
  loop.settle();
  CHECK(p.result() == 3);
}

TEST_CASE("nested to any depth, inside and outside of a loop") {
  constexpr int kDeep = 50;
  CHECK(nested(kDeep) == kDeep);
  ManualLoop loop;
  auto p = loop.caller.call_soon([] { return nested(kDeep); });
  loop.settle();
  CHECK(p.result() == kDeep);
}

TEST_CASE("from a coroutine, and beside coroutines that do the same") {
  ManualLoop loop;
  std::vector<Pending<int>> all;
  for (int i = 0; i < 5; ++i)
    all.push_back(loop.caller.call_soon([i]() -> Coro<int> {
      co_await yield_now();
      const int v = call_async_from_sync([i]() -> Coro<int> {
        for (int k = 0; k < 5 - i; ++k) co_await yield_now();
        co_return i;
      });
      co_await yield_now();
      co_return v;
    }));
  loop.settle();
  for (int i = 0; i < 5; ++i) CHECK(all[static_cast<std::size_t>(i)].result() == i);
}

TEST_CASE("when the surrounding work is cancelled, so is the call") {
  ManualLoop loop;
  bool inner_cancelled = false;
  Pending<> self;
  auto p = loop.caller.call_soon([&] {
    loop.caller.call_soon([&, me = current_pending()] { me.cancel("outer"); });
    call_async_from_sync([&]() -> Coro<void> {
      CHECK_CORO_THROWS_AS(co_await sleep_for(1h), PendingCancelled);
      inner_cancelled = true;
    });
    FAIL("not reached");
  });
  loop.settle();
  CHECK(p.cancelled());
  CHECK(inner_cancelled);
}

TEST_CASE("a nested wait has its context and its task back afterwards") {
  ManualLoop loop;
  ContextVar<int> var;
  auto p = loop.caller.call_soon([&] {
    var.set(1);
    const PendingBase me = current_pending();
    loop.caller.call_soon([&] { var.set(2); }).wait();
    CHECK(var.get_or(0) == 1);
    CHECK(current_pending() == me);
  });
  loop.settle();
  p.result();
}

TEST_CASE("a nested wait times out and cancels by the same rules") {
  Caller c(manual);
  auto p = c.call_soon([] {
    Pending<> plain, kept;
    CHECK_FALSE(plain.wait_done({.timeout = 1ms}));
    CHECK_FALSE(kept.wait_done({.timeout = 1ms, .protect = true}));
    CHECK(plain.cancelled());
    CHECK_FALSE(kept.cancelled());
    CHECK((kept.state()->word.load() & detail::PendingState::kList) == 0);
    CHECK_FALSE(kept.wait_done({.timeout = 0ms, .protect = true}));
  });
  c.run_until(p);
  p.result();
}

TEST_CASE("a nested wait with shield is not interrupted, the cancellation is met at the next wait") {
  ManualLoop loop;
  Pending<> gate;
  bool passed = false;
  auto p = loop.caller.call_soon([&] {
    loop.caller.call_soon([&, me = current_pending()] {
      me.cancel();
      loop.caller.call_soon([&] { gate.set_result(); });
    });
    gate.wait({.shield = true});
    passed = true;
    CHECK_THROWS_AS(Pending<>().wait(), PendingCancelled);
  });
  loop.settle();
  CHECK(passed);
  CHECK(p.cancelled());
}

TEST_CASE("a plain wait on the thread of a Caller that nobody pumps turns it") {
  ManualLoop loop;
  CHECK(loop.caller.call_soon([] { return 5; }).wait() == 5);
  CHECK(call_async_from_sync([] { return 6; }) == 6);
}

TEST_CASE("two loops that wait for each other both go on") {
  Caller a(new_thread, {.name = "a"}), b(new_thread, {.name = "b"});
  const int got =
      a.call_soon([&] {
         return b.call_soon([&] { return a.call_soon([&] { return b.call_soon([] { return 7; }).wait(); }).wait(); })
             .wait();
       }).wait();
  CHECK(got == 7);
}

TEST_CASE("move-only results come through a blocking wait") {
  Caller c(new_thread);
  auto p = c.call_soon([] { return std::make_unique<int>(3); });
  CHECK(*p.wait() == 3);
  CHECK(*call_async_from_sync([]() -> Coro<std::unique_ptr<int>> { co_return std::make_unique<int>(4); }) == 4);
}
TEST_CASE("a wait outside the loop whose Caller is stopped is CallerStopped, not a time-out") {
  Caller loop(caller::manual, {.backend = caller::Backend::manual});
  Pending<> never;
  loop.call_soon([loop]() mutable { loop.stop(); });
  CHECK_THROWS_AS(never.wait({.protect = true}), caller::CallerStopped);
}
