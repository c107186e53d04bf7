// What outlives the invocation it belongs to: code that goes on after its end (Change::code_goes_on), threads that a
// task leaves behind.
#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

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

/// A task that is at work until the gate is opened, one at a time.
Task<int(int)> gated_one(App& app, const std::shared_ptr<Gate>& gate, TaskOptions o) {
  o.running_concurrency = Concurrency::TASK;
  return app.task(
      "one",
      [gate](int n) {
        gate->pass();
        return n;
      },
      {"n"}, std::move(o));
}

/// Before the runner goes, which waits for what is behind the gate.
std::shared_ptr<void> opened_at_the_end(const std::shared_ptr<Gate>& gate) {
  return {nullptr, [gate](void*) { gate->let_pass(); }};
}

/// Whether so many have come to the gate before `inv` has ended: on a slow machine its time may be over before.
bool enters(const Gate& gate, int n, const Invocation<int>& inv) {
  CHECK(comes_true([&] { return gate.entered >= n || is_final(inv.status()); }));
  return gate.entered >= n;
}

/// `f` with a time-out and a gate. As long as it says that the time was too short for the machine, again with a longer
/// one.
template <class F>
void with_time_out(F f) {
  constexpr auto kLongest = 20s;
  for (auto time = 300ms; time < kLongest; time *= 4) {
    if (f(time, std::make_shared<Gate>())) return;
  }
  FAIL("no time-out was long enough");
}

}  // namespace

TEST_CASE("code that outlives its time-out keeps others of its kind waiting until it has ended") {
  on_every_store([](const Setting& s) {
    with_time_out([&](auto time, const std::shared_ptr<Gate>& gate) {
      Threads t(s);
      const auto opened = opened_at_the_end(gate);
      TaskOptions o;
      o.timeout = time;
      const auto one = gated_one(t.app, gate, o);
      const auto first = one(1);
      if (!enters(*gate, 1, first)) return false;
      CHECK_THROWS_AS((void)first.result(), TaskTimeoutError);  // its end is told at once
      const auto second = one(2);
      CHECK(comes_true([&] { return second.status() == Status::concurrency_controlled; }));
      CHECK(gate->entered == 1);
      gate->let_pass();
      if (!enters(*gate, 2, second)) return false;
      CHECK(comes_true([&] { return is_final(second.status()); }));
      if (second.status() == Status::failed) return false;
      CHECK(second.result() == 2);
      return true;
    });
  });
}

TEST_CASE("code that outlives its cancellation keeps others of its kind waiting until it has ended") {
  on_every_store([](const Setting& s) {
    Threads t(s);
    const auto gate = std::make_shared<Gate>();
    const auto opened = opened_at_the_end(gate);
    const auto one = gated_one(t.app, gate, {});
    const auto first = one(1);
    REQUIRE(enters(*gate, 1, first));
    CHECK(first.cancel());
    CHECK_THROWS_AS((void)first.result(), InvocationCancelledError);
    const auto second = one(2);
    CHECK(comes_true([&] { return second.status() == Status::concurrency_controlled; }));
    CHECK(gate->entered == 1);
    gate->let_pass();
    CHECK(second.result() == 2);
    CHECK(gate->entered == 2);
  });
}

TEST_CASE("a task that is tried again after its time-out begins when the code before it has ended") {
  on_every_store([](const Setting& s) {
    with_time_out([&](auto time, const std::shared_ptr<Gate>& gate) {
      Threads t(s);
      const auto opened = opened_at_the_end(gate);
      TaskOptions o;
      o.reroute_on_concurrency_control = false;
      o.timeout = time;
      o.max_retries = 1;
      o.retry_for = errors<TaskTimeoutError>();
      const auto inv = gated_one(t.app, gate, o)(7);
      const auto is_held = [&] { return inv.status() == Status::concurrency_controlled; };
      // Not held if its time was over before its code had begun: then nothing goes on that it had to wait for.
      CHECK(comes_true([&] { return is_held() || is_final(inv.status()); }));
      if (!is_held()) return false;
      CHECK(comes_true([&] { return gate->entered == 1; }));
      gate->let_pass();
      CHECK(comes_true([&] { return is_final(inv.status()); }));
      if (inv.status() == Status::failed) return false;
      CHECK(inv.result() == 7);
      CHECK(inv.num_retries() == 1);
      return true;
    });
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
    if (kind != RunnerKind::process) CHECK(comes_true([] { return board().ran.get() == 1; }));  // else it is gone
    CHECK(b.tasks.add(1).result() == 2);
  });
}

TEST_CASE("a thread that an execution left behind takes no slot of the next execution of its invocation") {
  on_every_runner([](RunnerKind kind, const Setting& s) {
    Bench b(kind, s, 2);
    const std::shared_ptr<void> opened(nullptr, [](void*) { board().open.add(2); });
    b.start();
    const auto outer = b.tasks.leaves_and_waits();
    REQUIRE(comes_true([&] { return board().entered.get() == 2; }));
    REQUIRE(comes_true([&] { return outer.num_retries() == 1 && outer.status() == Status::paused; }));
    board().open.add();  // for the thread
    if (kind != RunnerKind::process) CHECK(comes_true([] { return board().ran.get() == 1; }));
    board().open.add();
    REQUIRE(comes_true([&] { return outer.status() == Status::success; }));
    CHECK(outer.result() == 2);
    CHECK(comes_true([&] { return b.runner->working() == 0; }));
    CHECK(b.tasks.sum(3).result() == 6);
  });
}

TEST_CASE("threads of one execution that wait at once and in turn all go on, however few the slots are") {
  on({RunnerKind::thread, RunnerKind::persistent_process, RunnerKind::multi_thread},
     [](RunnerKind kind, const Setting& s) {
       Bench b(kind, s, 1);
       b.start();
       std::vector<Invocation<int>> all;
       for (int i = 0; i < 3; ++i) all.push_back(b.tasks.waits_twice(20));
       for (const auto& inv : all) {
         REQUIRE(comes_true([&] { return is_final(inv.status()); }));
         CHECK(inv.result() == 420);
       }
       CHECK(comes_true([&] { return b.runner->working() == 0; }));
       CHECK(b.tasks.sum(3).result() == 6);
     });
}

TEST_CASE("code that was given up while it waited goes on when that is over, and its kind with it") {
  Bench b(RunnerKind::multi_thread, kSettings[0], 4, {}, [](RunnerOptions& o) {
    o.grace = 30ms;
    o.max_processes = 2;
    o.threads = 2;
  });
  const std::shared_ptr<void> opened(nullptr, [](void*) { board().open.add(3); });
  b.start();
  const auto neighbour = b.tasks.until(3);  // keeps the process, which nothing else would
  REQUIRE(comes_true([&] { return board().entered.get() == 1; }));
  const auto deaf = b.tasks.waits_deaf(1);
  REQUIRE(comes_true([&] { return board().began.get() == 1 && board().entered.get() == 2; }));
  CHECK(deaf.status() == Status::paused);
  CHECK(deaf.cancel());
  CHECK_THROWS_AS(deaf.result(), InvocationCancelledError);
  const auto next = b.tasks.waits_deaf(0);
  CHECK(comes_true([&] { return next.status() == Status::concurrency_controlled; }));
  board().open.add();
  REQUIRE(comes_true([&] { return next.status() == Status::success; }));
  CHECK(neighbour.status() == Status::running);
  board().open.add(2);
  CHECK(neighbour.result() == 3);
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
