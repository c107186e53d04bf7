// The store in Redis: its address, what is stored, who sees it. What all stores promise is in contract_test.cpp.
#include <doctest/doctest.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include <caller/all.hpp>
#include <caller/task/all.hpp>

#include "new_call.hpp"
#include "redis_server.hpp"
#include "words.hpp"

using namespace caller::task;
using namespace std::chrono_literals;

namespace {

std::uint64_t used_memory(const RedisServer& server) {
  const std::string info = server.command({"INFO", "memory"});
  return std::stoull(info.substr(info.find("used_memory:") + 12));
}

}  // namespace

TEST_CASE("when no Redis listens there, every step says so in a sentence, at once and without the password") {
  for (const std::string url :
       {"redis://user:secret@127.0.0.1:1/2", "unix:///nowhere/redis.sock", "redis://no.such.host.invalid"}) {
    CAPTURE(url);
    const auto store = make_redis_store(url, "app", 1h);  // it is not waited for
    const std::string said = words<std::exception>([&] { store->add({call("1")}).wait({.timeout = 20s}); });
    CHECK(said.find("cannot be reached: ") != std::string::npos);
    CHECK(said.find("start redis-server there or correct the address") != std::string::npos);
    CHECK(said.find(store->description()) != std::string::npos);
    CHECK(said.find("secret") == std::string::npos);
    CHECK_THROWS_AS(store->counts().wait({.timeout = 20s}), StateBackendError);
    CHECK_THROWS_AS(store->ended("1").wait({.timeout = 20s}), StateBackendError);
  }
}

TEST_CASE("an address of Redis that makes no sense is refused with what is wrong") {
  const auto shown = [](const std::string& url) { return make_redis_store(url, "app")->description(); };
  CHECK(shown("redis://localhost") == "redis://localhost:6379/0");
  CHECK(shown("redis://u:p%40ss@h.example:1234/7") == "redis://h.example:1234/7");
  CHECK(shown("redis://:p/w@[::1]:1234/") == "redis://[::1]:1234/0");
  CHECK(shown("rediss://u:p@h.example?verify=none&ca_file=%2Fdev%2Fnull") == "rediss://h.example:6379/0");
  CHECK(shown("unix://u:p@/run/redis.sock?db=3") == "unix:///run/redis.sock?db=3");
  const std::pair<const char*, const char*> wrong[] = {{"", "it begins neither"},
                                                       {"http://x", "it begins neither"},
                                                       {"rediss://x?tls=1", "means nothing here"},
                                                       {"rediss://x?cert_file=a", "go together"},
                                                       {"redis://x?verify=none", "means nothing here"},
                                                       {"redis://", "no host"},
                                                       {"redis://h:0", "not a port"},
                                                       {"redis://h:99999", "not a port"},
                                                       {"redis://h:1x", "not a port"},
                                                       {"redis://h/x", "not the number of a database"},
                                                       {"redis://h/-1", "not the number"},
                                                       {"redis://[::1", "is not closed"},
                                                       {"redis://[::1]x", "behind the host"},
                                                       {"redis://u@h", "no user:password"},
                                                       {"redis://u:%4@h", "hexadecimal"},
                                                       {"redis://u:%zz@h", "hexadecimal"},
                                                       {"unix://run", "does not begin with /"},
                                                       {"unix:///x?y=1", "means nothing"},
                                                       {"unix:///x%00y", "zero byte"}};
  for (const auto& [url, why] : wrong) {
    CAPTURE(url);
    CHECK_THROWS_WITH_AS((void)shown(url), doctest::Contains(why), ConfigError);
  }
  CHECK_THROWS_AS((void)shown("unix:///" + std::string(200, 'x')), ConfigError);
  CHECK_THROWS_AS((void)make_redis_store("redis://localhost", ""), ConfigError);
  CHECK_THROWS_AS((void)AppBuilder{}.redis("nonsense").build(), ConfigError);
}

