// What holds for whatever executes tasks: each kind of runner, on each store, with each serializer.
#include <doctest/doctest.h>
#include <sys/wait.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <memory>
#include <set>

#include "runner_board.hpp"
#include "stores.hpp"

using namespace caller::task;
using namespace std::chrono_literals;

namespace {

constexpr std::array kKinds{RunnerKind::thread, RunnerKind::process, RunnerKind::persistent_process,
                            RunnerKind::multi_thread};

struct Setting {
  const char* store;
  std::shared_ptr<Store> (*make)();
  Format format;
};
/// Both formats pass through the same bytes of the runners', so one of them on each store is enough.
const std::vector<Setting> kSettings = [] {
  std::vector<Setting> out;
  for (const StoreKind& s : kStores) out.push_back({s.name, s.make, out.size() % 2 ? Format::cbor : Format::json});
  return out;
}();

AppOptions options_for(Format format) {
  AppOptions o;
  o.app_id = format == Format::json ? "runners-json" : "runners-cbor";
  o.format = format;
  return o;
}

/// So many slots, however the kind arranges them.
RunnerOptions with_slots(RunnerKind kind, std::size_t slots) {
  RunnerOptions o;
  o.slots = slots;
  if (kind == RunnerKind::multi_thread) {
    o.max_processes = (slots + 1) / 2;
    o.threads = std::min<std::size_t>(slots, 2);
  }
  return o;
}

/// An application on one of the stores, with one runner.
struct Bench {
  RunnerKind kind;
  App app;
  Tasks tasks{app};
  std::unique_ptr<Runner> runner;

  Bench(RunnerKind k, const Setting& s, std::size_t slots = 2, const std::function<void(AppOptions&)>& more = {},
        const std::function<void(RunnerOptions&)>& more_of_runner = {})
      : kind(k), app([&] {
          board().clear();
          AppOptions o = options_for(s.format);
          o.store = s.make();
          if (more) more(o);
          return App(std::move(o));
        }()) {
    RunnerOptions o = with_slots(kind, slots);
    if (more_of_runner) more_of_runner(o);
    runner = app.make_runner(kind, std::move(o));
  }
  void start() { runner->start(); }
};

template <class F>
void on(const std::vector<RunnerKind>& kinds, F f) {
  for (const RunnerKind kind : kinds)
    for (const Setting& s : kSettings) {
      const std::string runner(name(kind));
      CAPTURE(runner);
      CAPTURE(s.store);
      f(kind, s);
    }
}
template <class F>
void on_every_runner(F f) {
  on({kKinds.begin(), kKinds.end()}, f);
}
template <class F>
void on_processes(F f) {
  on({kKinds.begin() + 1, kKinds.end()}, f);
}

std::vector<Status> states(const InvocationBase& i) {
  std::vector<Status> out;
  for (const auto& h : i.history()) out.push_back(h.status);
  return out;
}
bool alive(pid_t pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(in, text);
  const auto at = text.rfind(") ");
  return at != std::string::npos && text[at + 2] != 'Z';
}
void await_end(pid_t pid) {
  const auto until = std::chrono::steady_clock::now() + 30s;
  while (alive(pid) && std::chrono::steady_clock::now() < until) std::this_thread::sleep_for(1ms);
  CHECK_FALSE(alive(pid));
}

}  // namespace

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

// ---- processes ----

TEST_CASE("a crash, an exit or a kill in a process is that invocation's failure, with the signal's name") {
  on_processes([](RunnerKind kind, const Setting& s) {
    Bench b(kind, s, 2);
    b.start();
    const std::pair<int, const char*> ways[] = {{SIGSEGV, "SIGSEGV"},  {SIGABRT, "SIGABRT"},  {SIGKILL, "SIGKILL"},
                                                {1000, "exit code 0"}, {1003, "exit code 3"}, {2004, "exit code 4"}};
    for (const auto& [how, end] : ways) {
      CAPTURE(end);
      try {
        (void)b.tasks.crash(how).result();
        FAIL("nothing was thrown");
      } catch (const WorkerCrashedError& e) {
#ifndef __SANITIZE_ADDRESS__  // which ends the process by itself
        CHECK(e.end() == end);
#endif
        CHECK(e.task_id() == "r.crash");
      }
      CHECK(b.tasks.add(1).result() == 2);
    }
    const auto second = b.tasks.crash_once(SIGKILL);
    CHECK(second.result() == 1);
    CHECK(second.num_retries() == 1);
    CHECK_THROWS_AS(b.tasks.above_crash(SIGKILL).result(), WorkerCrashedError);
  });
}

