// What outlives the invocation it belongs to: code that goes on after its end (Change::code_goes_on), threads that a
// task leaves behind.
#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <string>

#include "gate.hpp"
#include "runner_bench.hpp"

using namespace caller::task;
using namespace runner_tests;
using namespace std::chrono_literals;

namespace {

/// An application on one of the stores, with a thread runner.
struct Threads {
  App app;
  std::unique_ptr<Runner> runner;

  explicit Threads(const Setting& s, std::size_t slots = 2)
      : app([&] {
          AppOptions o;
          o.app_id = "outliving";
          o.format = s.format;
          o.store = s.make();
          return App(std::move(o));
        }()),
        runner([&] {
          RunnerOptions o;
          o.slots = slots;
          o.queues = {"default"};
          return app.thread_runner(o);
        }()) {
    runner->start();
  }
};

template <class F>
void on_every_store(F f) {
  for (const Setting& s : kSettings) {
    CAPTURE(s.store);
    f(s);
  }
}

}  // namespace

TEST_CASE("code that outlives its time-out or its cancellation keeps others of its kind waiting until it has ended") {
  on_every_store([](const Setting& s) {
    for (const bool by_time : {true, false}) {
      CAPTURE(by_time);
      Threads t(s);
      const auto gate = std::make_shared<Gate>();
      TaskOptions o;
      o.running_concurrency = Concurrency::TASK;
      if (by_time) o.timeout = 500ms;
      const auto one = t.app.task(
          "one",
          [gate](int n) {
            gate->pass();
            return n;
          },
          {"n"}, o);
      const auto first = one(1);
      gate->await_entered(1);
      if (!by_time) CHECK(first.cancel());
      CHECK_THROWS((void)first.result());  // its end is told at once
      const auto second = one(2);
      CHECK(comes_true([&] { return second.status() == Status::concurrency_controlled; }));
      CHECK(gate->entered == 1);
      gate->open_promise.set_value();
      CHECK(second.result() == 2);
      CHECK(gate->entered == 2);
    }
  });
}

TEST_CASE("a task that is tried again after its time-out begins when the code before it has ended") {
  on_every_store([](const Setting& s) {
    Threads t(s);
    const auto gate = std::make_shared<Gate>();
    TaskOptions o;
    o.running_concurrency = Concurrency::TASK;
    o.reroute_on_concurrency_control = false;
    o.timeout = 500ms;
    o.max_retries = 1;
    o.retry_for = errors<TaskTimeoutError>();
    const auto one = t.app.task(
        "one",
        [gate](int n) {
          gate->pass();
          return n;
        },
        {"n"}, o);
    const auto inv = one(7);
    CHECK(comes_true([&] { return inv.status() == Status::concurrency_controlled; }));
    CHECK(gate->entered == 1);
    gate->open_promise.set_value();
    CHECK(inv.result() == 7);
    CHECK(inv.num_retries() == 1);
  });
}

TEST_CASE("code that was given up keeps its kind waiting as long as its process lives, and not longer") {
  Bench b(RunnerKind::multi_thread, kSettings[0], 4, {}, [](RunnerOptions& o) {
    o.grace = 30ms;
    o.max_processes = 2;
    o.threads = 2;
  });
  b.start();
  const auto neighbour = b.tasks.gated(5);
  board().entered.await(1);
  const auto deaf = b.tasks.deaf_one(0);
  board().began.await(1);
  CHECK(deaf.cancel());
  CHECK_THROWS_AS(deaf.result(), InvocationCancelledError);
  const pid_t pid = board().signed_by().at(0);
  const auto next = b.tasks.deaf_one(3);
  CHECK(comes_true([&] { return next.status() == Status::concurrency_controlled; }));
  CHECK(alive(pid));
  board().open.add();
  CHECK(neighbour.result() == 5);
  CHECK(next.result() == 3);
  await_end(pid);
}

TEST_CASE("a task that leaves a thread behind, which waits for another invocation, has its result") {
  on_every_runner([](RunnerKind kind, const Setting& s) {
    Bench b(kind, s, 2);
    b.start();
    const auto outer = b.tasks.leaves(1);
    REQUIRE(comes_true([&] { return outer.status() == Status::success; }));
    CHECK(board().ran.get() == 0);  // it waits still
    board().open.add();
    CHECK(outer.result() == 2);
    if (kind == RunnerKind::thread) board().ran.await(1);  // else its process may have ended
    CHECK(b.tasks.add(1).result() == 2);
  });
}

TEST_CASE("a coroutine, or a task with a time-out, that leaves such a thread behind has its result, too") {
  on_every_store([](const Setting& s) {
    for (const bool coroutine : {true, false}) {
      CAPTURE(coroutine);
      Threads t(s);
      TaskOptions elsewhere, timed;
      elsewhere.queue = "elsewhere";  // nobody executes what is there
      timed.timeout = 1min;
      const auto far = t.app.task("far", [](int n) { return n; }, {"n"}, elsewhere);
      const auto left = std::make_shared<caller::Pending<void>>();
      const auto leave = [far, left](int n) {
        const auto inner = far(n);
        (void)caller::Caller::current().to_thread([inner, left] {
          CHECK_THROWS((void)inner.result());  // that one is cancelled, or the worker which the task ran on retires
          left->set_result();
        });
        return inner.id();
      };
      const auto is_paused = [app = t.app](const std::string& id) {
        return app.store().get(id).wait().status == Status::paused;
      };
      const auto inner = std::make_shared<caller::Pending<std::string>>();
      const auto plain = t.app.task(
          "plain",
          [leave, is_paused, inner](int n) {
            const std::string self = detail::current_run()->id;
            inner->set_result(leave(n));
            (void)comes_true([&] { return is_paused(self); });
            return n + 1;
          },
          {"n"}, timed);
      const auto co = t.app.task("co",
                                 [leave, is_paused, inner](int n) -> caller::Coro<int> {
                                   const std::string self = detail::current_run()->id;
                                   inner->set_result(leave(n));
                                   while (!is_paused(self)) co_await caller::sleep_for(1ms);
                                   co_return n + 1;
                                 },
                                 {"n"});
      const auto outer = coroutine ? co(1) : plain(1);
      REQUIRE(comes_true([&] { return outer.status() == Status::success; }));
      CHECK(outer.result() == 2);
      CHECK(t.app.store().cancel(inner->wait()).wait());
      left->wait();
      CHECK(outer.status() == Status::success);
    }
  });
}
