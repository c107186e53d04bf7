// call_later, sleep_for: time.
#include "support/coro.hpp"

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <thread>

using namespace caller;
using namespace caller::test;

TEST_CASE("a delay counts from the call, not from the turn of the loop") {
  ManualLoop loop;
  bool ran = false;
  std::thread([&] { loop.caller.call_later(10ms, [&] { ran = true; }); }).join();
  loop.clock.advance(10ms);
  loop.settle();
  CHECK(ran);
}

TEST_CASE("timers fire when due, not before, in the order of their times and else of their calls") {
  ManualLoop loop;
  std::vector<int> order;
  const auto note = [&](int n) { order.push_back(n); };
  loop.caller.call_later(3ms, note, 3);
  loop.caller.call_later(1ms, note, 1);
  loop.caller.call_later(2ms, note, 20);
  loop.caller.call_later(2ms, note, 21);
  loop.caller.call_later(2ms, note, 22);
  loop.caller.call_later(-1ms, note, 0);
  loop.settle();
  CHECK(order == std::vector<int>{0});
  loop.clock.advance(999us);
  loop.settle();
  CHECK(order.size() == 1);
  loop.clock.advance(1us);
  loop.settle();
  CHECK(order == std::vector<int>{0, 1});
  loop.clock.advance(1h);
  loop.settle();
  CHECK(order == std::vector<int>{0, 1, 20, 21, 22, 3});
}

TEST_CASE("a thousand timers, some cancelled in any order, fire in order") {
  ManualLoop loop;
  std::mt19937 random(7);
  std::vector<std::pair<int, int>> fired;
  std::vector<Pending<>> calls;
  std::vector<int> delays;
  for (int i = 0; i < 1000; ++i) {
    const int d = static_cast<int>(random() % 100);
    delays.push_back(d);
    calls.push_back(loop.caller.call_later(d * 1ms + 1ms, [&fired, d, i] { fired.emplace_back(d, i); }));
  }
  std::vector<std::pair<int, int>> expected;
  for (int i = 0; i < 1000; ++i) {
    if (random() % 2)
      calls[static_cast<std::size_t>(i)].cancel();
    else
      expected.emplace_back(delays[static_cast<std::size_t>(i)], i);
  }
  std::ranges::sort(expected);
  while (loop.step()) {
  }
  CHECK(fired == expected);
  CHECK(detail::next_timer(loop.caller.core()) == -1);
}

TEST_CASE("a crowd of timers due at once fires in order, and those that fire cancel and add others") {
  struct Range {
    std::int64_t unit, spread;  // of the deadlines
  };
  // Many of equal times; few of equal times; days apart.
  for (const auto [unit, spread] : {Range{1'000'000, 50}, Range{1, 40'000'000}, Range{1'000'003, 1'000'000'000}}) {
    ManualLoop loop;
    std::mt19937_64 random(11);
    constexpr std::size_t kCount = 3000;
    std::vector<std::int64_t> when(kCount);
    for (auto& w : when) w = 1 + unit * static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(spread));
    std::vector<std::size_t> victim(kCount), fired, later, expected, expected_later;
    for (auto& v : victim) v = random() % kCount;
    std::vector<Pending<>> calls;
    for (std::size_t i = 0; i < kCount; ++i) {
      calls.push_back(loop.caller.call_later(std::chrono::nanoseconds(when[i]), [&, i] {
        fired.push_back(i);
        if (i % 3 == 0) calls[victim[i]].cancel();
        if (i % 5 == 0) loop.caller.call_later(1ns, [&later, i] { later.push_back(i); });
      }));
    }
    for (std::size_t i = 0; i < kCount; i += 7) calls[i].cancel();
    // In two crowds: most at once, then the rest.
    for (const std::int64_t until : {unit * spread / 4 * 3, unit * spread + 1}) {
      loop.clock.advance(std::chrono::nanoseconds(until) - std::chrono::nanoseconds(loop.clock.now()));
      loop.settle();
    }
    loop.clock.advance(1ns);
    loop.settle();

    std::vector<std::size_t> order(kCount);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, {}, [&](std::size_t i) { return when[i]; });
    std::vector<bool> cancelled(kCount, false);
    for (std::size_t i = 0; i < kCount; i += 7) cancelled[i] = true;
    for (const std::size_t i : order) {
      if (cancelled[i]) continue;
      expected.push_back(i);
      if (i % 3 == 0) cancelled[victim[i]] = true;
      if (i % 5 == 0) expected_later.push_back(i);
    }
    CHECK(fired == expected);
    CHECK(later == expected_later);
    CHECK(detail::next_timer(loop.caller.core()) == -1);
  }
}

