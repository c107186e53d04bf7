// caller/group.hpp
#include "support/coro.hpp"

#include <algorithm>

using namespace caller;
using namespace caller::test;

namespace {

PendingGroupOptions mode(int m) {
  PendingGroupOptions o;
  o.mode = m;
  return o;
}

enum class Exit { quiet, cancelled, group_error, other };

/// How a coroutine ends.
template <class C>
Coro<Exit> exit_of(C coro) {
  try {
    co_await std::move(coro);
  } catch (const PendingCancelled&) {
    co_return Exit::cancelled;
  } catch (const PendingGroupError&) {
    co_return Exit::group_error;
  } catch (...) {
    co_return Exit::other;
  }
  co_return Exit::quiet;
}

}  // namespace

ASYNC_TEST_CASE("a group waits for everything that was started in it and gives the body's value") {
  int ended = 0;
  const int value = co_await with_pending_group([&](PendingGroup& g) -> Coro<int> {
    Caller c = Caller::current();
    for (int i = 0; i < 3; ++i)
      c.call_soon([&, i]() -> Coro<void> {
        co_await sleep_for(i * 1ms);
        ++ended;
      });
    c.call_later(5ms, [&] { ++ended; });
    CHECK(g.size() == 4);
    co_return 42;
  });
  CHECK(value == 42);
  CHECK(ended == 4);
}

ASYNC_TEST_CASE("calls made by members are members") {
  bool grandchild = false;
  co_await with_pending_group([&](PendingGroup&) -> Coro<void> {
    Caller::current().call_soon([&] {
      Caller::current().call_soon([&]() -> Coro<void> {
        co_await sleep_for(1ms);
        grandchild = true;
      });
    });
    co_return;
  });
  CHECK(grandchild);
}

ASYNC_THREADS_TEST_CASE("members made on other threads are waited for, too") {
  std::atomic<int> ended{0};
  co_await with_pending_group([&](PendingGroup&) -> Coro<void> {
    Caller::current().to_thread([&ended] {
      Caller::current().call_soon([&ended]() -> Coro<void> {
        co_await sleep_for(1ms);
        ++ended;
      });
      ++ended;
    });
    co_return;
  });
  CHECK(ended == 2);
}

ASYNC_TEST_CASE("an error of a member cancels the others and leaves with all errors") {
  bool cancelled = false, body_cancelled = false;
  std::vector<std::string> texts;
  try {
    co_await with_pending_group([&](PendingGroup&) -> Coro<void> {
      Caller c = Caller::current();
      c.call_soon([&]() -> Coro<void> {
        CHECK_CORO_THROWS_AS(co_await sleep_for(1h), PendingCancelled);
        cancelled = true;
        throw std::logic_error("dropped: it was cancelled");
      });
      c.call_soon([] { throw std::runtime_error("one"); });
      c.call_soon([] { throw std::runtime_error("two"); });
      CHECK_CORO_THROWS_AS(co_await sleep_for(1h), PendingCancelled);
      body_cancelled = true;
    });
  } catch (const PendingGroupError& e) {
    for (auto& error : e.errors()) {
      try {
        std::rethrow_exception(error);
      } catch (const std::exception& x) {
        texts.push_back(x.what());
      }
    }
    CHECK(std::string(e.what()).find("one") != std::string::npos);
  }
  CHECK(cancelled);
  CHECK(body_cancelled);
  REQUIRE(!texts.empty());
  CHECK(texts[0] == "one");
}

ASYNC_TEST_CASE("an error of the body cancels the members and leaves unchanged") {
  bool cancelled = false;
  bool left = false;
  try {
    co_await with_pending_group([&](PendingGroup&) -> Coro<void> {
      Caller::current().call_soon([&]() -> Coro<void> {
        CHECK_CORO_THROWS_AS(co_await sleep_for(1h), PendingCancelled);
        cancelled = true;
      });
      co_await yield_now();
      throw std::logic_error("the body's");
    });
  } catch (const std::logic_error& e) {
    left = std::string(e.what()) == "the body's";
  }
  CHECK(left);
  CHECK(cancelled);
}

