// What holds for runners that execute in processes of their own.
#include <doctest/doctest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <set>
#include <string>

#include "faulty_store.hpp"
#include "runner_bench.hpp"

using namespace caller::task;
using namespace runner_tests;
using namespace std::chrono_literals;

namespace {

/// Commands of a shell that says hello as a worker of that version does, and stays; empty: as one that names none.
std::string says_hello(const std::string& version) {
  const auto put_size = [](std::string& out, std::uint64_t n) {
    out.append(reinterpret_cast<const char*>(&n), sizeof n);
  };
  std::string body(1, '\0');  // the kind of the frame
  if (!version.empty()) {
    put_size(body, version.size());
    body += version;
  }
  std::string frame;
  put_size(frame, body.size());
  frame += body;
  std::string out = "printf '";
  for (const unsigned char c : frame)  // in octal
    for (const unsigned what : {0u, 64u, 8u, 1u}) out += what ? static_cast<char>('0' + c / what % 8) : '\\';
  return out + "' >&3; exec sleep 100";
}

}  // namespace

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

TEST_CASE("a wait that a process gave up, or was at when it ended, is not the store's any more") {
  on_processes([](RunnerKind kind, const Setting& s) {
    std::shared_ptr<FaultyStore> store;
    Bench b(
        kind, s, 2, [&](AppOptions& o) { o.store = store = std::make_shared<FaultyStore>(o.store); },
        [](RunnerOptions& o) { o.queues = {"default"}; });
    const auto elsewhere = b.tasks.report();
    b.start();
    const auto gives_up = b.tasks.waiter(elsewhere.id()), at_the_end = b.tasks.waiter(elsewhere.id());
    REQUIRE(comes_true([&] { return at_the_end.status() == Status::paused && gives_up.status() == Status::paused; }));
    CHECK(store->waits() == 2);
    CHECK(gives_up.cancel());
    CHECK_THROWS_AS(gives_up.result(), InvocationCancelledError);
    CHECK(comes_true([&] { return store->waits() == 1; }));
    b.runner->stop(true).wait();
    CHECK(comes_true([&] { return store->waits() == 0; }));
    CHECK_FALSE(is_final(elsewhere.status()));
  });
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

TEST_CASE("a worker that speaks another version is refused in a sentence with both, and its invocation is not lost") {
  const std::string other = "0123456789ab";
  // At the start: one of that version, and one from before there were versions.
  const auto start = [](const std::string& version) {
    const Bench b(RunnerKind::persistent_process, kSettings[0], 1, {},
                  [&](RunnerOptions& o) { o.worker = {"/bin/sh", "-c", says_hello(version), "sh"}; });
    b.runner->start();
  };
  CHECK_THROWS_WITH_AS(start(other), doctest::Contains("it speaks version 0123456789ab of"), RunnerError);
  CHECK_THROWS_WITH_AS(start(other), doctest::Contains("and this runner version "), RunnerError);
  CHECK_THROWS_WITH_AS(start({}), doctest::Contains("it speaks an unnamed version of"), RunnerError);

  // Later: the file that a living runner starts its workers from is replaced, and put right again.
  const caller::test::TemporaryFolder folder;
  const std::string replaced = folder.file("replaced");
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  std::mutex mutex;
  std::string said;
  Bench b(
      RunnerKind::process, kSettings[0], 1,
      [&](AppOptions& o) {
        o.log = [&](Severity, const std::string& text) {
          const std::lock_guard lock(mutex);
          said += text + "\n";
        };
      },
      [&](RunnerOptions& o) {
        o.worker = {"/bin/sh", "-c",
                    "if [ -e '" + replaced + "' ]; then " + says_hello(other) + "; fi; exec '" + program + "' \"$@\"",
                    "sh"};
      });
  b.start();
  CHECK(b.tasks.add(1).result() == 2);
  std::ofstream(replaced).put('x');
  const auto inv = b.tasks.add(2);
  CHECK(comes_true([&] {
    const std::lock_guard lock(mutex);
    return said.find("a worker's process cannot be started: it speaks version 0123456789ab of") != std::string::npos;
  }));
  CHECK(comes_true([&] {
    const auto h = states(inv);
    return std::find(h.begin(), h.end(), Status::rerouted) != h.end();
  }));
  std::filesystem::remove(replaced);
  REQUIRE(comes_true([&] { return is_final(inv.status()); }));
  CHECK(inv.result() == 3);
  CHECK(inv.num_retries() == 0);
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