TEST_CASE("an application is built on Redis by its address, and serves what another handle asked for") {
  const RedisServer server;
  const auto made = [&] { return AppBuilder{}.redis(server.url()).app_id("demo").build(); };
  const App here = made(), there = made();
  const auto asks = here.task("t.double", [](int n) { return 2 * n; }, {"n"});
  (void)there.task("t.double", [](int n) { return 2 * n; }, {"n"});
  const auto runner = there.thread_runner({2, {}, {}});
  runner->start();
  CHECK(asks(21).result() == 42);
  CHECK(asks.parallelize(std::vector<std::tuple<int>>{{1}, {2}, {3}}).ordered_results() == std::vector{2, 4, 6});
}

TEST_CASE("two applications on one server do not see each other, whatever their names are") {
  const RedisServer server;
  const std::string names[] = {"a", "a}:inv", "{a}", "*", "a:", "A", "a%7D", std::string("a\0b", 3), "\xff\r\n"};
  std::vector<std::shared_ptr<Store>> stores;
  for (const auto& name : names) stores.push_back(make_redis_store(server.url(), name));
  for (std::size_t i = 0; i < stores.size(); ++i)
    for (std::size_t n = 0; n <= i; ++n) stores[i]->add({call("same-" + std::to_string(n))}).wait();
  for (std::size_t i = 0; i < stores.size(); ++i) {
    CAPTURE(names[i]);
    CHECK(stores[i]->list("", std::nullopt, 0, 100).wait().size() == i + 1);
    CHECK(stores[i]->take("runner", 1, {}).wait().size() == 1);
  }
  for (std::size_t i = 0; i < stores.size(); ++i) {
    CHECK(stores[i]->purge(std::nullopt).wait() == i + 1);
    for (std::size_t j = 0; j < stores.size(); ++j)
      CHECK(stores[j]->list("", std::nullopt, 0, 100).wait().size() == (j <= i ? 0 : j + 1));
  }
  const std::string keys = server.command({"KEYS", "*"});
  for (std::size_t at = 0; (at = keys.find("caller:", at)) != std::string::npos; ++at)
    CHECK(keys.compare(at, 8, "caller:{") == 0);
}

TEST_CASE("whatever bytes the fields of an invocation hold, they come back and mean nothing to the server") {
  const RedisServer server;
  const auto store = make_redis_store(server.url(), "hostile");
  std::string every;
  for (int i = 0; i < 256; ++i) every += static_cast<char>(i);
  const std::string large(1 << 20, '\x01');
  const std::string hostile[] = {every,
                                 "*",
                                 "[^]",
                                 "\r\n*1\r\n$8\r\nFLUSHALL\r\n",
                                 "'] redis.call('FLUSHALL') --",
                                 std::string("\0\0", 2),
                                 "17:x:",
                                 large,
                                 "%s%n",
                                 "\x81\xa1t\x80"};
  std::size_t n = 0;
  for (const auto& h : hostile) {
    CAPTURE(n);
    NewInvocation i;
    i.id = h + std::to_string(++n);
    i.task_id = h + "t";
    i.call_id = h + (n % 3 ? "c" : std::string(64, 'e'));
    i.args = h;
    i.parent_id = h + "p";
    i.queue = h + "q";
    i.priority = n % 2 ? INT32_MIN : INT32_MAX;
    i.registration_key = h + "g";
    i.running_key = h + "k";
    const std::string runner = h + "r", id = i.id;
    CHECK(store->add({i}).wait()[0].id == id);
    auto again = i;
    again.id = id + "another";
    again.call_id += "d";
    again.refuse_other_call = true;
    CHECK(store->add({again}).wait()[0].refused);
    again.refuse_other_call = false;
    const auto reused = store->add({again}).wait()[0];
    CHECK(reused.reused);
    CHECK(reused.call_id == i.call_id);
    CHECK(reused.args == h);
    const auto taken = store->take(runner, 5, {i.queue}).wait();
    REQUIRE(taken.size() == 1);
    CHECK(taken[0].id == id);
    CHECK(taken[0].task_id == i.task_id);
    CHECK(taken[0].call_id == i.call_id);
    CHECK(taken[0].args == h);
    CHECK(taken[0].parent_id == i.parent_id);
    CHECK(taken[0].queue == i.queue);
    CHECK(taken[0].priority == i.priority);
    CHECK(taken[0].owner == runner);
    store->heartbeat({runner, h, {}, {}, {}}, 1h).wait();
    again.registration_key.clear();
    store->add({again}).wait();
    CHECK(store->take(runner, 5, {i.queue}).wait().empty());  // one of its kind is at work
    CHECK(store->get(again.id).wait().status == Status::concurrency_controlled);
    store->wait_for(id, {again.id}).wait();
    CHECK_THROWS_AS(store->wait_for(again.id, {id}).wait(), CycleDetectedError);
    store->change({id, Status::running, runner, {}, {}, {}}).wait();
    const auto end = store->ended(id);
    store->change({id, n % 2 ? Status::success : Status::failed, runner, h, h, {}}).wait();
    end.wait();
    const auto record = store->get(id).wait();
    CHECK((n % 2 ? record.result : record.exception) == h);
    CHECK(store->history(id).wait()[1].owner == runner);
    CHECK(store->list(i.task_id, std::nullopt, 0, 5).wait().size() == 2);
    CHECK(store->get(again.id).wait().status == Status::rerouted);
    CHECK(store->cancel(again.id).wait());
    store->forget_runner(runner).wait();
  }
  CHECK(store->purge(0ns).wait() == 2 * n);
  CHECK(store->counts().wait().empty());
}