ASYNC_TEST_CASE("an error that the body throws when the group cancels it leaves, in every mode") {
  const auto stubborn = []() -> Coro<void> {
    try {
      co_await sleep_for(1h);
    } catch (const PendingCancelled&) {
    }
    throw std::runtime_error("of the clean-up");
  };
  for (int m = 0; m < 4; ++m) {
    CAPTURE(m);
    std::string left;
    const auto by_itself = [&stubborn](PendingGroup& g) -> Coro<int> {
      Caller::current().call_soon([&g] { g.cancel(); });
      co_await stubborn();
      co_return 1;
    };
    try {
      co_await with_pending_group(mode(m), by_itself);
    } catch (const std::runtime_error& e) {
      left = e.what();
    }
    CHECK(left == "of the clean-up");

    left.clear();
    PendingGroupOptions timed = mode(m);
    timed.timeout = 1ms;
    const auto in_time = [&stubborn](PendingGroup&) -> Coro<void> { co_await stubborn(); };
    try {
      co_await with_pending_group(timed, in_time);
    } catch (const std::runtime_error& e) {
      left = e.what();
    }
    CHECK(left == "of the clean-up");

    std::size_t errors = 0;
    const auto beside_member = [&stubborn](PendingGroup&) -> Coro<void> {
      Caller::current().call_soon([] { throw std::runtime_error("of a member"); });
      co_await stubborn();
    };
    try {
      co_await with_pending_group(mode(m), beside_member);
    } catch (const PendingGroupError& e) {
      errors = e.errors().size();
      left = e.what();
    }
    CHECK(errors == 2);
    CHECK(left.find("of a member; of the clean-up") != std::string::npos);
  }
}

ASYNC_TEST_CASE("an error of an inner group's body leaves the outer one, whatever that makes of cancelled members") {
  const auto inner = [](PendingGroup&) -> Coro<void> {
    Caller::current().call_soon([]() -> Coro<void> { co_await sleep_for(1h); });
    co_await yield_now();
    throw std::runtime_error("of the inner body");
  };
  const auto outer = [&inner](PendingGroup&) -> Coro<void> { co_await with_pending_group(inner); };
  for (int m = 0; m < 4; ++m) {
    CAPTURE(m);
    std::string left;
    try {
      co_await with_pending_group(mode(m), outer);
    } catch (const std::runtime_error& e) {
      left = e.what();
    }
    CHECK(left == "of the inner body");
  }
}

ASYNC_TEST_CASE("a cancelled member, by mode: 0 and 3 go on, 1 and 2 cancel the group, 1 and 3 throw") {
  for (int m = 0; m <= 3; ++m) {
    CAPTURE(m);
    bool other_ended = false;
    Exit how = co_await exit_of(with_pending_group(mode(m), [&](PendingGroup& g) -> Coro<void> {
      Caller c = Caller::current();
      auto victim = c.call_soon([]() -> Coro<void> { co_await sleep_for(1h); });
      c.call_soon([&]() -> Coro<void> {
        co_await sleep_for(5ms);
        other_ended = true;
      });
      co_await sleep_for(1ms);
      victim.cancel();
      co_await sleep_for(1ms);
      CHECK(g.cancelled() == (m == 1 || m == 2));
    }));
    CHECK(how == (m == 1 || m == 3 ? Exit::cancelled : Exit::quiet));
    CHECK(other_ended == (m == 0 || m == 3));
  }
}

ASYNC_TEST_CASE("without a cancelled member every mode leaves quietly") {
  for (int m = 0; m <= 3; ++m) {
    const Exit how = co_await exit_of(with_pending_group(mode(m), [](PendingGroup&) -> Coro<void> {
      Caller::current().call_soon([] {});
      co_return;
    }));
    CHECK(how == Exit::quiet);
  }
}

