// What is over, replaced or left keeps nothing: variables that are set again, trackers, groups and their bodies.
#include "support/coro.hpp"

using namespace caller;
using namespace caller::test;

namespace {

using Value = std::shared_ptr<int>;

std::size_t links_of(const detail::ContextNode* node) {
  std::size_t n = 0;
  for (; node; node = node->next) ++n;
  return n;
}
/// of the running code's context
std::size_t links() { return links_of(detail::current_context()); }

/// Calls itself again `rounds` times, each time after `before`, whose scope is open meanwhile; the links at the end.
template <class Open>
std::size_t links_after(int rounds, Open open) {
  ManualLoop loop;
  std::size_t found = 0;
  std::function<void(int)> again = [&](int left) {
    found = links();
    if (left == 0) return;
    [[maybe_unused]] const auto scope = open();
    Caller::current().call_soon(std::cref(again), left - 1);
  };
  loop.caller.call_soon(std::cref(again), rounds);
  loop.settle();
  return found;
}

}  // namespace

TEST_CASE("a value is gone when the work that set it sets another, and the other variables stay") {
  ContextVar<Value> first, second, third;
  Context().run([&] {
    first.set(std::make_shared<int>(1));
    second.set(std::make_shared<int>(2));
    third.set(std::make_shared<int>(3));
    for (ContextVar<Value>* const var : {&first, &second, &third}) {
      const std::weak_ptr<int> replaced = *var->find();
      const Value* const other = (var == &first ? second : first).find();
      var->set(std::make_shared<int>(10 * *replaced.lock()));
      CHECK(replaced.expired());
      CHECK((var == &first ? second : first).find() == other);  // the value itself, not a copy
    }
    CHECK(*first.get_or(nullptr) == 10);
    CHECK(*second.get_or(nullptr) == 20);
    CHECK(*third.get_or(nullptr) == 30);
    CHECK(links() == 3);
  });
}

TEST_CASE("a captured context keeps the values it was captured with") {
  ContextVar<int> low, high;
  Context().run([&] {
    low.set(1);
    high.set(2);
    const Context before = Context::current();
    low.set(10);
    {
      const ContextVar<int>::Scope scope(low, 100);
      CHECK(low.get_or(0) == 100);
      before.run([&] {
        CHECK(low.get_or(0) == 1);
        CHECK(high.get_or(0) == 2);
      });
    }
    CHECK(low.get_or(0) == 10);
    CHECK(high.get_or(0) == 2);
  });
}

ASYNC_TEST_CASE("a coroutine that lasts keeps one value of a variable that it sets for each request") {
  ContextVar<Value> request;
  ContextVar<int> level;
  request.set(std::make_shared<int>(-1));
  level.set(1);
  std::weak_ptr<int> last;
  for (int i = 0; i < 5; ++i) {
    auto value = std::make_shared<int>(i);
    request.set(value);
    CHECK(last.expired());
    last = value;
    value.reset();
    co_await yield_now();
    CHECK(**request.find() == i);
    CHECK(level.get_or(0) == 1);
  }
}

TEST_CASE("work that calls itself again inherits each variable and tracker once") {
  ContextVar<int> var;
  PendingTracker tracker, other;
  PendingGroup group;
  CHECK(links_after(5, [&] {
          var.set(1);
          return 0;
        }) == 1);
  CHECK(links_after(5, [&] { return std::make_shared<ContextVar<int>::Scope>(var, 1); }) == 1);
  CHECK(links_after(5, [&] { return std::make_shared<PendingTracker::Scope>(tracker); }) == 1);
  CHECK(links_after(5, [&] { return std::make_shared<PendingGroup::Scope>(group); }) == 1);
  CHECK(links_after(5, [] { return std::make_shared<PendingTracker::OptOut>(); }) == 0);
  CHECK(links_after(5, [&] {  // all of them
          auto first = std::make_shared<PendingTracker::Scope>(tracker);
          var.set(1);
          auto second = std::make_shared<PendingTracker::Scope>(other);
          return std::pair(std::move(first), std::move(second));
        }) == 3);
}