TEST_CASE("a stored record that is nonsense is an error of its own, and holds up nobody") {
  const RedisServer server;
  const auto store = make_redis_store(server.url(), "app");
  std::vector<std::string> ids;
  for (const char* garbage : {"", "\xff\xff", "x", "\x93\x01\x02\x03", "\x81\xa1s\xcc\xff", "\x81\xa1t\x01"}) {
    ids.push_back("bad" + std::to_string(ids.size()));
    store->add({call(ids.back())}).wait();
    server.command({"HSET", "caller:{app}:inv", ids.back(), garbage});
    CHECK_THROWS_WITH_AS(store->get(ids.back()).wait(), doctest::Contains("cannot be read"), StateBackendError);
    CHECK_THROWS_AS(store->change({ids.back(), Status::running, "r", {}, {}, {}}).wait(), StateBackendError);
  }
  store->add({call("good")}).wait();
  const auto taken = store->take("r", 100, {}).wait();
  REQUIRE(taken.size() == 1);
  CHECK(taken[0].id == "good");
  CHECK(store->list("", std::nullopt, 0, 100).wait().size() == 1);
  CHECK_THROWS_AS(store->get("never").wait(), InvocationNotFoundError);
  CHECK(store->purge(std::nullopt).wait() == ids.size() + 1);
  // Keys of another type are an error of the step, which says so.
  server.command({"SET", "caller:{app}:inv", "x"});
  CHECK_THROWS_WITH_AS(store->add({call("1")}).wait(), doctest::Contains("WRONGTYPE"), StateBackendError);
}

TEST_CASE("a field of a stored record that is of another kind costs its own invocation, and no step of any other") {
  const RedisServer server;
  const auto store = make_redis_store(server.url(), "app");
  struct Damage {
    std::string fields, value;  // as MessagePack
  };
  const Damage damages[] = {{"snzbmruj", "\xa1x"},     {"snzbmruj", "\xcb\x7f\xf8" + std::string(6, '\0')},
                            {"snzbmruj", "\xff"},      {"y", "\xa1x"},
                            {"tcdapqogkRETW", "\x07"}, {"ABfx", "\x07"},
                            {"hODwvl", "\xa1x"},       {"ODwvl", "\x91\x90"}};
  std::vector<std::string> ids;
  for (const auto& [fields, value] : damages)
    for (const char field : fields) {
      ids.push_back(std::string(1, field) + std::to_string(ids.size()));
      CAPTURE(ids.back());
      NewInvocation n = call(ids.back());
      n.running_key = "key" + ids.back();
      n.registration_key = ids.back();
      store->add({n}).wait();
      const std::string answer = server.command({"HGET", "caller:{app}:inv", n.id});
      std::string bytes = answer.substr(answer.find('\n') + 1);
      bytes.resize(bytes.size() - 2);
      REQUIRE((bytes[0] & 0xf0) == 0x80);
      ++bytes[0];  // one field more: of two with one name the last one counts
      server.command({"HSET", "caller:{app}:inv", n.id, bytes + "\xa1" + field + value});
      CHECK_THROWS_AS((void)store->get(n.id).wait(), UnreadableError);
    }
  store->add({call("waits"), call("good")}).wait();
  for (const auto& id : ids) CHECK_THROWS_AS(store->wait_for("waits", {id}).wait(), UnreadableError);
  std::size_t taken = 0;
  while (const std::size_t n = store->take("r", 10, {}, true).wait().size()) taken += n;
  CHECK(taken == 2);
  CHECK(store->recover(0ns).wait().empty());
  CHECK(store->purge(0ns).wait() == 0);
  store->change({"good", Status::success, "r", "1", {}, {}}).wait();
  CHECK(store->get("good").wait().result == "1");
  CHECK(store->list("", std::nullopt, 0, 100).wait().size() == 2);
  CHECK(store->purge(std::nullopt).wait() == ids.size() + 2);
}

