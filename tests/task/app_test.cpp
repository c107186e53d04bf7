// The application: components by name, direct tasks, the running invocation, libraries of tasks.
#include <doctest/doctest.h>

#include <filesystem>
#include <numeric>
#include <optional>

#include <caller/all.hpp>
#include <caller/task/all.hpp>

#include "support/temporary_folder.hpp"
#include "words.hpp"

using namespace caller::task;
using namespace std::chrono_literals;
using caller::Coro;

namespace {

TEST_CASE("store and runner are chosen by name, made at first use, and not replaced after it") {
  const App app("demo", {{"runner.slots", "2"}});
  CHECK(app.conf().store_name == "memory");
  CHECK_FALSE(app.is_initialized("store"));
  CHECK_FALSE(app.is_initialized("runner"));
  CHECK_THROWS_AS((void)app.is_initialized("broker"), ConfigError);
  const auto mine = make_memory_store();
  app.set_store(mine);
  app.assign("lease", "1s");
  CHECK(app.conf().lease == 1s);
  CHECK(has(words<ConfigError>([&] { app.assign("lease", "soon"); }), "app.lease: expected a time"));
  CHECK(app.conf().lease == 1s);
  CHECK(&app.store() == mine.get());
  CHECK(app.is_initialized("store"));
  CHECK_THROWS_AS(app.set_store(make_memory_store()), AlreadyInitializedError);
  CHECK_THROWS_AS(app.assign("lease", "2s"), AlreadyInitializedError);

  const auto add = app.task("demo.add", [](int x, int y) { return x + y; }, {"x", "y"});
  app.set_runner(app.thread_runner());
  app.runner().start();
  CHECK(app.is_initialized("runner"));
  CHECK_THROWS_AS(app.set_runner(app.thread_runner()), AlreadyInitializedError);
  const App copy = app;
  CHECK(&copy.runner() == &app.runner());
  CHECK(&App(app.core()).runner() == &app.runner());
  CHECK(add(1, 2).result() == 3);
}

TEST_CASE("the runner of an application ends with the last handle on it") {
  auto store = make_memory_store();
  std::weak_ptr<Store> gone = store;
  {
    AppOptions options;
    options.store = std::move(store);
    const App app(std::move(options));
    app.runner().start();
    CHECK_FALSE(gone.expired());
  }
  CHECK(gone.expired());
}

TEST_CASE("an application ends with the last handle outside of it, whatever its own tasks and triggers captured") {
  const auto store = make_memory_store();
  std::optional<Task<int(int)>> last;
  {
    AppOptions options;
    options.store = store;
    App app(std::move(options));
    app.runner().start();
    const auto one = app.task("one", [] { return 1; });
    const Invocation<int> made = one();
    const auto all = one.parallelize(std::vector<std::tuple<>>(3));
    const auto twice = app.direct_task("twice", [](int x) { return 2 * x; }, {"x"});
    const auto data = app.client_data_store();
    const auto sum =
        app.task("sum",
                 [app, one, made, all, twice, data, many = std::vector<Task<int()>>(2, one)](int x) {
                   const App copy = app;  // a copy made by its code keeps the application, for as long as it lives
                   const Task<int()> of = many.back();
                   return x + one().result() + made.result() + all.ordered_results().back() + twice(of().result()) +
                          copy.find_task<int()>("one")().result() + static_cast<int>(data.resolve("12").size());
                 },
                 {"x"});
    const auto slowly = app.task("slowly", [app, sum](int x) -> Coro<int> { co_return co_await sum(x); }, {"x"});
    app.on(event("begin"), sum, [app, one](const Match&) { return one().result(); });
    CHECK(slowly(10).result() == 18);
    CHECK(sum(20).result() == 28);
    last = sum;
  }
  CHECK(last->operator()(30).kind() == InvocationKind::distributed);  // the task keeps it: it was copied outside
  CHECK(store.use_count() > 1);
  last.reset();
  CHECK(store.use_count() == 1);
}

TEST_CASE("an unknown component is refused with those there are, and others can be added") {
  AppBuilder builder;
  CHECK(has(words<ConfigError>([&] { builder.store("sqlight").build(); }),
            "there is no store \"sqlight\"; the nearest is sqlite; known are "));
  const App app("demo", {{"runner", "warp"}});
  CHECK(has(words<ConfigError>([&] { app.runner(); }), "there is no runner \"warp\""));

  ConfigField speed;
  components().add_store("shared-memory", [store = make_memory_store()](const App&) { return store; });
  components().add_runner(
      "slow",
      [](const App& a) {
        RunnerOptions options;
        options.slots = static_cast<std::size_t>(a.config().get<int>("slow_runner", "speed"));
        return a.thread_runner(options);
      },
      ConfigClass("").field("speed", 1, "how many at once").fields);
  CHECK_THROWS_AS(components().add_store("shared-memory", {}), ConfigError);
  const App one("demo", {{"store", "shared-memory"}, {"runner", "slow"}, {"slow_runner.speed", "3"}});
  const App two("demo", {{"store", "shared-memory"}});
  CHECK(&one.store() == &two.store());
  const auto f = one.task("f", [] { return 7; });
  one.runner().start();
  CHECK(f().result() == 7);
}

TEST_CASE("a builder chooses the store, and says at once that it cannot be used") {
  const caller::test::TemporaryFolder folder;
  const App app =
      AppBuilder{}.app_id("b").sqlite(folder.file("t.db"), {.busy_timeout = 5ms}).thread_runner(1, 3).build();
  CHECK(app.config().get<std::string>("sqlite", "path") == folder.file("t.db"));
  CHECK(app.config().get<std::chrono::milliseconds>("sqlite", "busy_timeout") == 5ms);
  CHECK(app.config().get<int>("thread_runner", "slots") == 3);
  CHECK(app.conf().store_name == "sqlite");
  CHECK_FALSE(app.is_initialized("store"));
  CHECK_THROWS_AS(AppBuilder{}.sqlite(folder.file("none/t.db")).build(), StateBackendError);
  CHECK_THROWS_AS(AppBuilder{}.redis("http://host").build(), ConfigError);
}

TEST_CASE("each kind of runner is a component, and has its settings") {
  const auto described = [](const App& app) {
    const auto f = app.task("f", [] { return 1; });
    app.runner().start();
    CHECK(f().result() == 1);
    return app.store().runners().wait().at(0).description;
  };
  CHECK(components().runners() ==
        std::vector<std::string>{"dummy", "multi_thread", "persistent_process", "process", "sync", "thread"});
  // The class of the kind goes before that of all runners; the name of the kind may be that of the seeds, too.
  CHECK(described(App("a", {{"runner", "ThreadRunner"}, {"runner.description", "any"}})) == "any");
  CHECK(described(App("a", {{"runner.description", "any"}, {"thread_runner.description", "of threads"}})) ==
        "of threads");
  // What the program chose is for that kind only; what is configured goes before it.
  AppBuilder builder;
  builder.thread_runner(1, 3);
  CHECK(builder.build().config().get<int>("thread_runner", "slots") == 3);
  CHECK(builder.build().config().get<int>("process_runner", "slots") == 0);
  const App sync = builder.value("runner", "sync").build();
  CHECK(sync.conf().runner_name == "sync");
  const auto g = sync.task("g", [] { return 2; });
  sync.runner().start();
  CHECK(g().kind() == InvocationKind::synchronous);
  const App dummy = AppBuilder{}.dummy_runner().build();
  CHECK_THROWS_AS(dummy.runner().start(), RunnerNotExecutableError);
  const App none = AppBuilder{}.runner(RunnerKind::persistent_process).value("runner.worker", "/bin/false").build();
  CHECK(has(words<RunnerError>([&] { none.runner().start(); }), "exit code 1"));
  CHECK(has(words<ConfigError>([] { (void)App().thread_runner({.grace = -1ms}); }), "grace"));
}

TEST_CASE("options of a runner that is made by hand give way to what is configured") {
  Config config = app_config({});
  config.assign("thread_runner.description", "configured");
  const App app({}, config);
  RunnerOptions options;
  options.description = "written";
  options.queues = {"default"};
  const auto runner = app.make_runner(RunnerKind::thread, options);
  runner->start();
  CHECK(app.store().runners().wait().at(0).description == "configured");
  CHECK_THROWS_AS((void)App({},
                            [&] {
                              config.assign("runner.slots", "many");
                              return config;
                            }()),
                  ConfigError);
}

TEST_CASE("a direct task gives the value, and a coroutine function's an awaitable") {
  const App app;
  app.runner().start();
  const auto add = app.direct_task("add", [](int x, int y) { return x + y; }, {"x", {"y", 10}});
  static_assert(std::is_same_v<decltype(add(1, 2)), int>);
  CHECK(add(1, 2) == 3);
  CHECK(add(1) == 11);
  CHECK_THROWS_AS(add(), TaskRoutingError);
  const auto later = app.direct_task("later", [](int x) -> Coro<int> { co_return x + 1; }, {"x"});
  static_assert(std::is_same_v<decltype(later(1)), Coro<int>>);
  CHECK(caller::call_async_from_sync([&]() -> Coro<int> { co_return co_await later(1); }) == 2);
  const auto bad = app.direct_task("bad", [] { throw std::runtime_error("why"); });
  CHECK(words<std::runtime_error>([&] { bad(); }) == "why");
  CHECK(app.store().counts().wait().size() == 2);  // they were invocations: SUCCESS and FAILED
}

TEST_CASE("a direct task may be made of many calls and one result") {
  const App app;
  app.runner().start();
  const auto sum = app.direct_task(
      "sum", [](int from, int to) { return (from + to - 1) * (to - from) / 2; }, {"from", {"to", 100}}, {},
      [](int from, int to) {
        std::vector<std::tuple<int, int>> parts;
        for (int at = from; at < to; at += 10) parts.emplace_back(at, std::min(at + 10, to));
        return parts;
      },
      [](const std::vector<int>& parts) { return std::accumulate(parts.begin(), parts.end(), 0); });
  CHECK(sum(0, 100) == 4950);
  CHECK(sum(0) == 4950);
  CHECK(app.store().list("sum", std::nullopt, 0, 100).wait().size() == 20);
}

TEST_CASE("running code knows its invocation, and its logger names it") {
  std::mutex mutex;
  std::vector<std::string> lines;
  AppOptions options;
  options.log = [&](Severity severity, const std::string& text) {
    const std::lock_guard lock(mutex);
    lines.push_back(std::string(name(severity)) + " " + text);
  };
  const App app(options);
  CHECK_FALSE(try_invocation());
  CHECK_THROWS_AS((void)invocation(), RunnerNotExecutableError);
  logger().error("nobody is told");
  std::atomic<int> tries{0};
  const auto inner = app.task("inner", [] { return invocation().parent_id; });
  const auto outer = app.task("outer",
                              [&] {
                                logger().info("hello");
                                logger().debug("below the level");
                                if (tries++ == 0) throw RetryError();
                                const RunningInvocation me = invocation();
                                const std::string parent = inner().result();
                                return std::vector<std::string>{me.id,         me.task_id, std::to_string(me.retries),
                                                                me.parent_id,  parent,     me.app().app_id(),
                                                                me.workflow_id};
                              },
                              {}, {.max_retries = 1});
  app.runner().start();
  const auto call = outer();
  std::string said;
  for (const auto& part : call.result()) said += part + "|";
  CHECK(said == call.id() + "|outer|1||" + call.id() + "|caller|" + call.id() + "|");
  const std::lock_guard lock(mutex);
  CHECK(lines == std::vector<std::string>(2, "info [outer " + call.id() + "] hello"));
}

TEST_CASE("tasks and invocations cross processes as JSON") {
  const App app("one"), other("other");
  const auto add = app.task("add", [](int x, int y) { return x + y; }, {"x", {"y", 5}});
  app.runner().start();
  const auto call = add(1, 2);
  const auto same = Invocation<int>::from_json(app, call.to_json());
  CHECK(same.id() == call.id());
  CHECK(same.result() == 3);
  CHECK_THROWS_AS((void)Invocation<int>::from_json(other, call.to_json()), TaskRoutingError);
  for (const char* none : {"", "[]", "{}", R"({"app_id":"one","invocation_id":"x","kind":"odd","diff_arg":""})",
                           R"({"app_id":1,"invocation_id":"x","kind":"reused","diff_arg":""})"})
    CHECK_THROWS_AS((void)Invocation<int>::from_json(app, none), SerializationError);
  const auto found = Task<int(int, int)>::from_json(app, add.to_json());
  CHECK(found(1).result() == 6);  // it knows the defaults, too
  CHECK(app.find_task<int(int, int)>("add")(2, 2).result() == 4);
  CHECK(has(words<TaskRoutingError>([&] { app.find_task<int(std::string)>("add"); }),
            "task add is int (int, int), and not int ("));
  CHECK_THROWS_AS((Task<int(int, int)>::from_json(other, add.to_json())), UnknownTaskError);
  CHECK_THROWS_AS((Task<int(int, int)>::from_json(app, "{}")), SerializationError);
  CHECK(app.task_ids() == std::vector<std::string>{"add"});
}

TEST_CASE("a library registers its tasks") {
  const App app("plugin");
  app.load(CALLER_TASK_PLUGIN);
  const auto words_of = app.find_task<std::map<std::string, int>(std::string)>("demo.words");
  app.runner().start();
  CHECK(words_of("b a b").result() == std::map<std::string, int>{{"a", 1}, {"b", 2}});
  CHECK(app.find_task<int(int, int)>("demo.add")(2).result() == 3);
  CHECK_THROWS_AS(app.load(CALLER_TASK_PLUGIN), TaskRoutingError);  // these tasks are there already
  CHECK(has(words<ConfigError>([&] { app.load("none.so"); }), "the library of tasks none.so cannot be loaded: "));
  CHECK(has(words<ConfigError>([&] { app.load(CALLER_TASK_NO_PLUGIN); }),
            "has no tasks: it needs a function CALLER_TASKS(app)"));
}

}  // namespace
