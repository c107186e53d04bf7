// What holds for a store that several processes share, and that outlives them.
#include <doctest/doctest.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include <caller/all.hpp>
#include <caller/task/all.hpp>

#include "support/temporary_folder.hpp"
#include "workers.hpp"

using namespace caller::task;
using namespace std::chrono_literals;

namespace {

NewInvocation call(const std::string& id, const std::string& task = "t") {
  NewInvocation n;
  n.id = id;
  n.task_id = task;
  n.call_id = task + "#" + id;
  n.queue = "default";
  return n;
}

/// Statements of a stranger.
void sql(const std::string& path, const char* text) {
  sqlite3* db = nullptr;
  REQUIRE(sqlite3_open(path.c_str(), &db) == SQLITE_OK);
  sqlite3_busy_timeout(db, 5000);
  char* error = nullptr;
  const int code = sqlite3_exec(db, text, nullptr, nullptr, &error);
  INFO(text << ": " << (error ? error : ""));
  CHECK(code == SQLITE_OK);
  sqlite3_free(error);
  sqlite3_close(db);
}

}  // namespace

TEST_CASE("workers are killed while they work: every task ends, once, and none is lost") { survive(500, 200ms); }

TEST_CASE("processes wake each other: a call starts, ends and is cancelled at once, long before any heartbeat") {
  const caller::test::TemporaryFolder folder;
  const std::string database = folder.file("tasks.db"), log = folder.file("log");
  // No heartbeat comes to help: without wake-ups this lasts for ever.
  const App app = AppBuilder{}.app_id("workers").sqlite(database, kQuick).lease(1h).build();
  const auto note = app.task("w.note", [](int n) { return n; }, {"n"});
  const auto endless = app.task("w.endless", [](std::stop_token) {});
  Worker worker(database, log, "3600000");
  CHECK(note(1).result() == 2);
  for (int i = 0; i < 50; ++i) CHECK(note(i).result() == 2 * i);
  const auto running = endless();
  while (running.status() != Status::running) std::this_thread::yield();
  CHECK(running.cancel());
  CHECK_THROWS_AS(running.result(), InvocationCancelledError);
  CHECK(worker.end() == 0);
}

TEST_CASE("of a kind one is at work at a time, in however many processes") {
  const caller::test::TemporaryFolder folder;
  const std::string database = folder.file("tasks.db"), log = folder.file("log");
  const App app = AppBuilder{}.app_id("workers").sqlite(database, kQuick).build();
  TaskOptions one;
  one.running_concurrency = Concurrency::TASK;
  const auto exclusive = app.task("w.exclusive", [](int) {}, {"n"}, one);
  std::vector<std::tuple<int>> calls;
  for (int i = 0; i < 100; ++i) calls.emplace_back(i);
  std::vector<Worker> workers;
  for (int i = 0; i < 3; ++i) workers.emplace_back(database, log);
  exclusive.parallelize(calls).wait();
  std::ifstream in(log);
  std::string begin, end;
  int pairs = 0;
  while (in >> begin >> end) {
    CHECK(begin[0] == '+');
    CHECK(end == "-" + begin.substr(1));
    ++pairs;
  }
  CHECK(pairs == 100);
}

