// What holds for tasks whatever the store and the serializer. Every store is named in `kStores` (stores.hpp).
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>

#include <caller/all.hpp>
#include <caller/task/all.hpp>

#include "stores.hpp"

using namespace caller::task;
using namespace std::chrono_literals;
using caller::Caller;
using caller::Coro;
using caller::Pending;

namespace {

struct Setting {
  const char* store;
  std::shared_ptr<Store> (*make)();
  Format format;
};

/// An application on one of the stores, with one runner.
struct Bench {
  App app;
  std::unique_ptr<Runner> runner;
  explicit Bench(const Setting& s, std::size_t slots = 2, std::function<void(AppOptions&)> more = {})
      : app([&] {
          AppOptions o;
          o.app_id = "test";
          o.store = s.make();
          o.format = s.format;
          if (more) more(o);
          return App(std::move(o));
        }()),
        runner(app.thread_runner({slots, {}, {}})) {}
  void start() { runner->start(); }
};

template <class F>
void on_every_setting(F f) {
  for (const StoreKind& store : kStores)
    for (const Format format : {Format::json, Format::cbor}) {
      const Setting s{store.name, store.make, format};
      CAPTURE(s.store);
      CAPTURE(static_cast<int>(s.format));
      f(s);
    }
}

std::vector<Status> states(const InvocationBase& i) {
  std::vector<Status> out;
  for (const auto& h : i.history()) out.push_back(h.status);
  return out;
}

/// A gate that tests open; what waits there is at work.
struct Gate {
  std::promise<void> open_promise;
  std::shared_future<void> open = open_promise.get_future().share();
  std::atomic<int> entered{0};
  void pass() {
    ++entered;
    entered.notify_all();
    open.wait();
  }
  void await_entered(int n) {
    for (int e = entered; e < n; e = entered) entered.wait(e);
  }
};

}  // namespace

TEST_CASE("a call is executed by a runner and gives its result, and each state is recorded once") {
  on_every_setting([](const Setting& s) {
    Bench b(s);
    const auto add = b.app.task("demo.add", [](int x, int y) { return x + y; }, {"x", {"y", 1}});
    const auto inv = add(1, 2);
    CHECK(inv.status() == Status::registered);
    CHECK(inv.kind() == InvocationKind::distributed);
    b.start();
    CHECK(inv.result() == 3);
    CHECK(inv.result() == 3);
    CHECK(add(41).result() == 42);
    CHECK(inv.status() == Status::success);
    CHECK(states(inv) == std::vector{Status::registered, Status::pending, Status::running, Status::success});
    CHECK(inv.parent_id().empty());
  });
}

TEST_CASE("arguments and results of every kind cross, coroutines and void included") {
  on_every_setting([](const Setting& s) {
    Bench b(s);
    b.start();
    const auto join = b.app.task("t.join",
                                 [](const std::vector<std::string>& l, const std::string& by) {
                                   std::string out;
                                   for (const auto& x : l) out += (out.empty() ? "" : by) + x;
                                   return out;
                                 },
                                 {"list", {"by", std::string(", ")}});
    CHECK(join(std::vector<std::string>{"a", "\xff", "c"}).result() == "a, \xff, c");
    std::atomic<int> ran{0};
    const auto nothing = b.app.task("t.nothing", [&ran] { ++ran; });
    nothing().result();
    CHECK(ran == 1);
    const auto slow = b.app.task("t.slow",
                                 [](int n) -> Coro<int> {
                                   co_await caller::sleep_for(1ms);
                                   co_return n * 2;
                                 },
                                 {"n"});
    CHECK(slow(21).result() == 42);
    const auto later = b.app.task("t.coro_void", [&ran]() -> Coro<void> {
      co_await caller::yield_now();
      ++ran;
    });
    later().result();
    CHECK(ran == 2);
  });
}