TEST_CASE("a record that is damaged while it is at work gives its running key back when its runner is gone or asks") {
  const RedisServer server;
  const auto store = make_redis_store(server.url(), "app");
  const auto next = [&](const std::string& runner) { return store->take(runner, 10, {}, true).wait(); };
  const auto add = [&](const std::string& id) {
    NewInvocation n = call(id);
    n.running_key = "kind";
    store->add({n}).wait();
  };
  const auto listening = store->listen("other", {[] {}, {}});
  add("a");
  REQUIRE(next("lost").size() == 1);
  add("b");
  add("c");
  server.command({"HSET", "caller:{app}:inv", "a", "damaged"});
  CHECK(next("other").empty());
  store->forget_runner("lost").wait();
  CHECK(store->recover(1h).wait().empty());
  CHECK(next("other").at(0).id == "b");
  server.command({"HSET", "caller:{app}:inv", "b", "damaged"});
  CHECK(next("other").empty());  // its code is at work
  CHECK_THROWS_AS(store->change({"b", Status::success, "other", "1", {}, {}}).wait(), UnreadableError);
  std::vector<InvocationRecord> taken;
  while (taken.empty()) {
    store->heartbeat({"other", {}, {}, {}, {}}, 1h).wait();  // with it what it has is compared
    taken = next("other");
  }
  CHECK(taken.at(0).id == "c");
}

TEST_CASE("a key kept for code of a lost runner is free again, also when an older program has recovered that runner") {
  const RedisServer server;
  const auto store = make_redis_store(server.url(), "app");
  const std::string prefix = "caller:{app}:";
  const auto taken = [&](const std::string& runner) {
    std::vector<std::string> out;
    for (const auto& r : store->take(runner, 10, {}, true).wait()) out.push_back(r.id);
    return out;
  };
  const auto keep = [&](const std::string& id, const std::string& runner, const std::string& key) {
    NewInvocation n = call(id);
    n.running_key = key;
    store->add({n}).wait();
    REQUIRE(taken(runner) == std::vector{id});
    Change end{id, Status::failed, runner, {}, "e", {}};
    end.code_goes_on = true;
    store->change(end).wait();
  };
  const auto waits = [&](const std::string& id, const std::string& key) {
    NewInvocation n = call(id);
    n.running_key = key;
    store->add({n}).wait();
    CHECK(taken("other").empty());
    CHECK(store->get(id).wait().status == Status::concurrency_controlled);
  };
  store->heartbeat({"other", {}, {}, {}, {}}, 1h).wait();
  store->heartbeat({"lives", {}, {}, {}, {}}, 1h).wait();
  keep("a", "lost", "kind");
  keep("b", "lost", "another kind");
  keep("c", "lives", "third kind");
  waits("a2", "kind");
  waits("b2", "another kind");
  waits("c2", "third kind");
  // What a program that knows nothing of kept keys does with a lease that is over.
  server.command({"ZREM", prefix + "leases", "lost"});
  server.command({"HDEL", prefix + "runners", "lost"});
  CHECK(taken("other").empty());
  CHECK(store->recover(1h).wait().empty());
  CHECK(taken("other").size() == 2);
  CHECK(store->get("a2").wait().status == Status::running);
  CHECK(store->get("b2").wait().status == Status::running);
  CHECK(store->get("c2").wait().status == Status::concurrency_controlled);
  store->code_ended("lives", "c").wait();
  CHECK(taken("other") == std::vector<std::string>{"c2"});
  CHECK(server.command({"EXISTS", prefix + "keepers", prefix + "kept:lost", prefix + "kept:lives"}) == ":0\r\n");
}

