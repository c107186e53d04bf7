// What the process's own callers and workers share with a store in memory.
#include <doctest/doctest.h>

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include <caller/all.hpp>
#include <caller/task/all.hpp>

using namespace caller::task;

namespace {

App in_memory() { return AppBuilder{}.app_id("shared").memory().build(); }
std::unique_ptr<Runner> started(const App& app, std::size_t slots) {
  RunnerOptions options;
  options.slots = slots;
  auto runner = app.thread_runner(options);
  runner->start();
  return runner;
}
template <class T>
T read(std::string_view json) {
  return from_bytes<T>(Format::json, json);
}

}  // namespace

TEST_CASE("the plainest values are read as any others, and what is nearly one of them is told apart") {
  CHECK(read<long>("7") == 7);
  CHECK(read<long>("-7") == -7);
  CHECK(read<long>("-0") == 0);
  CHECK(read<long>(" 7 ") == 7);
  CHECK(read<long>("9223372036854775807") == std::numeric_limits<long>::max());
  CHECK(read<long>("-9223372036854775808") == std::numeric_limits<long>::min());
  CHECK(read<std::uint64_t>("18446744073709551615") == std::numeric_limits<std::uint64_t>::max());
  CHECK(read<std::int8_t>("-128") == -128);
  CHECK(read<char>("65") == 'A');
  CHECK(read<bool>("true"));
  CHECK_FALSE(read<bool>("false"));
  CHECK(read<std::string>("\"a b\"") == "a b");
  CHECK(read<std::string>("\"a\\n\\\"\"") == "a\n\"");
  CHECK(read<std::string>("\"\xc3\xa4\"") == "\xc3\xa4");
  for (const char* const number : {"", "07", "-", "7.5", "7e", "7,", "7}", "true", "\"7\"", "9223372036854775808"})
    CHECK_THROWS_AS(read<long>(number), SerializationError);
  CHECK_THROWS_AS(read<std::int8_t>("128"), SerializationError);
  CHECK_THROWS_AS(read<unsigned>("-1"), SerializationError);
  CHECK_THROWS_AS(read<std::uint64_t>("18446744073709551616"), SerializationError);
  for (const char* const text : {"\"", "\"a", "\"a\"b", "\"\x01\"", "\"\xff\"", "7"})
    CHECK_THROWS_AS(read<std::string>(text), SerializationError);
  for (const char* const boolean : {"tru", "truex", "1", "\"true\""})
    CHECK_THROWS_AS(read<bool>(boolean), SerializationError);
}

TEST_CASE("arguments reach the code however they are written, and what is no map of them fails the invocation") {
  const App app = in_memory();
  const auto joined = app.task(
      "m.joined", [](long n, std::string text, bool flag) { return std::to_string(n) + text + (flag ? "+" : "-"); },
      {"n", "text", "a \"flag\""});
  CHECK(joined.task_id() == "m.joined");
  const auto runner = started(app, 1);
  std::vector<NewInvocation> calls;
  const auto add = [&](std::string args) {
    NewInvocation one;
    one.id = "call " + std::to_string(calls.size());
    one.task_id = joined.task_id();
    one.args = std::move(args);
    calls.push_back(std::move(one));
  };
  add(R"({"n":1,"text":"x","a \"flag\"":true})");
  add(R"({"a \"flag\"":true,"text":"x","n":1})");
  add(R"( { "n" : 1 , "text" : "x" , "a \"flag\"" : true } )");
  add(R"({"n":1,"text":"x","a \"flag\"":true,"more":[{}]})");
  const std::size_t good = calls.size();
  add(R"({"n":1,"text":"x","a \"flag\"":true}})");
  add(R"({"n":1,"text":"x","a \"flag\"":true)");
  add(R"({"n":1,"n":1,"text":"x","a \"flag\"":true})");
  add(R"({"n":1,"text":"x"})");
  add(R"({"n":1,"text":"x",a "flag":true})");
  add(R"([1,"x",true])");
  add("");
  std::vector<std::string> ids;
  for (const auto& one : calls) ids.push_back(one.id);
  app.store().add(std::move(calls)).wait();
  for (std::size_t i = 0; i < ids.size(); ++i) {
    CAPTURE(i);
    const InvocationRecord end = app.store().final_record(ids[i]).wait();
    CHECK(end.status == (i < good ? Status::success : Status::failed));
    if (i < good) CHECK(end.result == "\"1x+\"");
  }
  CHECK(joined(1, "x", true).result() == "1x+");
  runner->stop().wait();
}

