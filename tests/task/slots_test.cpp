// A runner keeps its slots whatever becomes of a task that waits: it gave its slot back, and wants one again.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <caller/all.hpp>
#include <caller/task/all.hpp>

#include "support/temporary_folder.hpp"

using namespace caller;
using namespace caller::task;
using namespace std::chrono_literals;

namespace {

constexpr auto kSoon = 20s;

template <class F>
bool comes_true(F f) {
  for (const auto until = std::chrono::steady_clock::now() + kSoon; std::chrono::steady_clock::now() < until;
       std::this_thread::sleep_for(1ms))
    if (f()) return true;
  return false;
}

std::unique_ptr<Runner> started(App& app, std::size_t slots) {
  RunnerOptions o;
  o.slots = slots;
  o.queues = {"default"};
  auto runner = app.thread_runner(o);
  runner->start();
  return runner;
}

/// For tasks that nobody here executes.
TaskOptions elsewhere() {
  TaskOptions o;
  o.queue = "elsewhere";
  return o;
}

/// Nothing is at work, and as many as there are slots are executed at once, not one more.
void check_slots(App& app, const Runner& runner, std::size_t slots) {
  CHECK(comes_true([&] { return runner.working() == 0; }));
  const auto begun = std::make_shared<std::atomic<std::size_t>>(0);
  const auto go = std::make_shared<std::atomic<bool>>(false);
  const auto hold = app.task("hold",
                             [begun, go](int n) {
                               ++*begun;
                               (void)comes_true([&] { return go->load(); });
                               return n;
                             },
                             {"n"});
  for (int i = 0; i <= static_cast<int>(slots); ++i) (void)hold(i);
  CHECK(comes_true([&] { return *begun == slots; }));
  CHECK(runner.working() == slots);
  *go = true;
  CHECK(comes_true([&] { return *begun == slots + 1 && runner.working() == 0; }));
}

}  // namespace

TEST_CASE("a task that waits for another one is ended by somebody else: its runner has its slots") {
  for (const bool by_time : {false, true}) {
    for (const bool coroutine : {false, true}) {
      CAPTURE(by_time);
      CAPTURE(coroutine);
      App app = AppBuilder{}.app_id("slots").memory().build();
      TaskOptions o;
      if (by_time) o.timeout = 100ms;
      const auto far = app.task("far", [](int x) { return x; }, {"x"}, elsewhere());
      const auto left = std::make_shared<std::atomic<bool>>(coroutine);
      const auto plain = app.task(
          "plain",
          [far, left](int x) {
            const std::shared_ptr<void> leaves(nullptr, [left](void*) { *left = true; });
            return far(x).result();
          },
          {"x"}, o);
      const auto co = app.task(
          "co",
          [far](int x) -> Coro<int> {
            const auto inner = far(x);
            co_return co_await inner;
          },
          {"x"}, o);
      const auto runner = started(app, 2);
      const auto outer = coroutine ? co(1) : plain(1);
      if (!by_time) {
        REQUIRE(comes_true([&] { return outer.status() == Status::paused; }));
        CHECK(outer.cancel());
      }
      CHECK_THROWS((void)outer.result());
      CHECK(comes_true([&] { return left->load(); }));  // until then it may be counted as one that has no slot
      check_slots(app, *runner, 2);
    }
  }
}

TEST_CASE("code that outlives its task waits for another one: its runner has its slots") {
  App app = AppBuilder{}.app_id("slots").memory().build();
  const auto over = std::make_shared<std::atomic<bool>>(false), got = std::make_shared<std::atomic<bool>>(false);
  const auto child = app.task("child", [](int x) { return x; }, {"x"});
  const auto parent = app.task("parent",
                               [child, over, got](int x) {
                                 (void)Caller::current().to_thread([child, over, got] {
                                   (void)comes_true([&] { return over->load(); });
                                   (void)child(7).result();
                                   *got = true;
                                 });
                                 return x;
                               },
                               {"x"});
  const auto runner = started(app, 2);
  CHECK(parent(1).result() == 1);
  *over = true;
  REQUIRE(comes_true([&] { return got->load(); }));
  check_slots(app, *runner, 2);
}

TEST_CASE("a task is cancelled while it waits for its slot again: its runner has its slot") {
  App app = AppBuilder{}.app_id("slots").memory().build();
  const auto id = std::make_shared<std::string>();
  const auto go = std::make_shared<std::atomic<bool>>(false);
  const auto far = app.task("far", [](int x) { return x; }, {"x"}, elsewhere());
  const auto slow = app.task("slow",
                             [go](int x) {
                               (void)comes_true([&] { return go->load(); });
                               return x;
                             },
                             {"x"});
  const auto co = app.task("co",
                           [far, id](int x) -> Coro<int> {
                             const auto inner = far(x);
                             *id = inner.id();
                             co_return co_await inner;
                           },
                           {"x"});
  const auto runner = started(app, 1);
  const auto outer = co(1);
  REQUIRE(comes_true([&] { return outer.status() == Status::paused; }));
  const auto other = slow(1);
  REQUIRE(comes_true([&] { return other.status() == Status::running; }));
  CHECK(app.store().cancel(*id).wait());
  std::this_thread::sleep_for(50ms);  // by now it waits for the slot that `slow` has
  CHECK(outer.status() == Status::paused);
  CHECK(outer.cancel());
  CHECK(comes_true([&] { return outer.status() == Status::cancelled; }));
  *go = true;
  CHECK(other.result() == 1);
  check_slots(app, *runner, 1);
}

#ifdef CALLER_TASK_SQLITE
TEST_CASE("tasks are cancelled at any moment of their waits: their runner has its slots") {
  const caller::test::TemporaryFolder folder;
  std::weak_ptr<int> kept;
  {
    App app = AppBuilder{}.app_id("slots").sqlite(folder.file("tasks.db")).build();
    const auto own = std::make_shared<int>();
    kept = own;
    const auto far = app.task("far", [own](int x) { return x; }, {"x"}, elsewhere());
    const auto co = app.task("co",
                             [far](int x) -> Coro<int> {
                               const auto inner = far(x);
                               co_return co_await inner;
                             },
                             {"x"});
    const auto plain = app.task("plain", [far](int x) { return far(x).result(); }, {"x"});
    const auto runner = started(app, 2);
    std::uint64_t random = 88172645463325252U;
    for (int i = 0; i < 200; ++i) {
      random ^= random << 13U;
      random ^= random >> 7U;
      random ^= random << 17U;
      const auto outer = i % 8 == 0 ? plain(i) : co(i);
      std::this_thread::sleep_for(std::chrono::microseconds(random % 3000));
      (void)outer.cancel();
      CHECK_THROWS((void)outer.result());
    }
    check_slots(app, *runner, 2);
  }
  CHECK(kept.expired());  // nothing of a wait that was given up keeps its runner, and with that the application
}
#endif