TEST_CASE("an exception of a task comes back with its type, and one of an unknown type with its name") {
  struct Own : std::runtime_error {
    using std::runtime_error::runtime_error;
  };
  on_every_setting([](const Setting& s) {
    Bench b(s);
    b.start();
    const auto fail = b.app.task("t.fail",
                                 [](int how) -> int {
                                   if (how == 0) throw std::out_of_range("zero");
                                   if (how == 1) throw Own("own");
                                   throw 17;
                                 },
                                 {"how"});
    CHECK_THROWS_AS(fail(0).result(), std::out_of_range);
    CHECK_THROWS_WITH_AS(fail(1).result(), doctest::Contains("own"), TaskFailed);
    CHECK_THROWS_AS(fail(2).result(), TaskFailed);
    CHECK(fail(0).status() != Status::success);
  });
}

TEST_CASE("a task is tried again for what it says, with its waits, and not more often than it may") {
  on_every_setting([](const Setting& s) {
    Bench b(s);
    std::atomic<int> tries{0};
    TaskOptions options;
    options.max_retries = 3;
    options.retry_for = errors<std::runtime_error>();
    options.retry_backoff = {1ms, 2, 4ms};
    const auto flaky = b.app.task(
        "t.flaky",
        [&](int needed) {
          if (++tries < needed) throw std::runtime_error("not yet");
          return int(tries);
        },
        {"needed"}, options);
    const auto asks = b.app.task("t.asks", [&]() -> int { throw RetryError(); }, {}, {.max_retries = 1});
    const auto other = b.app.task("t.other", [&]() -> int { throw std::logic_error("never again"); }, {}, options);
    b.start();
    const auto third = flaky(3);
    CHECK(third.result() == 3);
    CHECK(third.num_retries() == 2);
    CHECK(states(third) == std::vector{Status::registered, Status::pending, Status::running, Status::retry,
                                       Status::pending, Status::running, Status::retry, Status::pending,
                                       Status::running, Status::success});
    tries = 0;
    CHECK_THROWS_AS(flaky(100).result(), std::runtime_error);
    CHECK(tries == 4);
    const auto asked = asks();
    CHECK_THROWS_AS(asked.result(), RetryError);
    CHECK(asked.num_retries() == 1);
    const auto once = other();
    CHECK_THROWS_AS(once.result(), std::logic_error);
    CHECK(once.num_retries() == 0);
  });
}

TEST_CASE("a recursive task 50 levels deep completes with one slot, blocking or as a coroutine") {
  on_every_setting([](const Setting& s) {
    Bench b(s, 1);
    std::optional<Task<int(int)>> sum, async_sum;
    sum = b.app.task("t.sum", [&](int n) { return n == 0 ? 0 : n + (*sum)(n - 1).result(); }, {"n"});
    async_sum = b.app.task("t.async_sum",
                           [&](int n) -> Coro<int> {
                             if (n == 0) co_return 0;
                             const auto below = (*async_sum)(n - 1);
                             co_return n + co_await below;
                           },
                           {"n"});
    b.start();
    CHECK((*sum)(50).result() == 1275);
    CHECK((*async_sum)(50).result() == 1275);
    const auto two = (*sum)(1);
    CHECK(two.result() == 1);
    const auto h = states(two);
    CHECK(std::count(h.begin(), h.end(), Status::paused) == 1);
    CHECK(std::count(h.begin(), h.end(), Status::resumed) == 1);
  });
}

TEST_CASE("no more invocations are at work at once than there are slots") {
  on_every_setting([](const Setting& s) {
    Bench b(s, 3);
    std::atomic<int> now{0}, most{0};
    const auto probe = b.app.task("t.probe",
                                  [&](int) {
                                    const int n = ++now;
                                    for (int m = most; n > m && !most.compare_exchange_weak(m, n);) {
                                    }
                                    std::this_thread::yield();
                                    --now;
                                  },
                                  {"n"});
    b.start();
    std::vector<std::tuple<int>> calls;
    for (int i = 0; i < 300; ++i) calls.emplace_back(i);
    probe.parallelize(calls).wait();
    CHECK(most <= 3);
    CHECK(most >= 1);
  });
}

