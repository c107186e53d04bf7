// queue_call: lanes.
#include "support/coro.hpp"

#include <algorithm>
#include <thread>

using namespace caller;
using namespace caller::test;

namespace {
std::vector<int>* log_of_lane = nullptr;
void note(int n) { log_of_lane->push_back(n); }
void other_note(int n) { log_of_lane->push_back(-n); }
enum class Key { a, b };
}  // namespace

ASYNC_TEST_CASE("a lane works one by one, in the order queued, also through suspensions") {
  Caller c = Caller::current();
  std::vector<int> order;
  int running = 0;
  const auto slow = [&](int n) -> Coro<void> {
    ++running;
    CHECK(running == 1);
    co_await sleep_for((5 - n) * 1ms);
    order.push_back(n);
    --running;
  };
  for (int i = 0; i < 5; ++i) CHECK(c.queue_call(slow, i));
  co_await sleep_for(100ms);
  CHECK(order == std::vector<int>{0, 1, 2, 3, 4});
  auto lane = c.queue_get(slow);
  REQUIRE(static_cast<bool>(lane));
  CHECK_FALSE(lane.done());
  CHECK(c.queue_close(slow));
  co_await lane.async_wait_done({.protect = true});
  CHECK_FALSE(c.queue_close(slow));
  CHECK_FALSE(static_cast<bool>(c.queue_get(slow)));
}

ASYNC_TEST_CASE("lanes of different functions and keys do not wait for each other") {
  Caller c = Caller::current();
  std::vector<int> log;
  log_of_lane = &log;
  Pending<> gate;
  const auto blocked = [](Pending<> g) -> Coro<void> { co_await g; };
  c.queue_call(blocked, gate);
  c.queue_call(&note, 1);
  c.queue_call(&other_note, 2);
  c.queue_call("key", &note, 3);
  c.queue_call(std::string("other key"), &note, 4);
  c.queue_call(1, &note, 5);
  c.queue_call(Key::a, &note, 6);
  c.queue_call(Key::b, &note, 7);
  co_await sleep_for(1ms);
  std::ranges::sort(log);
  CHECK(log == std::vector<int>{-2, 1, 3, 4, 5, 6, 7});
  std::vector<PendingBase> lanes;
  lanes.push_back(c.queue_get(blocked));
  lanes.push_back(c.queue_get(&note));
  lanes.push_back(c.queue_get(&other_note));
  lanes.push_back(c.queue_get("key"));
  lanes.push_back(c.queue_get("other key"));
  lanes.push_back(c.queue_get(1));
  lanes.push_back(c.queue_get(Key::a));
  lanes.push_back(c.queue_get(Key::b));
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    REQUIRE(static_cast<bool>(lanes[i]));
    for (std::size_t k = i + 1; k < lanes.size(); ++k) CHECK(lanes[i] != lanes[k]);
  }
  gate.set_result();
}

ASYNC_TEST_CASE("keys are compared by type and value, never by their hash alone") {
  Caller c = Caller::current();
  c.queue_call(1, [] {});
  c.queue_call(1L, [] {});
  c.queue_call('\1', [] {});
  c.queue_call(Key::b, [] {});
  c.queue_call(std::string(1, '\1'), [] {});
  const std::vector<PendingBase> all{c.queue_get(1), c.queue_get(1L), c.queue_get('\1'), c.queue_get(Key::b),
                                     c.queue_get(std::string(1, '\1'))};
  for (std::size_t i = 0; i < all.size(); ++i)
    for (std::size_t k = i + 1; k < all.size(); ++k) CHECK(all[i] != all[k]);
  CHECK(c.queue_get(std::string("\1")) == c.queue_get("\1"));
  co_await yield_now();
}

TEST_CASE("keys whose hashes are the same have lanes of their own") {
  ManualLoop loop;
  // The hash of the runtime is that of the type, xor the number times an odd factor: so the second number can be found.
  constexpr std::uint64_t factor = 0x9E3779B97F4A7C15u;
  std::uint64_t inverse = factor;
  for (int i = 0; i < 6; ++i) inverse *= 2 - factor * inverse;
  const std::uint64_t text = std::hash<std::string>{}(std::string());
  const long long one = 7;
  const std::uint64_t hash = typeid(long long).hash_code() ^ (text + static_cast<std::uint64_t>(one)) * factor;
  const unsigned long long other = (hash ^ typeid(unsigned long long).hash_code()) * inverse - text;
  bool ran = false;
  loop.caller.queue_call(one, []() -> Coro<void> { co_await sleep_for(1h); });
  loop.caller.queue_call(other, [&ran] { ran = true; });
  for (int i = 0; i < 10; ++i) detail::step(loop.caller.core());
  CHECK(ran);
  CHECK(loop.caller.queue_get(one) != loop.caller.queue_get(other));
}

ASYNC_TEST_CASE("several functions may share one lane by a key") {
  Caller c = Caller::current();
  std::vector<int> log;
  log_of_lane = &log;
  c.queue_call(
      "shared",
      [](std::vector<int>& l) -> Coro<void> {
        co_await sleep_for(2ms);
        l.push_back(1);
      },
      std::ref(log));
  c.queue_call("shared", &note, 2);
  co_await sleep_for(5ms);
  CHECK(log == std::vector<int>{1, 2});
}