TEST_CASE("whoever shares a process with one that crashes runs again, and only the one that crashes fails") {
  for (const Setting& s : kSettings) {
    CAPTURE(s.store);
    Bench b(RunnerKind::multi_thread, s, 4, {}, [](RunnerOptions& o) {
      o.max_processes = 1;
      o.threads = 4;
    });
    b.start();
    const auto one = b.tasks.gated(1), two = b.tasks.gated(2);
    board().entered.await(2);
    const auto bad = b.tasks.crash(SIGKILL);
    CHECK_THROWS_AS(bad.result(), WorkerCrashedError);
    board().open.add();
    CHECK(one.result() == 1);
    CHECK(two.result() == 2);
    const auto h = states(one);
    CHECK(std::count(h.begin(), h.end(), Status::killed) >= 1);
    CHECK(one.num_retries() == 0);
  }
}

TEST_CASE("code that ignores its stop token ends with its process, after a time of grace") {
  on_processes([](RunnerKind kind, const Setting& s) {
    Bench b(kind, s, 2, {}, [](RunnerOptions& o) { o.grace = 50ms; });
    b.start();
    const auto cancelled = b.tasks.deaf();
    board().began.await(1);
    CHECK(cancelled.cancel());
    CHECK_THROWS_AS(cancelled.result(), InvocationCancelledError);
    CHECK_THROWS_AS(b.tasks.deaf_and_timed().result(), TaskTimeoutError);
    for (const pid_t pid : board().signed_by()) await_end(pid);
    CHECK(b.tasks.add(1).result() == 2);
    board().began.clear();  // the one before may have had no time to begin
    const auto left = b.tasks.deaf();
    board().began.await(1);
    b.runner->stop(true).wait();
    CHECK(left.status() == Status::rerouted);
    for (const pid_t pid : board().signed_by()) await_end(pid);
  });
}

TEST_CASE("a process with deaf code that was given up ends when its other invocations have ended, and not before") {
  Bench b(RunnerKind::multi_thread, kSettings[0], 4, {}, [](RunnerOptions& o) {
    o.grace = 30ms;
    o.max_processes = 2;
    o.threads = 2;
  });
  b.start();
  const auto neighbour = b.tasks.gated(5);
  board().entered.await(1);
  const auto deaf = b.tasks.deaf();
  board().began.await(1);
  CHECK(deaf.cancel());
  CHECK_THROWS_AS(deaf.result(), InvocationCancelledError);
  const pid_t pid = board().signed_by().at(0);
  CHECK(alive(pid));
  CHECK(b.tasks.who(1).result() != pid);
  board().open.add();
  CHECK(neighbour.result() == 5);
  await_end(pid);
}

TEST_CASE("a worker that says what no worker says is ended, and its invocation has failed") {
  Bench b(RunnerKind::persistent_process, kSettings[0], 1);
  b.start();
  CHECK_THROWS_AS(b.tasks.babble().result(), WorkerCrashedError);
  CHECK(b.tasks.add(1).result() == 2);
}

TEST_CASE("a process for each invocation, a pool that stays, and one that grows and shrinks") {
  const auto run = [](Bench& b, int n) {
    std::vector<std::tuple<int>> calls;
    for (int i = 0; i < n; ++i) calls.emplace_back(i);
    std::set<int> pids;
    for (const int pid : b.tasks.who.parallelize(calls).results()) pids.insert(pid);
    return pids;
  };
  {
    Bench b(RunnerKind::process, kSettings[0], 2);
    b.start();
    CHECK(run(b, 10).size() == 10);
    for (const pid_t pid : board().signed_by()) await_end(pid);
  }
  {
    Bench b(RunnerKind::persistent_process, kSettings[0], 2, {}, [](RunnerOptions& o) { o.idle_timeout = 1ms; });
    b.start();
    const auto first = run(b, 30);
    CHECK(first.size() <= 2);
    // More of them while others wait, and two when that is over.
    CHECK(b.tasks.sum(5).result() == 15);
    for (const int pid : first) CHECK(alive(pid));
    CHECK(run(b, 30).size() <= 2);
  }
  Bench b(RunnerKind::multi_thread, kSettings[0], 6, {}, [](RunnerOptions& o) {
    o.min_processes = 1;
    o.max_processes = 3;
    o.threads = 2;
    o.idle_timeout = 20ms;
  });
  b.start();
  std::vector<Invocation<int>> gated;
  for (int i = 0; i < 6; ++i) gated.push_back(b.tasks.gated(i));
  board().entered.await(6);
  const auto children = [] {
    std::ifstream in("/proc/self/task/" + std::to_string(::getpid()) + "/children");
    std::set<pid_t> out;
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
      std::ifstream each(task.path() / "children");
      for (pid_t pid; each >> pid;)
        if (alive(pid)) out.insert(pid);
    }
    return out;
  };
  CHECK(children().size() == 3);
  board().open.add();
  for (const auto& i : gated) (void)i.result();
  const auto until = std::chrono::steady_clock::now() + 30s;
  while (children().size() > 1 && std::chrono::steady_clock::now() < until) std::this_thread::sleep_for(1ms);
  CHECK(children().size() == 1);
  CHECK(run(b, 4).size() <= 3);
}