TEST_CASE("a call that would wait for itself is refused with its path, where it is made") {
  on_every_setting([](const Setting& s) {
    Bench b(s);
    std::optional<Task<int(int)>> ping, pong;
    ping = b.app.task("t.ping", [&](int n) { return (*pong)(n).result(); }, {"n"});
    pong = b.app.task("t.pong", [&](int n) { return (*ping)(n).result(); }, {"n"});
    b.start();
    try {
      (void)(*ping)(1).result();
      FAIL("nothing was thrown");
    } catch (const CycleDetectedError& e) {
      CHECK(e.path() == "t.ping -> t.pong -> t.ping");
    }
  });
}

TEST_CASE("two invocations that wait for each other are refused, though neither called the other") {
  on_every_setting([](const Setting& s) {
    Bench b(s, 2);
    TaskOptions one;
    one.registration_concurrency = Concurrency::DISABLED;
    std::optional<Invocation<int>> left_invocation, right_invocation;
    Gate both;
    const auto left = b.app.task("t.left", [&] {
      both.pass();
      return right_invocation->result();
    });
    const auto right = b.app.task("t.right", [&] {
      both.pass();
      return left_invocation->result();
    });
    left_invocation = left();
    right_invocation = right();
    b.start();
    both.await_entered(2);
    both.open_promise.set_value();
    CHECK_THROWS_AS(left_invocation->result(), CycleDetectedError);
    CHECK_THROWS_AS(right_invocation->result(), CycleDetectedError);
  });
}

TEST_CASE("calls of the same kind share the invocation that waits: by task, by arguments, by keys") {
  on_every_setting([](const Setting& s) {
    Bench b(s);
    const auto make = [&](const char* id, Concurrency c, std::vector<std::string> keys = {}, bool raise = false) {
      TaskOptions o;
      o.registration_concurrency = c;
      o.key_arguments = std::move(keys);
      o.on_diff_non_key_args_raise = raise;
      return b.app.task(id, [](int x, int y) { return x * 10 + y; }, {"x", "y"}, o);
    };
    const auto by_task = make("t.by_task", Concurrency::TASK);
    const auto first = by_task(1, 2), second = by_task(3, 4);
    CHECK(second.id() == first.id());
    CHECK(second.kind() == InvocationKind::reused);
    CHECK(second.diff_arg() == "x: 1, called with 3, y: 2, called with 4");
    const auto by_args = make("t.by_args", Concurrency::ARGUMENTS);
    const auto a = by_args(1, 2);
    CHECK(by_args(1, 2).id() == a.id());
    CHECK(by_args(1, 2).diff_arg().empty());
    CHECK(by_args(1, 3).id() != a.id());
    const auto by_key = make("t.by_key", Concurrency::KEYS, {"x"});
    const auto k = by_key(1, 2);
    CHECK(by_key(1, 9).id() == k.id());
    CHECK(by_key(2, 2).id() != k.id());
    const auto strict = make("t.strict", Concurrency::KEYS, {"x"}, true);
    const auto kept = strict(1, 2);
    CHECK(strict(1, 2).id() == kept.id());
    try {
      (void)strict(1, 3);
      FAIL("nothing was thrown");
    } catch (const InvocationConcurrencyWithDifferentArgumentsError& e) {
      CHECK(e.existing_invocation_id() == kept.id());
      CHECK(e.difference() == "y: 2, called with 3");
    }
    // A batch with one such call registers nothing.
    const auto counted = [&] { return b.app.store().list("t.strict", std::nullopt, 0, 100).wait().size(); };
    const auto before = counted();
    CHECK_THROWS(strict.parallelize(std::vector<std::tuple<int, int>>{{7, 7}, {1, 4}}));
    CHECK(counted() == before);
    b.start();
    CHECK(first.result() == 12);
    CHECK(k.result() == 12);
    const auto next = by_task(5, 6);  // the other one has ended
    CHECK(next.id() != first.id());
    CHECK(next.result() == 56);
  });
}

