// caller/tracker.hpp
#include "support/coro.hpp"

#include <algorithm>
#include <thread>

using namespace caller;
using namespace caller::test;

namespace {
using List = std::vector<PendingBase>;
}

ASYNC_TEST_CASE("calls made in a tracker's scope are registered until they are done, and others are not") {
  PendingTracker tracker;
  Caller c = Caller::current();
  auto before = c.call_soon([] {});
  List inside;
  {
    const PendingTracker::Scope scope(tracker);
    inside.push_back(c.call_soon([] {}));
    inside.push_back(c.call_later(1ms, [] {}));
    inside.push_back(c.call_soon([]() -> Coro<void> { co_await sleep_for(2ms); }));
  }
  auto after = c.call_soon([] {});
  CHECK(tracker.count() == 3);
  CHECK(tracker.list() == inside);
  CHECK_FALSE(tracker.contains(before));
  CHECK_FALSE(tracker.contains(after));
  co_await inside[1].async_wait_done();
  CHECK(tracker.list() == List{inside[2]});
  CHECK(co_await tracker.async_wait_done());
  CHECK(tracker.count() == 0);
  CHECK(inside[2].done());
}

ASYNC_THREADS_TEST_CASE("what registered calls start is registered, on other threads too") {
  PendingTracker tracker;
  std::atomic<int> ended{0};
  {
    const PendingTracker::Scope scope(tracker);
    Caller::current().to_thread([&ended] {
      Caller::current().call_soon([&ended]() -> Coro<void> {
        co_await sleep_for(1ms);
        ++ended;
      });
      ++ended;
    });
  }
  CHECK(co_await tracker.async_wait_done());
  CHECK(ended == 2);
}

ASYNC_TEST_CASE("an error or a cancellation takes a call out of its tracker and leaves the others alone") {
  PendingTracker tracker;
  Caller c = Caller::current();
  std::optional<PendingTracker::Scope> scope(std::in_place, tracker);
  auto stays = c.call_later(1h, [] {});
  auto fails = c.call_soon([] { throw std::runtime_error("x"); });
  auto cancelled = c.call_later(1h, [] {});
  scope.reset();
  cancelled.cancel();
  CHECK_CORO_THROWS_AS(co_await fails, std::runtime_error);
  CHECK(tracker.list() == List{stays});
  stays.cancel();
  CHECK(tracker.count() == 0);
}

ASYNC_TEST_CASE("nested trackers and groups all see a call") {
  PendingTracker outer, inner;
  Caller c = Caller::current();
  const PendingTracker::Scope a(outer);
  co_await with_pending_group([&](PendingGroup& group) -> Coro<void> {
    const PendingTracker::Scope b(inner);
    auto p = c.call_soon([] {});
    CHECK(outer.contains(p));
    CHECK(inner.contains(p));
    CHECK(group.size() == 1);
    co_await p;
  });
  CHECK(outer.count() == 0);
  CHECK(inner.count() == 0);
}

ASYNC_TEST_CASE("a call may opt out of its trackers; what it starts does not") {
  PendingTracker tracker;
  const PendingTracker::Scope scope(tracker);
  ScheduleOptions options;
  options.opt_out_of_groups = true;
  auto started = Caller::current().schedule_call(options, [&] {
    CHECK(tracker.count() == 0);
    auto p = Caller::current().call_soon([] {});
    CHECK(tracker.list() == List{p});
    return PendingBase(p);
  });
  const PendingBase p = co_await started;
  co_await p.async_wait_done();
}

ASYNC_TEST_CASE("a call with explicit trackers joins exactly those, and so does what it starts") {
  PendingTracker in_force, chosen;
  PendingGroup group;
  const PendingTracker::Scope scope(in_force);
  ScheduleOptions options;
  options.trackers = Trackers{chosen, group};
  bool isolated = false;
  auto p = Caller::current().schedule_call(options, [&] {
    auto q = Caller::current().call_soon([] {});
    isolated = !in_force.contains(q) && chosen.contains(q) && group.size() == 2;
  });
  CHECK_FALSE(in_force.contains(p));
  CHECK(chosen.contains(p));
  CHECK(group.size() == 1);
  co_await group.join();
  CHECK(isolated);
}

ASYNC_TEST_CASE("a call with no trackers is seen by none, nor is what it starts; its variables stay") {
  static ContextVar<int> var;
  const ContextVar<int>::Scope value(var, 7);
  PendingTracker tracker;
  const PendingTracker::Scope scope(tracker);
  ScheduleOptions options;
  options.trackers = Trackers{};
  int seen = 0;
  auto p = Caller::current().schedule_call(options, [&] {
    seen = var.get_or(0);
    return PendingBase(Caller::current().call_soon([] {}));
  });
  CHECK(tracker.count() == 0);
  const PendingBase inner = co_await p;
  CHECK(tracker.count() == 0);
  CHECK(seen == 7);
  co_await inner.async_wait_done();
  std::optional<PendingTracker::OptOut> unseen(std::in_place);
  auto q = Caller::current().call_soon([] {});
  unseen.reset();
  CHECK(tracker.count() == 0);
  auto r = Caller::current().call_soon([] {});
  CHECK(tracker.list() == List{r});
  co_await q;
  co_await r;
}