TEST_CASE("calls of a kind find one another also when the record of the one that waits is damaged") {
  const RedisServer server;
  const auto store = make_redis_store(server.url(), "app");
  const auto add = [&](const std::string& id) {
    NewInvocation n = call(id);
    n.registration_key = "kind";
    return store->add({n}).wait().at(0);
  };
  CHECK_FALSE(add("a").reused);
  server.command({"HSET", "caller:{app}:inv", "a", "damaged"});
  CHECK_FALSE(add("b").reused);
  CHECK(add("c").id == "b");
  CHECK(add("d").reused);
}

TEST_CASE("what an idle runner asked for is damaged: calls are added all the same, and it gets them") {
  const RedisServer server;
  const App app = AppBuilder{}.app_id("app").redis(server.url()).build();
  const auto task = app.task("t.task", [](int n) { return n + 1; }, {"n"});
  const auto runner = app.thread_runner({1, {}, {}});
  runner->start();
  const std::string idle = "caller:{app}:idle";
  const auto asks = [&] { return server.command({"HEXISTS", idle, runner->id()}) == ":1\r\n"; };
  while (!asks()) std::this_thread::sleep_for(1ms);
  for (const char* what : {"\x93\xa1t\xa7"
                           "default\x90",
                           "\x92\xa1t\x07", "\x90", "\x07"}) {
    server.command({"HSET", idle, runner->id(), what});
    CHECK(task(1).result() == 2);
    while (!asks()) std::this_thread::sleep_for(1ms);
  }
}

TEST_CASE(
    "a user who may do nothing but use the application's keys and channels is enough, and a wrong password is told") {
  const RedisServer server;
  server.command({"ACL", "SETUSER", "worker", "on", ">p@ss/word", "~caller:{mine}:*", "&caller:{mine}:*", "+@all",
                  "-@dangerous", "-@admin"});
  server.command({"ACL", "SETUSER", "default", "off"});
  const auto url = [&](const std::string& who) { return "unix://" + who + "@" + server.socket() + "?db=1"; };
  const App app = AppBuilder{}.app_id("mine").redis(url("worker:p%40ss%2Fword")).build();
  const auto task = app.task("t.task", [](int n) { return n + 1; }, {"n"});
  const auto runner = app.thread_runner({1, {}, {}});
  runner->start();
  CHECK(task(1).result() == 2);
  const auto others = make_redis_store(url("worker:p%40ss%2Fword"), "theirs");
  CHECK_THROWS_AS(others->add({call("1")}).wait(), StateBackendError);
  for (const char* who : {"worker:wrong", "nobody:x"}) {
    const auto refused = make_redis_store(url(who), "mine", 1h);
    CHECK_THROWS_WITH_AS(refused->counts().wait(), doctest::Contains("does not let us in: WRONGPASS"),
                         StateBackendError);
  }
  const auto none = make_redis_store(server.url(), "mine", 1h);
  CHECK_THROWS_WITH_AS(none->counts().wait(), doctest::Contains("does not let us in: NOAUTH"), StateBackendError);
}

TEST_CASE("a registered invocation takes no more than 600 bytes of the server's memory") {
  const RedisServer server;
  const auto store = make_redis_store(server.url(), "small");
  const App app([&] {
    AppOptions o;
    o.store = store;
    return o;
  }());
  const auto task = app.task("reports.monthly", [](int, std::string) {}, {"month", "customer"});
  const auto add = [&](int from, int to) {
    std::vector<std::tuple<int, std::string>> calls;
    for (int i = from; i < to; ++i) calls.emplace_back(i % 12, "customer " + std::to_string(i));
    (void)task.parallelize(calls);
  };
  add(0, 1000);  // scripts and buffers are there now
  const auto before = used_memory(server);
  add(1000, 33768);
  const auto each = (used_memory(server) - before) / 32768;
  MESSAGE("bytes an invocation: " << each);
  CHECK(each <= 600);
}
