// The store in Redis while things break: the server, connections, workers.
#include <doctest/doctest.h>
#include <poll.h>
#include <sys/prctl.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include <caller/all.hpp>
#include <caller/task/all.hpp>

#include "new_call.hpp"
#include "redis_server.hpp"

using namespace caller::task;
using namespace std::chrono_literals;

namespace {

std::vector<Status> states(Store& store, const std::string& id) {
  std::vector<Status> out;
  for (const auto& h : store.history(id).wait()) out.push_back(h.status);
  return out;
}

App app_on(const std::string& url, std::chrono::milliseconds lease) {
  return AppBuilder{}.app_id("faults").redis(url).lease(lease).build();
}

/// Between a store and its server: takes connections on a socket of its own and passes on what is said. When it is
/// armed it swallows the next answer to a script and cuts that connection, so what was asked for has happened and
/// nobody was told.
class Proxy {
public:
  explicit Proxy(const RedisServer& server) : to_(server.socket()), place_(server.socket() + ".proxy") {
    listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_un a = address(place_);
    REQUIRE(::bind(listener_, reinterpret_cast<const sockaddr*>(&a), sizeof a) == 0);
    REQUIRE(::listen(listener_, 8) == 0);
    REQUIRE(::pipe2(wake_, O_CLOEXEC) == 0);
    thread_ = std::thread([this] { serve(); });
  }
  ~Proxy() {
    (void)!::write(wake_[1], "x", 1);
    thread_.join();
    for (const int fd : {listener_, wake_[0], wake_[1]}) ::close(fd);
  }
  std::string url() const { return "unix://" + place_; }
  void swallow_next() { armed_ = true; }
  /// While it is so, answers to scripts are swallowed; the connection is cut with what is said there afterwards.
  void swallow(bool all) { swallows_ = all; }
  int cuts() const { return cuts_; }

private:
  struct Pair {
    int client, server;
    bool asked = false;  // for a script
    bool lost = false;   // an answer
  };
  static sockaddr_un address(const std::string& path) {
    sockaddr_un a{};
    a.sun_family = AF_UNIX;
    path.copy(a.sun_path, sizeof a.sun_path - 1);
    return a;
  }
  void serve() {
    std::vector<Pair> pairs;
    for (;;) {
      std::vector<pollfd> fds{{wake_[0], POLLIN, 0}, {listener_, POLLIN, 0}};
      for (const auto& p : pairs) {
        fds.push_back({p.client, POLLIN, 0});
        fds.push_back({p.server, POLLIN, 0});
      }
      ::poll(fds.data(), fds.size(), -1);
      if (fds[0].revents) break;
      for (std::size_t i = 0; i < pairs.size(); ++i)
        if (!pass(pairs[i], fds[2 + 2 * i].revents, fds[3 + 2 * i].revents)) {
          ::close(pairs[i].client);
          ::close(pairs[i].server);
          pairs[i].client = -1;
        }
      std::erase_if(pairs, [](const Pair& p) { return p.client < 0; });
      if (fds[1].revents) {
        const int client = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
        const int server = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const sockaddr_un a = address(to_);
        if (::connect(server, reinterpret_cast<const sockaddr*>(&a), sizeof a) == 0) {
          pairs.push_back({client, server});
        } else {
          ::close(client);
          ::close(server);
        }
      }
    }
    for (const auto& p : pairs) {
      ::close(p.client);
      ::close(p.server);
    }
  }
  bool pass(Pair& p, short from_client, short from_server) {
    std::array<char, 65536> chunk;
    if (from_client) {
      const auto n = ::read(p.client, chunk.data(), chunk.size());
      if (n <= 0) return false;
      const std::string_view said(chunk.data(), static_cast<std::size_t>(n));
      if (said.find("FCALL") != said.npos) p.asked = true;
      if (p.lost && !swallows_) return false;
      if (::send(p.server, chunk.data(), static_cast<std::size_t>(n), MSG_NOSIGNAL) != n) return false;
    }
    if (from_server) {
      const auto n = ::read(p.server, chunk.data(), chunk.size());
      if (n <= 0) return false;
      const std::string_view said(chunk.data(), static_cast<std::size_t>(n));
      if (p.asked && armed_.exchange(false)) {
        ++cuts_;
        return false;
      }
      if (p.asked && swallows_)
        p.lost = true;
      else if (::send(p.client, chunk.data(), static_cast<std::size_t>(n), MSG_NOSIGNAL) != n)
        return false;
    }
    return true;
  }
  const std::string to_, place_;
  int listener_ = -1, wake_[2] = {-1, -1};
  std::atomic<bool> armed_{false}, swallows_{false};
  std::atomic<int> cuts_{0};
  std::thread thread_;
};

}  // namespace