ASYNC_TEST_CASE("a Pending without a call joins a tracker by hand, and may be taken out") {
  PendingTracker tracker;
  Pending<> p, q;
  CHECK(tracker.add(p));
  CHECK_FALSE(tracker.add(p));
  CHECK(tracker.add(q));
  CHECK(tracker.remove(q));
  CHECK_FALSE(tracker.remove(q));
  CHECK(tracker.list() == List{p});
  p.set_result();
  CHECK(tracker.count() == 0);
  CHECK_FALSE(tracker.add(p));
  q.cancel();
  co_return;
}

ASYNC_TEST_CASE("a tracker tells of each call before its work begins, and when it is done") {
  std::vector<std::string> events;
  PendingTrackerOptions options;
  options.added = [&](const PendingBase&) { events.emplace_back("added"); };
  options.done = [&](const PendingBase& p) { events.emplace_back(p.done() ? "done" : "?"); };
  PendingTracker tracker(options);
  const PendingTracker::Scope scope(tracker);
  co_await Caller::current().call_soon([&] { events.emplace_back("work"); });
  CHECK(events == std::vector<std::string>{"added", "work", "done"});
}

TEST_CASE("what a tracker's functions throw is reported, and it goes on") {
  ManualLoop loop;
  PendingTrackerOptions options;
  options.added = [](const PendingBase&) { throw std::runtime_error("one"); };
  options.done = [](const PendingBase&) { throw std::runtime_error("two"); };
  PendingTracker tracker(options);
  Pending<> p;
  CHECK(tracker.add(p));
  p.set_result();
  CHECK(tracker.count() == 0);
  CHECK(loop.reports.list() == std::vector<std::string>{"PendingTracker added: one", "PendingTracker done: two"});
}

ASYNC_TEST_CASE("waiting for a tracker has a time-out, cancels nothing, and cannot wait for itself") {
  PendingTracker tracker;
  CHECK(co_await tracker.async_wait_done());
  Pending<> p;
  tracker.add(p);
  CHECK_FALSE(co_await tracker.async_wait_done(1ms));
  CHECK_FALSE(p.cancelled());
  auto waiter = Caller::current().call_soon([&]() -> Coro<void> { co_await tracker.async_wait_done(); });
  co_await yield_now();
  waiter.cancel();
  co_await waiter.async_wait_done({.protect = true});
  CHECK_FALSE(p.cancelled());
  const PendingTracker::Scope scope(tracker);
  auto inside = Caller::current().call_soon([&]() -> Coro<void> {
    int found = 0;
    try {
      co_await tracker.async_wait_done();
    } catch (const Error& e) {
      found = e.code().value();
    }
    CHECK(found == static_cast<int>(Errc::deadlock));
  });
  co_await inside;
  p.set_result();
  CHECK(co_await tracker.async_wait_done());
}

TEST_CASE("plain code waits for a tracker") {
  PendingTracker tracker;
  Caller c(new_thread);
  std::atomic<int> ended{0};
  {
    const PendingTracker::Scope scope(tracker);
    for (int i = 0; i < 5; ++i)
      c.call_soon([&]() -> Coro<void> {
        co_await sleep_for(100us);
        ++ended;
      });
  }
  CHECK(tracker.wait_done());
  CHECK(ended == 5);
  Pending<> p;
  tracker.add(p);
  CHECK_FALSE(tracker.wait_done(0ms));
  p.set_result();
}

TEST_CASE("a tracker that is gone lets its calls go on, and wakes who waits for it") {
  ManualLoop loop;
  auto tracker = std::make_unique<PendingTracker>();
  int ran = 0;
  auto work =
      loop.caller.call_soon([&, scope = std::make_shared<std::optional<PendingTracker::Scope>>()]() -> Coro<void> {
        scope->emplace(*tracker);
        Caller::current().call_later(1ms, [&ran] { ++ran; });
        co_await sleep_for(2ms);
        Caller::current().call_soon([&ran] { ++ran; });  // the scope is open, the tracker gone
        co_await yield_now();
        scope->reset();
      });
  loop.settle();
  CHECK(tracker->count() == 1);
  auto waiter = loop.caller.call_soon([&]() -> Coro<void> { co_await tracker->async_wait_done(); });
  loop.settle();
  tracker.reset();
  loop.settle();
  CHECK(waiter.done());
  while (!work.done()) REQUIRE(loop.step());
  CHECK(ran == 2);
}

TEST_CASE("a tracker may be registered with from many threads at once") {
  constexpr int kThreads = 4, kCalls = 200;
  std::atomic<int> added{0}, done{0};
  PendingTrackerOptions options;
  options.added = [&](const PendingBase&) { ++added; };
  options.done = [&](const PendingBase&) { ++done; };
  PendingTracker tracker(options);
  Caller c(new_thread);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&] {
      const PendingTracker::Scope scope(tracker);
      for (int i = 0; i < kCalls; ++i) {
        auto p = c.call_soon([] {});
        if (i % 3 == 0) p.cancel();
      }
    });
  for (auto& t : threads) t.join();
  tracker.wait_done();
  CHECK(added == kThreads * kCalls);
  CHECK(done == kThreads * kCalls);
}
