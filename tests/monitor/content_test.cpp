// What the monitor shows of a store, what it changes, and what it tells those who watch.
#include <doctest/doctest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <caller/all.hpp>
#include <caller/monitor/monitor.hpp>
#include <caller/task/all.hpp>

#include "bench.hpp"
#include "client.hpp"
#include "odd_store.hpp"

using namespace caller::task;
using namespace monitor_tests;
using namespace std::chrono_literals;
using namespace std::string_literals;
using caller::monitor::Monitor;
using nlohmann::json;

TEST_CASE("counts, runners, lists and single invocations are what the store holds") {
  const auto store = make_memory_store();
  const Monitor m(store, {.title = "demo"});
  store->add({call("a", "shop.pay", R"({"x":1})")}).wait();
  succeed(*store, "a", R"({"paid":true})");
  store->add({call("b", "shop.ship"), call("c", "shop.pay", "{}", "a")}).wait();
  store->heartbeat({"r1", "the first", {}, {}, {}}, 10s).wait();

  const json info = get(m, "/api/info");
  CHECK(info["title"] == "demo");
  CHECK(info["allow_write"] == false);
  CHECK(info["statuses"].size() == kStatusCount);

  const json state = get(m, "/api/state");
  CHECK(state["counts"]["REGISTERED"] == 2);
  CHECK(state["counts"]["SUCCESS"] == 1);
  CHECK(state["total"] == 3);
  REQUIRE(state["runners"].size() == 1);
  CHECK(state["runners"][0]["id"] == "r1");
  CHECK(state["runners"][0]["description"] == "the first");
  CHECK(state["runners"][0]["lease_until"].get<double>() - state["runners"][0]["last_heartbeat"].get<double>() ==
        doctest::Approx(10'000));

  const json all = get(m, "/api/invocations");
  REQUIRE(all["items"].size() == 3);
  CHECK(all["items"][2]["id"] == "a");  // newest first
  CHECK(all["more"] == false);
  CHECK(get(m, "/api/invocations?status=SUCCESS")["items"].size() == 1);
  CHECK(get(m, "/api/invocations?task=shop.pay")["items"].size() == 2);
  CHECK(get(m, "/api/invocations?task=shop.pay&status=REGISTERED")["items"].size() == 1);
  CHECK(get(m, "/api/invocations?task=shop.nothing")["items"].empty());
  CHECK(get(m, "/api/invocations?parent=a")["items"].size() == 1);
  const json page = get(m, "/api/invocations?limit=2");
  CHECK(page["items"].size() == 2);
  CHECK(page["more"] == true);
  CHECK(get(m, "/api/invocations?limit=2&offset=2")["items"][0]["id"] == "a");
  const std::string last = page["items"][1]["key"];
  CHECK(get(m, "/api/invocations?before=" + last)["items"][0]["id"] == "a");

  const json a = get(m, "/api/invocations/a");
  CHECK(a["status"] == "SUCCESS");
  CHECK(a["task"]["id"] == "shop.pay");
  CHECK(json::parse(a["arguments"]["text"].get<std::string>()) == json{{"x", 1}});
  CHECK(json::parse(a["result"]["text"].get<std::string>()) == json{{"paid", true}});
  CHECK(a["error"].is_null());
  std::vector<std::string> steps;
  for (const auto& s : a["history"]) steps.push_back(s["status"]);
  CHECK(steps == std::vector<std::string>{"REGISTERED", "PENDING", "RUNNING", "SUCCESS"});
  CHECK(a["history"][2]["owner"]["id"] == "r1");

  const json queues = get(m, "/api/queues");
  REQUIRE(queues["queues"].size() == 1);
  CHECK(queues["queues"][0]["waiting"]["REGISTERED"] == 2);
  CHECK(queues["all"] == true);
}

TEST_CASE("an error is shown with its causes") {
  const App app = AppBuilder{}.app_id("failing").build();
  auto fail = app.task("f", []() -> int {
    try {
      throw std::runtime_error("inner");
    } catch (...) {
      std::throw_with_nested(std::logic_error("outer"));
    }
  });
  const Monitor m(app);
  CHECK(get(m, "/api/info")["title"] == "failing");
  auto runner = app.thread_runner({1, {}, {}});
  runner->start();
  const auto inv = fail();
  CHECK_THROWS(inv.result());
  const json answer = get(m, "/api/invocations/" + inv.id());
  REQUIRE(answer["error"].size() == 2);
  CHECK(answer["error"][0]["message"] == "outer");
  CHECK(answer["error"][1]["message"] == "inner");
  CHECK(answer["result"].is_null());
  runner->stop().wait();
}

TEST_CASE("a family is shown from its oldest member on, and a workflow as a whole") {
  const auto store = make_memory_store();
  const Monitor m(store);
  store->add({call("root")}).wait();
  store->add({call("left", "t", "{}", "root"), call("right", "t", "{}", "root")}).wait();
  store->add({call("leaf", "t", "{}", "left")}).wait();
  store->add({call("stranger")}).wait();
  for (const char* of : {"root", "left", "right", "leaf"}) {
    const json family = get(m, "/api/invocations/"s + of + "/family");
    std::map<std::string, std::string> parents;
    for (const auto& n : family["nodes"])
      parents[n["id"]] = n["parent"].is_null() ? "" : n["parent"]["id"].get<std::string>();
    CHECK(parents ==
          std::map<std::string, std::string>{{"root", ""}, {"left", "root"}, {"right", "root"}, {"leaf", "left"}});
    CHECK(family["cut"] == false);
  }
  CHECK(get(m, "/api/invocations/stranger/family")["nodes"].size() == 1);
  const json workflow = get(m, "/api/workflows/root");
  CHECK(workflow["items"].size() == 4);
  CHECK(workflow["more"] == false);
  CHECK(get(m, "/api/workflows/nothing")["items"].empty());
}

TEST_CASE("a family larger than what is shown is cut, and says so") {
  const auto store = make_memory_store();
  const Monitor m(store);
  store->add({call("root")}).wait();
  std::vector<NewInvocation> many;
  for (int i = 0; i < 1000; ++i) many.push_back(call("c" + std::to_string(i), "t", "{}", "root"));
  store->add(std::move(many)).wait();
  for (const char* of : {"root", "c0"}) {
    const json family = get(m, "/api/invocations/"s + of + "/family");
    CHECK(family["nodes"].size() == 400);
    CHECK(family["cut"] == true);
    CHECK(family["nodes"][0]["id"] == of);
  }
  CHECK(get(m, "/api/workflows/root")["more"] == true);
}

TEST_CASE("the timeline tells who had what when") {
  const auto store = make_memory_store();
  const Monitor m(store);
  store->add({call("a"), call("b")}).wait();
  succeed(*store, "a", "1", "r1");
  const auto taken = store->take("r2", 1, {}).wait();
  REQUIRE(taken.size() == 1);
  store->change({"b", Status::running, "r2", {}, {}, {}, {}, {}}).wait();
  const json t = get(m, "/api/timeline?seconds=600");
  REQUIRE(t["lanes"].size() == 2);
  CHECK(t["lanes"][0]["id"] == "r1");
  CHECK(t["lanes"][1]["id"] == "r2");
  const json &first = t["lanes"][0]["bars"], &second = t["lanes"][1]["bars"];
  REQUIRE(first.size() == 2);  // PENDING, RUNNING
  CHECK(first[1]["status"] == "RUNNING");
  CHECK(first[1]["open"] == false);
  CHECK(t["invocations"][first[1]["of"].get<std::size_t>()]["id"] == "a");
  CHECK(first[0]["to"] == first[1]["from"]);
  REQUIRE(second.size() == 2);
  CHECK(second[1]["open"] == true);
  CHECK(t["invocations"][second[1]["of"].get<std::size_t>()]["id"] == "b");
  CHECK(second[1]["to"].get<double>() >= second[1]["from"].get<double>());
}

TEST_CASE("what is asked for wrongly is told so") {
  const Monitor m(make_memory_store(), writing());
  const auto status = [&](const std::string& target) {
    const Answer a = ask(m.port(), "GET", target);
    CHECK(json::parse(a.body)["error"]["message"].get<std::string>() != "");
    return a.status;
  };
  for (const char* wrong :
       {"/api/invocations?status=NONE", "/api/invocations?offset=-1", "/api/invocations?limit=0",
        "/api/invocations?limit=100000", "/api/invocations/x?max=lots", "/api/timeline?seconds=soon", "/api/%zz"})
    CHECK_MESSAGE(status(wrong) == 400, wrong);
  for (const char* none : {"/api", "/api/", "/api/nothing", "/api/invocations/x", "/api/invocations/x/family",
                           "/api/invocations/x/y/z", "/x"})
    CHECK_MESSAGE(status(none) == 404, none);
  for (const char* only_post : {"/api/purge", "/api/invocations/x/cancel", "/api/invocations/x/retry"})
    CHECK(status(only_post) == 405);
  CHECK(post(m, "/api/info").status == 405);
  CHECK(post(m, "/").status == 405);
  CHECK(post(m, "/api/events").status == 404);
  for (const char* method : {"PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"}) {
    const Answer a = ask(m.port(), method, "/api/info");
    CHECK(a.status == 405);
    CHECK(a.headers.at("Allow") == "GET, HEAD, POST");
    CHECK_FALSE(a.headers.contains("Access-Control-Allow-Methods"));
  }
  const Answer head = ask(m.port(), "HEAD", "/api/info");
  CHECK(head.status == 200);
  CHECK(std::stoi(head.headers.at("Content-Length")) > 100);
  CHECK(ask(m.port(), "HEAD", "/api/events").status == 200);
}

TEST_CASE("without being allowed to, nothing is changed") {
  const auto store = make_memory_store();
  const Monitor m(store);
  store->add({call("a")}).wait();
  CHECK(m.token().empty());
  for (const char* target : {"/api/invocations/a/cancel", "/api/invocations/a/retry", "/api/purge"})
    CHECK(post(m, target, R"({"everything": true})").status == 403);
  CHECK(store->get("a").wait().status == Status::registered);
}

TEST_CASE("cancel, run again and purge do what they say") {
  const auto store = make_memory_store();
  const Monitor m(store, writing());
  store->add({call("a", "t", R"({"n":1})")}).wait();
  CHECK(post(m, "/api/invocations/a/retry").status == 409);  // it will run anyway
  succeed(*store, "a");
  CHECK(json::parse(post(m, "/api/invocations/a/cancel").body)["cancelled"] == false);
  const Answer again = post(m, "/api/invocations/a/retry");
  REQUIRE(again.status == 200);
  const std::string key = json::parse(again.body)["key"];
  CHECK(key != "a");
  const auto record = store->get(key).wait();
  CHECK(record.task_id == "t");
  CHECK(record.args == R"({"n":1})");
  CHECK(record.status == Status::registered);
  CHECK(store->get("a").wait().status == Status::success);
  CHECK(json::parse(post(m, "/api/invocations/" + key + "/cancel").body)["cancelled"] == true);
  CHECK(post(m, "/api/invocations/nothing/cancel").status == 404);
  CHECK(post(m, "/api/invocations/nothing/retry").status == 404);

  for (const char* wrong : {"", "{}", "[]", "null", "{", R"({"everything": false})", R"({"everything": 1})",
                            R"({"older_than_seconds": -1})", R"({"older_than_seconds": "1"})",
                            R"({"older_than_seconds": 1e99})", R"({"everything": true, "older_than_seconds": 1})"})
    CHECK_MESSAGE(post(m, "/api/purge", wrong).status == 400, wrong);
  CHECK(json::parse(post(m, "/api/purge", R"({"older_than_seconds": 3600})").body)["purged"] == 0);
  CHECK(json::parse(post(m, "/api/purge", R"({"everything": true})").body)["purged"] == 2);
  CHECK(get(m, "/api/state")["total"] == 0);
}

TEST_CASE("hostile bytes in every field come out as valid text, cut, and can be asked for") {
  const auto store = make_memory_store();
  const Monitor m(store, writing());
  const std::string evil = "</script><img src=x onerror=alert(1)>\"'&:*\n\r" + "\0\xff\xfe\xed\xa0\x80/../%00"s;
  std::vector<NewInvocation> list;
  for (const std::string& args :
       {evil, std::string(3'000'000, '{'), R"({"x":")" + std::string(200'000, 'x') + "\"}", "\xA1\x61"s}) {
    NewInvocation n = call(evil + std::to_string(list.size()), evil, args);
    n.call_id = evil;
    n.queue = evil;
    n.parent_id = evil;
    list.push_back(std::move(n));
  }
  NewInvocation long_one = call(std::string(5000, 'i'), std::string(100'000, 't'));
  list.push_back(long_one);
  store->add(std::move(list)).wait();
  const std::string runner = evil + "runner";
  store->heartbeat({runner, evil, {}, {}, {}}, 10s).wait();
  for (int i = 0; i < 4; ++i) {
    const auto taken = store->take(runner, 1, {}).wait();
    REQUIRE(taken.size() == 1);
    store->change({taken[0].id, Status::running, runner, {}, {}, {}, {}, {}}).wait();
    if (i % 2)
      store->change({taken[0].id, Status::success, runner, evil, {}, {}, {}, {}}).wait();
    else
      store->change({taken[0].id, Status::failed, runner, {}, evil, {}, {}, {}}).wait();
  }
  const auto small = [](const Answer& a) {
    CHECK(a.status == 200);
    CHECK(a.body.size() < 1'000'000);
    CHECK_NOTHROW(json::parse(a.body));  // which also refuses what is no UTF-8
    return json::parse(a.body);
  };
  for (const char* target : {"/api/state", "/api/queues", "/api/timeline"}) small(ask(m.port(), "GET", target));
  const json items = small(ask(m.port(), "GET", "/api/invocations"))["items"];
  REQUIRE(items.size() == 5);
  int opened = 0;
  for (const auto& item : items) {
    CHECK(item["id"].get<std::string>().size() <= 1024);
    if (item["key"].is_null()) {
      CHECK(item["size"] == 5000);
      continue;
    }
    const std::string key = item["key"];
    const json one = small(ask(m.port(), "GET", "/api/invocations/" + key));
    CHECK(one["key"] == key);
    CHECK(one["arguments"]["text"].get<std::string>().size() <= 3 * 65536);
    small(ask(m.port(), "GET", "/api/invocations/" + key + "/family"));
    CHECK(small(ask(m.port(), "GET", "/api/invocations?task=" + item["task"]["key"].get<std::string>()))["items"]
              .size() == 4);
    CHECK(post(m, "/api/invocations/" + key + "/cancel").status == 200);
    ++opened;
  }
  CHECK(opened == 4);
}

TEST_CASE("a list of huge calls ends where enough was read") {
  const auto store = make_memory_store();
  const Monitor m(store);
  std::vector<NewInvocation> many;
  for (int i = 0; i < 20; ++i)
    many.push_back(call("c" + std::to_string(i), "t", "\"" + std::string(4'000'000, 'x') + "\""));
  store->add(std::move(many)).wait();
  const json page = get(m, "/api/invocations");
  CHECK(page["items"].size() < 20);
  CHECK(page["items"].size() > 5);
  CHECK(page["more"] == true);
  // Page by page there are all of them.
  std::size_t seen = page["items"].size();
  for (json next = page; next["more"] == true; seen += next["items"].size())
    next = get(m, "/api/invocations?before=" + next["items"].back()["key"].get<std::string>());
  CHECK(seen == 20);
  CHECK(get(m, "/api/queues")["all"] == false);
  CHECK(ask(m.port(), "GET", "/api/invocations").body.size() < 100'000);
}

TEST_CASE("a value that is kept apart by its hash is shown itself, cut, with its whole size") {
  for (const Format format : {Format::json, Format::cbor}) {
    CAPTURE(static_cast<int>(format));
    AppOptions o;
    o.app_id = "large";
    o.format = format;
    o.store = make_memory_store();
    const std::shared_ptr<Store> store = o.store;
    const Monitor m(store);
    App app(std::move(o));
    const auto repeat = app.task("repeat",
                                 [](const std::string& text, int n) {
                                   std::string out;
                                   for (int i = 0; i < n; ++i) out += text;
                                   return out;
                                 },
                                 {"text", "n"});
    const std::string text(20'000, 't');
    const auto inv = repeat(text, 10);
    const auto runner = app.thread_runner({.slots = 1});
    runner->start();
    CHECK(inv.result().size() == 200'000);
    const std::string word = format == Format::json ? "json" : "cbor";
    const json one = get(m, "/api/invocations/" + inv.id());
    const json& arguments = one["arguments"];
    CHECK(arguments["format"] == word);
    CHECK(arguments["cut"] == false);
    CHECK(arguments["size"].get<std::size_t>() > text.size());
    CHECK(json::parse(arguments["text"].get<std::string>()) == json{{"text", text}, {"n", 10}});
    const json& result = one["result"];
    CHECK(result["format"] == word);
    CHECK(result["cut"] == true);
    CHECK(result["size"].get<std::size_t>() > 200'000);
    CHECK(result["size"].get<std::size_t>() < 200'010);
    CHECK(result["text"].get<std::string>().starts_with("\"ttt"));
    CHECK(result["text"].get<std::string>().size() <= 64 * 1024);
    const json little = get(m, "/api/invocations/" + inv.id() + "?max=100");
    CHECK(little["arguments"]["cut"] == true);
    CHECK(little["arguments"]["size"] == arguments["size"]);
    const std::string line = get(m, "/api/invocations")["items"][0]["args"]["text"];
    CHECK(json::parse(line) == json{{"text", "\u2026"}, {"n", 10}});
  }
}

TEST_CASE("of a value whose data is gone, or whose list of parts is damaged, that is shown") {
  const auto store = make_memory_store();
  const Monitor m(store);
  store->add({call("lost", "t", "\xff[[0,\"nowhere\"]]\n"), call("bad", "t", "\xff[[7,\"nowhere\"]")}).wait();
  CHECK(get(m, "/api/invocations/lost")["arguments"]["text"] == "the data nowhere is not in the store any more");
  CHECK(get(m, "/api/invocations/bad")["arguments"]["size"] == 15);
  CHECK(get(m, "/api/invocations")["items"].size() == 2);
  // Of very many parts the first are looked at.
  std::string many = "\xff[", parts;
  for (int i = 0; i < 10'000; ++i) many += std::string(i ? "," : "") + "[0,\"part\"]";
  store->put_data("part", "x").wait();
  store->add({call("many", "t", many + "]\n")}).wait();
  const json arguments = get(m, "/api/invocations/many")["arguments"];
  CHECK(arguments["cut"] == true);
  CHECK(arguments["size"].get<std::size_t>() < 1000);
}

TEST_CASE("a watcher is told of each step, in order, without asking") {
  const auto store = make_memory_store();
  const Monitor m(store, {.interval = 5ms});
  Wire wire = watch(m);
  Event e = next_event(wire);
  CHECK(e.kind == "state");
  CHECK(e.data["total"] == 0);
  long last = e.id;
  std::string before;
  // What is told may be of the moment before, but never of one before that, nor of what was never so.
  const auto expect = [&](const std::string& status) {
    do {
      e = next_event(wire);
      CHECK(e.id > last);
      last = e.id;
      REQUIRE(e.kind == "state");
      const json& counts = e.data["counts"];
      const bool one_of_them =
          counts.value(status, 0) == 1 || (before.empty() ? e.data["total"] == 0 : counts.value(before, 0) == 1);
      CHECK_MESSAGE(one_of_them, before, " or ", status, " in ", e.data.dump());
    } while (e.data["counts"].value(status, 0) != 1);
    before = status;
  };
  store->add({call("a")}).wait();
  expect("REGISTERED");
  CHECK(store->take("r1", 1, {}).wait().size() == 1);
  expect("PENDING");
  store->change({"a", Status::running, "r1", {}, {}, {}, {}, {}}).wait();
  expect("RUNNING");
  store->change({"a", Status::success, "r1", "1", {}, {}, {}, {}}).wait();
  expect("SUCCESS");
  store->purge(std::nullopt).wait();
  do e = next_event(wire);
  while (e.data["total"] != 0);
  CHECK(m.watchers() == 1);
}

TEST_CASE("the store is looked at only while somebody watches") {
  const auto store = std::make_shared<OddStore>();
  const Monitor m(store, {.interval = 1ms});
  get(m, "/api/info");
  CHECK(store->looks == 0);
  {
    Wire wire = watch(m);
    next_event(wire);
    const int seen = store->looks;
    CHECK(seen > 0);
    while (store->looks < seen + 3) std::this_thread::yield();
  }
  while (m.watchers() != 0) std::this_thread::yield();
  // A look that had begun may still be counted.
  get(m, "/api/info");
  const int after = store->looks;
  for (int i = 0; i < 20; ++i) get(m, "/api/info");
  CHECK(store->looks <= after + 1);
  // Who comes back is told what is true now, not then.
  store->add({call("a")}).wait();
  Wire wire = watch(m);
  CHECK(next_event(wire).data["total"] == 1);
}

TEST_CASE("a store that fails is told of, answers 503, and is shown again when it works") {
  const auto store = std::make_shared<OddStore>();
  const Monitor m(store, {.store_time = 200ms, .interval = 5ms});
  Wire wire = watch(m);
  CHECK(next_event(wire).kind == "state");
  store->broken = true;
  Event e = next_event(wire);
  CHECK(e.kind == "trouble");
  CHECK(e.data["message"] == "the disk is on fire");
  for (const char* target : {"/api/state", "/api/invocations", "/api/invocations/x", "/api/invocations/x/family",
                             "/api/timeline", "/api/queues", "/api/workflows/x"}) {
    const Answer a = ask(m.port(), "GET", target);
    CHECK(a.status == 503);
    CHECK(json::parse(a.body)["error"]["message"] == "the disk is on fire");
  }
  CHECK(ask(m.port(), "GET", "/").status == 200);
  store->broken = false;
  e = next_event(wire);
  CHECK(e.kind == "state");
  store->silent = true;
  e = next_event(wire);
  CHECK(e.kind == "trouble");
  CHECK(e.data["message"] == "the store does not answer");
  CHECK(ask(m.port(), "GET", "/api/invocations").status == 503);
  store->silent = false;
  CHECK(next_event(wire).kind == "state");
  store->stopped = true;
  e = next_event(wire);
  CHECK(e.kind == "trouble");
  CHECK(e.data["message"] == "the store has stopped");
  CHECK(ask(m.port(), "GET", "/api/invocations").status == 503);
  store->stopped = false;
  CHECK(next_event(wire).kind == "state");
}