ASYNC_TEST_CASE("a group's time-out cancels its members and ends it, by mode") {
  for (int m = 0; m <= 3; ++m) {
    CAPTURE(m);
    bool cancelled = false;
    PendingGroupOptions options = mode(m);
    options.timeout = 5ms;
    const Exit how = co_await exit_of(with_pending_group(options, [&](PendingGroup&) -> Coro<void> {
      Caller::current().call_soon([&]() -> Coro<void> {
        CHECK_CORO_THROWS_AS(co_await sleep_for(1h), PendingCancelled);
        cancelled = true;
      });
      co_return;
    }));
    CHECK(cancelled);
    CHECK(how == (m == 1 || m == 3 ? Exit::cancelled : Exit::quiet));
  }
}

ASYNC_TEST_CASE("a group that ends in time takes its timer with it") {
  PendingGroupOptions options;
  options.timeout = 1h;
  co_await with_pending_group(options, [](PendingGroup&) -> Coro<void> { co_await sleep_for(1ms); });
  co_await yield_now();
  CHECK(detail::next_timer(Caller::current().core()) == -1);
}

ASYNC_TEST_CASE("a cancellation from outside cancels the members and leaves after their end") {
  bool cancelled = false;
  auto work = Caller::current().call_soon([&]() -> Coro<void> {
    co_await with_pending_group([&](PendingGroup&) -> Coro<void> {
      Caller::current().call_soon([&]() -> Coro<void> {
        CHECK_CORO_THROWS_AS(co_await sleep_for(1h), PendingCancelled);
        co_await sleep_for(3ms);
        cancelled = true;
      });
      co_await sleep_for(1h);
    });
  });
  co_await sleep_for(1ms);
  work.cancel();
  co_await work.async_wait_done({.protect = true});
  CHECK(cancelled);
  CHECK(work.cancelled());
}

ASYNC_TEST_CASE("a shielded group holds a cancellation from outside back until it ends") {
  bool ended = false, after = false;
  auto work = Caller::current().call_soon([&]() -> Coro<void> {
    PendingGroupOptions options;
    options.shield = true;
    co_await with_pending_group(options, [&](PendingGroup&) -> Coro<void> {
      co_await sleep_for(5ms);
      ended = true;
    });
    after = true;
  });
  co_await sleep_for(1ms);
  work.cancel();
  co_await work.async_wait_done({.protect = true});
  CHECK(ended);
  CHECK_FALSE(after);
}

ASYNC_TEST_CASE("nested groups both see the members of the inner one") {
  bool inner_error = false, outer_error = false;
  try {
    co_await with_pending_group([&](PendingGroup& outer) -> Coro<void> {
      try {
        co_await with_pending_group([&](PendingGroup& inner) -> Coro<void> {
          Caller::current().call_soon([]() -> Coro<void> { co_await sleep_for(1ms); });
          CHECK(inner.size() == 1);
          CHECK(outer.size() == 1);
          Caller::current().call_soon([] { throw std::runtime_error("seen by both"); });
          co_return;
        });
      } catch (const PendingGroupError&) {
        inner_error = true;
      }
      co_await yield_now();
    });
  } catch (const PendingGroupError& e) {
    outer_error = e.errors().size() == 1;
  }
  CHECK(inner_error);
  CHECK(outer_error);
}

ASYNC_TEST_CASE("a cancelled group cancels who joins it later") {
  PendingGroup group;
  group.cancel();
  Pending<> late;
  CHECK(group.add(late));
  CHECK(late.cancelled());
  bool ran = false;
  {
    PendingGroup::Scope scope(group);
    Caller::current().call_soon([&] { ran = true; });
  }
  co_await group.join();
  CHECK_FALSE(ran);
  CHECK_FALSE(group.add(Pending<>()));  // it has ended
}

ASYNC_TEST_CASE("a group as an object: a Scope makes members, join waits for them") {
  int ended = 0;
  PendingGroup group = Caller::current().create_pending_group();
  {
    PendingGroup::Scope scope(group);
    for (int i = 0; i < 3; ++i)
      Caller::current().call_soon([&]() -> Coro<void> {
        co_await sleep_for(1ms);
        ++ended;
      });
  }
  Caller::current().call_soon([&] { ended += 100; });  // outside of the scope
  CHECK(group.size() == 3);
  co_await group.join();
  CHECK(ended == 103);
  CHECK(group.size() == 0);
}

