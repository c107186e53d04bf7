// caller/start_stop.hpp
#include "support/coro.hpp"

#include <thread>

using namespace caller;
using namespace caller::test;

namespace {

/// Says that it is up, and ends when asked to.
Coro<int> serve(StartSignal started, Pending<> stopping, int value) {
  started();
  co_await stopping.async_wait_done({.protect = true});
  co_await yield_now();
  co_return value;
}

Coro<void> fail_at_once(StartSignal, Pending<>) {
  co_await yield_now();
  throw std::runtime_error("no such port");
}

/// The code of the Error that a coroutine ends with; 0: none.
template <class C>
Coro<int> code_of(C coro) {
  try {
    (void)co_await std::move(coro);
  } catch (const Error& e) {
    co_return e.code().value();
  }
  co_return 0;
}
int code(Errc e) { return static_cast<int>(e); }

}  // namespace

ASYNC_TEST_CASE("a start-stop task starts when asked, says so, and ends by itself after stop") {
  auto task = Caller::current().create_start_stop_task(serve, 42);
  co_await yield_now();
  CHECK(!task.started().done());
  task.start();
  CHECK(!task.started().done());
  co_await task.started();
  CHECK(!task.stopping().done());
  CHECK(!task.stopped().done());
  auto end = task.stop();
  CHECK(task.stopping().done());
  CHECK(!end.done());
  CHECK(co_await end == 42);
  CHECK(co_await task == 42);
}

ASYNC_TEST_CASE("a start-stop task is started once, and not again after its end") {
  int runs = 0;
  auto task = Caller::current().create_start_stop_task([&](StartSignal started, Pending<> stopping) -> Coro<void> {
    ++runs;
    started();
    co_await stopping.async_wait_done({.protect = true});
  });
  task.start().start();
  co_await task.started();
  task.start();
  co_await task.stop();
  task.start();
  co_await yield_now();
  CHECK(runs == 1);
}

ASYNC_TEST_CASE("a start-stop task that is stopped before its start never runs") {
  bool ran = false;
  auto task = Caller::current().create_start_stop_task([&](StartSignal, Pending<>) { ran = true; });
  task.stop();
  CHECK(task.stopped().cancelled());
  CHECK(task.started().cancelled());
  task.start();
  CHECK_CORO_THROWS_AS(co_await task, PendingCancelled);
  CHECK(!ran);
}

ASYNC_TEST_CASE("a start-stop task stopped before it said that it started has a cancelled start") {
  auto task = Caller::current().create_start_stop_task([](StartSignal started, Pending<> stopping) -> Coro<void> {
    co_await stopping.async_wait_done({.protect = true});
    started();
  });
  task.start();
  co_await yield_now();
  co_await task.stop();
  CHECK(task.started().cancelled());
}

ASYNC_TEST_CASE("an error before the start surfaces to whoever waits for the start, and for the end") {
  auto task = Caller::current().create_start_stop_task(fail_at_once);
  task.start();
  CHECK_CORO_THROWS_AS(co_await task.started(), std::runtime_error);
  CHECK_CORO_THROWS_AS(co_await task, std::runtime_error);
}

TEST_CASE("the error of a start-stop task that nobody looks at is reported once") {
  ManualLoop loop;
  {
    auto task = loop.caller.create_start_stop_task(fail_at_once);
    task.start();
    loop.settle();
    CHECK(task.started().done());
  }
  CHECK(loop.reports.list() == std::vector<std::string>{"a Pending nobody looked at: no such port"});
}

ASYNC_TEST_CASE("the end of a start-stop task that did not say that it started ends the wait for the start") {
  auto task = Caller::current().create_start_stop_task([](StartSignal, Pending<>) { return 3; });
  CHECK_CORO_THROWS_AS(co_await task.start().started(), PendingCancelled);
  CHECK(co_await task == 3);
}

ASYNC_TEST_CASE("a start-stop task that cancels itself has a cancelled end") {
  auto task = Caller::current().create_start_stop_task([](StartSignal started, Pending<>) -> Coro<void> {
    started();
    current_pending().cancel("enough");
    co_await yield_now();
  });
  CHECK_CORO_THROWS_AS(co_await task.start(), PendingCancelled);
}

ASYNC_TEST_CASE("waiting for a start-stop task that was not started is an error") {
  auto task = Caller::current().create_start_stop_task(serve, 1);
  int found = 0;
  try {
    co_await task;
  } catch (const Error& e) {
    found = e.code().value();
  }
  CHECK(found == code(Errc::not_started));
  CHECK(co_await code_of(task.run([] {})) == code(Errc::not_started));
}

ASYNC_TEST_CASE("whoever gives up waiting for a start-stop task leaves it running") {
  auto task = Caller::current().create_start_stop_task(serve, 5);
  task.start();
  CHECK_CORO_THROWS_AS(co_await task.stopped().async_wait({.timeout = 1ms}), TimedOut);
  auto waiter = Caller::current().call_soon([t = task]() -> Coro<int> { co_return co_await t; });
  co_await yield_now();
  waiter.cancel();
  co_await waiter.async_wait_done({.protect = true});
  CHECK(!task.stopped().cancelled());
  CHECK(co_await task.stop() == 5);
}