TEST_CASE(
    "timers added, cancelled and fired in turn keep their order, and most of them cancelled leave nothing behind") {
  ManualLoop loop;
  std::mt19937 random(11);
  std::map<std::pair<std::int64_t, int>, Pending<>> model;  // by time and number
  std::vector<int> fired, expected;
  int next = 0;
  std::int64_t now = 0;
  for (int round = 0; round < 400; ++round) {
    for (unsigned k = random() % 60; k > 0; --k) {
      const std::int64_t when = now + 1 + static_cast<std::int64_t>(random() % 50);
      const int number = next++;
      model[{when, number}] =
          loop.caller.call_later(Duration(when - now), [&fired, number] { fired.push_back(number); });
    }
    for (auto it = model.begin(); it != model.end();) {
      if (random() % (round % 3 + 2) == 0) {
        ++it;
        continue;
      }
      it->second.cancel();
      it = model.erase(it);
    }
    const std::int64_t earliest = model.empty() ? -1 : model.begin()->first.first;
    CHECK(detail::next_timer(loop.caller.core()) == earliest);
    const auto step = static_cast<std::int64_t>(random() % 20);
    now += step;
    loop.clock.advance(Duration(step));
    loop.settle();
    while (!model.empty() && model.begin()->first.first <= now) {
      expected.push_back(model.begin()->first.second);
      model.erase(model.begin());
    }
    REQUIRE(fired == expected);
  }
  CHECK(expected.size() > 100);
}

TEST_CASE("a sleep that is over when its work is cancelled, and has not gone on, ends as cancelled") {
  // Else what comes next, which may compute for ever, would begin in work that was told to end.
  for (const auto length : {0ms, 1ms}) {
    CAPTURE(length.count());
    ManualLoop loop;
    Pending<> work;
    if (length > 0ms) loop.caller.call_later(length, [&] { work.cancel("enough"); });
    bool went_on = false, waited = false;
    work = loop.caller.call_soon([&]() -> Coro<> {
      try {
        co_await sleep_for(length);
        went_on = true;
      } catch (const PendingCancelled& e) {
        CHECK(std::string(e.what()).find("enough") != std::string::npos);
      }
      co_await sleep_for(1ms);  // what is cancelled may clean up, and is told once
      waited = true;
    });
    if (length == 0ms) loop.caller.call_soon([&] { work.cancel("enough"); });
    loop.settle();
    loop.clock.advance(length);
    loop.settle();
    CHECK_FALSE(went_on);
    CHECK_FALSE(work.done());
    loop.clock.advance(1ms);
    loop.settle();
    CHECK(waited);
    CHECK(work.cancelled());
  }
}

TEST_CASE("very long delays do not overflow") {
  ManualLoop loop;
  loop.clock.advance(1h);
  auto p = loop.caller.call_later(Duration::max(), [] {});
  auto s = loop.caller.call_soon([]() -> Coro<void> { co_await sleep_for(Duration::max()); });
  auto w = loop.caller.call_soon([]() -> Coro<void> { co_await Pending<>().async_wait({.timeout = Duration::max()}); });
  loop.settle();
  CHECK_FALSE(p.done());
  CHECK_FALSE(s.done());
  CHECK_FALSE(w.done());
}

TEST_CASE("sleep_for zero and yield_now let everything else that is ready run first") {
  ManualLoop loop;
  std::string order;
  loop.caller.call_soon([&]() -> Coro<void> {
    order += "a";
    co_await yield_now();
    order += "c";
    co_await sleep_for(0ms);
    order += "d";
  });
  loop.caller.call_soon([&] { order += "b"; });
  loop.settle();
  CHECK(order == "abcd");
}

TEST_CASE("calls run in the order made, never inside the call") {
  ManualLoop loop;
  std::string order;
  loop.caller.call_soon([&] {
    loop.caller.call_soon([&] { order += "d"; });
    loop.caller.call_direct([&] { order += "e"; });
    order += "a";
  });
  loop.caller.call_direct([&] { order += "b"; });
  loop.caller.post([&] { order += "c"; });
  CHECK(order.empty());
  loop.settle();
  CHECK(order == "abcde");
}

TEST_CASE("an error of call_direct or post goes to the handler and the next item runs") {
  ManualLoop loop;
  bool ran = false;
  loop.caller.call_direct([] { throw std::runtime_error("direct"); });
  loop.caller.post([] { throw std::runtime_error("posted"); });
  loop.caller.call_direct([&] { ran = true; });
  loop.settle();
  CHECK(ran);
  CHECK(loop.reports.size() == 2);
}

TEST_CASE("a real clock fires, too") {
  Caller c(new_thread);
  Pending<int> p = c.call_later(1ms, [] { return 1; });
  CHECK(p.wait() == 1);
  Caller m(new_thread, {.backend = Backend::manual});
  CHECK(m.call_later(1ms, [] { return 2; }).wait() == 2);
  auto far = c.call_later(1h, [] {});
  CHECK(far.cancel());
  CHECK(far.done());
}

TEST_CASE("an earlier timer set while the loop sleeps for a later one wakes it") {
  Caller c(new_thread);
  auto late = c.call_later(1h, [] {});
  c.call_soon([] {}).wait();
  CHECK(c.call_later(1ms, [] { return 3; }).wait() == 3);
  late.cancel();
}
