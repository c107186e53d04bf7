// What a runner does while its store, or what it asks its application for, fails it.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include <caller/all.hpp>
#include <caller/task/all.hpp>

#include "faulty_store.hpp"
#include "settings.hpp"
#include "support/comes_true.hpp"

using namespace caller::task;
using namespace std::chrono_literals;
using caller::test::comes_true;

namespace {

/// A runner on a store with faults, over each of the stores.
template <class F>
void on_every_faulty_store(F f, const std::function<void(AppOptions&)>& more = {}) {
  on_every_setting([&](const Setting& s) {
    const auto store = std::make_shared<FaultyStore>(s.make());
    Bench bench(s, 2, [&](AppOptions& o) {
      o.store = store;
      if (more) more(o);
    });
    f(bench, *store);
  });
}

}  // namespace

TEST_CASE("an end that the store cannot take is told again until it is heard: the task runs once") {
  on_every_faulty_store([](Bench& b, FaultyStore& store) {
    std::atomic<int> runs{0};
    const auto plain = b.app.task("ends.plain", [&](int n) { return ++runs, n + 1; }, {"n"});
    const auto co = b.app.task("ends.co", [&](int n) -> caller::Coro<int> { co_return (++runs, n + 2); }, {"n"});
    const auto fails = b.app.task("ends.fails",
                                  [&](int) -> int {
                                    ++runs;
                                    throw std::runtime_error("on its own account");
                                  },
                                  {"n"});
    store.refuses_ends = true;
    b.start();
    const auto first = plain(1), second = co(1), third = fails(1);
    CHECK(comes_true([&] { return store.ends_refused >= 6; }));  // each of them more than once
    CHECK(runs == 3);
    store.refuses_ends = false;
    CHECK(first.result() == 2);
    CHECK(second.result() == 3);
    CHECK_THROWS_WITH_AS((void)third.result(), doctest::Contains("on its own account"), std::runtime_error);
    CHECK(runs == 3);
    CHECK(states(first) == std::vector{Status::registered, Status::pending, Status::running, Status::success});
  });
}

TEST_CASE("an end that was heard, though its answer was lost, is not told again of the next try") {
  const auto store = std::make_shared<FaultyStore>(make_memory_store());
  Bench b({"memory", &make_memory_store, Format::json}, 2, [&](AppOptions& o) { o.store = store; });
  TaskOptions retries;
  retries.max_retries = 3;
  const auto task = b.app.task(
      "ends.heard",
      [](int n) -> caller::Coro<int> {
        if (invocation().retries == 0) throw RetryError("once more");
        co_await caller::sleep_for(600ms);  // until the end would have been told again
        co_return n + invocation().retries;
      },
      {"n"}, retries);
  store->loses_answers = true;
  b.start();
  const auto inv = task(1);
  CHECK(inv.result() == 2);
  CHECK(states(inv) == std::vector{Status::registered, Status::pending, Status::running, Status::retry, Status::pending,
                                   Status::running, Status::success});
}

TEST_CASE("a runner that is to stop at once does not wait for a store that takes no ends") {
  on_every_faulty_store([](Bench& b, FaultyStore& store) {
    const auto task = b.app.task("ends.stop", [](int n) { return n; }, {"n"});
    store.refuses_ends = true;
    b.start();
    const auto inv = task(1);
    CHECK(comes_true([&] { return store.ends_refused >= 1; }));
    CHECK(b.runner->stop(true).wait_done({.timeout = 60s}));
    store.refuses_ends = false;
    CHECK(inv.status() == Status::running);  // until its lease is over
  });
}

TEST_CASE("no heartbeat waits for a purge, and a runner that ends does not, either") {
  on_every_faulty_store(
      [](Bench& b, FaultyStore& store) {
        store.holds_purges = true;
        b.start();
        CHECK(comes_true([&] { return store.purges_held == 1; }));
        const int before = store.beats;
        CHECK(comes_true([&] { return store.beats >= before + 5; }));
        CHECK(b.runner->stop().wait_done({.timeout = 60s}));
      },
      [](AppOptions& o) {
        o.lease = 300ms;
        o.auto_final_invocation_purge = 1h;
      });
}

TEST_CASE("what says late that a try waits, and meets the next one, costs that no result") {
  on_every_faulty_store([](Bench& b, FaultyStore& store) {
    TaskOptions elsewhere, retries;
    elsewhere.queue = ".elsewhere";  // nobody executes what is there
    retries.max_retries = 1;
    const auto far = b.app.task("late.far", [](int n) { return n; }, {"n"}, elsewhere);
    caller::Pending<void> left;
    std::string inner_id;
    const auto task = b.app.task(
        "late.twice",
        [&](int n) {
          if (invocation().retries == 0) {
            const auto inner = far(n);
            inner_id = inner.id();
            (void)caller::Caller::current().to_thread([inner, left] {
              CHECK_THROWS((void)inner.result());
              left.set_result();
            });
            store.paused_held.wait(0);
            throw RetryError("once more");
          }
          store.let_go();                               // of the first try, and it is this one that it is said of
          (void)b.app.store().cancel(inner_id).wait();  // unless it is already
          return n + 1;
        },
        {"n"}, retries);
    store.holds_paused = true;
    b.start();
    CHECK(task(1).result() == 2);
    CHECK(left.wait_done({.timeout = 60s}));
  });
}

TEST_CASE("an exception of find_task of whatever type is the invocation's failure, and the runner goes on") {
  on_every_setting([](const Setting& s) {
    const auto store = s.make();
    const auto app = [&](AppOptions o) {
      o.app_id = "test";
      o.store = store;
      o.format = s.format;
      return App(std::move(o));
    };
    const App asks = app({});
    const auto unknown = asks.task("find.unknown", [](int n) { return n; }, {"n"});
    const auto known = asks.task("find.known", [](int n) { return n; }, {"n"});
    AppOptions there;
    there.find_task = [](const App&, const std::string&) { throw caller::CallerStopped("of its own"); };
    const App executes = app(std::move(there));
    (void)executes.task("find.known", [](int n) { return n + 1; }, {"n"});
    const auto runner = executes.thread_runner({1, {}, {}});
    runner->start();
    CHECK_THROWS_WITH((void)unknown(1).result(), doctest::Contains("of its own"));
    CHECK(known(1).result() == 2);
    CHECK(runner->stop().wait_done({.timeout = 60s}));
  });
}
