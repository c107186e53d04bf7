// Whatever is killed, cut off or set wrong: every task ends once, and none is lost.
#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <optional>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "crash_proof.hpp"
#include "support/temporary_folder.hpp"
#ifdef CALLER_TEST_REDIS
#include "redis_server.hpp"
#endif

using namespace caller::task;
using namespace std::chrono_literals;

namespace {

const std::string kApp = "crash-" + std::to_string(::getpid());
constexpr int kTasks = 10'000;
constexpr int kOffsets[] = {-30, 30, -60, 60};  // seconds
constexpr const char* kRunners[] = {"thread", "persistent_process", "multi_thread", "process"};

App app_for(const Crew& crew) {
  AppBuilder builder;
  builder.app_id(crew.app).lease(crew.lease);
  if (crew.store.find("://") != std::string::npos)
    builder.redis(crew.store);
  else
    builder.sqlite(crew.store, {.sync = SqliteSync::none});
  return builder.build();
}

/// `disturb` gets what part of the tasks has begun, from 0 to 1, between two kills.
void survive(const Crew& crew, const std::function<void(double)>& disturb) {
  const App app = app_for(crew);
  const auto work = app.task("c.work", [](int) { return -1; }, {"n"});  // executed by the workers, not here
  std::vector<std::tuple<int>> calls;
  for (int i = 0; i < kTasks; ++i) calls.emplace_back(i);
  const auto group = work.parallelize(calls);
  std::vector<CrashWorker> workers;
  for (std::size_t i = 0; i < 4; ++i) workers.emplace_back(crew, kRunners[i], kOffsets[i]);
  std::vector<int> results;
  std::atomic<bool> all{false};
  std::thread waiter([&] {
    results = group.results();
    all = true;
  });
  std::size_t kills = 0;
  for (; !all; ++kills) {
    std::this_thread::sleep_for(200ms);
    if (all) break;
    const std::size_t i = kills % workers.size();
    workers[i].kill();
    workers[i] = CrashWorker(crew, kRunners[i], kOffsets[i]);
    std::error_code none;
    disturb(static_cast<double>(begun_in(crew.log).size()) / kTasks);
  }
  waiter.join();
  for (auto& w : workers) CHECK(w.end() == 0);
  CHECK(kills >= 20);
  const std::size_t twice = check_ends(app, crew, group, results);
  MESSAGE(kills << " workers were killed; " << twice << " of " << kTasks << " tasks began more than once");
  long long earliest = 0, latest = 0;
  for (const Begun& b : begun_in(crew.log)) {
    const long long ahead = b.wall - b.steady;
    if (earliest == 0 || ahead < earliest) earliest = ahead;
    if (ahead > latest) latest = ahead;
  }
  CHECK(latest - earliest >= 60'000);  // the clocks differed
  check_no_orphans(crew.app);
}

/// A worker is killed in the midst of a task, and another one begins it again.
void run_again(Crew crew) {
  crew.lease = 3s;
  const App app = app_for(crew);
  const auto stay = app.task("c.stay", [](int) { return -1; }, {"n"});
  std::map<pid_t, CrashWorker> workers;
  const auto add = [&](int i) {
    CrashWorker w(crew, kRunners[i % 2], kOffsets[i % 4]);
    const pid_t pid = w.pid();
    workers.emplace(pid, std::move(w));
  };
  add(0);
  add(1);
  const auto begun = [&](std::size_t n) {
    for (;;) {
      const auto list = begun_in(crew.log);
      if (list.size() >= n) return list[n - 1];
      std::this_thread::sleep_for(2ms);
    }
  };
  const auto inv = stay(7);
  for (std::size_t round = 1; round <= 3; ++round) {
    const Begun now = begun(round);
    const pid_t victim = workers.contains(now.pid) ? now.pid : now.parent;
    REQUIRE(workers.contains(victim));
    const auto killed =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch());
    workers.at(victim).kill();
    workers.erase(victim);
    add(static_cast<int>(round) + 1);
    const long long after = begun(round + 1).steady - killed.count();
    MESSAGE("began again after " << after << " ms, with a lease of " << crew.lease.count() << " ms");
    CHECK(after <= 2 * crew.lease.count());
  }
}

}  // namespace

#ifdef CALLER_TASK_SQLITE
TEST_CASE(
    "SQLite: four workers with clocks a minute apart are killed every 200 ms, and each of 10 000 tasks ends once") {
  const caller::test::TemporaryFolder folder;
  survive({kApp, folder.file("tasks.db"), folder.file("log")}, [](double) {});
}

TEST_CASE("SQLite: a task of a killed worker runs again within two lease periods") {
  const caller::test::TemporaryFolder folder;
  run_again({kApp, folder.file("tasks.db"), folder.file("log")});
}
#endif