TEST_CASE("a step whose answer is lost with the connection happens once, and its answer comes") {
  const RedisServer server;
  Proxy proxy(server);
  const auto store = make_redis_store(proxy.url(), "app");
  int cuts = 0;
  const auto cut = [&] {
    CHECK(proxy.cuts() == cuts);
    ++cuts;
    proxy.swallow_next();
  };
  store->counts().wait();
  auto keyed = call("1");
  keyed.registration_key = "key";
  cut();
  const auto added = store->add({keyed, call("2")}).wait();
  CHECK(added[0].id == "1");
  CHECK_FALSE(added[0].reused);
  CHECK(added[1].id == "2");
  CHECK(store->list("", std::nullopt, 0, 10).wait().size() == 2);
  cut();
  const auto taken = store->take("runner", 1, {}).wait();
  REQUIRE(taken.size() == 1);
  CHECK(taken[0].id == "1");
  CHECK(store->get("2").wait().status == Status::registered);
  for (const Status s : {Status::running, Status::retry}) {
    cut();
    store->change({"1", s, "runner", {}, {}, {}}).wait();
  }
  CHECK(store->get("1").wait().retries == 1);
  CHECK(store->take("runner", 1, {}).wait()[0].id == "2");
  CHECK(store->take("runner", 1, {}).wait()[0].id == "1");
  cut();
  store->change({"1", Status::running, "runner", {}, {}, {}}).wait();
  cut();
  store->change({"1", Status::success, "runner", "result", {}, {}}).wait();
  CHECK(store->get("1").wait().result == "result");
  CHECK(states(*store, "1") == std::vector{Status::registered, Status::pending, Status::running, Status::retry,
                                           Status::pending, Status::running, Status::success});
  store->add({call("3")}).wait();
  cut();
  CHECK(store->cancel("3").wait());
  cut();
  store->ended("3").wait();
  store->add({call("4"), call("5")}).wait();
  (void)store->take("runner", 1, {}, true).wait();
  cut();
  const auto both = store->change_and_take({"4", Status::success, "runner", "four", {}, {}}, 1, {});
  both.changed.wait();
  REQUIRE(both.taken.wait().size() == 1);
  CHECK(both.taken.wait()[0].id == "5");
  CHECK(states(*store, "5") == std::vector{Status::registered, Status::pending, Status::running});
  cut();
  CHECK(store->take("runner", 1, {}).wait().empty());  // and not what it has already
  const auto ends = store->final_records({"4", "5"});
  cut();
  store->change({"5", Status::success, "runner", "five", {}, {}}).wait();
  CHECK(ends[0].wait().result == "four");
  CHECK(ends[1].wait().result == "five");
  CHECK(proxy.cuts() == cuts);
  CHECK(store->counts().wait() == std::vector<std::pair<Status, std::size_t>>{
                                      {Status::pending, 1}, {Status::success, 3}, {Status::cancelled, 1}});
}