TEST_CASE("what was stored is there when the database is opened again, also after a crash") {
  const caller::test::TemporaryFolder folder;
  const std::string database = folder.file("tasks.db");
  const pid_t child = ::fork();
  if (child == 0) {  // nothing is closed, nothing is written later
    const auto store = make_sqlite_store(database);
    NewInvocation later = call("later");
    later.delay = 1ms;
    store->add({call("a"), call("b"), later}).wait();
    store->take("gone", 1, {}).wait();
    store->change({"a", Status::running, "gone", {}, {}, {}}).wait();
    store->change({"a", Status::success, "gone", "the result", {}, {}}).wait();
    store->take("gone", 1, {}).wait();
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  REQUIRE(WIFSIGNALED(status));
  const auto store = make_sqlite_store(database);
  CHECK(store->get("a").wait().result == "the result");
  CHECK(store->history("a").wait().size() == 4);
  CHECK(store->get("b").wait().status == Status::pending);
  CHECK(store->get("b").wait().owner == "gone");
  CHECK(store->recover(0ns).wait() == std::vector<std::string>{"b"});
  std::set<std::string> taken;
  while (taken.size() < 2)
    for (const auto& r : store->take("here", 5, {}).wait()) taken.insert(r.id);
  CHECK(taken == std::set<std::string>{"b", "later"});
  CHECK(store->add({call("c")}).wait().at(0).id == "c");
}

TEST_CASE("a file that is none of ours, is of another version, or is damaged, is refused in words") {
  const caller::test::TemporaryFolder folder;
  const auto open = [&](const std::string& name) { (void)make_sqlite_store(folder.file(name), kQuick); };
  std::ofstream(folder.file("text")) << std::string(5000, 'x');
  CHECK_THROWS_WITH_AS(open("text"), doctest::Contains("not a database"), StateBackendError);
  sql(folder.file("other"), "CREATE TABLE t(x)");
  CHECK_THROWS_WITH_AS(open("other"), doctest::Contains("another program"), StateBackendError);
  open("newer");
  sql(folder.file("newer"), "PRAGMA user_version = 4");
  CHECK_THROWS_WITH_AS(open("newer"), doctest::Contains("version 4"), StateBackendError);
  CHECK_THROWS_AS(open("missing/folder/db"), StateBackendError);
  CHECK_THROWS_AS(open(""), StateBackendError);
  struct stat info{};
  open("good");
  REQUIRE(::stat(folder.file("good-wake").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0700);
}

TEST_CASE("a database of version 1 is brought to this one, with all that is in it") {
  const caller::test::TemporaryFolder folder;
  const std::string database = folder.file("tasks.db");
  {
    const auto store = make_sqlite_store(database, kQuick);
    NewInvocation child = call("child");
    child.parent_id = "parent";
    child.args = "[1]";
    store->add({call("parent"), child}).wait();
    CHECK(store->take("runner", 1, {}).wait().at(0).id == "parent");
  }
  sql(database,
      "DROP INDEX invocation_child; DROP INDEX invocation_workflow; DROP TABLE value; DROP TABLE value_change;"
      "DROP TABLE data; DROP TABLE data_bytes; DROP TABLE kept; ALTER TABLE invocation DROP COLUMN workflow_id;"
      "ALTER TABLE content DROP COLUMN data; PRAGMA user_version = 1");
  const auto store = make_sqlite_store(database, kQuick);
  CHECK(store->list({.parent_id = "parent"}, 0, 10).wait().at(0).args == "[1]");
  CHECK(store->get("child").wait().workflow_id == "child");  // nobody knew of workflows then
  CHECK(store->get("parent").wait().status == Status::pending);
  NewInvocation next = call("next");
  next.parent_id = "parent";
  next.data = {"hash"};
  store->add({next}).wait();
  CHECK(store->get("next").wait().workflow_id == "parent");
  CHECK(store->set_value({.key = "k", .value = "v"}).wait());
  CHECK(make_sqlite_store(database, kQuick)->value("k").wait() == "v");
}

TEST_CASE("a value that one process sets is told to another, and those that are too many as one of any") {
  const caller::test::TemporaryFolder folder;
  const std::string database = folder.file("tasks.db");
  const auto here = make_sqlite_store(database, kQuick), there = make_sqlite_store(database, kQuick);
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::string> told;
  Listener listener;
  listener.values = "e";
  listener.value = [&](const std::string& key) {
    const std::lock_guard lock(mutex);
    told.push_back(key);
    changed.notify_all();
  };
  const auto token = there->listen("runner", listener);
  for (int i = 0; i < 20; ++i) {
    CHECK(here->set_value({.key = "other", .value = "v"}).wait());
    const std::string key = "e" + std::to_string(i);
    CHECK(here->set_value({.key = key, .value = "v"}).wait());
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return !told.empty() && told.back() == key; });
  }
  CHECK(std::find(told.begin(), told.end(), "other") == told.end());
  CHECK(std::find(told.begin(), told.end(), "") == told.end());
  // As if it had slept through more than are kept.
  sql(database, "DELETE FROM value_change; UPDATE sqlite_sequence SET seq = seq + 5000 WHERE name = 'value_change'");
  CHECK(here->set_value({.key = "last", .value = "v"}).wait());
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return told.back().empty(); });
}