TEST_CASE("of a kind one is at work at a time, also in batches and with many runners") {
  on_every_setting([](const Setting& s) {
    Bench b(s, 4);
    std::atomic<int> now{0};
    std::atomic<bool> overlapped{false};
    TaskOptions o;
    o.running_concurrency = Concurrency::KEYS;
    o.key_arguments = {"key"};
    const auto probe = b.app.task(
        "t.exclusive",
        [&](int key, int n) {
          if (key == 0) {
            if (++now > 1) overlapped = true;
            std::this_thread::yield();
            --now;
          }
          return n;
        },
        {"key", "n"}, o);
    std::vector<std::unique_ptr<Runner>> runners;
    for (int i = 0; i < 3; ++i) runners.push_back(b.app.thread_runner({2, {}, {}}));
    std::vector<std::tuple<int, int>> calls;
    for (int i = 0; i < 200; ++i) calls.emplace_back(i % 2, i);
    const auto group = probe.parallelize(calls);
    b.start();
    for (auto& r : runners) r->start();
    auto results = group.results();
    CHECK(results.size() == 200);
    CHECK(std::set<int>(results.begin(), results.end()).size() == 200);
    CHECK_FALSE(overlapped);
  });
}

TEST_CASE("what must not run beside another of its kind is refused, if it does not want to wait") {
  on_every_setting([](const Setting& s) {
    Bench b(s, 2);
    Gate gate;
    TaskOptions o;
    o.running_concurrency = Concurrency::TASK;
    o.reroute_on_concurrency_control = false;
    const auto only = b.app.task(
        "t.only",
        [&](int n) {
          gate.pass();
          return n;
        },
        {"n"}, o);
    b.start();
    const auto first = only(1);
    gate.await_entered(1);
    const auto second = only(2);
    CHECK_THROWS_AS(second.result(), TaskRoutingError);
    CHECK(second.status() == Status::concurrency_controlled_final);
    gate.open_promise.set_value();
    CHECK(first.result() == 1);
  });
}

TEST_CASE("what waits is cancelled at once, what runs by its stop token, and its result is nobody's") {
  on_every_setting([](const Setting& s) {
    Bench b(s, 1);
    std::atomic<bool> began{false};
    const auto endless = b.app.task("t.endless", [&](std::stop_token stop) {
      began = true;
      began.notify_all();
      std::promise<void> ended;
      const std::stop_callback on_stop(stop, [&] { ended.set_value(); });
      ended.get_future().wait();
    });
    const auto awaits = b.app.task("t.awaits", [&]() -> Coro<void> { co_await Pending<void>(); });
    const auto waiting = endless();
    CHECK(waiting.cancel());
    CHECK_FALSE(waiting.cancel());
    CHECK(waiting.status() == Status::cancelled);
    CHECK_THROWS_AS(waiting.result(), InvocationCancelledError);
    b.start();
    const auto running = endless();
    began.wait(false);
    CHECK(running.cancel());
    CHECK_THROWS_AS(running.result(), InvocationCancelledError);
    const auto coroutine = awaits();
    while (coroutine.status() != Status::running) std::this_thread::yield();
    CHECK(coroutine.cancel());
    CHECK_THROWS_AS(coroutine.result(), InvocationCancelledError);
  });
}

TEST_CASE("a task that runs longer than its time-out has failed, and its slot is free") {
  on_every_setting([](const Setting& s) {
    Bench b(s, 1);
    TaskOptions o;
    o.timeout = 20ms;
    const auto stuck = b.app.task(
        "t.stuck",
        [](std::stop_token stop) {
          while (!stop.stop_requested()) std::this_thread::yield();
        },
        {}, o);
    const auto quick = b.app.task("t.quick", [] { return 1; });
    b.start();
    CHECK_THROWS_AS(stuck().result(), TaskTimeoutError);
    CHECK(quick().result() == 1);
  });
}