TEST_CASE("calls with explicit trackers that make the next one carry one set of them") {
  ManualLoop loop;
  ContextVar<int> var;
  PendingTracker tracker;
  std::size_t found = 0;
  std::function<void(int)> again = [&](int left) {
    found = links();
    CHECK(var.get_or(0) == 1);
    if (left == 0) return;
    ScheduleOptions options;
    options.trackers = Trackers{tracker, tracker};
    auto next = Caller::current().schedule_call(options, std::cref(again), left - 1);
    CHECK(tracker.contains(next));
  };
  const ContextVar<int>::Scope scope(var, 1);
  loop.caller.call_soon(std::cref(again), 5);
  loop.settle();
  CHECK(found == 2);
  CHECK(tracker.count() == 0);
}

ASYNC_TEST_CASE("variables that are set within a tracker's scope take nothing from it, and its end nothing from them") {
  ContextVar<int> outside, inside;
  outside.set(1);
  PendingTracker outer, inner;
  const PendingTracker::Scope a(outer);
  inside.set(2);
  Pending<> seen_by_both, seen_by_none;
  {
    const PendingTracker::Scope b(inner);
    outside.set(3);
    inside.set(4);
    seen_by_both = Caller::current().call_soon([] {});
    const PendingTracker::OptOut none;
    CHECK(outside.get_or(0) == 3);
    CHECK(inside.get_or(0) == 4);
    seen_by_none = Caller::current().call_soon([] {});
  }
  CHECK(outer.list() == std::vector<PendingBase>{seen_by_both});
  CHECK(inner.list() == std::vector<PendingBase>{seen_by_both});
  CHECK(outside.get_or(0) == 1);
  CHECK(inside.get_or(0) == 2);
  co_await seen_by_both;
  co_await seen_by_none;
}

TEST_CASE("many threads may replace values in a context they share") {
  ContextVar<Value> low, high;
  PendingTracker tracker;
  Context().run([&] {
    low.set(std::make_shared<int>(1));
    const PendingTracker::Scope scope(tracker);
    high.set(std::make_shared<int>(2));
    const Context shared = Context::current();
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t)
      threads.emplace_back([&, t] {
        for (int i = 0; i < 1000; ++i)
          shared.run([&] {
            low.set(std::make_shared<int>(t));
            if (**low.find() != t || **high.find() != 2) ++wrong;
            const PendingTracker::OptOut none;
            if (**low.find() != t || **high.find() != 2) ++wrong;
          });
      });
    for (auto& t : threads) t.join();
    CHECK(wrong == 0);
    CHECK(**low.find() == 1);
  });
}

TEST_CASE("work that calls itself again does not inherit trackers and groups that are over") {
  CHECK(links_after(5, [] {
          auto tracker = std::make_shared<PendingTracker>();
          auto scope = std::make_shared<PendingTracker::Scope>(*tracker);
          return std::pair(std::move(tracker), std::move(scope));
        }) == 1);

  ManualLoop loop;
  ContextVar<int> var;
  PendingTracker lasts;
  std::size_t found = 0;
  std::function<Coro<void>(int)> again = [&](int left) -> Coro<void> {
    found = links();
    CHECK(var.get_or(0) == 1);
    if (left == 0) co_return;
    const auto body = [&, left](PendingGroup& group) -> Coro<void> {
      ScheduleOptions options;
      options.opt_out_of_groups = true;
      options.delay = 1ms;  // else its member would be one of this group, too, before that ends
      Caller::current().schedule_call(options, std::cref(again), left - 1);
      auto member = Caller::current().call_soon([] {});
      CHECK(lasts.contains(member));
      CHECK(group.size() == 1);
      co_await member;
    };
    co_await with_pending_group(body);
  };
  {
    const ContextVar<int>::Scope value(var, 1);
    const PendingTracker::Scope scope(lasts);
    loop.caller.call_soon(std::cref(again), 5);
  }
  while (loop.step()) {
  }
  CHECK(found == 3);  // the variable, the tracker, and the last group
}

