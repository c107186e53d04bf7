// What holds for whatever executes tasks: each kind of runner, on each store, with each serializer. What holds for
// those that have processes: process_runner_test.cpp.
#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <set>

#include "gate.hpp"
#include "runner_bench.hpp"

using namespace caller::task;
using namespace runner_tests;
using namespace std::chrono_literals;

/// A runner has started this program again.
extern "C" void caller_test_begin(int, char**) {
  for (const Format format : {Format::json, Format::cbor}) {
    const AppOptions o = options_for(format);
    if (!in_worker(o.app_id)) continue;
    const App app(o);
    const Tasks tasks(app);
    worker_main(app);
  }
}

TEST_CASE("every kind of runner that executes is in this suite") {
  std::set<RunnerKind> kinds(kKinds.begin(), kKinds.end());
  for (int k = 0; k <= static_cast<int>(RunnerKind::multi_thread); ++k) {
    const auto kind = static_cast<RunnerKind>(k);
    CHECK(runner_kind_of(name(kind)) == kind);
    CHECK(kinds.contains(kind) == (kind != RunnerKind::dummy && kind != RunnerKind::sync));
  }
  CHECK(runner_kind_of("multi_thread") == RunnerKind::multi_thread);
  CHECK_FALSE(runner_kind_of("Runner"));
}

TEST_CASE("a runner executes a call, and each state is recorded once") {
  on_every_runner([](RunnerKind kind, const Setting& s) {
    Bench b(kind, s);
    const auto inv = b.tasks.add(1, 2);
    CHECK(inv.status() == Status::registered);
    b.start();
    CHECK(inv.result() == 3);
    CHECK(b.tasks.add(41).result() == 42);
    CHECK(states(inv) == std::vector{Status::registered, Status::pending, Status::running, Status::success});
    CHECK(inv.history()[2].owner == b.runner->id());
    CHECK(b.app.store().runners().wait().at(0).id == b.runner->id());
    b.runner->stop().wait();
    CHECK(b.app.store().runners().wait().empty());
  });
}

TEST_CASE("arguments and results cross to where the code runs, coroutines, void and large ones included") {
  on_every_runner([](RunnerKind kind, const Setting& s) {
    Bench b(kind, s);
    b.start();
    CHECK(b.tasks.join(std::vector<std::string>{"a", "\xff", std::string("c\0d", 3)}).result() ==
          std::string("a, \xff, c\0d", 9));
    b.tasks.nothing().result();
    CHECK(board().ran.get() == 1);
    CHECK(b.tasks.twice(21).result() == 42);
    std::string large(3'000'000, 'x');
    for (std::size_t i = 0; i < large.size(); i += 7) large[i] = static_cast<char>('a' + i % 23);
    CHECK(b.tasks.echo(large).result() == large);
  });
}

TEST_CASE("what a task throws comes back with its type from where it ran, and one of an unknown type by its name") {
  on_every_runner([](RunnerKind kind, const Setting& s) {
    Bench b(kind, s);
    b.start();
    CHECK_THROWS_AS(b.tasks.fail(0).result(), std::out_of_range);
    CHECK_THROWS_WITH_AS(b.tasks.fail(1).result(), doctest::Contains("own"), TaskFailed);
    CHECK_THROWS_AS(b.tasks.fail(2).result(), TaskFailed);
    CHECK(b.tasks.add(1).result() == 2);
  });
}

TEST_CASE("a task is tried again for the types it names, also those that no other process knows") {
  on_every_runner([](RunnerKind kind, const Setting& s) {
    Bench b(kind, s);
    b.start();
    const auto third = b.tasks.flaky(3);
    CHECK(third.result() == 3);
    CHECK(third.num_retries() == 2);
    board().ran.clear();
    CHECK_THROWS_AS(b.tasks.flaky(100).result(), TaskFailed);
    CHECK(board().ran.get() == 4);
  });
}

TEST_CASE("a recursive task 50 levels deep completes with one slot in every runner") {
  on_every_runner([](RunnerKind kind, const Setting& s) {
    Bench b(kind, s, 1);
    b.start();
    CHECK(b.tasks.sum(50).result() == 1275);
    const auto two = b.tasks.sum(1);
    CHECK(two.result() == 1);
    const auto h = states(two);
    CHECK(std::count(h.begin(), h.end(), Status::paused) == 1);
    CHECK(std::count(h.begin(), h.end(), Status::resumed) == 1);
  });
}

