// Families of invocations, and tasks that are registered when they are met.
#include <doctest/doctest.h>

#include <atomic>
#include <optional>

#include <caller/task/all.hpp>

#include "gate.hpp"

using namespace caller::task;

namespace {

NewInvocation call_of(const std::string& task, const std::string& id) {
  NewInvocation n;
  n.id = id;
  n.task_id = task;
  n.args = R"({"x":1})";
  n.queue = "default";
  return n;
}

}  // namespace

TEST_CASE("a family is an invocation and all that came of it, each behind its parent, siblings in their order") {
  const App app(AppOptions{.app_id = "test"});
  const auto leaf = app.task("t.leaf", [](int x) { return x; }, {"x"});
  const auto branch =
      app.task("t.branch", [leaf](int n) { return leaf(10 * n).result() + leaf(10 * n + 1).result(); }, {"n"});
  const auto root = app.task("t.root", [branch] { return branch(1).result() + branch(2).result(); });
  const auto runner = app.thread_runner({.slots = 1});
  runner->start();
  const auto before = leaf(7);
  const auto first = root();
  CHECK(before.result() == 7);
  REQUIRE(first.result() == 62);
  const auto all = family(app.store(), first.id(), 0, 2);
  std::string shape;
  for (const Relative& r : all) shape += std::to_string(r.depth) + r.record.task_id.substr(2, 1) + r.record.args;
  CHECK(shape == R"(0r{}1b{"n":1}2l{"x":10}2l{"x":11}1b{"n":2}2l{"x":20}2l{"x":21})");
  CHECK(!all[1].history.empty());
  CHECK(all[2].history.empty());  // of two it was asked for
  CHECK_THROWS_AS((void)family(app.store(), "nobody"), InvocationNotFoundError);
}

TEST_CASE("a task that is not registered is asked for once, and what that throws is its invocations' failure") {
  std::atomic<int> asked = 0;
  AppOptions options;
  options.app_id = "test";
  options.find_task = [&asked](const App& app, const std::string& id) {
    ++asked;
    if (id == "t.broken") throw UnknownTaskError(id, "it does not compile");
    if (id == "t.late") (void)app.task(id, [](int x) { return x + 1; }, {"x"});
  };
  const App app(std::move(options));
  app.store()
      .add({call_of("t.late", "a"), call_of("t.late", "b"), call_of("t.late", "c"), call_of("t.broken", "d")})
      .wait();
  const auto runner = app.thread_runner({.slots = 3});
  runner->start();
  for (const char* id : {"a", "b", "c"}) CHECK(app.store().final_record(id).wait().result == "2");
  CHECK(app.store().final_record("d").wait().exception.find("it does not compile") != std::string::npos);
  CHECK(asked == 2);
  app.store().add({call_of("t.none", "e")}).wait();  // asked for, and still not there
  CHECK(app.store().final_record("e").wait().exception.find("has no task t.none") != std::string::npos);
}

TEST_CASE("what is cancelled, or given up, while its task is looked for is not executed when that is found") {
  for (const bool give_up : {false, true}) {
    CAPTURE(give_up);
    Gate gate;
    std::atomic<bool> ran = false;
    AppOptions options;
    options.app_id = "test";
    options.find_task = [&](const App& app, const std::string& id) {
      gate.pass();
      (void)app.task(id, [&] { ran = true; });
    };
    const App app(std::move(options));
    Store& store = app.store();
    NewInvocation late = call_of("t.late", "a");
    late.args = "{}";
    store.add({late}).wait();
    const auto runner = app.thread_runner({.slots = 1});
    runner->start();
    gate.await_entered(1);
    const auto stopped = give_up ? std::optional(runner->stop(true)) : std::nullopt;
    if (!give_up) CHECK(store.cancel("a").wait());
    gate.open_promise.set_value();
    if (stopped) stopped->wait();
    if (!give_up) store.ended("a").wait();
    CHECK(store.get("a").wait().status == (give_up ? Status::rerouted : Status::cancelled));
    CHECK_FALSE(ran);
  }
}