TEST_CASE("higher priorities go first, then age; what others wait for goes before both") {
  on_every_setting([](const Setting& s) {
    Bench b(s, 1);
    std::mutex mutex;
    std::vector<int> order;
    const auto make = [&](const char* id, int priority) {
      TaskOptions o;
      o.priority = priority;
      return b.app.task(
          id,
          [&](int n) {
            const std::lock_guard lock(mutex);
            order.push_back(n);
            return n;
          },
          {"n"}, o);
    };
    const auto low = make("t.low", -1), normal = make("t.normal", 0), high = make("t.high", 5);
    TaskOptions first;
    first.priority = 100;
    std::vector<Invocation<int>> all;
    const auto wanted = low(99);
    const auto waiter = b.app.task("t.waiter", [&] { return wanted.result(); }, {}, first);
    const auto waiting = waiter();
    for (int i = 0; i < 3; ++i) {
      all.push_back(low(10 + i));
      all.push_back(normal(20 + i));
      all.push_back(high(30 + i));
    }
    b.start();
    for (const auto& i : all) (void)i.result();
    CHECK(waiting.result() == 99);
    CHECK(order == std::vector{99, 30, 31, 32, 20, 21, 22, 10, 11, 12});
  });
}

TEST_CASE("a delayed call is scheduled first, and taken when its time has come") {
  on_every_setting([](const Setting& s) {
    Bench b(s);
    TaskOptions o;
    o.delay = 150ms;  // longer than it takes to look at it
    const auto later = b.app.task("t.later", [] { return 1; }, {}, o);
    b.start();
    const auto begin = std::chrono::steady_clock::now();
    const auto inv = later();
    CHECK(inv.status() == Status::scheduled);
    CHECK(inv.result() == 1);
    CHECK(std::chrono::steady_clock::now() - begin >= 150ms);
    CHECK(states(inv).front() == Status::scheduled);
    const auto never = later();
    CHECK(never.cancel());
    CHECK(never.status() == Status::cancelled);
  });
}

TEST_CASE("a runner serves the queues it was told to") {
  on_every_setting([](const Setting& s) {
    Bench b(s);
    TaskOptions o;
    o.queue = "reports";
    const auto report = b.app.task("t.report", [] { return 1; }, {}, o);
    const auto other = b.app.task("t.other", [] { return 2; });
    const auto runner = b.app.thread_runner({1, {"reports"}, {}});
    runner->start();
    const auto left = other();
    CHECK(report().result() == 1);
    CHECK(left.status() == Status::registered);
  });
}

TEST_CASE("a queue with a dot before its name is served only by who names it") {
  on_every_setting([](const Setting& s) {
    Bench b(s);
    TaskOptions o;
    o.queue = ".mine";
    const auto hidden = b.app.task("t.hidden", [] { return 1; }, {}, o);
    const auto asks = b.app.task("t.asks", [hidden] { return hidden().result(); }, {}, o);
    const auto other = b.app.task("t.other", [] { return 2; });
    Store& store = b.app.store();
    const auto left = hidden(), waiter = asks(), open = other();
    REQUIRE(store.take("me", 1, {".mine"}).wait().size() == 1);  // `left`, which the other one waits for
    store.change({left.id(), Status::rerouted, "me", {}, {}, {}}).wait();
    store.wait_for(waiter.id(), {left.id()}).wait();
    const auto taken = store.take("other", 5, {}).wait();
    REQUIRE(taken.size() == 1);
    CHECK(taken[0].id == open.id());
    CHECK(left.status() == Status::rerouted);
    const auto runner = b.app.thread_runner({.slots = 1, .queues = {".mine"}});
    runner->start();
    CHECK(waiter.result() == 1);
    CHECK(left.result() == 1);
  });
}

