// Errors nobody looked at: told once, in the context of the work that failed.
#include "support/coro.hpp"

#include <thread>

using namespace caller;
using namespace caller::test;

namespace {

ContextVar<int>& var() {
  static ContextVar<int> v;
  return v;
}
ContextVar<std::shared_ptr<int>>& held() {
  static ContextVar<std::shared_ptr<int>> v;
  return v;
}

/// The variable's value whenever an error handler is told.
struct Seen {
  std::mutex mutex;
  std::vector<int> list;
  ErrorHandler handler() {
    return [this](const std::string&, const std::exception_ptr&) {
      std::lock_guard lock(mutex);
      list.push_back(var().get_or(-1));
    };
  }
};

}  // namespace

TEST_CASE("the error of a dropped Pending is reported in the context of the work") {
  Seen seen;
  ManualLoop loop({.error_handler = seen.handler()});
  std::vector<PendingBase> kept;
  {
    const ContextVar<int>::Scope work(var(), 1);
    kept.push_back(loop.caller.call_soon([] { throw std::runtime_error("plain"); }));
    kept.push_back(loop.caller.call_soon([] {  // what the work sets itself counts, too
      var().set(2);
      throw std::runtime_error("plain");
    }));
    kept.push_back(loop.caller.call_soon([]() -> Coro<void> {
      co_await yield_now();
      var().set(3);
      throw std::runtime_error("coroutine");
    }));
    kept.push_back(loop.caller.call_soon(
        [](bool fail) -> Coro<void> {  // before there is a coroutine
          if (fail) throw std::runtime_error("no coroutine");
          return []() -> Coro<void> { co_return; }();
        },
        true));
  }
  loop.settle();
  const ContextVar<int>::Scope dropper(var(), 100);
  for (auto& p : kept) p = {};
  CHECK(seen.list == std::vector<int>{1, 2, 3, 1});
  CHECK(var().get_or(0) == 100);
}

TEST_CASE("work without a context is reported without one, whoever drops it") {
  Seen seen;
  ManualLoop loop({.error_handler = seen.handler()});
  PendingBase a = loop.caller.call_soon([] { throw std::runtime_error("x"); });
  PendingBase b = loop.caller.call_soon([]() -> Coro<void> {
    co_await yield_now();
    throw std::runtime_error("x");
  });
  loop.settle();
  const ContextVar<int>::Scope dropper(var(), 100);
  a = b = {};
  CHECK(seen.list == std::vector<int>{-1, -1});
}

TEST_CASE("the context of failed work outlives its Caller, on any thread") {
  Seen seen;
  PendingBase p;
  {
    const ContextVar<int>::Scope work(var(), 4);
    Caller c(new_thread, {.error_handler = seen.handler()});
    p = c.to_thread([] { throw std::runtime_error("x"); });
    p.wait_done();
  }
  std::thread([last = std::move(p)]() mutable { last = {}; }).join();
  CHECK(seen.list == std::vector<int>{4});
}

TEST_CASE("the context of failed work goes when somebody looks at the error; that of other work, with its end") {
  ManualLoop loop;
  std::weak_ptr<int> watch;
  std::optional<ContextVar<std::shared_ptr<int>>::Scope> scope;
  const auto run = [&](auto fn) {
    auto value = std::make_shared<int>(0);
    watch = value;
    scope.emplace(held(), std::move(value));
    auto p = loop.caller.call_soon(std::move(fn));
    scope.reset();
    loop.settle();
    return p;
  };
  auto good = run([] {});
  CHECK(watch.expired());
  auto cancelled = run([] { throw PendingCancelled("x"); });
  CHECK(watch.expired());
  auto bad = run([]() -> Coro<void> {
    co_await yield_now();
    throw std::runtime_error("x");
  });
  CHECK_FALSE(watch.expired());
  CHECK_THROWS_AS(bad.result(), std::runtime_error);
  CHECK(watch.expired());
  auto looked = run([] { throw std::runtime_error("x"); });
  CHECK(looked.exception() != nullptr);
  CHECK(watch.expired());
  CHECK(loop.reports.size() == 0);
}

TEST_CASE("a failed body does not keep its group, nor the group its body") {
  ManualLoop loop;
  auto token = std::make_shared<int>(0);
  std::weak_ptr<int> watch = token;
  auto work = loop.caller.call_soon([t = std::move(token)]() -> Coro<void> {
    PendingTracker tracker;
    const PendingTracker::Scope scope(tracker);
    auto body = [t](PendingGroup&) -> Coro<void> {
      held().set(t);
      Caller::current().call_soon([]() -> Coro<void> {
        co_await yield_now();
        throw std::runtime_error("member");
      });
      co_await yield_now();
      throw std::runtime_error("body");
    };
    co_await with_pending_group(std::move(body));
  });
  loop.settle();
  REQUIRE(work.done());
  CHECK_FALSE(work.cancelled());
  work = {};
  CHECK(watch.expired());
}

TEST_CASE("a report made in the work's context starts no work in its group") {
  std::size_t joined = 1;
  std::optional<PendingTracker> tracker(std::in_place);
  ManualLoop loop({.error_handler = [&](const std::string&, const std::exception_ptr&) {
    const auto p = Caller::current().call_soon([] {});
    joined = tracker->count();
    p.cancel();
  }});
  {
    const PendingTracker::Scope scope(*tracker);
    loop.caller.call_soon([] { throw std::runtime_error("x"); });
  }
  loop.settle();
  CHECK(joined == 0);
}

TEST_CASE("the error of a start-stop task is reported in the context of the task") {
  Seen seen;
  ManualLoop loop({.error_handler = seen.handler()});
  {
    auto task = loop.caller.create_start_stop_task([](StartSignal, Pending<>) -> Coro<void> {
      co_await yield_now();
      throw std::runtime_error("x");
    });
    const ContextVar<int>::Scope work(var(), 6);
    task.start();
    loop.settle();
  }
  CHECK(seen.list == std::vector<int>{6});
}