TEST_CASE("a recursive coroutine 50 levels deep completes with one slot in every runner") {
  on_every_runner([](RunnerKind kind, const Setting& s) {
    Bench b(kind, s, 1);
    b.start();
    CHECK(b.tasks.async_sum(50).result() == 1275);
  });
}

TEST_CASE("in every runner no more invocations are at work at once than there are slots") {
  on_every_runner([](RunnerKind kind, const Setting& s) {
    Bench b(kind, s, 3);
    std::vector<std::tuple<int>> calls;
    for (int i = 0; i < 60; ++i) calls.emplace_back(i);
    b.start();
    b.tasks.probe.parallelize(calls).wait();
    CHECK(board().most[0].get() <= 3);
    CHECK(board().most[0].get() >= 1);
  });
}

TEST_CASE("a call that would wait for itself is refused with its path, wherever it is made") {
  on_every_runner([](RunnerKind kind, const Setting& s) {
    Bench b(kind, s);
    b.start();
    try {
      (void)b.tasks.ping(1).result();
      FAIL("nothing was thrown");
    } catch (const CycleDetectedError& e) {
      CHECK(e.path() == "r.ping -> r.pong -> r.ping");
    }
  });
}

TEST_CASE("two invocations that wait for each other are refused, wherever they run") {
  on_every_runner([](RunnerKind kind, const Setting& s) {
    Bench b(kind, s, 2);
    // Each must know the other's id, which the store gives: the first is registered with a name of the test's choice.
    NewInvocation left;
    left.id = "left-" + b.runner->id();
    left.task_id = "r.meets";
    left.call_id = "r.meets#left";
    left.queue = "default";
    const auto right = b.tasks.meets(left.id);
    Writer w(s.format, &left.args);
    w.map(1);
    w.key("other");
    w.text(right.id());
    b.app.store().add({left}).wait();
    b.start();
    CHECK_THROWS_AS(right.result(), CycleDetectedError);
    b.app.store().ended(left.id).wait();
    CHECK(ExceptionRecord::from_json(b.app.store().get(left.id).wait().exception).type == "CycleDetectedError");
  });
}

TEST_CASE("of a kind one is at work at a time in a race of eight workers, by task, arguments and keys, in batches") {
  on_every_runner([](RunnerKind kind, const Setting& s) {
    Bench b(kind, s, 2);
    std::vector<std::unique_ptr<Runner>> others;
    for (int i = 0; i < 3; ++i) others.push_back(b.app.make_runner(kind, with_slots(kind, 2)));
    std::vector<std::tuple<int, int>> by_task, by_arguments, by_keys;
    for (int i = 0; i < 24; ++i) {
      by_task.emplace_back(0, i);
      by_arguments.emplace_back(1 + i % 2, 0);
      by_keys.emplace_back(3 + i % 2, i);
    }
    const auto one = b.tasks.by_task.parallelize(by_task);
    const auto two = b.tasks.by_arguments.parallelize(by_arguments);
    const auto three = b.tasks.by_keys.parallelize(by_keys);
    b.start();
    for (const auto& r : others) r->start();
    CHECK(one.results().size() == 24);
    CHECK(two.results().size() == 24);
    CHECK(three.results().size() == 24);
    for (std::size_t key = 0; key < 5; ++key) {
      CAPTURE(key);
      CHECK(board().most[key].get() == 1);
    }
  });
}

TEST_CASE("what must not run beside its like and may not wait is refused by every runner") {
  on_every_runner([](RunnerKind kind, const Setting& s) {
    Bench b(kind, s, 2);
    b.start();
    const auto first = b.tasks.only(1);
    board().entered.await(1);
    const auto second = b.tasks.only(2);
    CHECK_THROWS_AS(second.result(), TaskRoutingError);
    CHECK(second.status() == Status::concurrency_controlled_final);
    board().open.add();
    CHECK(first.result() == 1);
  });
}