TEST_CASE("a call that is held is as the store has it: its id, its end, and that it was purged") {
  const App app = in_memory();
  const auto twice =
      app.task("m.twice", [](int n) { return n < 0 ? throw std::runtime_error("negative") : 2 * n; }, {"n"});
  const auto runner = started(app, 2);
  const auto good = twice(4);
  const auto bad = twice(-1);
  CHECK(good.result() == 8);
  CHECK(good.result() == 8);
  CHECK_THROWS_WITH(bad.result(), "negative");
  const InvocationRecord record = app.store().get(good.id()).wait();
  CHECK(record.id == good.id());
  CHECK(record.call_id == "m.twice#" + detail::args_id({{"n", "4"}}));
  CHECK(record.args == R"({"n":4})");
  CHECK(record.workflow_id == good.id());
  CHECK(record.owner.empty());
  std::vector<Status> steps;
  for (const auto& step : good.history()) steps.push_back(step.status);
  CHECK(steps == std::vector{Status::registered, Status::pending, Status::running, Status::success});
  const auto group = twice.parallelize(std::vector<std::tuple<int>>{{1}, {2}, {3}});
  CHECK(group.ordered_results() == std::vector{2, 4, 6});
  CHECK(app.purge() == 5);
  CHECK_THROWS_AS(good.result(), InvocationNotFoundError);
  CHECK_THROWS_AS(bad.result(), InvocationNotFoundError);
  CHECK_THROWS_AS((void)group.results(), InvocationNotFoundError);
  CHECK_THROWS_AS((void)good.status(), InvocationNotFoundError);
  CHECK(twice(5).result() == 10);
  runner->stop().wait();
}

TEST_CASE("a purge ends the wait for what was not executed yet, and its end changes nothing") {
  const App app = in_memory();
  caller::Pending<void> entered, go;
  const auto held = app.task("m.held",
                             [entered, go](int n) {
                               entered.set_result();
                               go.wait();
                               return n;
                             },
                             {"n"});
  const auto runner = started(app, 1);
  const auto group = held.parallelize(std::vector<std::tuple<int>>{{1}, {2}});
  entered.wait();
  bool purged = false;
  std::thread waits([&] {
    try {
      (void)group.results();
    } catch (const InvocationNotFoundError&) {
      purged = true;
    }
  });
  while (app.store().counts().wait().size() != 2) std::this_thread::yield();  // one runs, one waits
  app.purge();
  waits.join();
  CHECK(purged);
  go.set_result();
  runner->stop().wait();
  CHECK(app.store().counts().wait().empty());
}

TEST_CASE("the code of a task is told who it is, whoever asks first, and its calls are its children") {
  const App app = in_memory();
  const auto who = app.task("m.who", [] { return invocation().id + " " + invocation().parent_id; });
  const auto outer = app.task("m.outer", [who] {
    const auto inner = who();
    const std::string told = inner.result();
    return told == inner.id() + " " + invocation().id ? invocation().id : "not " + told;
  });
  const auto runner = started(app, 1);
  const auto call = outer();
  CHECK(call.result() == call.id());
  CHECK(app.store().list({.parent_id = call.id()}, 0, 10).wait().size() == 1);
  runner->stop().wait();
}

TEST_CASE("who is told of a call may make calls, and many threads may make them at once") {
  const App app = in_memory();
  const auto next = app.task("m.next", [](long n) { return n + 1; }, {"n"});
  std::atomic<int> left{3};
  const auto listening = app.store().listen("test", {[&] {
                                                       if (left.fetch_sub(1) > 0) (void)next(100);
                                                     },
                                                     {}});
  const auto runner = started(app, 2);
  std::vector<std::thread> threads;
  std::atomic<long> sum{0};
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&] {
      for (long i = 0; i < 300; ++i) sum += next(i).result();
      std::vector<std::tuple<long>> many;
      for (long i = 0; i < 300; ++i) many.emplace_back(i);
      for (const long n : next.parallelize(many).results()) sum += n;
    });
  for (auto& t : threads) t.join();
  CHECK(sum == 3 * 2 * (300 * 301 / 2));
  while (app.store().list({.status = Status::success}, 0, 10'000).wait().size() < 3 * 600 + 3)
    std::this_thread::yield();
  runner->stop().wait();
  CHECK(app.store().counts().wait() == std::vector<std::pair<Status, std::size_t>>{{Status::success, 3 * 600 + 3}});
}
