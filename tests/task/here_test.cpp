// Calls that run where they are made: in development mode, and from a SyncRunner's start to its stop.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include <caller/all.hpp>
#include <caller/task/all.hpp>

#include "faulty_store.hpp"
#include "settings.hpp"

using namespace caller::task;
using namespace std::chrono_literals;
using caller::Coro;

namespace {

const std::vector kAtOnce{Status::registered, Status::pending, Status::running, Status::success};

/// `f` with an application whose calls run where they are made, for each reason there is for that.
template <class F>
void on_every_inline_app(F f) {
  on_every_setting([&](const Setting& s) {
    for (const bool dev_mode : {true, false}) {
      CAPTURE(dev_mode);
      Bench b(s, 1, [&](AppOptions& o) { o.dev_mode = dev_mode; });
      const auto sync = b.app.make_runner(RunnerKind::sync);
      if (!dev_mode) sync->start();
      f(b.app);
    }
  });
}

}  // namespace

TEST_CASE("what runs where it is called does so at once: its result, its retries, its calls, its error") {
  on_every_inline_app([](const App& app) {
    std::optional<Task<int(int)>> sum;
    sum = app.task("t.sum", [&](int n) { return n == 0 ? 0 : n + (*sum)(n - 1).result(); }, {"n"});
    const auto inv = (*sum)(10);
    CHECK(inv.kind() == InvocationKind::synchronous);
    CHECK(inv.status() == Status::success);
    CHECK(inv.result() == 55);
    CHECK(states((*sum)(0)) == kAtOnce);
    int tries = 0;
    const auto flaky = app.task("t.flaky",
                                [&]() -> int {
                                  if (++tries < 3) throw RetryError();
                                  return tries;
                                },
                                {}, {.max_retries = 5, .retry_backoff = {.first = 1h}});
    const auto third = flaky();
    CHECK(third.result() == 3);
    CHECK(third.num_retries() == 2);
    const auto coroutine = app.task("t.coroutine",
                                    [](int n) -> Coro<int> {
                                      co_await caller::yield_now();
                                      co_return n;
                                    },
                                    {"n"});
    CHECK(coroutine.parallelize(std::vector<std::tuple<int>>{{1}, {2}, {3}}).ordered_results() == std::vector{1, 2, 3});
    const auto fails = app.task("t.fails", []() -> int { throw std::out_of_range("no"); });
    const auto failed = fails();
    CHECK(failed.status() == Status::failed);
    CHECK_THROWS_AS((void)failed.result(), std::out_of_range);
  });
}

TEST_CASE("a SyncRunner executes calls from its start to its stop, and no others") {
  on_every_setting([](const Setting& s) {
    Bench b(s);
    std::vector<std::string> said;
    RunnerOptions o;
    o.on_start = [&] { said.emplace_back("start"); };
    o.on_stop = [&] { said.emplace_back("stop"); };
    const auto sync = b.app.make_runner(RunnerKind::sync, o);
    const auto one = b.app.task("t.one", [] { return 1; });
    const auto before = one();
    sync->start();
    CHECK_THROWS_AS(sync->start(), RunnerError);
    CHECK(one().status() == Status::success);
    sync->stop().wait();
    sync->stop().wait();
    const auto after = one();
    CHECK(before.status() == Status::registered);
    CHECK(after.status() == Status::registered);
    CHECK(said == std::vector<std::string>{"start", "stop"});
    b.start();
    CHECK(before.result() + after.result() == 2);
  });
}

TEST_CASE("a call that runs where it is made does not wait for the delay of its task") {
  on_every_inline_app([](const App& app) {
    TaskOptions o;
    o.delay = 1h;
    const auto later = app.task("t.later", [] { return 1; }, {}, o);
    const auto inv = later();
    CHECK(inv.result() == 1);
    CHECK(states(inv) == kAtOnce);
  });
}