TEST_CASE("a group that is left keeps nothing of a member that goes on, nor the member") {
  ContextVar<Value> var;
  std::weak_ptr<int> adder, owned;
  {
    Pending<> member;
    member.protect();
    auto of_member = std::make_shared<int>(2);
    owned = of_member;
    member.metadata()["owned"] = std::move(of_member);
    {
      auto value = std::make_shared<int>(1);
      adder = value;
      const ContextVar<Value>::Scope scope(var, std::move(value));
      PendingGroup group;
      group.add(member);
      CHECK(group.size() == 1);
    }
    CHECK_FALSE(member.done());
    CHECK(adder.expired());
    CHECK_FALSE(owned.expired());
  }
  CHECK(owned.expired());
}

TEST_CASE("who joins a group that is destroyed meanwhile waits for its members, and nothing is kept after that") {
  for (const bool abandoned : {false, true}) {
    ContextVar<Value> var;
    std::weak_ptr<int> adder;
    Pending<> member;
    member.protect();
    {
      ManualLoop loop;
      auto group = std::make_unique<PendingGroup>();
      auto joined = loop.caller.call_soon([&]() -> Coro<void> { co_await group->join(); });
      {
        auto value = std::make_shared<int>(1);
        adder = value;
        const ContextVar<Value>::Scope scope(var, std::move(value));
        group->add(member);
      }
      loop.settle();
      group.reset();
      loop.settle();
      CHECK_FALSE(joined.done());
      if (!abandoned) {
        member.set_result();
        loop.settle();
        CHECK(joined.done());
      }
    }
    CHECK(adder.expired());
  }
}

TEST_CASE("a group that an abandoned Caller ends keeps nothing of a member that goes on") {
  ContextVar<Value> var;
  std::weak_ptr<int> adder;
  Pending<> member, inside, gate;
  member.protect();
  {
    Caller loop(manual);
    loop.call_soon([&]() -> Coro<void> {
      Caller::current().get({.name = "child"}).call_soon([&, inside, member]() -> Coro<void> {
        PendingGroup group;
        {
          auto value = std::make_shared<int>(1);
          adder = value;
          const ContextVar<Value>::Scope scope(var, std::move(value));
          group.add(member);
        }
        inside.set_result();
        co_await group.join();
      });
      co_await sleep_for(1h);
    });
    loop.run_until(inside);
  }
  CHECK_FALSE(member.done());
  CHECK(adder.expired());
}

TEST_CASE("groups that are left while their members end in another thread keep nothing") {
  ContextVar<Value> var;
  std::vector<std::weak_ptr<int>> adders;
  std::vector<Pending<>> protected_ones;
  {
    Caller other(new_thread);
    for (int round = 0; round < 300; ++round) {
      auto value = std::make_shared<int>(round);
      adders.push_back(value);
      const ContextVar<Value>::Scope scope(var, std::move(value));
      Pending<> ends, stays;
      ends.protect();
      stays.protect();
      protected_ones.push_back(stays);
      PendingGroup group;
      other.post([ends] { ends.set_result(); });
      group.add(ends);
      group.add(stays);
    }
  }
  std::size_t kept = 0;
  for (const auto& adder : adders) kept += !adder.expired();
  CHECK(kept == 0);
}

TEST_CASE("a tracker whose function takes a Pending out again keeps nothing of it") {
  ContextVar<Value> var;
  std::weak_ptr<int> adder;
  Pending<> member;
  PendingTracker* self = nullptr;
  PendingTrackerOptions options;
  options.added = [&self](const PendingBase& p) { CHECK(self->remove(p)); };
  PendingTracker tracker(options);
  self = &tracker;
  {
    auto value = std::make_shared<int>(1);
    adder = value;
    const ContextVar<Value>::Scope scope(var, std::move(value));
    CHECK(tracker.add(member));
  }
  CHECK(tracker.count() == 0);
  CHECK(adder.expired());
  member.cancel();
}

ASYNC_TEST_CASE("contexts that were captured in a group do not keep what its body gave") {
  Context captured;
  std::weak_ptr<int> result;
  const auto body = [&captured](PendingGroup&) -> Coro<Value> {
    captured = Context::current();
    co_return std::make_shared<int>(1);
  };
  {
    const Value value = co_await with_pending_group(body);
    CHECK(*value == 1);
    result = value;
  }
  CHECK(captured != Context());
  CHECK(result.expired());
}