TEST_CASE("an error in a lane, a cancellation it throws included, is reported and the lane goes on") {
  ManualLoop loop;
  std::vector<int> ran;
  loop.caller.queue_call("k", [] { throw std::runtime_error("plain"); });
  loop.caller.queue_call("k", []() -> Coro<void> {
    co_await yield_now();
    throw std::runtime_error("coroutine");
  });
  loop.caller.queue_call("k", [] { throw PendingCancelled("thrown"); });
  loop.caller.queue_call("k", []() -> Coro<void> {
    Pending<> p;
    p.cancel();
    co_await p;
  });
  loop.caller.queue_call("k", [&] { ran.push_back(1); });
  loop.settle();
  CHECK(ran == std::vector<int>{1});
  CHECK(loop.reports.size() >= 3);
  CHECK_FALSE(loop.caller.queue_get("k").done());
}

ASYNC_TEST_CASE("queue_close drops what waits and cancels what runs, the next call makes a new lane") {
  Caller c = Caller::current();
  bool cancelled = false;
  int ran = 0;
  c.queue_call("k", [&]() -> Coro<void> {
    CHECK_CORO_THROWS_AS(co_await sleep_for(1h), PendingCancelled);
    cancelled = true;
  });
  auto held = std::make_shared<int>(1);
  std::weak_ptr<int> watch = held;
  c.queue_call("k", [&ran, h = std::move(held)] { ++ran; });
  co_await yield_now();
  auto lane = c.queue_get("k");
  CHECK(c.queue_close("k", "closed by test"));
  CHECK(watch.expired());
  co_await lane.async_wait_done({.protect = true});
  CHECK(cancelled);
  CHECK(ran == 0);
  CHECK(c.queue_call("k", [&] { ++ran; }));
  co_await yield_now();
  co_await yield_now();
  CHECK(ran == 1);
}

TEST_CASE("what runs in a lane that is closed ends before anything of the next one of its key begins") {
  ManualLoop loop;
  std::vector<std::string> seen;
  const auto item = [&seen](std::string name) -> Coro<void> {
    seen.push_back("begin " + name);
    CHECK_CORO_THROWS_AS(co_await sleep_for(1h), PendingCancelled);
    co_await sleep_for(1ms);
    seen.push_back("end " + name);
  };
  for (const bool by_task : {false, true}) {
    seen.clear();
    loop.caller.queue_call("k", item, std::string("1"));
    detail::step(loop.caller.core());
    REQUIRE(seen.size() == 1);
    if (by_task)
      CHECK(loop.caller.queue_get("k").cancel());
    else
      CHECK(loop.caller.queue_close("k"));
    loop.caller.queue_call("k", [&seen] { seen.push_back("2"); });
    if (!by_task) {  // the one that waits is closed as well
      CHECK(loop.caller.queue_close("k"));
      loop.caller.queue_call("k", [&seen] { seen.push_back("2"); });
    }
    while (loop.step()) {
    }
    std::string all;
    for (const auto& what : seen) all += what + ";";
    CHECK(all == "begin 1;end 1;2;");
    CHECK(loop.caller.queue_close("k"));
    loop.settle();
  }
}

ASYNC_TEST_CASE("queue_close right after queue_call, before the lane ever ran") {
  Caller c = Caller::current();
  int ran = 0;
  c.queue_call("k", [&] { ++ran; });
  CHECK(c.queue_close("k"));
  for (int i = 0; i < 3; ++i) co_await yield_now();
  CHECK(ran == 0);
}

TEST_CASE("a lane is fed by many threads and loses nothing, each thread's calls in order") {
  Caller c(new_thread, {.name = "lane"});
  std::vector<std::vector<int>> got(4);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&c, &got, t] {
      for (int i = 0; i < 500; ++i) c.queue_call("k", [&got, t, i] { got[static_cast<std::size_t>(t)].push_back(i); });
    });
  for (auto& t : threads) t.join();
  Pending<> end;
  c.queue_call("k", [end] { end.set_result(); });
  end.wait();
  for (auto& list : got) {
    REQUIRE(list.size() == 500);
    CHECK(std::ranges::is_sorted(list));
  }
}

TEST_CASE("a call queued right after its lane was cancelled runs in a new lane") {
  ManualLoop loop;
  loop.caller.queue_call("k", []() -> Coro<void> { co_await sleep_for(1h); });
  loop.settle();
  auto lane = loop.caller.queue_get("k");
  CHECK(lane.cancel());
  bool ran = false;
  CHECK(loop.caller.queue_call("k", [&ran] { ran = true; }));
  loop.settle();
  CHECK(lane.done());
  CHECK(ran);
}

TEST_CASE("stop drops what waits in lanes, and queue_call tells afterwards that nothing was queued") {
  ManualLoop loop;
  auto held = std::make_shared<int>(1);
  std::weak_ptr<int> watch = held;
  loop.caller.queue_call("k", []() -> Coro<void> { co_await sleep_for(1h); });
  loop.caller.queue_call("k", [h = std::move(held)] {});
  loop.settle();
  auto lane = loop.caller.queue_get("k");
  loop.caller.stop();
  CHECK(loop.caller.state() == CallerState::stopped);
  CHECK(lane.done());
  CHECK(watch.expired());
  CHECK_FALSE(loop.caller.queue_call("k", [] {}));
  CHECK_FALSE(loop.caller.call_direct([] {}));
  CHECK_FALSE(loop.caller.post([] {}));
}
