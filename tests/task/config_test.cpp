// Settings: where they come from, which goes first, and what is refused.
#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>

#include <caller/task/all.hpp>

#include "support/temporary_folder.hpp"
#include "words.hpp"

using namespace caller::task;
using namespace std::chrono_literals;

namespace {

std::string write(const caller::test::TemporaryFolder& folder, const std::string& name, const std::string& text) {
  const std::string path = folder.file(name);
  std::ofstream(path) << text;
  return path;
}

AppOptions quiet() {
  AppOptions o;
  o.log = [](Severity, const std::string&) {};
  return o;
}

/// One place after the other, the least important first, sets the field; each goes before those already there.
TEST_CASE("a setting comes from the first of nine places that has it") {
  const caller::test::TemporaryFolder folder;
  ConfigSources sources;
  const auto value = [&](auto... more) {
    Config config = app_config(sources);
    (more(config), ...);
    const ConfigText found = config.find("task", "max_retries", "demo.add");
    return found.text() + " " + std::string(name(found.source));
  };
  const auto option = [](Config& c) { c.option("task.max_retries", "1", "demo.add"); };
  CHECK(value() == "0 default");
  CHECK(value(option) == "1 option of the program");
#ifdef CALLER_TEST_TOML
  write(folder, "caller.toml", "[task]\nmax_retries = 2\n");
  sources.folder = folder.path.string();
  CHECK(value(option) == "2 file in the working directory");
#endif
  sources.filepath = write(folder, "given.json", R"({"task": {"max_retries": 3}})");
  CHECK(value(option) == "3 file");
  sources.environment["CALLER__FILEPATH"] = write(folder, "named.json", R"({"task": {"max_retries": 4}})");
  CHECK(value(option) == "4 file named by CALLER__FILEPATH");
  sources.environment["CALLER__MAX_RETRIES"] = "5";
  CHECK(value(option) == "5 environment");
  sources.environment["CALLER__TASK__MAX_RETRIES"] = "6";
  CHECK(value(option) == "6 environment, for the class");
  sources.environment["CALLER__TASK__DEMO#ADD__MAX_RETRIES"] = "7";
  CHECK(value(option) == "7 environment, for the task");
  CHECK(value(option, [](Config& c) { c.assign("task.max_retries", "8"); }) == "8 assigned");
  // Another task has no more than what is for all of them.
  Config config = app_config(sources);
  CHECK(config.get<int>("task", "max_retries", "demo.sub") == 6);
}

TEST_CASE("within one file a task's section goes before that of all tasks, and both before the top") {
  const caller::test::TemporaryFolder folder;
  ConfigSources sources;
  sources.filepath = write(folder, "a.json", R"({"max_retries": 1, "priority": 5, "queue": "top",
    "task": {"max_retries": 2, "priority": 6, "demo.add": {"max_retries": 3}, "other": {"deep": {"priority": 9}}}})");
  const Config config = app_config(sources);
  CHECK(config.get<int>("task", "max_retries", "demo.add") == 3);
  CHECK(config.get<int>("task", "max_retries", "demo.sub") == 2);
  CHECK(config.get<int>("task", "priority", "demo.add") == 6);
  CHECK(config.get<int>("task", "priority", "other.deep") == 9);
  CHECK(config.get<std::string>("task", "queue", "demo.add") == "top");
  CHECK(config.warnings().empty());
}

TEST_CASE("a class takes from its parents what it does not have itself") {
  ConfigSources sources;
  sources.environment = {{"CALLER__RUNNER__SLOTS", "3"}, {"CALLER__THREAD_RUNNER__QUEUES", "a, b"}};
  Config config = app_config(sources);
  CHECK(config.get<int>("thread_runner", "slots") == 3);
  CHECK(config.get<std::vector<std::string>>("thread_runner", "queues") == std::vector<std::string>{"a", "b"});
  CHECK(config.get<std::vector<std::string>>("runner", "queues").empty());
  config.assign("thread_runner.slots", "4");
  CHECK(config.get<int>("thread_runner", "slots") == 4);
  CHECK(config.get<int>("runner", "slots") == 3);
}