TEST_CASE("a server that keeps an AOF is killed again and again, and every task accepted ends once") {
  RedisServer server({"--appendonly", "yes", "--appendfsync", "always"});
  const App app = app_on(server.url(), 10s);
  std::atomic<int> ran{0};
  const auto task = app.task("t.task",
                             [&](int n) {
                               ++ran;
                               return n;
                             },
                             {"n"});
  TaskOptions later_options;
  later_options.delay = 50ms;
  const auto later = app.task("t.later", [] { return 7; }, {}, later_options);
  const auto runner = app.thread_runner({4, {}, {}});
  runner->start();
  std::atomic<bool> done{false};
  const int count = 600;
  std::vector<Invocation<int>> all;
  std::thread client([&] {
    for (int i = 0; i < count; ++i) all.push_back(task(i));
    done = true;
  });
  int kills = 0;
  for (int seen = 0; !done || kills < 3;) {
    while (!done && ran < seen + 50) std::this_thread::yield();
    seen = ran;
    server.kill();
    ++kills;
    server.start();
  }
  client.join();
  MESSAGE("kills: " << kills);
  const auto delayed = later();
  for (int i = 0; i < count; ++i) CHECK(all[static_cast<std::size_t>(i)].result() == i);
  CHECK(delayed.result() == 7);
  CHECK(app.store().counts().wait() == std::vector<std::pair<Status, std::size_t>>{{Status::success, count + 1}});
  for (const auto& i : all) {
    const auto h = states(app.store(), i.id());
    CHECK(std::count(h.begin(), h.end(), Status::success) == 1);
    CHECK(h.back() == Status::success);
  }
}

TEST_CASE("workers in other processes share the work, and what a killed one had is done by another") {
  // Forked while this process has one thread.
  std::vector<pid_t> workers;
  RedisServer server;
  for (int w = 0; w < 3; ++w) {
    const pid_t pid = ::fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const App app = app_on(server.url(), 300ms);
      (void)app.task("t.task",
                     [w](int n) {
                       std::this_thread::sleep_for(2ms);  // the work
                       return w * 10000 + n;
                     },
                     {"n"});
      const auto runner = app.thread_runner({2, {}, {}});
      runner->start();
      for (;;) ::pause();
    }
    workers.push_back(pid);
  }
  const App app = app_on(server.url(), 300ms);
  const auto task = app.task("t.task", [](int) { return -1; }, {"n"});
  std::vector<std::tuple<int>> calls;
  const int count = 600;
  for (int i = 0; i < count; ++i) calls.emplace_back(i);
  const auto group = task.parallelize(calls);
  const auto& all = group.invocations();
  (void)all[100].result();
  const auto kill = [&](pid_t pid) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  };
  kill(workers[0]);
  (void)all[300].result();
  kill(workers[1]);
  std::array<int, 3> by{};
  for (int i = 0; i < count; ++i) {
    const int result = all[static_cast<std::size_t>(i)].result();
    CHECK(result % 10000 == i);
    ++by.at(static_cast<std::size_t>(result / 10000));
    const auto h = states(app.store(), all[static_cast<std::size_t>(i)].id());
    CHECK(std::count(h.begin(), h.end(), Status::success) == 1);
  }
  MESSAGE("by worker: " << by[0] << ", " << by[1] << ", " << by[2]);
  CHECK(std::count(by.begin(), by.end(), 0) == 0);
  kill(workers[2]);
}

TEST_CASE("what a server believes a living runner to have, and it has not, goes back when the connection was lost") {
  const RedisServer server;
  const App app = app_on(server.url(), 300ms);
  const auto task = app.task("t.task", [](int n) { return n; }, {"n"});
  TaskOptions elsewhere;
  elsewhere.queue = "elsewhere";
  const auto lost = app.task("t.lost", [](int n) { return n; }, {"n"}, elsewhere);
  const auto runner = app.thread_runner({2, {"default"}, {}});
  runner->start();
  CHECK(task(1).result() == 1);
  const auto one = lost(2), two = lost(3);
  const auto other = make_redis_store(server.url(), "faults");  // of which the runner knows nothing
  CHECK(other->take(runner->id(), 2, {"elsewhere"}).wait().size() == 2);
  other->change({one.id(), Status::running, runner->id(), {}, {}, {}}).wait();
  server.command({"CLIENT", "KILL", "TYPE", "pubsub"});
  const auto second = app.thread_runner({1, {"elsewhere"}, {}});
  second->start();
  CHECK(one.result() == 2);
  CHECK(two.result() == 3);
  const auto h = states(app.store(), one.id());
  CHECK(std::count(h.begin(), h.end(), Status::running_recovery) == 1);
  CHECK(task(4).result() == 4);
}