#ifdef CALLER_TEST_REDIS
TEST_CASE(
    "Redis, restarted twice: four workers with clocks a minute apart are killed, and each of 10 000 tasks ends once") {
  const caller::test::TemporaryFolder folder;
  RedisServer server({"--appendonly", "yes", "--appendfsync", "always"});
  int restarts = 0;
  survive({kApp, server.url(), folder.file("log")}, [&](double part) {
    if (part < (restarts + 1) * 0.3 || restarts == 2) return;
    server.kill();
    server.start();
    ++restarts;
  });
  CHECK(restarts == 2);
}

TEST_CASE("Redis: a task of a killed worker runs again within two lease periods") {
  const caller::test::TemporaryFolder folder;
  const RedisServer server({"--appendonly", "yes", "--appendfsync", "always"});
  run_again({kApp, server.url(), folder.file("log")});
}

namespace {

bool sh(const std::string& command) { return std::system((command + " 2>/dev/null").c_str()) == 0; }

/// Another host: a network namespace with a link to this one.
struct Host {
  std::string name, link, here, there;
  bool up = false;
  explicit Host(int n) {
    const int pid = ::getpid();
    name = "caller-task-" + std::to_string(pid) + "-" + std::to_string(n);
    link = "ck" + std::to_string(pid % 100000) + std::string(1, static_cast<char>('a' + n));
    const std::string net = "10." + std::to_string(214 + n) + "." + std::to_string(pid % 250) + ".";
    here = net + "1";
    there = net + "2";
    up = sh("ip netns add " + name) && sh("ip link add " + link + "h type veth peer name " + link + "n") &&
         sh("ip link set " + link + "n netns " + name) && sh("ip addr add " + here + "/24 dev " + link + "h") &&
         sh("ip link set " + link + "h up") && sh("ip -n " + name + " addr add " + there + "/24 dev " + link + "n") &&
         sh("ip -n " + name + " link set " + link + "n up") && sh("ip -n " + name + " link set lo up");
  }
  ~Host() {
    sh("ip link del " + link + "h");
    sh("ip netns del " + name);
  }
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;
  void cut() const { REQUIRE(sh("ip link set " + link + "h down")); }
  void join() const { REQUIRE(sh("ip link set " + link + "h up")); }
};

int free_port(const std::string& address) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in a{};
  a.sin_family = AF_INET;
  ::inet_pton(AF_INET, address.c_str(), &a.sin_addr);
  socklen_t size = sizeof a;
  REQUIRE(::bind(fd, reinterpret_cast<const sockaddr*>(&a), size) == 0);
  REQUIRE(::getsockname(fd, reinterpret_cast<sockaddr*>(&a), &size) == 0);
  ::close(fd);
  return ntohs(a.sin_port);
}

}  // namespace

TEST_CASE("Redis: workers on two hosts, each cut off for a while, neither lose nor double a result") {
  const caller::test::TemporaryFolder folder;
  const Host one(0), two(1);
  if (!one.up || !two.up) {
    MESSAGE("skipped: network namespaces cannot be made here (ip netns needs root)");
    return;
  }
  const std::string port = std::to_string(free_port(one.here));
  const RedisServer server({"--port", port, "--bind", one.here, two.here, "--protected-mode", "no"});
  // The test itself comes by the socket; the workers by the network, each by its own address of the server's.
  const std::string log = folder.file("log");
  const Crew crew{kApp, server.url(), log, 500ms};
  const App app = app_for(crew);
  constexpr int kSome = 3'000;
  const auto work = app.task("c.work", [](int) { return -1; }, {"n"});
  std::vector<std::tuple<int>> calls;
  for (int i = 0; i < kSome; ++i) calls.emplace_back(i);
  const auto group = work.parallelize(calls);
  std::vector<CrashWorker> workers;
  for (const Host* host : {&one, &two})
    for (const char* runner : {"thread", "persistent_process"}) {
      Crew there = crew;
      there.store = "redis://" + host->here + ":" + port;
      workers.emplace_back(there, runner, 0, std::vector<std::string>{"ip", "netns", "exec", host->name});
    }
  std::vector<int> results;
  std::atomic<bool> all{false};
  std::thread waiter([&] {
    results = group.results();
    all = true;
  });
  int cuts = 0;
  for (; !all && cuts < 6; ++cuts) {
    const Host& host = cuts % 2 ? two : one;
    const auto before = begun_in(log).size();
    while (!all && begun_in(log).size() < before + 200) std::this_thread::sleep_for(5ms);
    host.cut();
    std::this_thread::sleep_for(4 * crew.lease);  // what it had is given to the other one meanwhile
    host.join();
  }
  waiter.join();
  CHECK(cuts >= 2);
  for (auto& w : workers) CHECK(w.end() == 0);
  const std::size_t twice = check_ends(app, crew, group, results);
  MESSAGE(cuts << " times a host was cut off; " << twice << " of " << kSome << " tasks began more than once");
  CHECK(twice >= 1);
  check_no_orphans(crew.app);
}
#endif
