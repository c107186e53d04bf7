// caller/context.hpp
#include "support/coro.hpp"

#include <thread>

using namespace caller;
using namespace caller::test;

ASYNC_TEST_CASE("a variable set before a call is seen by it, and what the call sets stays its own") {
  ContextVar<int> var;
  CHECK(var.find() == nullptr);
  CHECK(var.get_or(9) == 9);
  var.set(1);
  Caller c = Caller::current();
  auto soon = c.call_soon([&] {
    CHECK(var.get_or(0) == 1);
    var.set(2);
    CHECK(var.get_or(0) == 2);
  });
  auto later = c.call_later(1ms, [&] { CHECK(var.get_or(0) == 1); });
  var.set(3);
  co_await soon;
  co_await later;
  CHECK(var.get_or(0) == 3);
}

ASYNC_TEST_CASE("the context is restored on each resume") {
  ContextVar<int> var;
  auto work = [&var](int n) -> Coro<void> {
    var.set(n);
    for (int i = 0; i < 5; ++i) {
      co_await yield_now();
      CHECK(var.get_or(0) == n);
      co_await sleep_for(1ms);
      CHECK(var.get_or(0) == n);
    }
  };
  Caller c = Caller::current();
  auto a = c.call_soon(work, 1);
  auto b = c.call_soon(work, 2);
  var.set(7);
  co_await a;
  co_await b;
  CHECK(var.get_or(0) == 7);
}

ASYNC_TEST_CASE("a coroutine that is awaited shares its awaiter's context") {
  ContextVar<int> var;
  var.set(1);
  auto inner = [&]() -> Coro<void> {
    CHECK(var.get_or(0) == 1);
    co_await yield_now();
    var.set(2);
  };
  co_await inner();
  CHECK(var.get_or(0) == 2);
}

ASYNC_THREADS_TEST_CASE("worker threads, direct calls, lanes and callbacks inherit the context of who asked for them") {
  ContextVar<int> var;
  Caller c = Caller::current();
  var.set(1);
  const int in_worker = co_await c.to_thread([&] { return var.get_or(0); });
  CHECK(in_worker == 1);

  int direct = 0, called_back = 0;
  Pending<> p;
  p.add_done_callback([&](const PendingBase&) { called_back = var.get_or(0); });
  c.call_direct([&] {
    direct = var.get_or(0);
    var.set(50);
  });
  var.set(2);
  p.set_result();
  co_await yield_now();
  CHECK(direct == 1);
  CHECK(called_back == 1);
  CHECK(var.get_or(0) == 2);

  // Each item of a lane brings its own, not the first one's.
  std::vector<int> seen;
  const auto note = [&](int n) {
    seen.push_back(var.get_or(0));
    var.set(n * 100);
  };
  for (int i = 1; i <= 3; ++i) {
    var.set(i);
    c.queue_call("lane", note, i);
  }
  co_await c.call_soon([] {});
  CHECK(seen == std::vector<int>{1, 2, 3});
  c.queue_close("lane");
}

TEST_CASE("post runs without any context") {
  ContextVar<int> var;
  ManualLoop loop;
  ContextVar<int>::Scope scope(var, 1);
  int seen = 5;
  loop.caller.post([&] { seen = var.get_or(0); });
  loop.settle();
  CHECK(seen == 0);
}

TEST_CASE("what a post sets is gone with it") {
  ContextVar<std::shared_ptr<int>> var;
  ManualLoop loop;
  auto value = std::make_shared<int>(1);
  bool seen_by_post = false, seen_by_call = false;
  loop.caller.post([&] {
    var.set(value);
    loop.caller.call_soon([&] { seen_by_call = var.get_or(nullptr) != nullptr; });
  });
  loop.caller.post([&] { seen_by_post = var.get_or(nullptr) != nullptr; });
  loop.caller.post([&] {
    var.set(value);
    throw std::runtime_error("a post's");
  });
  loop.settle();
  CHECK_FALSE(seen_by_post);
  CHECK(seen_by_call);  // which it has made
  CHECK(value.use_count() == 1);
}

TEST_CASE("schedule_call may be given another context") {
  ContextVar<int> var;
  ManualLoop loop;
  Context other;
  {
    ContextVar<int>::Scope scope(var, 1);
    other = Context::current();
  }
  ScheduleOptions options;
  options.context = other;
  auto p = loop.caller.schedule_call(options, [&] { return var.get_or(0); });
  options.context = Context();
  auto none = loop.caller.schedule_call(options, [&] { return var.get_or(0); });
  loop.settle();
  CHECK(p.result() == 1);
  CHECK(none.result() == 0);
}

TEST_CASE("a Scope sets a variable until it ends, and Context::run keeps changes to itself") {
  ContextVar<int> var;
  {
    ContextVar<int>::Scope outer(var, 1);
    {
      ContextVar<int>::Scope inner(var, 2);
      CHECK(var.get_or(0) == 2);
    }
    CHECK(var.get_or(0) == 1);
    const Context now = Context::current();
    now.run([&] { var.set(5); });
    CHECK(var.get_or(0) == 1);
    CHECK(now == Context::current());
    CHECK_THROWS(now.run([&] {
      var.set(6);
      throw std::runtime_error("x");
    }));
    CHECK(var.get_or(0) == 1);
  }
  CHECK(var.find() == nullptr);
}

TEST_CASE("two variables do not see each other's values, also of one type") {
  ContextVar<int> a, b;
  ContextVar<int>::Scope scope(a, 1);
  CHECK(b.find() == nullptr);
}

TEST_CASE("values are freed when the last call that saw them has ended") {
  std::weak_ptr<int> watch;
  ContextVar<std::shared_ptr<int>> var;
  ManualLoop loop;
  auto p = loop.caller.call_soon([&]() -> Coro<void> {
    auto value = std::make_shared<int>(1);
    watch = value;
    var.set(std::move(value));
    Caller::current().call_soon([]() -> Coro<void> { co_await sleep_for(1h); });
    co_return;
  });
  loop.settle();
  CHECK(p.done());
  CHECK_FALSE(watch.expired());
  while (loop.step()) {
  }
  CHECK(watch.expired());
}

TEST_CASE("a variable may be set a million times") {
  ContextVar<int> var;
  const Context before = Context::current();
  before.run([&] {
    for (int i = 0; i < 1'000'000; ++i) var.set(i);
    CHECK(var.get_or(0) == 999'999);
  });
  CHECK(var.find() == nullptr);
}
