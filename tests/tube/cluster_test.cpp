// Processes of nodes and their ends: each node has one, none is left behind, and one that is lost is an error.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster_support.hpp"

using namespace caller::tube;
using namespace std::chrono_literals;

namespace {

std::size_t open_descriptors() {
  std::size_t n = 0;
  for ([[maybe_unused]] const auto& e : std::filesystem::directory_iterator("/proc/self/fd")) ++n;
  return n;
}
std::size_t socket_folders() {
  std::size_t n = 0;
  for (const auto& e : std::filesystem::directory_iterator(std::filesystem::temp_directory_path()))
    n += e.path().filename().string().starts_with("caller-tube-");
  return n;
}

/// A program with a cluster of two processes that waits to be killed.
struct Waiting {
  Waiting() {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
    pid = ::fork();
    if (pid == 0) {
      ::dup2(ends[1], 1);
      ::execl(self.c_str(), self.c_str(), "--run-and-wait", static_cast<char*>(nullptr));
      ::_exit(127);
    }
    ::close(ends[1]);
    std::string text;
    for (char c = 0; ::read(ends[0], &c, 1) == 1 && c != '\n';) text += c;
    ::close(ends[0]);
    for (std::size_t at = 0; at < text.size();) {
      std::size_t used = 0;
      workers.push_back(std::stoi(text.substr(at), &used));
      at += used + 1;
    }
    REQUIRE(workers.size() == 2);
    for (const int worker : workers)
      ended.push_back({static_cast<int>(::syscall(SYS_pidfd_open, worker, 0)), POLLIN, 0});
  }
  ~Waiting() {
    for (const pollfd& p : ended) ::close(p.fd);
  }
  void kill() const {
    ::kill(pid, SIGKILL);
    int status = 0;
    ::waitpid(pid, &status, 0);
  }
  void wait_for_workers() {
    for (pollfd& p : ended) CHECK(::poll(&p, 1, 10'000) == 1);
  }
  pid_t pid = 0;
  std::vector<int> workers;
  std::vector<pollfd> ended;
};

}  // namespace

TEST_CASE("every node has a process of its own, and nodes of a group share one") {
  const Tube tube = from(
      "  a: {type: test.pid}\n  b: {type: test.pid_of, depends: [x: a.value]}\n"
      "  c: {type: test.pid_of, depends: [x: b.value]}\n  out: {type: return, depends: [a.value, b.value, c.value]}\n");
  ClusterRunner runner(tube);
  const auto pids = runner.process().to<std::vector<int>>();
  CHECK(std::set<int>(pids.begin(), pids.end()).size() == 3);
  CHECK(std::find(pids.begin(), pids.end(), ::getpid()) == pids.end());
  ClusterRunner grouped(tube, {.groups = {{.nodes = {"a", "c"}}}});
  const auto shared = grouped.process().to<std::vector<int>>();
  CHECK(shared[0] == shared[2]);
  CHECK(shared[0] != shared[1]);
  CHECK_THROWS_WITH_AS(ClusterRunner(tube, {.groups = {{.nodes = {"a", "cc"}}}}), doctest::Contains("\"cc\""), Error);
  CHECK_THROWS_WITH_AS(ClusterRunner(tube, {.groups = {{.nodes = {"a"}}, {.nodes = {"a"}}}}),
                       doctest::Contains("two groups"), Error);
}

TEST_CASE("a runner that is gone leaves no process, no file and no descriptor") {
  (void)ClusterRunner(tube("testing-basic")).process();  // what is made once per program
  const std::size_t before = open_descriptors(), folders = socket_folders();
  for (int i = 0; i < 5; ++i) {
    std::vector<int> pids;
    {
      ClusterRunner runner(tube(i % 2 ? "testing-error" : "testing-map-gather"));
      CHECK(open_descriptors() == before);
      try {
        (void)runner.process();
      } catch (const NodeError&) {
      }
      for (const ClusterProcess& p : runner.processes()) {
        CHECK(process_lives(p.pid));
        pids.push_back(p.pid);
      }
      CHECK(socket_folders() == folders + 1);
      if (i > 2) runner.deinit();
    }
    CHECK_FALSE(pids.empty());
    for (const int pid : pids) CHECK_FALSE(process_lives(pid));
    CHECK(open_descriptors() == before);
    CHECK(socket_folders() == folders);
  }
}

TEST_CASE("processes end with their parent, even if it is killed, and their folder goes") {
  const std::size_t folders = socket_folders();
  Waiting program;
  CHECK(socket_folders() == folders + 1);
  program.kill();
  program.wait_for_workers();
  CHECK(socket_folders() == folders);
}

TEST_CASE("the folder of a runner that was killed with all its processes goes with the next runner, others stay") {
  const std::size_t folders = socket_folders();
  Waiting living, program;
  for (const int worker : program.workers) ::kill(worker, SIGKILL);
  program.wait_for_workers();
  program.kill();
  REQUIRE(socket_folders() == folders + 2);
  (void)ClusterRunner(tube("testing-basic")).process();
  CHECK(socket_folders() == folders + 1);
  living.kill();
  living.wait_for_workers();
  CHECK(socket_folders() == folders);
}

TEST_CASE("a process that is killed is an error with its node, pid and signal; the next call has a new one") {
  ClusterRunner runner(chain("{type: test.Total, depends: [n: a.index]}"));
  for (const int sum : {0, 1, 3}) CHECK(runner.process() == Value(sum));
  const int pid = pid_of(runner, "b");
  ::kill(pid, SIGKILL);
  const auto killed = std::chrono::steady_clock::now();
  try {
    for (;;) (void)runner.process();
  } catch (const ProcessError& e) {
    CHECK(std::chrono::steady_clock::now() - killed < 1s);
    CHECK(e.nodes() == std::vector<std::string>{"b"});
    CHECK(e.pid() == pid);
    CHECK(e.signal() == SIGKILL);
    CHECK(e.code() == Errc::process_lost);
    CHECK(contains(e.what(), "\"b\""));
    CHECK(contains(e.what(), "signal 9"));
  }
  // The source went on counting where it was; what the lost node had added up is lost with it.
  const Result first = runner.process(), second = runner.process();
  CHECK(first.to<int>() >= 3);
  CHECK(second.to<int>() == 2 * first.to<int>() + 1);
  CHECK(pid_of(runner, "b") != pid);
}

TEST_CASE("a process that leaves in the middle of a run ends it; results before it are no longer missing") {
  ClusterRunner runner(chain("{type: test.exit_at, params: {at: 20}, depends: [n: a.index]}"), {.max_pending = 4});
  std::vector<std::int64_t> found;
  try {
    for (const Result& r : runner.iter()) found.push_back(r.to<std::int64_t>());
    FAIL("no error");
  } catch (const ProcessError& e) {
    CHECK(e.exit_code() == 7);
    CHECK(contains(e.what(), "exit code 7"));
  }
  // All that was taken is complete and in order; at most a window's worth is lost.
  for (std::size_t i = 0; i < found.size(); ++i) CHECK(found[i] == static_cast<std::int64_t>(i));
  CHECK(found.size() >= 16);
  CHECK(found.size() <= 20);
}

TEST_CASE("a process that is killed is an error within a second though another node never ends") {
  ClusterRunner runner(chain("{type: noob.testing.just_wait, params: {wait_for: 3600}, depends: [value: a.index]}"));
  runner.init();
  const int source = pid_of(runner, "a"), waits = pid_of(runner, "b");
  std::optional<std::chrono::steady_clock::time_point> killed;
  runner.add_callback([&](const Notice& notice) {
    if (killed || !std::holds_alternative<Event>(notice)) return;
    killed = std::chrono::steady_clock::now();  // the first of a, which is on its way to b
    ::kill(source, SIGKILL);
  });
  CHECK_THROWS_AS((void)runner.process(), ProcessError);
  runner.deinit();
  REQUIRE(killed);
  CHECK(std::chrono::steady_clock::now() - *killed < 1s);
  CHECK_FALSE(process_lives(waits));
  runner.init();  // with new ones
  CHECK(process_lives(pid_of(runner, "b")));
}

TEST_CASE("with restart a run goes on without the epochs that were lost, and says which") {
  ClusterRunner runner(chain("{type: test.exit_at, params: {at: 20}, depends: [n: a.index]}"),
                       {.max_pending = 4, .restart = true});
  std::set<std::uint64_t> lost;
  runner.add_callback([&](const Notice& notice) {
    if (const auto* e = std::get_if<MetaEvent>(&notice); e && e->type == MetaEvent::Type::error) {
      CHECK(e->node_id == "b");
      CHECK(lost.insert(e->epoch.root()).second);
    }
  });
  Warnings warnings;
  std::vector<std::int64_t> found;
  for (const Result& r : runner.run(60)) found.push_back(r.to<std::int64_t>());
  CHECK(lost.contains(20));
  CHECK(lost.size() <= 4);
  CHECK(found.size() + lost.size() == 60);
  for (std::size_t i = 1; i < found.size(); ++i) CHECK(found[i] > found[i - 1]);
  for (const std::int64_t n : found) CHECK_FALSE(lost.contains(static_cast<std::uint64_t>(n)));
  CHECK(warnings.seen.size() == 1);
}