TEST_CASE("what runs is cancelled by its stop token, or where a coroutine waits, in whatever process") {
  on_every_runner([](RunnerKind kind, const Setting& s) {
    Bench b(kind, s, 1);
    b.start();
    const auto running = b.tasks.endless();
    board().began.await(1);
    CHECK(running.cancel());
    CHECK_THROWS_AS(running.result(), InvocationCancelledError);
    const auto coroutine = b.tasks.awaits();
    board().began.await(2);
    CHECK(coroutine.cancel());
    CHECK_THROWS_AS(coroutine.result(), InvocationCancelledError);
    CHECK(b.tasks.add(1).result() == 2);
  });
}

TEST_CASE("a task that runs longer than its time-out has failed in every runner, and its slot is free") {
  on_every_runner([](RunnerKind kind, const Setting& s) {
    Bench b(kind, s, 1);
    b.start();
    CHECK_THROWS_AS(b.tasks.stuck().result(), TaskTimeoutError);
    CHECK(b.tasks.add(1).result() == 2);
  });
}

TEST_CASE("every runner takes what others wait for first, then higher priorities, then the older") {
  on_every_runner([](RunnerKind kind, const Setting& s) {
    Bench b(kind, s, 1);
    const auto wanted = b.tasks.low(99);
    const auto waiting = b.tasks.waiter(wanted.id());
    std::vector<Invocation<int>> all;
    for (int i = 0; i < 3; ++i) {
      all.push_back(b.tasks.low(10 + i));
      all.push_back(b.tasks.normal(20 + i));
      all.push_back(b.tasks.high(30 + i));
    }
    b.start();
    for (const auto& i : all) (void)i.result();
    CHECK(waiting.result() == 99);
    std::vector<int> order;
    for (int i = 0; i < board().order_known.get(); ++i) order.push_back(board().order[static_cast<std::size_t>(i)]);
    CHECK(order == std::vector{99, 30, 31, 32, 20, 21, 22, 10, 11, 12});
  });
}

TEST_CASE("every runner serves the queues it was told to") {
  on_every_runner([](RunnerKind kind, const Setting& s) {
    Bench b(kind, s, 1, {}, [](RunnerOptions& o) { o.queues = {"reports"}; });
    b.start();
    const auto left = b.tasks.add(1);
    CHECK(b.tasks.report().result() == 1);
    CHECK(left.status() == Status::registered);
  });
}

TEST_CASE("what a vanished runner had is done by any other kind") {
  on_every_runner([](RunnerKind kind, const Setting& s) {
    Bench b(kind, s, 1, [](AppOptions& o) { o.lease = 600ms; });
    Store& store = b.app.store();
    const auto begun = b.tasks.add(1), taken = b.tasks.add(2);
    RunnerRecord ghost;
    ghost.id = "ghost";
    store.heartbeat(ghost, 1ms).wait();
    REQUIRE(store.take("ghost", 2, {}).wait().size() == 2);
    store.change({begun.id(), Status::running, "ghost", {}, {}, {}}).wait();
    b.start();
    CHECK(begun.result() == 2);
    CHECK(taken.result() == 3);
  });
}

// Only a ThreadRunner executes where its lease is renewed. All settings beside each other: the lease is long enough for
// a machine that has no processor for the heart at times.
TEST_CASE("a coroutine task that computes longer than the lease, without awaiting, costs its runner nothing") {
  constexpr auto kLease = 2s;
  const auto gate = std::make_shared<Gate>();
  std::vector<std::unique_ptr<Bench>> benches;
  for (const Setting& s : kSettings)
    benches.push_back(std::make_unique<Bench>(RunnerKind::thread, s, 2, [&](AppOptions& o) { o.lease = kLease; }));
  const std::shared_ptr<void> opened(nullptr, [&](void*) {
    gate->let_pass();
    board().open.add();
  });
  std::vector<Invocation<int>> others, computing;
  for (const auto& b : benches) {
    const auto computes = b->app.task("r.computes",
                                      [gate](int n) -> caller::Coro<int> {
                                        gate->pass();
                                        co_return n;
                                      },
                                      {"n"});
    b->start();
    others.push_back(b->tasks.gated(5));
    computing.push_back(computes(1));
  }
  const int all = static_cast<int>(benches.size());
  REQUIRE(comes_true([&] { return board().entered.get() == all && gate->entered == all; }));
  const auto lease = [](const Bench& b) { return b.app.store().runners().wait().at(0).lease_until; };
  std::vector<Time> then;
  for (const auto& b : benches) then.push_back(lease(*b));
  for (std::size_t i = 0; i < benches.size(); ++i) {
    CAPTURE(kSettings[i].store);
    CHECK(comes_true([&] { return lease(*benches[i]) > then[i] + 3 * kLease; }));
  }
  gate->let_pass();
  board().open.add();
  for (std::size_t i = 0; i < benches.size(); ++i) {
    CAPTURE(kSettings[i].store);
    CHECK(computing[i].result() == 1);
    CHECK(others[i].result() == 5);
    CHECK(states(computing[i]) == std::vector{Status::registered, Status::pending, Status::running, Status::success});
  }
}

