// What holds for tasks whatever the store and the serializer: what becomes of a call. Every store is named in `kStores`
// (stores.hpp). Who runs when, and beside whom: routing_test.cpp.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <stdexcept>
#include <string>
#include <thread>

#include <caller/all.hpp>
#include <caller/task/all.hpp>

#include "gate.hpp"
#include "settings.hpp"

using namespace caller::task;
using namespace std::chrono_literals;
using caller::Coro;
using caller::Pending;

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