TEST_CASE("the same field in two parents is refused, unless the child has its own") {
  Config config{ConfigSources{}};
  config.add(ConfigClass("base").field("shared", 1, ""));
  config.add(ConfigClass("left", {"base"}).field("speed", 1, ""));
  config.add(ConfigClass("right", {"base"}).field("speed", 2, ""));
  const std::string why =
      words<ConfigMultiInheritanceError>([&] { config.add(ConfigClass("both", {"left", "right"})); });
  CHECK(has(why, "\"speed\" from two parents, \"left\" and \"right\""));
  CHECK_FALSE(config.knows("both"));
  config.add(ConfigClass("own", {"left", "right"}).field("speed", 3, ""));
  CHECK(config.get<int>("own", "speed") == 3);
  CHECK(config.get<int>("own", "shared") == 1);  // one field, on two ways
  CHECK(has(words<ConfigError>([&] { config.add(ConfigClass("lost", {"nobody"})); }), "unknown parent \"nobody\""));
  CHECK(has(words<ConfigError>([&] { config.add(ConfigClass("left")); }), "already"));
}

TEST_CASE("booleans, numbers, times and choices are read strictly") {
  Config config{ConfigSources{}};
  config.add(ConfigClass("c")
                 .field("flag", false, "")
                 .field("whole", 1, "")
                 .field("natural", std::uint16_t{1}, "")
                 .field("real", 0.5, "")
                 .field("time", std::chrono::milliseconds(5), ""));
  const auto read = [&]<class T>(const char* field, const std::string& text, T) {
    config.assign(std::string("c.") + field, text);
    return config.get<T>("c", field);
  };
  for (const char* yes : {"true", "True", "YES", "on", "1"}) CHECK(read("flag", yes, false));
  for (const char* no : {"false", "False", "No", "OFF", "0"}) CHECK_FALSE(read("flag", no, true));
  for (const char* neither : {"", "maybe", "2", "tru", " true"})
    CHECK_THROWS_AS(read("flag", neither, false), ConfigError);
  CHECK(read("whole", "-17", 0) == -17);
  for (const char* none : {"", "1.5", "0x10", "99999999999", "1 ", "--1"})
    CHECK_THROWS_AS(read("whole", none, 0), ConfigError);
  CHECK_THROWS_AS(read("natural", "65536", std::uint16_t{}), ConfigError);
  CHECK_THROWS_AS(read("natural", "-1", std::uint16_t{}), ConfigError);
  CHECK(read("real", "2.5e3", 0.0) == 2500);
  for (const char* none : {"", "nan", "1,5", "inf"}) CHECK_THROWS_AS(read("real", none, 0.0), ConfigError);
  CHECK(read("time", "1.5s", 0ms) == 1500ms);
  CHECK(read("time", "24h", 0ms) == 24h);
  CHECK(read("time", "2 min", 0ms) == 2min);
  CHECK(read("time", "0", 1ms) == 0ms);
  for (const char* none : {"", "5", "-1s", "5 parsecs", "1us", "1e30h"})
    CHECK_THROWS_AS(read("time", none, 0ms), ConfigError);
  config.assign("c.whole", "many");
  CHECK(words<ConfigError>([&] { (void)config.get<int>("c", "whole"); }) ==
        "c.whole: expected a whole number, found \"many\" (assigned)");
}

