// The small loop of the seed article.
#include <caller/task_loop.hpp>

#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include <doctest/doctest.h>

using caller::Coro;
using caller::Errc;
using caller::Pending;
using caller::TaskLoop;

TEST_SUITE_BEGIN("runtime.task_loop");

namespace {

Errc code_of(const std::exception_ptr& e) {
  try {
    std::rethrow_exception(e);
  } catch (const caller::Error& error) {
    return static_cast<Errc>(error.code().value());
  }
}

template <class F>
Errc error_of(F&& f) {
  try {
    f();
  } catch (...) {
    return code_of(std::current_exception());
  }
  return Errc{};
}

Coro<int> add(int a, int b) {
  co_await caller::yield_now();
  co_return a + b;
}

Coro<void> fail() {
  co_await caller::yield_now();
  throw std::runtime_error("boom");
}

template <class W>
concept Transformable = requires(TaskLoop loop, W work) { loop.transform_future(std::move(work)); };

}  // namespace

TEST_CASE("run_once runs the oldest ready handle") {
  TaskLoop loop;
  std::vector<int> order;
  for (int i = 0; i < 3; ++i) loop.call_soon([&order](int n) { order.push_back(n); }, i);
  CHECK(loop.total_tasks() == 3);
  CHECK(loop.run_once());
  CHECK(order == std::vector<int>{0});
  CHECK(loop.total_tasks() == 2);
  CHECK(loop.run_once());
  CHECK(loop.run_once());
  CHECK(order == std::vector<int>{0, 1, 2});
  CHECK_FALSE(loop.run_once());
}

TEST_CASE("a cancelled handle never runs, and is not finished") {
  TaskLoop loop;
  bool ran = false;
  auto handle = loop.call_soon([&ran] { ran = true; });
  handle.cancel();
  CHECK(handle.is_cancelled());
  loop.run_once();
  CHECK_FALSE(ran);
  CHECK_FALSE(handle.finished());
}

TEST_CASE("cancelling a handle that ran changes nothing") {
  TaskLoop loop;
  auto handle = loop.call_soon([] {});
  CHECK_FALSE(handle.finished());
  loop.run_once();
  CHECK(handle.finished());
  handle.cancel();
  CHECK_FALSE(handle.is_cancelled());
}

TEST_CASE("an error of a handle is reported and the loop goes on") {
  std::vector<std::string> reported;
  caller::set_error_handler([&](const std::string&, const std::exception_ptr& e) {
    try {
      std::rethrow_exception(e);
    } catch (const std::exception& error) {
      reported.emplace_back(error.what());
    }
  });
  TaskLoop loop;
  bool ran = false;
  auto bad = loop.call_soon([] { throw std::runtime_error("bad handle"); });
  loop.call_soon([&ran] { ran = true; });
  loop.run_once();
  loop.run_once();
  caller::set_error_handler({});
  CHECK(reported == std::vector<std::string>{"bad handle"});
  CHECK(bad.finished());
  CHECK(ran);
}

TEST_CASE("a coroutine function given to call_soon is NotRegularFunction") {
  TaskLoop loop;
  CHECK_THROWS_AS(loop.call_soon(add, 1, 2), caller::NotRegularFunction);
  CHECK(loop.total_tasks() == 0);
}

TEST_CASE("run_until_complete gives the value of a coroutine") {
  TaskLoop loop;
  CHECK(loop.run_until_complete(add(1, 2)) == 3);
  CHECK_FALSE(loop.running());
}

TEST_CASE("run_until_complete gives the value of a Pending of the loop") {
  TaskLoop loop;
  auto future = loop.create_future<int>();
  loop.call_soon([future] { future.set_result(42); });
  CHECK(loop.run_until_complete(future) == 42);
}

TEST_CASE("run_until_complete rethrows the error of the work") {
  TaskLoop loop;
  CHECK_THROWS_WITH(loop.run_until_complete(fail()), "boom");
}

TEST_CASE("run_until_complete inside the running loop is an error") {
  TaskLoop loop;
  Errc inner{};
  loop.call_soon([&] { inner = error_of([&] { loop.run_until_complete(add(1, 2)); }); });
  CHECK(loop.run_until_complete(add(3, 4)) == 7);
  CHECK(inner == Errc::already_running);
}

TEST_CASE("a handle that run_once runs sees the loop running, and cannot run it again") {
  TaskLoop loop;
  Errc until{}, once{};
  bool running = false;
  loop.call_soon([&] {
    running = loop.running();
    until = error_of([&] { loop.run_until_complete(add(1, 2)); });
    once = error_of([&] { loop.run_once(); });
  });
  CHECK(loop.run_once());
  CHECK(running);
  CHECK(until == Errc::already_running);
  CHECK(once == Errc::already_running);
  CHECK_FALSE(loop.running());
}