TEST_CASE("a server that stopped answering is an error after the time it is given, and used again when it answers") {
  const RedisServer server;
  const auto store = make_redis_store(server.url(), "app", 200ms);
  store->add({call("1")}).wait();
  ::kill(server.pid(), SIGSTOP);
  CHECK_THROWS_WITH_AS(store->get("1").wait({.timeout = 20s}), doctest::Contains("does not answer"), StateBackendError);
  ::kill(server.pid(), SIGCONT);
  const auto deadline = std::chrono::steady_clock::now() + 20s;
  for (bool there = false; !there;) {
    try {
      there = store->get("1").wait({.timeout = 20s}).id == "1";
    } catch (const StateBackendError&) {
      REQUIRE(std::chrono::steady_clock::now() < deadline);
    }
  }
}

TEST_CASE("what a runner is given by a take whose answer is lost, it has once") {
  const RedisServer server;
  Proxy proxy(server);
  const auto store = make_redis_store(proxy.url(), "faults", 1min),
             other = make_redis_store(server.url(), "faults", 1min);
  std::atomic<int> told{0};
  std::atomic<bool> takes{false};
  caller::Pending<std::vector<InvocationRecord>> taken;
  const auto take = [&] { return store->take("runner", 1, {"default"}, true); };
  Listener l;
  l.work = [&] {
    if (takes.exchange(false)) taken = take();  // at once, as it is given for a moment only
    ++told;
    told.notify_all();
  };
  const auto listener = store->listen("runner", std::move(l));
  told.wait(0);
  store->heartbeat({"runner", "", {}, {}, {}}, 1h).wait();
  proxy.swallow(true);
  const auto first = take();  // finds nothing, but nobody hears it
  while (server.command({"EVAL", "return #redis.call('KEYS', '*idle')", "0"}).find(":1") == std::string::npos) {
  }
  const int before = told;
  takes = true;
  other->add({call("1")}).wait();
  told.wait(before);
  CHECK(taken.wait({.timeout = 20s}).size() == 1);
  proxy.swallow(false);
  CHECK(take().wait({.timeout = 20s}).empty());
  CHECK(first.wait({.timeout = 20s}).empty());
  CHECK(take().wait({.timeout = 20s}).empty());
  CHECK(other->get("1").wait().status == Status::running);
}

TEST_CASE("what a take brought that failed here and was done there goes back") {
  const RedisServer server;
  const auto store = make_redis_store(server.url(), "faults", 200ms), other = make_redis_store(server.url(), "faults");
  std::atomic<int> told{0};
  Listener l;
  l.work = [&] {
    ++told;
    told.notify_all();
  };
  const auto listener = store->listen("runner", std::move(l));
  told.wait(0);
  const auto beats = [&] {
    try {
      store->heartbeat({"runner", "", {}, {}, {}}, 1h).wait({.timeout = 20s});
      return true;
    } catch (const StateBackendError&) {
      return false;
    }
  };
  while (!beats()) {
  }
  other->add({call("1")}).wait();
  ::kill(server.pid(), SIGSTOP);
  CHECK_THROWS_AS(store->take("runner", 1, {"default"}, true).wait({.timeout = 20s}), StateBackendError);
  ::kill(server.pid(), SIGCONT);
  std::vector<InvocationRecord> taken;
  for (const auto until = std::chrono::steady_clock::now() + 20s;
       taken.empty() && std::chrono::steady_clock::now() < until; std::this_thread::sleep_for(5ms))
    if (beats()) taken = other->take("other", 1, {"default"}, true).wait({.timeout = 20s});
  REQUIRE(taken.size() == 1);
  CHECK(taken[0].id == "1");
}

TEST_CASE("a store that is closed leaves nobody waiting for an answer or an end") {
  const RedisServer server;
  auto store = make_redis_store(server.url(), "app", 1h);
  const auto listener = store->listen("runner", {});
  store->heartbeat({"runner", "", {}, {}, {}}, 1h).wait();
  store->add({call("1")}).wait();
  const auto end = store->ended("1");
  store->counts().wait();
  ::kill(server.pid(), SIGSTOP);
  const auto answer = store->get("1");
  const auto take = store->take("runner", 1, {"default"}, true);
  store.reset();
  CHECK_THROWS_AS(take.wait({.timeout = 20s}), StateBackendError);
  CHECK_THROWS_AS(answer.wait({.timeout = 20s}), StateBackendError);
  CHECK_THROWS_AS(end.wait({.timeout = 20s}), StateBackendError);
}