TEST_CASE("JSON, TOML and YAML say the same, and each value knows its place") {
  const caller::test::TemporaryFolder folder;
  const auto check = [](const std::string& path, const std::string& line) {
    ConfigSources sources;
    sources.filepath = path;
    const Config config = app_config(sources);
    CHECK(config.get<int>("runner", "slots") == 3);
    CHECK(config.get<bool>("app", "dev_mode"));
    CHECK(config.get<std::vector<std::string>>("thread_runner", "queues") == std::vector<std::string>{"fast", "slow"});
    CHECK(config.get<std::string>("app", "runner") == "thread");
    CHECK(config.get<double>("task", "retry_backoff_factor", "demo.add") == 1.5);
    CHECK(config.get<std::chrono::milliseconds>("app", "lease") == 2s);
    CHECK(config.find("runner", "slots").where == path + line);
    CHECK(config.warnings().empty());
  };
  check(write(folder, "a.json",
              R"({"dev_mode": true, "lease": "2s", "runner": {"name": "thread", "slots": 3, "queues": ["fast", "slow"]},
    "task": {"demo.add": {"retry_backoff_factor": 1.5}}})"),
        "");
#ifdef CALLER_TEST_TOML
  check(write(folder, "a.toml",
              "dev_mode = true\nlease = '2s'\n[runner]\nname = 'thread'\nslots = 3\nqueues = ['fast', 'slow']\n"
              "[task.demo.add]\nretry_backoff_factor = 1.5\n"),
        ":5");
  CHECK(has(words<ConfigError>([&] { (void)detail::read_boolean({}); }), "expected true or false"));
  ConfigSources wrong;
  wrong.filepath = write(folder, "wrong.toml", "a = 1\nb = \n");
  CHECK(has(words<ConfigError>([&] { Config config{wrong}; }), "wrong.toml:2: this is no TOML"));
#endif
#ifdef CALLER_TEST_YAML
  check(write(folder, "a.yaml",
              "dev_mode: true\nlease: 2s\nrunner:\n  name: thread\n  slots: 3\n  queues: [fast, slow]\n"
              "task:\n  demo.add: {retry_backoff_factor: 1.5}\n"),
        ":5");
  for (const char* text :
       {"a: [1\n", "a: &x 1\nb: *x\n", "? [a]\n: 1\n", "a: 1\na: 2\n", "- 1\n", "a: !tag 1\n", "a: 1\n---\nb: 2\n"}) {
    ConfigSources no;
    no.filepath = write(folder, "wrong.yaml", text);
    CHECK_THROWS_AS(Config{no}, ConfigError);
  }