TEST_CASE("a coroutine that the running loop refuses to complete does not run either") {
  TaskLoop loop;
  bool ran = false;
  loop.call_soon([&] {
    CHECK_THROWS_AS(loop.run_until_complete([](bool& r) -> Coro<void> {
      r = true;
      co_return;
    }(ran)),
                    caller::Error);
    CHECK_THROWS_AS(loop.run_forever(), caller::Error);
    CHECK_THROWS_AS(loop.run_once(), caller::Error);
  });
  loop.call_soon([&] { loop.stop(); });
  loop.run_forever();
  CHECK_FALSE(ran);
}

TEST_CASE("a handle runs in the context it was made in") {
  TaskLoop loop;
  caller::ContextVar<int> var;
  int seen = 0;
  {
    const caller::ContextVar<int>::Scope inside(var, 2);
    loop.call_soon([&] { seen = var.get_or(1); });
  }
  CHECK(loop.run_once());
  CHECK(seen == 2);
  CHECK(var.get_or(1) == 1);
}

TEST_CASE("a future of another loop is an error") {
  TaskLoop loop, other;
  auto future = other.create_future<int>();
  CHECK(error_of([&] { loop.run_until_complete(future); }) == Errc::wrong_loop);
  CHECK(error_of([&] { loop.transform_future(future); }) == Errc::wrong_loop);
  future.set_result(1);
  CHECK(error_of([&] { loop.run_until_complete(future); }) == Errc::wrong_loop);
  Pending<> gate;
  const caller::Caller threads(caller::new_thread);
  auto of_worker = threads.to_thread([gate] { gate.wait(); });
  CHECK(error_of([&] { loop.run_until_complete(of_worker); }) == Errc::wrong_loop);
  gate.set_result();
  of_worker.wait();
  CHECK(error_of([&] { loop.run_until_complete(of_worker); }) == Errc::wrong_loop);
  const auto awaits = [](Pending<> p) -> Coro<void> { co_await p; };
  loop.run_until_complete(awaits(of_worker));
}

TEST_CASE(
    "transform_future leaves a future of the loop as it is, makes a task of a coroutine, and takes nothing else") {
  TaskLoop loop;
  auto future = loop.create_future<int>();
  CHECK(loop.transform_future(future) == future);
  Pending<int> task = loop.transform_future(add(2, 2));
  CHECK(loop.run_until_complete(task) == 4);
  CHECK_FALSE(Transformable<int>);
  CHECK_FALSE(Transformable<std::string>);
  CHECK(Transformable<Pending<int>>);
}

TEST_CASE("stop ends run_forever after what was queued before") {
  TaskLoop loop;
  std::vector<int> order;
  loop.call_soon([&] { order.push_back(1); });
  loop.stop();
  loop.call_soon([&] { order.push_back(2); });
  loop.run_forever();
  CHECK(order == std::vector<int>{1});
  CHECK(loop.total_tasks() == 1);
}

TEST_CASE("tasks of one loop take turns") {
  TaskLoop loop;
  std::string trace;
  auto task = [&trace](char name) -> Coro<void> {
    for (int i = 0; i < 3; ++i) {
      trace += name;
      co_await caller::yield_now();
    }
  };
  auto a = loop.add_task(task('a'));
  auto b = loop.add_task(task('b'));
  loop.run_until_complete(a);
  loop.run_until_complete(b);
  CHECK(trace == "ababab");
}

TEST_CASE("a loop runs inside a function of a Caller, and gives the thread back") {
  const int value = caller::call_async_from_sync([] {
    const auto outer = caller::Caller::current();
    TaskLoop loop;
    const int sum = loop.run_until_complete(add(20, 22));
    CHECK(caller::Caller::current() == outer);
    return sum;
  });
  CHECK(value == 42);
}

TEST_CASE("a task that stops its loop's Caller in a step is cancelled at its next wait, and the thread is given back") {
  bool stopped = false;
  Pending<> task;
  {
    TaskLoop loop;
    const auto body = [&stopped]() -> Coro<void> {
      caller::Caller::current().stop();
      stopped = true;
      co_await caller::yield_now();
      stopped = false;
    };
    task = loop.add_task(body());
    loop.run_once();
  }
  CHECK(stopped);
  CHECK(task.cancelled());
  CHECK_THROWS_AS(caller::Caller::current(), caller::NoRunningCaller);
}

TEST_CASE("a loop destroyed with suspended tasks cancels their Pendings") {
  Pending<int> task;
  {
    TaskLoop loop;
    task = loop.add_task(add(1, 2));
    loop.run_once();
  }
  CHECK(task.done());
  CHECK(task.cancelled());
}

TEST_SUITE_END();

TEST_CASE("a future of a task loop may outlive it") {
  std::optional<Pending<int>> failed, given;
  {
    TaskLoop loop;
    failed = loop.create_future<int>();
    given = loop.create_future<int>();
  }
  failed->set_exception(std::runtime_error("late"));
  CHECK_THROWS_AS((void)failed->result(), std::runtime_error);
  given->set_result(1);
  TaskLoop another;
  CHECK_THROWS_AS(another.run_until_complete(*given), caller::Error);  // nor is it the one of another loop
}