TEST_CASE("every runner that is stopped ends what it has, or gives it back, and does not start twice") {
  on_every_runner([](RunnerKind kind, const Setting& s) {
    Bench b(kind, s, 1);
    b.start();
    const auto first = b.tasks.gated(1), second = b.tasks.gated(2);
    board().entered.await(1);
    const auto stopped = b.runner->stop();
    board().open.add();
    stopped.wait();
    CHECK(first.result() == 1);
    CHECK(second.status() == Status::registered);
    CHECK(b.runner->working() == 0);
    const auto another = b.app.make_runner(kind, with_slots(kind, 1));
    another->start();
    CHECK(second.result() == 2);
    const auto long_one = b.tasks.endless();
    board().began.await(1);
    CHECK(another->working() == 1);
    another->stop(true).wait();
    CHECK(long_one.status() == Status::rerouted);
    CHECK_THROWS_AS(another->start(), RunnerError);
  });
}

TEST_CASE("in every runner an invocation of an unknown task, or with unreadable arguments, fails alone") {
  on_every_runner([](RunnerKind kind, const Setting& s) {
    Bench b(kind, s);
    const auto forge = [&](const std::string& task, const std::string& args) {
      NewInvocation n;
      n.id = "forged-" + task + std::to_string(args.size());
      n.task_id = task;
      n.args = args;
      n.queue = "default";
      b.app.store().add({n}).wait();
      return n.id;
    };
    const auto unknown = forge("r.ad", "{}"), garbage = forge("r.add", std::string("\xff\0{", 3));
    b.start();
    for (const auto& id : {unknown, garbage}) {
      b.app.store().ended(id).wait();
      const auto record = b.app.store().get(id).wait();
      CHECK(record.status == Status::failed);
      CHECK(ExceptionRecord::from_json(record.exception).type ==
            (id == unknown ? "UnknownTaskError" : "SerializationError"));
    }
    CHECK(b.tasks.add(7).result() == 8);
  });
}

TEST_CASE("code of a task uses the store as it would anywhere, in every runner") {
  on_every_runner([](RunnerKind kind, const Setting& s) {
    Bench b(kind, s, 2, {}, [](RunnerOptions& o) { o.queues = {"default"}; });
    b.start();
    CHECK(b.tasks.looks().result() == std::vector<std::string>{"42", "REGISTERED", "PENDING", "RUNNING", "SUCCESS",
                                                               "cancelled", "CANCELLED", "nobody", "owned", "listed",
                                                               "told", "set", "not again", "looks/here", "kept",
                                                               "looks/here", "bytes", "3 children"});
  });
}

TEST_CASE("on_start comes before anything is taken and on_stop after everything has ended, always") {
  on_every_runner([](RunnerKind kind, const Setting& s) {
    std::vector<std::string> said;
    std::mutex mutex;
    const auto say = [&](const char* word) {
      const std::lock_guard lock(mutex);
      said.emplace_back(word);
    };
    Bench b(kind, s, 1, {}, [&](RunnerOptions& o) {
      o.on_start = [&] { say("start"); };
      o.on_stop = [&] { say("stop"); };
    });
    const auto running = b.tasks.endless();
    b.start();
    board().began.await(1);
    CHECK(said == std::vector<std::string>{"start"});
    b.runner.reset();
    CHECK(said == std::vector<std::string>{"start", "stop"});
    CHECK(running.status() == Status::rerouted);
    RunnerOptions refusing;
    refusing.on_start = [] { throw std::runtime_error("not today"); };
    refusing.on_stop = [&] { say("never"); };
    const auto refused = b.app.make_runner(kind, refusing);
    CHECK_THROWS_WITH(refused->start(), "not today");
    CHECK(said.size() == 2);
  });
}