#endif
  ConfigSources none;
  none.filepath = folder.file("none.json");
  CHECK(has(words<ConfigError>([&] { Config config{none}; }), "cannot be read: No such file or directory"));
  none.filepath = write(folder, "a.ini", "a=1");
  CHECK(has(words<ConfigError>([&] { Config config{none}; }), "must end in .toml, .yaml or .json"));
  none.filepath = write(folder, "wrong.json", "{\n\"a\": 1,\n}");
  CHECK(has(words<ConfigError>([&] { Config config{none}; }), "wrong.json:3: this is no JSON"));
  none.filepath = write(folder, "deep.json", std::string(100'000, '['));
  CHECK(has(words<ConfigError>([&] { Config config{none}; }), "do not go so deep"));
  none.filepath = write(folder, "list.json", "[1]");
  CHECK(has(words<ConfigError>([&] { Config config{none}; }), "expected settings with names"));
}

TEST_CASE("names nobody knows are told, with the nearest one that is known") {
  const caller::test::TemporaryFolder folder;
  ConfigSources sources;
  sources.filepath = write(folder, "a.json", R"({"leese": "1s", "runer": {"slots": 1}, "runner": {"slotz": 1},
    "task": {"demo.add": {"max_retry": 1}}})");
  sources.environment = {
      {"CALLER__LEASE", "1s"},        {"CALLER__TASK__A#B__PRIORITY", "1"}, {"CALLER__SLOTZ", "1"},
      {"CALLER__RUNER__SLOTS", "1"},  {"CALLER__RUNNER__NAME", "thread"},   {"CALLER__RUNNER", "thread"},
      {"CALLER__TASK__A#B__FOO", "1"}};
  std::string all;
  for (const auto& w : app_config(sources).warnings()) all += w + "\n";
  CHECK(has(all, "a.json: unknown setting \"leese\"; the nearest is lease\n"));
  CHECK(has(all, "a.json: unknown section \"runer\"; the nearest is runner\n"));
  CHECK(has(all, "a.json: unknown setting of [runner] \"slotz\"; the nearest is slots\n"));
  CHECK(has(all, "a.json: unknown setting of [task] \"max_retry\"; the nearest is max_retries\n"));
  CHECK(has(all, "variable CALLER__SLOTZ: unknown setting \"slotz\"; the nearest is slots\n"));
  CHECK(has(all, "variable CALLER__RUNER__SLOTS: unknown section \"runer\"; the nearest is runner\n"));
  CHECK(has(all, "variable CALLER__TASK__A#B__FOO: unknown setting of [task] \"foo\""));
  CHECK(std::count(all.begin(), all.end(), '\n') == 7);
  std::string logged;
  AppOptions options;
  options.log = [&](Severity severity, const std::string& text) {
    logged += std::string(name(severity)) + " " + text + "\n";
  };
  const App app(options, app_config(sources));
  CHECK(has(logged, "warning " + all.substr(0, all.find('\n'))));
  CHECK(has(words<ConfigError>([&] { app_config({}).assign("runner.slotz", "1"); }),
            "\"runner.slotz\"; the nearest is slots"));
  CHECK(has(words<ConfigError>([&] { app_config({}).assign("slotz", "1"); }), "\"slotz\"; the nearest is slots"));
}

TEST_CASE("every setting of an application takes effect, and wrong ones are refused together") {
  ConfigSources sources;
  sources.environment = {{"CALLER__APP_ID", "set"},
                         {"CALLER__LEASE", "3s"},
                         {"CALLER__MAX_PENDING_SECONDS", "2"},
                         {"CALLER__AUTO_FINAL_INVOCATION_PURGE_HOURS", "48"},
                         {"CALLER__SERIALIZER", "CBOR"},
                         {"CALLER__DEV_MODE", "true"},
                         {"CALLER__RUNNER", "thread"},
                         {"CALLER__STORE", "memory"},
                         {"CALLER__LOGGING_LEVEL", "error"},
                         {"CALLER__CLIENT_DATA__MIN_SIZE", "7"},
                         {"CALLER__WARN_SIZE", "8"},
                         {"CALLER__LOCAL_CACHE", "9"}};
  AppOptions options = quiet();
  options.app_id = "written";
  options.max_pending = 9s;
  const App app(options, app_config(sources));
  CHECK(app.app_id() == "set");
  CHECK(app.conf().lease == 3s);
  CHECK(app.conf().max_pending == 2s);
  CHECK(app.conf().auto_final_invocation_purge == 48h);
  CHECK(app.serializer() == Format::cbor);
  CHECK(app.conf().logging_level == Severity::error);
  CHECK(app.conf().client_data.min_size == 7);
  CHECK(app.conf().client_data.warn_size == 8);
  CHECK(app.conf().client_data.local_cache == 9);
  CHECK(app.config().find("app", "app_id").where == "CALLER__APP_ID");
  const auto here = app.task("here", [] { return 1; });
  const auto call = here();  // in development mode it has run already
  CHECK(call.kind() == InvocationKind::synchronous);
  CHECK(call.status() == Status::success);

  sources.environment = {{"CALLER__DEV_MODE", "perhaps"}, {"CALLER__LEASE", "10"}, {"CALLER__SERIALIZER", "pickle"}};
  const std::string why = words<ConfigError>([&] { App wrong(quiet(), app_config(sources)); });
  CHECK(has(why, "app.dev_mode: expected true or false, found \"perhaps\" (CALLER__DEV_MODE)"));
  CHECK(has(why, "app.lease: expected a time with its unit"));
  CHECK(has(why, "app.serializer: expected one of json cbor, found \"pickle\""));
  sources.environment = {{"CALLER__LEASE", "0"}};
  CHECK(has(words<ConfigError>([&] { App wrong(quiet(), app_config(sources)); }), "app.lease: must be more than 0"));
}

TEST_CASE("every option of a task can be set, for all tasks or for one") {
  const caller::test::TemporaryFolder folder;
  ConfigSources sources;
  sources.filepath = write(folder, "a.json", R"({"task": {"t.f": {
    "parallel_batch_size": 7, "retry_for": ["std::runtime_error"], "max_retries": 3, "retry_backoff": "5ms",
    "retry_backoff_factor": 3, "retry_backoff_most": "1s", "running_concurrency": "KEYS",
    "registration_concurrency": "keys", "key_arguments": ["x"], "on_diff_non_key_args_raise": true,
    "reroute_on_concurrency_control": false, "timeout": "9s", "delay": "1ms", "priority": -2, "queue": "q",
    "disable_cache_args": ["x"], "force_new_workflow": true}, "t.h": {"call_result_cache": true}}})");
  const App app(quiet(), app_config(sources));
  const TaskOptions o = app.task("t.f", [](int x) { return x; }, {"x"}, {.priority = 5}).conf();
  CHECK(o.parallel_batch_size == 7);
  REQUIRE(o.retry_for.size() == 1);
  CHECK(o.retry_for[0].matches(std::make_exception_ptr(std::range_error("derived"))));
  CHECK_FALSE(o.retry_for[0].matches(std::make_exception_ptr(std::logic_error("another"))));
  CHECK(o.max_retries == 3);
  CHECK(o.retry_backoff == Backoff{5ms, 3, 1s});
  CHECK(o.running_concurrency == Concurrency::KEYS);
  CHECK(o.registration_concurrency == Concurrency::KEYS);
  CHECK(o.key_arguments == std::vector<std::string>{"x"});
  CHECK(o.on_diff_non_key_args_raise);
  CHECK_FALSE(o.reroute_on_concurrency_control);
  CHECK(o.timeout == 9s);
  CHECK(o.delay == 1ms);
  CHECK(o.priority == -2);
  CHECK(o.queue == "q");
  CHECK(app.task("t.h", [] {}).conf().call_result_cache);
  CHECK(o.disable_cache_args == std::vector<std::string>{"x"});
  CHECK(o.force_new_workflow);
  CHECK(app.task("t.g", [](int x) { return x; }, {"x"}).conf().priority == 0);
}