TEST_CASE("the stop of its Caller stops a start-stop task and waits for its own end") {
  ManualLoop loop;
  Pending<> resume;
  std::vector<std::string> events;
  auto task = loop.caller.create_start_stop_task([&](StartSignal started, Pending<> stopping) -> Coro<std::string> {
    started();
    co_await stopping.async_wait_done({.protect = true});
    events.emplace_back("asked");
    co_await resume;
    co_return "ok";
  });
  task.start();
  loop.settle();
  auto asked = task.stopping();
  asked.add_done_callback([&](const PendingBase&) { resume.set_result(); });
  loop.caller.stop();
  CHECK(loop.caller.state() == CallerState::stopped);
  CHECK(events == std::vector<std::string>{"asked"});
  CHECK(task.stopped().result() == "ok");
}

TEST_CASE("a start-stop task of a stopped Caller is cancelled") {
  std::optional<ManualLoop> loop(std::in_place);
  auto before = loop->caller.create_start_stop_task(serve, 1);
  before.start();
  loop->caller.stop();
  CHECK(before.stopped().cancelled());
  auto after = loop->caller.create_start_stop_task(serve, 1);
  after.start();
  CHECK(after.started().cancelled());
  CHECK(after.stopped().cancelled());
}

TEST_CASE("a start-stop task that is forgotten is stopped, and gives back what it held") {
  ManualLoop loop;
  auto held = std::make_shared<int>(1);
  std::weak_ptr<int> watch = held;
  loop.caller
      .create_start_stop_task(
          [](StartSignal started, Pending<> stopping, std::shared_ptr<int>) -> Coro<void> {
            started();
            co_await stopping.async_wait_done({.protect = true});
          },
          std::move(held))
      .start();
  loop.settle();
  CHECK(watch.expired());
}

ASYNC_TEST_CASE("run starts no body before the task has started, and ends after it") {
  std::vector<std::string> events;
  auto task = Caller::current().create_start_stop_task([&](StartSignal started, Pending<> stopping) -> Coro<void> {
    co_await sleep_for(1ms);
    events.emplace_back("started");
    started();
    co_await stopping.async_wait_done({.protect = true});
    co_await sleep_for(1ms);
    events.emplace_back("stopped");
  });
  const int value = co_await task.start().run([&]() -> Coro<int> {
    events.emplace_back("body");
    co_await yield_now();
    co_return 7;
  });
  CHECK(value == 7);
  CHECK(events == std::vector<std::string>{"started", "body", "stopped"});
  CHECK(co_await code_of(task.run([] {})) == code(Errc::already_running));
}

ASYNC_TEST_CASE("run cancels its body when the task ends early") {
  Pending<> never;
  bool told = false;
  auto task = Caller::current().create_start_stop_task([](StartSignal started, Pending<>) { started(); });
  const int found = co_await code_of(task.start().run([&]() -> Coro<void> {
    CHECK_CORO_THROWS_AS(co_await never, PendingCancelled);
    told = true;
  }));
  CHECK(found == code(Errc::stopped_early));
  auto failing = Caller::current().create_start_stop_task([](StartSignal started, Pending<>) -> Coro<void> {
    started();
    co_await sleep_for(1ms);
    throw std::logic_error("lost");
  });
  Pending<> other;
  CHECK_CORO_THROWS_AS(co_await failing.start().run([&]() -> Coro<void> { co_await other; }), std::logic_error);
  CHECK(!told);  // it had ended before the body began
}

ASYNC_TEST_CASE("run hands on the body's error after the task has ended") {
  auto task = Caller::current().create_start_stop_task(serve, 1);
  CHECK_CORO_THROWS_AS(co_await task.start().run([] { throw std::logic_error("body"); }), std::logic_error);
  CHECK(task.stopped().result() == 1);
}

ASYNC_TEST_CASE("run that is cancelled cancels the body, stops the task and waits for both") {
  std::vector<std::string> events;
  auto task = Caller::current().create_start_stop_task([&](StartSignal started, Pending<> stopping) -> Coro<void> {
    started();
    co_await stopping.async_wait_done({.protect = true});
    co_await sleep_for(1ms);
    events.emplace_back("stopped");
  });
  task.start();
  auto work = Caller::current().call_soon([&]() -> Coro<void> {
    co_await task.run([&]() -> Coro<void> {
      std::exception_ptr cancelled;
      try {
        co_await sleep_for(1h);
      } catch (const PendingCancelled&) {
        cancelled = std::current_exception();
      }
      co_await sleep_for(1ms);
      events.emplace_back("body");
      std::rethrow_exception(cancelled);
    });
  });
  co_await task.started();
  for (int i = 0; i < 3; ++i) co_await yield_now();
  work.cancel();
  co_await work.async_wait_done({.protect = true});
  CHECK(work.cancelled());
  CHECK(events == std::vector<std::string>{"body", "stopped"});
}

ASYNC_THREADS_TEST_CASE("a start-stop task runs on its Caller, is controlled from anywhere, and run belongs there") {
  Caller other = Caller::current().get({.name = "server"});
  std::thread::id ran_on;
  auto task = other.create_start_stop_task([&](StartSignal started, Pending<> stopping) -> Coro<std::unique_ptr<int>> {
    ran_on = std::this_thread::get_id();
    started();
    co_await stopping.async_wait_done({.protect = true});
    co_return std::make_unique<int>(9);
  });
  std::vector<Pending<>> starters;
  for (int i = 0; i < 3; ++i) starters.push_back(Caller::current().to_thread([t = task]() mutable { t.start(); }));
  for (auto& p : starters) co_await p;
  co_await task.started();
  CHECK(co_await code_of(task.run([] {})) == code(Errc::wrong_thread));
  CHECK(*co_await task.stop() == 9);
  CHECK(ran_on == other.thread());
}
