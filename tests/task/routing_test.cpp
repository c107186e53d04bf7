// Who runs when, and beside whom, whatever the store and the serializer: slots, calls that wait for others, kinds of
// which one runs at a time, priorities, delays, queues.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <set>
#include <string>
#include <thread>

#include <caller/all.hpp>
#include <caller/task/all.hpp>

#include "faulty_store.hpp"
#include "gate.hpp"
#include "new_call.hpp"
#include "settings.hpp"

using namespace caller::task;
using namespace std::chrono_literals;
using caller::Coro;

TEST_CASE("parallelize() sends batches in order, and a store that fails is one error, without a report of the rest") {
  std::atomic<int> reports{0};
  caller::set_error_handler([&](const std::string&, const std::exception_ptr&) { ++reports; });
  const std::shared_ptr<void> as_before(nullptr, [](void*) { caller::set_error_handler({}); });
  on_every_setting([&](const Setting& s) {
    const auto store = std::make_shared<FaultyStore>(s.make());
    AppOptions o;
    o.app_id = "test";
    o.format = s.format;
    o.store = store;
    const App app(std::move(o));
    TaskOptions two;
    two.parallel_batch_size = 2;
    const auto task = app.task("t.batches", [](int n) { return n; }, {"n"}, two);
    std::vector<std::tuple<int>> calls;
    for (int n = 0; n < 7; ++n) calls.emplace_back(n);
    const auto group = task.parallelize(calls);
    CHECK(group.invocations().size() == 7);
    const auto stored = app.store().list("t.batches", Status::registered, 0, 10).wait();
    REQUIRE(stored.size() == 7);
    for (std::size_t n = 0; n < 7; ++n) CHECK(stored[6 - n].id == group.invocations()[n].id());  // the newest first
    store->fail_after(0);
    CHECK_THROWS_AS((void)task.parallelize(calls), StateBackendError);
  });
  CHECK(reports == 0);
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
    try {
      (void)strict.parallelize(std::vector<std::tuple<int, int>>{{8, 1}, {9, 1}, {8, 1}, {8, 2}});
      FAIL("nothing was thrown");
    } catch (const InvocationConcurrencyWithDifferentArgumentsError& e) {
      CHECK(e.difference() == "y: 1, called with 2");
    }
    CHECK(counted() == before);
    const auto same = strict.parallelize(std::vector<std::tuple<int, int>>{{8, 1}, {8, 1}});
    CHECK(same.invocations()[0].id() == same.invocations()[1].id());
    b.start();
    CHECK(first.result() == 12);
    CHECK(k.result() == 12);
    const auto next = by_task(5, 6);  // the other one has ended
    CHECK(next.id() != first.id());
    CHECK(next.result() == 56);
  });
}

TEST_CASE("of several that wait with one key each is known until it is taken, also one that is tried again") {
  on_every_setting([](const Setting& s) {
    const auto store = s.make();
    const auto add = [&](const std::string& id) {
      NewInvocation n = call(id);
      n.registration_key = "key";
      return store->add({n}).wait().front().id;
    };
    const auto take = [&] { return store->take("runner", 1, {}, true).wait().at(0).id; };
    CHECK(add("a") == "a");
    CHECK(take() == "a");
    CHECK(add("b") == "b");
    CHECK(add("c") == "b");
    store->change({"a", Status::retry, "runner", {}, {}, {}}).wait();
    CHECK(take() == "b");
    CHECK(add("d") == "a");
    store->change({"b", Status::retry, "runner", {}, {}, {}}).wait();
    CHECK(store->cancel("b").wait());
    CHECK(add("e") == "a");
    CHECK(take() == "a");
    CHECK(add("f") == "f");
    CHECK(take() == "f");
    CHECK(add("g") == "g");
    store->purge(std::nullopt).wait();
    CHECK(add("h") == "h");
  });
}

