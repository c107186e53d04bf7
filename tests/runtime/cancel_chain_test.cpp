// Cancelling work that awaits work that awaits work.
#include "support/coro.hpp"

#include <atomic>
#include <functional>
#include <string>
#include <vector>

using namespace caller;
using namespace caller::test;

namespace {

Coro<int> one_more(int depth) {
  if (depth == 0) {
    co_await sleep_for(1h);
    co_return 0;
  }
  co_return 1 + co_await Caller::current().call_soon(one_more, depth - 1);
}

}  // namespace

TEST_CASE(
    "a chain of calls that await one another is cancelled, stopped and timed out, longer than the stack is deep") {
  constexpr int kDepth = 100'000;
  for (const int how : {0, 1, 2}) {
    CAPTURE(how);
    ManualLoop loop;
    auto p = how == 2
                 ? loop.caller.call_soon([]() -> Coro<int> { co_return co_await with_timeout(1s, one_more(kDepth)); })
                 : loop.caller.call_soon(one_more, kDepth);
    loop.settle();
    if (how == 0) CHECK(p.cancel());
    if (how == 1) loop.caller.stop();
    while (!p.done() && loop.step()) {
    }
    CHECK(p.done());
    CHECK(p.cancelled() == (how != 2));
    if (how == 2) CHECK_THROWS_AS((void)p.result(), TimedOut);
  }
}

ASYNC_TEST_CASE("who is cancelled is resumed after those it awaits, however far down") {
  std::vector<int> order;
  std::function<Coro<void>(int)> down = [&](int depth) -> Coro<void> {
    try {
      if (depth == 0)
        co_await sleep_for(1h);
      else
        co_await Caller::current().call_soon(down, depth - 1);
    } catch (const PendingCancelled&) {
      order.push_back(depth);
      throw;
    }
  };
  auto p = Caller::current().call_soon(down, 3);
  for (int i = 0; i < 5; ++i) co_await yield_now();
  p.cancel();
  co_await p.async_wait_done({.protect = true});
  for (int i = 0; i < 5; ++i) co_await yield_now();
  CHECK(order == std::vector<int>{0, 1, 2, 3});
}

TEST_CASE("who asks a busy call again and again whether it has ended is not kept in what it says") {
  const Caller c(new_thread);
  std::atomic<bool> begun{false}, go{false};
  const auto p = c.call_soon([&] {
    begun = true;
    begun.notify_all();
    go.wait(false);
  });
  begun.wait(false);
  for (int i = 0; i < 1000; ++i) CHECK_FALSE(p.wait_done({.timeout = 0ns}));
  p.cancel("another reason");
  go = true;
  go.notify_all();
  p.wait_done();
  std::string said;
  try {
    p.wait();
  } catch (const PendingCancelled& e) {
    said = e.what();
  }
  CHECK(said.find("another reason") != std::string::npos);
  CHECK(said.size() < 200);
}