TEST_CASE("a call that runs where it is made is a runner's of this process alone, which beats as long as it runs") {
  on_every_setting([](const Setting& s) {
    const auto store = s.make();
    const auto make = [&] {
      AppOptions o;
      o.app_id = "test";
      o.store = store;
      o.format = s.format;
      o.dev_mode = true;
      o.lease = 60ms;
      return App(std::move(o));
    };
    const auto run = [&](const App& app) {
      std::string owner;
      bool beats = false;
      const auto looks = app.task("t.looks", [&] {
        owner = invocation().runner_id;
        const auto last_beat = [&] {
          for (const auto& r : store->runners().wait())
            if (r.id == owner) return r.last_heartbeat;
          return Time{};
        };
        const Time first = last_beat();
        const auto until = std::chrono::steady_clock::now() + 20s;
        while (last_beat() <= first && std::chrono::steady_clock::now() < until) std::this_thread::yield();
        beats = first != Time{} && last_beat() > first;
      });
      (void)looks();
      CHECK(beats);
      const auto until = std::chrono::steady_clock::now() + 20s;
      while (!store->runners().wait().empty() && std::chrono::steady_clock::now() < until) std::this_thread::yield();
      CHECK(store->runners().wait().empty());
      return owner;
    };
    const App one = make(), other = make();
    CHECK(run(one) != run(other));
  });
}

TEST_CASE("a call that another runner took before it could run where it was made is waited for") {
  on_every_setting([](const Setting& s) {
    const auto store = std::make_shared<FaultyStore>(s.make());
    AppOptions o;
    o.app_id = "test";
    o.store = store;
    o.format = s.format;
    o.dev_mode = true;
    const App app(std::move(o));
    const auto task = app.task("t.taken", [] { return 1; });
    std::atomic<bool> taken{false};
    std::string id;
    store->after_add = [&] {
      id = store->take("other", 1, {}, true).wait().at(0).id;
      taken = true;
      taken.notify_all();
    };
    std::thread other([&] {
      taken.wait(false);
      store->change({id, Status::success, "other", to_bytes(s.format, 7), {}, {}}).wait();
    });
    const auto inv = task();
    other.join();
    CHECK(inv.id() == id);
    CHECK(inv.status() == Status::success);
    CHECK(inv.result() == 7);
    CHECK(inv.history().at(2).owner == "other");
  });
}

TEST_CASE("a call that was taken away while it ran where it was made has the result of whoever took it") {
  on_every_setting([](const Setting& s) {
    Bench b(s, 1, [](AppOptions& o) { o.dev_mode = true; });
    Store& store = b.app.store();
    const auto task = b.app.task("t.lost", [&] {
      const std::string id = invocation().id;
      store.forget_runner(invocation().runner_id).wait();  // as if its lease were over
      REQUIRE(store.recover(1h).wait() == std::vector{id});
      REQUIRE(store.take("other", 1, {}, true).wait().at(0).id == id);
      store.change({id, Status::success, "other", to_bytes(s.format, 7), {}, {}}).wait();
      return 1;
    });
    CHECK(task().result() == 7);
  });
}

TEST_CASE("a call that was cancelled meanwhile may own the last handle of an application, and waits for its end") {
  on_every_setting([](const Setting& s) {
    (void)s.make();  // a server of the tests lives as long as the thread that started it
    const caller::Caller caller(caller::new_thread);
    std::atomic<bool> at_work{false}, cancelled{false};
    const auto call = caller.call_soon([&] {
      const Bench b(s, 1, [](AppOptions& o) { o.dev_mode = true; });
      CHECK(b.app.task("t.one", [] { return 1; })().result() == 1);
      at_work = true;
      at_work.notify_all();
      cancelled.wait(false);  // and from here on it waits only to end the application
    });
    at_work.wait(false);
    (void)call.cancel();
    cancelled = true;
    cancelled.notify_all();
    call.wait_done();
    CHECK(caller.call_soon([] { return 2; }).wait() == 2);
  });
}