TEST_CASE("what a vanished runner had is done by another one, and its late result changes nothing") {
  on_every_setting([](const Setting& s) {
    Bench b(s, 1, [](AppOptions& o) { o.lease = 600ms; });
    const auto job = b.app.task("t.job", [](int n) { return n; }, {"n"});
    Store& store = b.app.store();
    const auto begun = job(1), taken = job(2);
    RunnerRecord ghost;
    ghost.id = "ghost";
    store.heartbeat(ghost, 1ms).wait();
    REQUIRE(store.take("ghost", 2, {}).wait().size() == 2);
    store.change({begun.id(), Status::running, "ghost", {}, {}, {}}).wait();
    b.start();  // its heartbeats find out
    CHECK(begun.result() == 1);
    CHECK(taken.result() == 2);
    CHECK(states(begun) == std::vector{Status::registered, Status::pending, Status::running, Status::running_recovery,
                                       Status::rerouted, Status::pending, Status::running, Status::success});
    const auto late = store.change({begun.id(), Status::success, "ghost", "9", {}, {}});
    CHECK_THROWS_AS(late.wait(), InvocationStatusError);
    CHECK(begun.result() == 1);
  });
}

TEST_CASE("a runner that is stopped ends what it has, or gives it back") {
  on_every_setting([](const Setting& s) {
    Bench b(s, 1);
    Gate gate;
    const auto gated = b.app.task("t.gated",
                                  [&](int n) {
                                    gate.pass();
                                    return n;
                                  },
                                  {"n"});
    const auto awaits = b.app.task("t.awaits",
                                   [&](int n) -> Coro<int> {
                                     if (n == 1) co_await caller::sleep_for(1h);
                                     co_return n;
                                   },
                                   {"n"});
    b.start();
    const auto first = gated(1), second = gated(2);
    gate.await_entered(1);
    const auto stopped = b.runner->stop();
    gate.open_promise.set_value();
    stopped.wait();
    CHECK(first.result() == 1);
    CHECK(is_runnable(second.status()));  // it was left alone, or came to the runner when that was stopped
    auto another = b.app.thread_runner({1, {}, {}});
    another->start();
    CHECK(second.result() == 2);
    const auto long_one = awaits(1);
    while (long_one.status() != Status::running) std::this_thread::yield();
    another->stop(true).wait();
    CHECK(long_one.status() == Status::rerouted);
    CHECK_THROWS_AS(another->start(), RunnerError);
  });
}

TEST_CASE("an invocation of a task nobody knows, or with arguments nobody can read, fails alone") {
  on_every_setting([](const Setting& s) {
    Bench b(s);
    const auto add = b.app.task("t.add", [](int x) { return x; }, {"x"});
    const auto forge = [&](const std::string& task, const std::string& args) {
      NewInvocation n;
      n.id = "forged-" + task + std::to_string(args.size());
      n.task_id = task;
      n.args = args;
      n.queue = "default";
      b.app.store().add({n}).wait();
      return n.id;
    };
    const auto unknown = forge("t.ad", "{}"), garbage = forge("t.add", "\xff\x00{"), empty = forge("t.add", "");
    b.start();
    for (const auto& id : {unknown, garbage, empty}) {
      b.app.store().ended(id).wait();
      const auto record = b.app.store().get(id).wait();
      CHECK(record.status == Status::failed);
      const auto error = ExceptionRecord::from_json(record.exception);
      CHECK(error.type == (id == unknown ? "UnknownTaskError" : "SerializationError"));
      if (id == unknown) CHECK(error.message.find("the nearest is t.add") != std::string::npos);
    }
    CHECK(add(7).result() == 7);
  });
}

