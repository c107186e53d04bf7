// Runners of a Redis store that have nothing to do: what is added is given to them in the same step.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <caller/all.hpp>
#include <caller/task/all.hpp>

#include "new_call.hpp"
#include "redis_server.hpp"

using namespace caller::task;
using namespace std::chrono_literals;

namespace {

/// A runner that is told of work, and takes by hand.
struct Idle {
  Idle(const RedisServer& server, std::string name)
      : runner(std::move(name)), store(make_redis_store(server.url(), "app", 1min)) {
    Listener l;
    l.work = [this] {
      if (takes.exchange(false)) {
        got = store->take(runner, 1, {"default"}, true);
        has_taken = true;
        has_taken.notify_all();
      }
      ++told;
      told.notify_all();
      if (!stall.exchange(false)) return;
      stalled = true;
      stalled.notify_all();
      stalled.wait(true);
    };
    listener = store->listen(runner, std::move(l));
    told.wait(0);  // from now on its messages come
    CHECK(take().empty());
  }
  std::vector<InvocationRecord> take() { return store->take(runner, 1, {"default"}, true).wait({.timeout = 20s}); }

  /// Takes with the next message, as what is given is given for a moment only; afterwards taken() is what that brought.
  void take_when_told() { takes = true; }
  std::vector<InvocationRecord> taken() {
    has_taken.wait(false);
    return got.wait({.timeout = 20s});
  }

  const std::string runner;
  std::shared_ptr<Store> store;
  std::atomic<int> told{0};
  std::atomic<bool> stall{false}, stalled{false}, takes{false}, has_taken{false};
  caller::Pending<std::vector<InvocationRecord>> got;
  std::shared_ptr<void> listener;
};

/// From the next message on, those of all of them wait, as if their threads were slow, until they may `go`.
struct Slow {
  Slow(Store& other, std::vector<Idle*> all) : idle(std::move(all)) {
    for (Idle* one : idle) one->stall = true;
    NewInvocation nobodys = call("of nobody's queue");
    nobodys.queue = "elsewhere";
    ValueChange tells{"tells all of work", ValueChange::If::absent, {}};
    tells.value = "1";
    tells.then.push_back(std::move(nobodys));
    CHECK(other.set_value(std::move(tells)).wait({.timeout = 20s}));
    for (Idle* one : idle) one->stalled.wait(false);
  }
  void go() {
    for (Idle* one : idle) {
      one->stalled = false;
      one->stalled.notify_all();
    }
    idle.clear();
  }
  ~Slow() { go(); }
  std::vector<Idle*> idle;
};

std::vector<Status> states_of(Store& store, const std::string& id) {
  std::vector<Status> out;
  for (const auto& entry : store.history(id).wait({.timeout = 20s})) out.push_back(entry.status);
  return out;
}

}  // namespace

TEST_CASE("a runner that found nothing is given the next invocation, and has it before it asks") {
  const RedisServer server;
  Idle idle(server, "idle");
  const auto other = make_redis_store(server.url(), "app", 1min);
  idle.take_when_told();
  NewInvocation large = call("1");
  large.args = '"' + std::string(5000, 'x') + '"';
  const std::string args = large.args;
  other->add({std::move(large)}).wait({.timeout = 20s});
  const InvocationRecord there = other->get("1").wait({.timeout = 20s});
  CHECK(there.status == Status::running);
  CHECK(there.owner == "idle");
  const auto taken = idle.taken();
  REQUIRE(taken.size() == 1);
  CHECK(taken[0].id == "1");
  CHECK(taken[0].args == args);
  CHECK(taken[0].status == Status::running);
  idle.store->change({"1", Status::success, "idle", "2", {}, {}}).wait({.timeout = 20s});
  CHECK(other->final_record("1").wait({.timeout = 20s}).result == "2");
  // It was given one: the next is for whoever asks.
  other->add({call("2")}).wait({.timeout = 20s});
  CHECK(other->get("2").wait({.timeout = 20s}).status == Status::registered);
}