TEST_CASE(
    "whatever bytes stand in whatever field, they come back, and a wrong one is an error of its invocation alone") {
  const caller::test::TemporaryFolder folder;
  const std::string database = folder.file("tasks.db");
  const auto store = make_sqlite_store(database, kQuick);
  using namespace std::string_literals;
  const std::string bad = "'\"; DROP TABLE invocation; --\0\xff%s:*\n"s, huge(3'000'000, '\xfe');
  NewInvocation n = call(bad, bad);
  n.args = n.parent_id = n.queue = n.registration_key = n.running_key = bad;
  NewInvocation large = call("large");
  large.args = huge;
  store->add({n, large, call("odd"), call("fine")}).wait();
  CHECK_FALSE(store->add({n}).wait().at(0).reused);  // it is there, and stays as it is
  NewInvocation same = call("same");
  same.registration_key = bad;
  CHECK(store->add({same}).wait().at(0).reused);
  const auto record = store->get(bad).wait();
  for (const auto& field : {record.id, record.task_id, record.args, record.parent_id, record.queue})
    CHECK(field == bad);
  CHECK(store->get("large").wait().args == huge);
  sql(database, "UPDATE invocation SET status = 'NONSENSE', priority = 9 WHERE id = 'odd'");
  CHECK_THROWS_WITH_AS(store->get("odd").wait(), doctest::Contains("NONSENSE"), StateBackendError);
  CHECK_THROWS_AS(store->ended("odd").wait(), StateBackendError);
  CHECK_THROWS_AS(store->change({"odd", Status::cancelled, {}, {}, {}, {}}).wait(), StateBackendError);
  std::set<std::string> taken;
  for (const auto& r : store->take(bad, 10, {}).wait()) taken.insert(r.id);
  CHECK(taken == std::set<std::string>{bad, "large", "fine"});
  CHECK(store->get(bad).wait().owner == bad);
  CHECK(store->list("", std::nullopt, 0, 10).wait().size() == 3);
  CHECK(store->list("", Status::pending, 1, 1).wait().at(0).id == "large");
  store->change({bad, Status::running, bad, {}, {}, {}}).wait();
  store->change({bad, Status::success, bad, huge, {}, {}}).wait();
  CHECK(store->get(bad).wait().result == huge);
  sql(database, "UPDATE invocation SET status = 'SUCCESS' WHERE id = 'odd'");
  CHECK(store->get("odd").wait().result.empty());
}

TEST_CASE("a row with a field of another kind costs its own invocation, and no step of any other") {
  const caller::test::TemporaryFolder folder;
  const char* const damages[] = {"queue = x'ff00'",
                                 "task_id = x'ff00'",
                                 "steps = 'x'",
                                 "steps = 0",
                                 "steps = 9223372036854775807, retries = 9223372036854775807",
                                 "id = x'6f6464'",
                                 "due = 'x'",
                                 "due = 'x', ticket = NULL, status = 'SCHEDULED'",
                                 "status = CAST(status AS BLOB)",
                                 "status = 'NONSENSE'",
                                 "owner = x'ff'",
                                 "owner = 'ghost'",
                                 "status = 'RUNNING'",
                                 "running_key = x'ff'",
                                 "registration_key = x'ff'",
                                 "priority = 'x', ticket = 'x'",
                                 "waiters = 'x', waits = 0",
                                 "cancel = 'x'"};
  int count = 0;
  for (const char* const damage : damages) {
    CAPTURE(damage);
    const std::string database = folder.file(std::to_string(++count) + ".db");
    const auto store = make_sqlite_store(database, kQuick);
    NewInvocation odd = call("odd"), first = call("first"), held = call("held"), next = call("next");
    odd.running_key = first.running_key = held.running_key = next.running_key = "key";
    store->add({first, held, next, odd, call("fine"), call("other", "u")}).wait();
    sql(database, ("UPDATE invocation SET " + std::string(damage) + " WHERE id = 'odd'").c_str());
    std::set<std::string> taken;
    const auto take = [&] {
      for (const auto& r : store->take("runner", 10, {}, true).wait()) taken.insert(r.id);
    };
    take();
    for (const char* const id : {"fine", "other"}) CHECK(taken.contains(id));
    (void)store->list("", Status::running, 0, 10).wait();
    CHECK(store->list("u", Status::running, 0, 10).wait().size() == 1);
    (void)store->recover(1h).wait();
    CHECK(store->get("other").wait().status == Status::running);
    // Whoever was first of the kind, the others get their turns.
    for (int i = 0; i < 8; ++i) {
      for (const auto& r : store->list("", Status::running, 0, 10).wait())
        if (r.owner == "runner" && r.id != "fine" && r.id != "other")
          (void)store->change({r.id, Status::success, "runner", {}, {}, {}}).wait_done();
      take();
    }
    for (const char* const id : {"first", "held", "next"}) CHECK(store->get(id).wait().status == Status::success);
    store->purge(0ns).wait();
    store->purge(std::nullopt).wait();
  }
}

TEST_CASE("a held row that cannot be read is not what the others of its kind wait for") {
  const caller::test::TemporaryFolder folder;
  const std::string database = folder.file("tasks.db");
  const auto store = make_sqlite_store(database, kQuick);
  NewInvocation calls[] = {call("0"), call("1"), call("2")};
  for (auto& c : calls) c.running_key = "key";
  store->add({calls[0], calls[1], calls[2]}).wait();
  CHECK(store->take("runner", 3, {}, true).wait().size() == 1);
  sql(database, "UPDATE invocation SET status = 'NONSENSE' WHERE id = '1'");
  store->change({"0", Status::success, "runner", {}, {}, {}}).wait();
  CHECK(store->take("runner", 3, {}, true).wait().at(0).id == "2");
}