ASYNC_TEST_CASE("joining an empty group returns at once, a done member counts") {
  PendingGroup empty;
  co_await empty.join();
  PendingGroup failed;
  Pending<> p;
  p.set_exception(std::runtime_error("done before"));
  failed.add(p);
  const Exit how = co_await exit_of(failed.join());
  CHECK(how == Exit::group_error);
}

ASYNC_TEST_CASE("a group destroyed unjoined cancels its members") {
  Pending<> member;
  {
    PendingGroup group;
    group.add(member);
  }
  CHECK(member.cancelled());
  co_return;
}

ASYNC_TEST_CASE("the error of a group carries those of all its members") {
  PendingGroup group;
  for (const char* text : {"one", "two", "three"}) {
    Pending<> failed;
    failed.set_exception(std::make_exception_ptr(std::runtime_error(text)));
    group.add(failed);
  }
  std::size_t found = 0;
  try {
    co_await group.join();
  } catch (const PendingGroupError& e) {
    found = e.errors().size();
  }
  CHECK(found == 3);
}

ASYNC_TEST_CASE("a member that waits for its own group is told so, and starts no time-out by it") {
  PendingGroupOptions options;
  options.timeout = 1h;
  PendingGroup group(options);
  Pending<> member;
  {
    const PendingGroup::Scope inside(group);
    member = Caller::current().call_soon([&group]() -> Coro<void> { co_await group.join(); });
  }
  co_await member.async_wait_done({.protect = true});
  CHECK_THROWS_WITH_AS(member.result(), doctest::Contains("own group"), Error);
  CHECK(detail::next_timer(Caller::current().core()) == -1);
  CHECK_CORO_THROWS_AS(co_await group.join(), PendingGroupError);
}

TEST_CASE("errors of members that nobody will be given are reported") {
  ManualLoop loop;
  auto unjoined = loop.caller.call_soon([]() -> Coro<void> {
    PendingGroup group;
    {
      const PendingGroup::Scope inside(group);
      (void)Caller::current().call_soon([] { throw std::runtime_error("of the unjoined"); });
    }
    co_await yield_now();
  });
  loop.settle();
  Pending<> member;
  member.protect();
  const auto failing = [member](PendingGroup& group) -> Coro<void> {
    group.add(member);
    throw std::runtime_error("of the body");
    co_return;
  };
  auto body = loop.caller.call_soon([&failing]() -> Coro<void> { co_await with_pending_group(failing); });
  loop.settle();
  member.set_exception(std::make_exception_ptr(std::runtime_error("of a member")));
  loop.settle();
  std::string all;
  for (const auto& text : loop.reports.list()) all += text + "\n";
  CHECK(all.find("of the unjoined") != std::string::npos);
  CHECK(all.find("of a member") != std::string::npos);
  REQUIRE(body.done());
  CHECK_THROWS_WITH(body.result(), "of the body");
}

ASYNC_TEST_CASE("a call that opts out is no member") {
  Pending<> other;
  co_await with_pending_group([&](PendingGroup& g) -> Coro<void> {
    ScheduleOptions options;
    options.opt_out_of_groups = true;
    options.delay = 1h;
    other = Caller::current().schedule_call(options, [] {});
    CHECK(g.size() == 0);
    co_return;
  });
  CHECK_FALSE(other.done());
  other.cancel();
}

ASYNC_THREADS_TEST_CASE("members on several threads fail at once and all are collected or cancelled") {
  for (int round = 0; round < 10; ++round) {
    std::size_t errors = 0;
    try {
      co_await with_pending_group([&](PendingGroup&) -> Coro<void> {
        for (int i = 0; i < 4; ++i) Caller::current().to_thread([] { throw std::runtime_error("x"); });
        co_return;
      });
    } catch (const PendingGroupError& e) {
      errors = e.errors().size();
    }
    CHECK(errors >= 1);
    CHECK(errors <= 4);
  }
}