TEST_CASE("of many that are added at once each idle runner is given one, and is told of the rest") {
  const RedisServer server;
  Idle first(server, "first"), second(server, "second");
  const auto other = make_redis_store(server.url(), "app", 1min);
  other->add({call("1"), call("2"), call("3")}).wait({.timeout = 20s});
  std::vector<std::string> got;
  for (Idle* idle : {&first, &second, &first}) {
    std::vector<InvocationRecord> taken;
    for (int told = idle->told; (taken = idle->take()).empty(); told = idle->told) idle->told.wait(told);
    got.push_back(taken.at(0).id);
  }
  std::sort(got.begin(), got.end());
  CHECK(got == std::vector<std::string>{"1", "2", "3"});
}

TEST_CASE("what is given to a runner that has no place for it any more goes to another one") {
  const RedisServer server;
  Idle idle(server, "idle");
  const auto other = make_redis_store(server.url(), "app", 1min);
  other->add({call("1")}).wait({.timeout = 20s});
  std::vector<InvocationRecord> taken;
  while (taken.empty()) taken = other->take("other", 1, {"default"}, true).wait({.timeout = 20s});
  CHECK(taken[0].id == "1");
  const auto states = states_of(*other, "1");
  CHECK(std::count(states.begin(), states.end(), Status::running_recovery) == 1);
  CHECK(idle.store->heartbeat({"idle", "", {}, {}, {}}, 1min).wait_done({.timeout = 20s}));  // and it stays there
  CHECK(other->get("1").wait({.timeout = 20s}).owner == "other");
}

TEST_CASE("a runner that gives an invocation back and is given it at once, before it has heard of either, has it") {
  const RedisServer server;
  Idle idle(server, "idle");
  const auto other = make_redis_store(server.url(), "app", 1min);
  other->add({call("1")}).wait({.timeout = 20s});
  std::vector<InvocationRecord> taken;
  while (taken.empty()) taken = idle.take();
  CHECK(idle.take().empty());
  Slow slow(*other, {&idle});
  const auto changed = idle.store->change({"1", Status::retry, "idle", {}, {}, {}});
  while (other->get("1").wait({.timeout = 20s}).status != Status::retry) {
  }
  other->add({call("2")}).wait({.timeout = 20s});
  CHECK(other->get("1").wait({.timeout = 20s}).status == Status::running);
  slow.go();
  changed.wait({.timeout = 20s});
  std::vector<std::string> got;
  for (const auto until = std::chrono::steady_clock::now() + 20s;
       got.size() < 2 && std::chrono::steady_clock::now() < until;)
    for (const auto& one : idle.take()) got.push_back(one.id);
  std::sort(got.begin(), got.end());
  CHECK(got == std::vector<std::string>{"1", "2"});
}

TEST_CASE("what becomes due while a new invocation is given to an idle runner is told of") {
  const RedisServer server;
  Idle first(server, "first"), second(server, "second");
  const auto other = make_redis_store(server.url(), "app", 1min);
  NewInvocation later = call("later");
  later.delay = 100ms;
  other->add({std::move(later)}).wait({.timeout = 20s});
  Slow slow(*other, {&first, &second});  // nobody who keeps the time sees to it
  std::this_thread::sleep_for(150ms);
  other->add({call("new")}).wait({.timeout = 20s});
  const bool is_first = other->get("new").wait({.timeout = 20s}).owner == "first";
  Idle &has = is_first ? first : second, &has_none = is_first ? second : first;
  const int before = has_none.told;
  has.take_when_told();
  slow.go();
  const auto taken = has.taken();
  REQUIRE(taken.size() == 1);
  CHECK(taken[0].id == "new");
  const auto until = std::chrono::steady_clock::now() + 20s;
  while (has_none.told == before && std::chrono::steady_clock::now() < until) std::this_thread::sleep_for(1ms);
  CHECK(has_none.told > before);
}