TEST_CASE("a step that fails undoes itself, and not those written with it") {
  const caller::test::TemporaryFolder folder;
  const auto store = make_sqlite_store(folder.file("tasks.db"), kQuick);
  std::vector<caller::Pending<std::vector<Added>>> added;
  std::vector<caller::Pending<void>> waits;
  store->add({call("waiter"), call("target")}).wait();
  for (int i = 0; i < 200; ++i)  // every tenth step writes that one waits for another, and then knows no third
    if (i % 10 == 9)
      waits.push_back(store->wait_for("waiter", {"target", "nobody"}));
    else
      added.push_back(store->add({call(std::to_string(i))}));
  std::size_t failed = 0;
  for (const auto& w : waits) {
    (void)w.wait_done();
    CHECK(w.exception());
  }
  store->wait_for("target", {"waiter"}).wait();  // or it would be a cycle
  for (const auto& a : added) {
    (void)a.wait_done();
    failed += a.exception() != nullptr;
  }
  CHECK(failed == 0);
  CHECK(store->counts().wait() == std::vector<std::pair<Status, std::size_t>>{{Status::registered, 182}});
  CHECK(store->take("r", 1000, {}).wait().size() == 182);
}

TEST_CASE("what was final for long is forgotten, however much, and what is not stays") {
  const caller::test::TemporaryFolder folder;
  const auto store = make_sqlite_store(folder.file("tasks.db"), kQuick);
  std::vector<NewInvocation> calls;
  for (int i = 0; i < 5000; ++i) calls.push_back(call(std::to_string(i)));
  store->add(calls).wait();
  std::vector<caller::Pending<bool>> cancelled;
  for (int i = 0; i < 4500; ++i) cancelled.push_back(store->cancel(std::to_string(i)));
  for (const auto& c : cancelled) CHECK(c.wait());
  CHECK(store->purge(1h).wait() == 0);
  CHECK(store->purge(0ns).wait() == 4500);
  CHECK(store->counts().wait() == std::vector<std::pair<Status, std::size_t>>{{Status::registered, 500}});
  const auto last = store->ended("4999");
  CHECK(store->purge(std::nullopt).wait() == 500);
  last.wait();  // it is over
}

TEST_CASE("a runner forgets what has been final for as long as is configured, and nothing else") {
  const caller::test::TemporaryFolder folder;
  const std::string database = folder.file("tasks.db");
  AppOptions o;
  o.app_id = "purge";
  o.store = make_sqlite_store(database, kQuick);
  o.lease = 60ms;
  o.auto_final_invocation_purge = 1h;
  const App app(std::move(o));
  Store& store = app.store();
  const auto one = app.task("t.one", [] { return 1; });
  TaskOptions elsewhere;
  elsewhere.queue = "elsewhere";
  const auto waits = app.task("t.waits", [] { return 1; }, {}, elsewhere);
  const auto old = one(), recent = one(), waiting = waits();
  for (const auto& r : store.take("before", 2, {"default"}, true).wait())
    store.change({r.id, Status::success, "before", "1", {}, {}}).wait();
  const std::string hours_ago = "UPDATE ended SET at = at - 7200000000000 WHERE id = '" + old.id() + "'";
  sql(database, hours_ago.c_str());
  const auto runner = app.thread_runner({.slots = 1, .queues = {"default"}});
  runner->start();
  const auto is_there = [&](const std::string& id) {
    const auto found = store.get(id);
    (void)found.wait_done();
    return !found.exception();
  };
  const auto until = std::chrono::steady_clock::now() + 20s;
  while (is_there(old.id()) && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  CHECK_THROWS_AS((void)old.status(), InvocationNotFoundError);
  CHECK(recent.result() == 1);
  CHECK(waiting.status() == Status::registered);
}

TEST_CASE("a callback of a step may wait for another step") {
  const caller::test::TemporaryFolder folder;
  const auto store = make_sqlite_store(folder.file("tasks.db"), kQuick);
  std::atomic<bool> cancelled{false};
  const auto added = store->add({call("a")});
  (void)added.add_done_callback([&](const caller::PendingBase&) { cancelled = store->cancel("a").wait(); });
  added.wait();
  store->ended("a").wait();
  store->heartbeat({"r", {}, {}, {}, {}}, 1s).wait();  // written after it
  CHECK(cancelled);
}