TEST_CASE("a program that never comes to worker_main, or ends before, is an error of the start") {
  Bench b(RunnerKind::persistent_process, kSettings[0], 1);
  const auto start = [&](std::vector<std::string> command) {
    RunnerOptions o;
    o.slots = 1;
    o.worker = std::move(command);
    o.start_timeout = 200ms;
    const auto runner = b.app.persistent_process_runner(o);
    runner->start();
  };
  CHECK_THROWS_WITH_AS(start({"/bin/false"}), doctest::Contains("exit code 1"), RunnerError);
  CHECK_THROWS_WITH_AS(start({"/nonexistent/program"}), doctest::Contains("/nonexistent/program"), RunnerError);
  CHECK_THROWS_WITH_AS(start({"/bin/sh", "-c", "exec sleep 100"}), doctest::Contains("worker_main"), RunnerError);
}

TEST_CASE("the processes of a runner end with its own, whatever ended that") {
  for (const auto kind : {RunnerKind::process, RunnerKind::persistent_process, RunnerKind::multi_thread}) {
    CAPTURE(static_cast<int>(kind));
    board().clear();
    const pid_t pid = ::fork();  // this process has one thread
    REQUIRE(pid >= 0);
    if (pid == 0) {
      const App app(options_for(Format::json));
      const Tasks tasks(app);
      const auto runner = app.make_runner(kind, with_slots(kind, 2));
      runner->start();
      const auto one = tasks.deaf(), two = tasks.deaf();
      for (;;) ::pause();
    }
    board().began.await(2);
    const auto workers = board().signed_by();
    CHECK_FALSE(workers.empty());
    for (const pid_t worker : workers) CHECK(alive(worker));
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    for (const pid_t worker : workers) await_end(worker);
  }
}

TEST_CASE("run() ends what is at work at the first signal, and gives it back at the second") {
#ifdef __SANITIZE_THREAD__  // which keeps a signal until its thread calls something that it knows of
  MESSAGE("not with ThreadSanitizer");
  return;
#endif
  for (const RunnerKind kind : kKinds) {
    CAPTURE(static_cast<int>(kind));
    for (const bool twice : {false, true}) {
      CAPTURE(twice);
      board().clear();
      int ends[2];
      REQUIRE(::pipe(ends) == 0);
      const pid_t pid = ::fork();
      REQUIRE(pid >= 0);
      if (pid == 0) {
        AppOptions o = options_for(Format::json);
        o.runner_name = name(kind);
        o.runner_options = with_slots(kind, 1);
        const App app(o);
        const Tasks tasks(app);
        std::string id;
        if (twice) {
          id = tasks.endless().id();
        } else {
          id = tasks.gated(3).id();
        }
        app.runner().run();
        const std::string end(name(app.store().get(id).wait().status));
        (void)!::write(ends[1], end.data(), end.size());
        ::_exit(0);
      }
      ::close(ends[1]);
      (twice ? board().began : board().entered).await(1);
      ::kill(pid, SIGTERM);
      if (twice) {
        ::kill(pid, SIGINT);
      } else {
        board().open.add();
      }
      std::string end;
      for (char c; ::read(ends[0], &c, 1) == 1;) end += c;
      ::close(ends[0]);
      int status = 0;
      ::waitpid(pid, &status, 0);
      CHECK(status == 0);
      CHECK(end == (twice ? "REROUTED" : "SUCCESS"));
    }
  }
}

TEST_CASE("a runner that executes nothing gets its results from those that do; one that is synchronous from itself") {
  for (const Setting& s : kSettings) {
    CAPTURE(s.store);
    Bench b(RunnerKind::thread, s);
    const auto dummy = b.app.make_runner(RunnerKind::dummy);
    CHECK_THROWS_AS(dummy->start(), RunnerNotExecutableError);
    dummy->stop().wait();
    const auto waiting = b.tasks.add(1);
    CHECK(waiting.status() == Status::registered);
    b.start();
    CHECK(waiting.result() == 2);
    b.runner->stop().wait();
    const auto sync = b.app.make_runner(RunnerKind::sync);
    sync->start();
    const auto here = b.tasks.sum(5);
    CHECK(here.kind() == InvocationKind::synchronous);
    CHECK(here.status() == Status::success);
    CHECK(here.result() == 15);
    sync->stop().wait();
    CHECK(b.tasks.add(1).status() == Status::registered);
  }
}

TEST_CASE("a worker without an interpreter takes little memory") {
  Bench b(RunnerKind::persistent_process, kSettings[0], 1);
  b.start();
  const int pid = b.tasks.who(1).result();
  std::ifstream in("/proc/" + std::to_string(pid) + "/smaps_rollup");
  std::string word;
  long kilobytes = 0;
  while (in >> word)
    if (word == "Pss:") in >> kilobytes;
  MESSAGE("PSS of a worker: " << kilobytes << " KiB");
  CHECK(kilobytes > 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  CHECK(kilobytes <= 12 * 1024);
#endif
}