TEST_CASE("wrong options of a task are all told at once, with where they come from") {
  ConfigSources sources;
  sources.environment = {{"CALLER__TASK__T#F__MAX_RETRIES", "many"}, {"CALLER__TASK__TIMEOUT", "5"}};
  const App app(quiet(), app_config(sources));
  const std::string why =
      words<InvalidTaskOptionsError>([&] { app.task("t.f", [] {}, {}, {.parallel_batch_size = 0, .queue = ""}); });
  CHECK(has(why, "task.t.f.max_retries: expected a whole number"));
  CHECK(has(why, "found \"many\" (CALLER__TASK__T#F__MAX_RETRIES)"));
  CHECK(has(why, "task.t.f.timeout: expected a time"));
  CHECK(has(why, "parallel_batch_size: 0 is less than 1"));
  CHECK(has(why, "queue: empty"));
  CHECK_THROWS_AS(app.find_task("t.f"), UnknownTaskError);
}

TEST_CASE("what is shown has a value and a place, and no password") {
  ConfigSources sources;
  sources.environment = {{"CALLER__REDIS__URL", "redis://me:secret@host:1/2"}, {"CALLER__SLOTS", "5"}};
  std::string all;
  for (const auto& v : app_config(sources).show()) all += v.name + " = " + v.text() + " " + v.place() + "\n";
  CHECK(has(all, "redis.url = redis://me:***@host:1/2 (CALLER__REDIS__URL)\n"));
  CHECK_FALSE(has(all, "secret"));
  CHECK(has(all, "thread_runner.slots = 5 (CALLER__SLOTS)\n"));
  CHECK(has(all, "app.lease = 10s (default)\n"));
  CHECK(has(all, "sqlite.sync = accepted (default)\n"));
}

}  // namespace