TEST_CASE("arguments that go too deep to be compared are said to be others") {
  on_every_setting([](const Setting& s) {
    Bench b(s);
    TaskOptions o;
    o.registration_concurrency = Concurrency::TASK;
    const auto task = b.app.task("t.deep", [](int) {}, {"n"}, o);
    const char open = s.format == Format::json ? '[' : '\x81';
    for (const std::string& args : {std::string(200'000, open), "\xa1\x61n" + std::string(200'000, open),
                                    "{\"n\":" + std::string(200'000, open) + std::string(200'000, ']') + "}"}) {
      NewInvocation n = call(std::to_string(args.size()));
      n.task_id = "t.deep";
      n.registration_key = "t.deep";
      n.args = args;
      b.app.store().add({n}).wait();
      const auto inv = task(1);
      CHECK(inv.id() == n.id);
      CHECK(inv.diff_arg() == "the stored arguments cannot be read");
      CHECK(inv.cancel());
    }
  });
}

TEST_CASE(
    "with call_result_cache a call that was made before gives that invocation, also after its end, until it is "
    "purged") {
  on_every_setting([](const Setting& s) {
    Bench b(s);
    std::atomic<int> ran{0};
    const auto square = b.app.task("t.kept", [&](int n) { return ++ran, n * n; }, {"n"}, {.call_result_cache = true});
    const auto first = square(3);
    CHECK(square(3).id() == first.id());  // it waits
    b.start();
    CHECK(first.result() == 9);
    const auto again = square(3);
    CHECK(again.id() == first.id());
    CHECK(again.kind() == InvocationKind::reused);
    CHECK(again.result() == 9);
    CHECK(square(4).result() == 16);
    CHECK(ran == 2);
    b.app.purge();
    const auto anew = square(3);
    CHECK(anew.id() != first.id());
    CHECK(anew.result() == 9);
    CHECK(ran == 3);
  });
}

TEST_CASE("with call_result_cache a batch may have calls of other arguments, whatever is refused without it") {
  on_every_setting([](const Setting& s) {
    Bench b(s);
    const auto square = b.app.task("t.kept", [](int n) { return n * n; }, {"n"},
                                   {.registration_concurrency = Concurrency::ARGUMENTS,
                                    .on_diff_non_key_args_raise = true,
                                    .call_result_cache = true});
    b.start();
    CHECK(square.parallelize(std::vector<std::tuple<int>>{{1}, {2}, {3}}).ordered_results() == std::vector{1, 4, 9});
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

TEST_CASE("of a kind the next one gets its turn also when the one whose turn it was is cancelled before it is taken") {
  on_every_setting([](const Setting& s) {
    Bench b(s);
    TaskOptions o;
    o.running_concurrency = Concurrency::TASK;
    const auto only = b.app.task("t.only", [](int n) { return n; }, {"n"}, o);
    Store& store = b.app.store();
    std::vector<Invocation<int>> all;
    for (int i = 0; i < 6; ++i) all.push_back(only(i));
    const auto taken = [&] {
      std::vector<std::string> out;
      for (const auto& r : store.take("runner", 10, {}, true).wait()) out.push_back(r.id);
      return out;
    };
    const auto end = [&](int i, Status to) {
      const std::string& id = all[static_cast<std::size_t>(i)].id();
      store.change({id, to, "runner", "0", {}, {}}).wait();
    };
    CHECK(taken() == std::vector{all[0].id()});
    CHECK(all[5].status() == Status::concurrency_controlled);
    CHECK(all[2].cancel());  // while it is held
    CHECK(all[3].status() == Status::concurrency_controlled);
    end(0, Status::success);
    CHECK(all[1].status() == Status::rerouted);
    CHECK(all[1].cancel());
    CHECK(all[3].status() == Status::rerouted);
    CHECK(all[4].status() == Status::concurrency_controlled);
    CHECK(taken() == std::vector{all[3].id()});
    end(3, Status::retry);
    CHECK(all[4].status() == Status::rerouted);
    CHECK(all[4].cancel());
    CHECK(all[3].cancel());
    CHECK(all[5].status() == Status::rerouted);
    CHECK(taken() == std::vector{all[5].id()});
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