TEST_CASE("of everything there is a list, by task and status, newest first, and a count") {
  on_every_setting([](const Setting& s) {
    Bench b(s);
    const auto ok = b.app.task("t.ok", [](int n) { return n; }, {"n"});
    const auto bad = b.app.task("t.bad", []() -> int { throw std::runtime_error("x"); });
    b.start();
    std::vector<Invocation<int>> all;
    for (int i = 0; i < 5; ++i) all.push_back(ok(i));
    for (const auto& i : all) (void)i.result();
    CHECK_THROWS(bad().result());
    Store& store = b.app.store();
    const auto page = store.list("t.ok", Status::success, 1, 2).wait();
    REQUIRE(page.size() == 2);
    CHECK(page[0].id == all[3].id());
    CHECK(page[1].id == all[2].id());
    CHECK(store.list("", Status::failed, 0, 10).wait().size() == 1);
    CHECK(store.counts().wait() ==
          std::vector<std::pair<Status, std::size_t>>{{Status::success, 5}, {Status::failed, 1}});
    CHECK(store.runners().wait().size() == 1);
    CHECK(store.purge(1h).wait() == 0);
    CHECK(b.app.purge() == 6);
    CHECK_THROWS_AS(all[0].result(), InvocationNotFoundError);
    CHECK(store.counts().wait().empty());
  });
}

TEST_CASE("in development mode a call runs where it is made, with its retries and the calls it makes") {
  on_every_setting([](const Setting& s) {
    Bench b(s, 1, [](AppOptions& o) { o.dev_mode = true; });
    std::optional<Task<int(int)>> sum;
    sum = b.app.task("t.sum", [&](int n) { return n == 0 ? 0 : n + (*sum)(n - 1).result(); }, {"n"});
    const auto inv = (*sum)(10);
    CHECK(inv.kind() == InvocationKind::synchronous);
    CHECK(inv.status() == Status::success);
    CHECK(inv.result() == 55);
    int tries = 0;
    const auto flaky = b.app.task("t.flaky",
                                  [&]() -> int {
                                    if (++tries < 3) throw RetryError();
                                    return tries;
                                  },
                                  {}, {.max_retries = 5});
    CHECK(flaky().result() == 3);
    const auto coroutine = b.app.task("t.coro",
                                      [](int n) -> Coro<int> {
                                        co_await caller::yield_now();
                                        co_return n;
                                      },
                                      {"n"});
    CHECK(coroutine(4).result() == 4);
  });
}

TEST_CASE("options that make no sense are refused, all of them at once") {
  Bench b({kStores[0].name, kStores[0].make, Format::json});
  TaskOptions o;
  o.parallel_batch_size = 0;
  o.max_retries = -1;
  o.key_arguments = {"z"};
  o.queue = "";
  try {
    (void)b.app.task("t.wrong", [](int x) { return x; }, {"x"}, o);
    FAIL("nothing was thrown");
  } catch (const InvalidTaskOptionsError& e) {
    for (const char* part : {"parallel_batch_size", "max_retries", "no parameter \"z\"", "queue"})
      CHECK(std::string(e.what()).find(part) != std::string::npos);
  }
  (void)b.app.task("t.once", [](int x) { return x; }, {"x"});
  CHECK_THROWS_AS((void)b.app.task("t.once", [](int x) { return x; }, {"x"}), TaskRoutingError);
  CHECK_THROWS_AS((void)b.app.task("t.names", [](int x) { return x; }, {"x", "y"}), TaskRoutingError);
  const auto needs = b.app.task("t.needs", [](int x) { return x; }, {"x"});
  CHECK_THROWS_AS((void)needs(), TaskRoutingError);
}

TEST_CASE("arguments have one identity, whatever their order; it is SHA-256 over their JSON") {
  CHECK(detail::args_id({}) == "no_args");
  CHECK(detail::args_id({{"x", "1"}, {"y", "2"}}) == detail::args_id({{"y", "2"}, {"x", "1"}}));
  CHECK(detail::args_id({{"x", "1"}}) == "713e63a0e1cb7e9ade2cf4d7f30fe4bd2e5865a6c00c391b63649c090b59a4fa");
}