TEST_CASE("one that arrives with one that is given waits for no end") {
  const RedisServer server;
  App app = AppBuilder{}.app_id("app").redis(server.url()).build();
  std::atomic<int> done{0}, go{0};
  const auto soon = [](auto until) {
    for (const auto end = std::chrono::steady_clock::now() + 20s; !until() && std::chrono::steady_clock::now() < end;)
      std::this_thread::sleep_for(50us);
    return until();
  };
  (void)app.task("quick", [](int n) { return n; }, {"n"});
  (void)app.task("holds", [&](int n) { return soon([&] { return go >= n; }); }, {"n"});
  (void)app.task("tells",
                 [&](int n) {
                   done = n;
                   return n;
                 },
                 {"n"});
  const auto runner = app.thread_runner({4, {"default"}, {}});
  runner->start();
  const auto other = make_redis_store(server.url(), "app", 1min);
  const auto one = [](const char* task, int n) {
    NewInvocation c = call(task + std::to_string(n));
    c.task_id = task;
    c.call_id = task + ("#" + std::to_string(n));
    c.args = "{\"n\":" + std::to_string(n) + "}";
    return c;
  };
  std::uint64_t random = 88172645463325252U;
  for (int n = 1; n <= 1000; ++n) {
    other->add({one("quick", n)}).wait({.timeout = 20s});
    (void)other->final_record("quick" + std::to_string(n)).wait({.timeout = 20s});
    random ^= random << 13U;
    random ^= random >> 7U;
    random ^= random << 17U;
    const auto at = std::chrono::steady_clock::now() + std::chrono::nanoseconds(random % 80000);
    while (std::chrono::steady_clock::now() < at) {
    }
    const auto first = other->add({one("holds", n)}), second = other->add({one("tells", n)});
    second.wait({.timeout = 20s});
    REQUIRE(soon([&] { return done == n; }));
    go = n;
    (void)other->final_record("holds" + std::to_string(n)).wait({.timeout = 20s});
    (void)other->final_record("tells" + std::to_string(n)).wait({.timeout = 20s});
  }
}

TEST_CASE("thousands that are added at once, and a second time with some between them that are new, are there once") {
  const RedisServer server;
  const auto store = make_redis_store(server.url(), "app", 1min);
  std::vector<NewInvocation> calls;
  for (int i = 0; i < 2500; ++i) calls.push_back(call("old" + std::to_string(i)));
  CHECK(store->add(calls).wait({.timeout = 20s}).size() == 2500);
  for (int i = 0; i < 10; ++i) calls.insert(calls.begin() + 240 * i, call("new" + std::to_string(i)));
  const auto added = store->add(calls).wait({.timeout = 20s});
  REQUIRE(added.size() == calls.size());
  for (std::size_t i = 0; i < calls.size(); ++i) CHECK(added[i].id == calls[i].id);
  std::size_t all = 0;
  for (const auto& [status, n] : store->counts().wait({.timeout = 20s})) all += n;
  CHECK(all == 2510);
  CHECK(store->list({}, 0, 5000).wait({.timeout = 20s}).size() == 2510);
}

TEST_CASE("a runner that ends, and one that is gone, are given nothing") {
  const RedisServer server;
  const auto other = make_redis_store(server.url(), "app", 1min);
  {
    Idle gone(server, "gone");
    gone.listener.reset();
  }
  while (server.command({"EVAL", "return #redis.call('PUBSUB', 'CHANNELS', '*r:gone')", "0"}).find(":0") ==
         std::string::npos) {
  }
  other->add({call("1")}).wait({.timeout = 20s});
  CHECK(other->get("1").wait({.timeout = 20s}).status == Status::registered);
  CHECK(other->take("other", 1, {"default"}, true).wait({.timeout = 20s}).size() == 1);
  Idle ends(server, "ends");
  ends.store->forget_runner("ends").wait({.timeout = 20s});
  other->add({call("2")}).wait({.timeout = 20s});
  CHECK(other->get("2").wait({.timeout = 20s}).status == Status::registered);
}
