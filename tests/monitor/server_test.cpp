// What the monitor serves, and to whom, over real connections.
#include <doctest/doctest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <caller/all.hpp>
#include <caller/monitor/monitor.hpp>
#include <caller/task/all.hpp>

#include "client.hpp"
#include "odd_store.hpp"

using namespace caller::task;
using namespace std::chrono_literals;
using namespace std::string_literals;
using caller::monitor::Monitor;
using caller::monitor::MonitorOptions;
using nlohmann::json;

namespace {

NewInvocation call(std::string id, std::string task = "t", std::string args = "{}", std::string parent = {}) {
  NewInvocation n;
  n.call_id = task + "#" + id;
  n.id = std::move(id);
  n.task_id = std::move(task);
  n.args = std::move(args);
  n.parent_id = std::move(parent);
  n.queue = "default";
  return n;
}

/// Registered, taken by `runner`, and ended.
void succeed(Store& store, const std::string& id, const std::string& result = "1", const std::string& runner = "r1") {
  const auto taken = store.take(runner, 1, {}).wait();
  REQUIRE(taken.size() == 1);
  REQUIRE(taken[0].id == id);
  store.change({id, Status::running, runner, {}, {}, {}, {}, {}}).wait();
  store.change({id, Status::success, runner, result, {}, {}, {}, {}}).wait();
}

MonitorOptions writing() {
  MonitorOptions o;
  o.allow_write = true;
  return o;
}

json get(const Monitor& m, const std::string& target) {
  const Answer a = ask(m.port(), "GET", target);
  CHECK_MESSAGE(a.status == 200, target, " gives ", a.status, " ", a.body);
  CHECK(a.headers.at("Content-Type") == "application/json");
  return json::parse(a.body);
}
Answer post(const Monitor& m, const std::string& target, const std::string& body = "{}", Headers more = {}) {
  more.emplace_back("Content-Type", "application/json");
  more.emplace_back("X-Caller-Token", m.token());
  return ask(m.port(), "POST", target, more, body);
}

/// The next event of a stream: its number, kind and data.
struct Event {
  long id = 0;
  std::string kind;
  json data;
};
Event next_event(Wire& wire) {
  for (;;) {
    const std::string text = wire.until("\n\n");
    REQUIRE_MESSAGE(!text.empty(), "the stream ended");
    if (text.starts_with(":")) continue;
    Event e;
    e.id = std::stol(text.substr(4));
    const std::size_t kind = text.find("event: ") + 7, data = text.find("data: ") + 6;
    e.kind = text.substr(kind, text.find('\n', kind) - kind);
    e.data = json::parse(text.substr(data));
    return e;
  }
}
Wire watch(const Monitor& m) {
  Wire wire(m.port());
  wire.send(request_text(m.port(), "GET", "/api/events"));
  const Answer head = wire.answer();
  CHECK(head.status == 200);
  CHECK(head.headers.at("Content-Type") == "text/event-stream");
  return wire;
}

}  // namespace

TEST_CASE("the page and its files are served, with a policy that lets nothing else run") {
  const Monitor m(make_memory_store());
  CHECK(m.address() == "127.0.0.1");
  CHECK(m.url() == "http://127.0.0.1:" + std::to_string(m.port()) + "/");
  const Answer page = ask(m.port(), "GET", "/");
  CHECK(page.status == 200);
  CHECK(page.headers.at("Content-Type") == "text/html; charset=utf-8");
  CHECK(page.body.find("<!DOCTYPE html>") == 0);
  for (const char* file : {"/monitor.css", "/icon.svg", "/app.js", "/api.js", "/dom.js", "/list.js", "/detail.js",
                           "/tree.js", "/timeline.js", "/runners.js", "/workflow.js"})
    CHECK_MESSAGE(ask(m.port(), "GET", file).status == 200, file);
  for (const char* target : {"/", "/app.js", "/api/info", "/nothing", "/api/nothing"}) {
    const Answer a = ask(m.port(), "GET", target);
    CHECK(a.headers.at("Content-Security-Policy")
              .starts_with("default-src 'none'; script-src 'self'; style-src 'self';"));
    CHECK(a.headers.at("X-Content-Type-Options") == "nosniff");
    CHECK(a.headers.at("X-Frame-Options") == "DENY");
    CHECK(a.headers.at("Cache-Control") == "no-store");
    CHECK_FALSE(a.headers.contains("Access-Control-Allow-Origin"));
  }
  // The policy allows no script in the page itself, so there is none, nor a style, nor anything from elsewhere.
  for (const char* wrong : {"<script>", "<style", " style=", " onclick", "https://", "http://"})
    CHECK_MESSAGE(page.body.find(wrong) == std::string::npos, wrong);
}

TEST_CASE("no name of a request reaches the disk") {
  const Monitor m(make_memory_store());
  for (const char* target : {"/../../../etc/passwd", "/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/..%00", "/app.js%00",
                             "/./app.js/x", "/monitor/../app.js", "/.", "/index.html/"}) {
    const Answer a = ask(m.port(), "GET", target);
    CHECK_MESSAGE((a.status == 404 || a.body.find("<!DOCTYPE html>") == 0), target, " gives ", a.status);
    CHECK(a.body.find("root:") == std::string::npos);
  }
}

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

TEST_CASE("another Host or Origin, and a missing token, are refused over the wire, too") {
  const auto store = make_memory_store();
  const Monitor m(store, writing());
  store->add({call("a")}).wait();
  const std::string own = "127.0.0.1:" + std::to_string(m.port());
  CHECK(m.url().find("#token=" + m.token()) != std::string::npos);
  const auto status = [&](const std::string& method, const std::string& target, const Headers& h) {
    return ask(m.port(), method, target, h, method == "POST" ? "{}" : "").status;
  };
  for (const char* target : {"/", "/api/info", "/api/events"}) {
    CHECK(status("GET", target, {{"Host", "evil.example"}}) == 421);
    CHECK(status("GET", target, {{"Host", ""}}) == 421);
    CHECK(status("GET", target, {{"Host", own}, {"Host", "evil.example"}}) == 421);
    CHECK(status("GET", target, {{"Host", own}, {"Origin", "http://evil.example"}}) == 403);
  }
  CHECK(status("GET", "/api/info", {{"Host", own}, {"Origin", "http://" + own}}) == 200);
  CHECK(status("GET", "/api/info", {{"Sec-Fetch-Site", "cross-site"}}) == 403);
  CHECK(status("GET", "/", {{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Mode", "navigate"}}) == 200);
  CHECK(status("GET", "/api/info", {{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Mode", "navigate"}}) == 403);
  CHECK(status("GET", "/", {{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Mode", "no-cors"}}) == 403);

  const std::pair<std::string, std::string> json_type{"Content-Type", "application/json"},
      token{"X-Caller-Token", m.token()};
  const std::string cancel = "/api/invocations/a/cancel";
  CHECK(status("POST", cancel, {json_type}) == 403);
  CHECK(status("POST", cancel, {json_type, {"X-Caller-Token", "0123456789abcdef0123456789abcdef"}}) == 403);
  CHECK(status("POST", cancel, {json_type, token, {"Origin", "http://evil.example"}}) == 403);
  CHECK(status("POST", cancel, {json_type, token, {"Origin", "null"}}) == 403);
  CHECK(status("POST", cancel, {json_type, token, {"Host", "evil.example"}}) == 421);
  CHECK(status("POST", cancel, {token, {"Content-Type", "text/plain"}}) == 415);
  CHECK(store->get("a").wait().status == Status::registered);
  CHECK(status("POST", cancel, {json_type, token, {"Host", own}, {"Origin", "http://" + own}}) == 200);
  CHECK(store->get("a").wait().status == Status::cancelled);
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

TEST_CASE("one connection serves one request after the other, also when they come together") {
  const Monitor m(make_memory_store());
  Wire wire(m.port());
  std::string many;
  for (int i = 0; i < 50; ++i) many += request_text(m.port(), "GET", i % 2 ? "/api/info" : "/nothing");
  CHECK(wire.send(many));
  for (int i = 0; i < 50; ++i) CHECK(wire.answer().status == (i % 2 ? 200 : 404));
  CHECK(m.connections() == 1);
  CHECK(wire.send(request_text(m.port(), "GET", "/api/info", {{"Connection", "close"}})));
  const Answer last = wire.answer();
  CHECK(last.status == 200);
  CHECK(last.headers.at("Connection") == "close");
  CHECK(wire.rest().empty());
}

TEST_CASE("what is no request, or too large, is refused and closed") {
  const Monitor m(make_memory_store(), writing());
  const auto status = [&](const std::string& bytes) {
    Wire wire(m.port());
    wire.send(bytes);
    const Answer a = wire.answer();
    if (a.status >= 400 && a.headers.contains("Connection") && a.headers.at("Connection") == "close")
      CHECK(wire.rest().empty());
    return a.status;
  };
  CHECK(status("hello\r\n\r\n") == 400);
  CHECK(status("GET / HTTP/9.9\r\nHost: localhost\r\n\r\n") == 400);
  CHECK(status("GET  HTTP/1.1\r\n\r\n") == 400);
  CHECK(status("GET / HTTP/1.1\r\nHost\r\n\r\n") == 400);
  CHECK(status("GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n") == 400);
  CHECK(status(
            "POST /api/purge HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n") ==
        400);
  CHECK(status("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"s + std::string(200, '\0')) == 400);  // TLS
  CHECK(status("GET / HTTP/1.1\r\nHost: localhost\r\nX: " + std::string(20'000, 'x') + "\r\n\r\n") == 431);
  CHECK(status("GET /" + std::string(20'000, 'x') + " HTTP/1.1\r\nHost: localhost\r\n\r\n") == 431);
  CHECK(status("POST /api/purge HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n") == 413);
  CHECK(status("POST /api/purge HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5000\r\n" +
               std::string(0x5000, 'x') + "\r\n0\r\n\r\n") == 413);
  CHECK(ask(m.port(), "GET", "/api/info").status == 200);
}

TEST_CASE("random bytes never end the server") {
  const Monitor m(make_memory_store(), {.request_time = 2s});
  std::mt19937 random(20261128);
  const std::string good = request_text(m.port(), "GET", "/api/invocations/a%20b?status=X");
  for (int round = 0; round < 300; ++round) {
    std::string bytes = good;
    const int changes = 1 + static_cast<int>(random() % 8);
    for (int i = 0; i < changes; ++i) {
      const std::size_t at = random() % bytes.size();
      if (random() % 3 == 0)
        bytes.erase(at, 1 + random() % 5);
      else if (random() % 2)
        bytes[at] = static_cast<char>(random());
      else
        bytes.insert(at, 1 + random() % 3, static_cast<char>(random()));
      if (bytes.empty()) bytes = "x";
    }
    Wire wire(m.port());
    wire.send(bytes);
  }
  CHECK(ask(m.port(), "GET", "/api/info").status == 200);
}

TEST_CASE("a client that is slow to ask, or to take the answer, is closed and holds nobody up") {
  const auto store = make_memory_store();
  store->add({call("big", "t", "\"" + std::string(4'000'000, 'x') + "\"")}).wait();
  const Monitor m(store, {.request_time = 3s, .idle_time = 3s});
  Wire silent(m.port()), slow(m.port()), deaf(m.port()), idle(m.port());
  slow.send("GET / HT");
  for (int i = 0; i < 40; ++i) deaf.send(request_text(m.port(), "GET", "/api/invocations/big?max=4000000"));
  idle.send(request_text(m.port(), "GET", "/api/info"));
  CHECK(idle.answer().status == 200);
  CHECK(ask(m.port(), "GET", "/api/info").status == 200);
  CHECK(silent.rest().empty());
  CHECK(idle.rest().empty());
  // One that says a little now and then has no more time than the others.
  while (slow.send("x") && m.connections() > 0) std::this_thread::sleep_for(50ms);
  while (m.connections() > 0) std::this_thread::sleep_for(10ms);
  CHECK(ask(m.port(), "GET", "/api/info").status == 200);
}

TEST_CASE("more connections than allowed are told so, and served when others have gone") {
  const Monitor m(make_memory_store(), {.max_connections = 3});
  std::vector<Wire> wires;
  for (int i = 0; i < 3; ++i) {
    wires.emplace_back(m.port());
    wires.back().send(request_text(m.port(), "GET", "/api/info"));
    CHECK(wires.back().answer().status == 200);
  }
  for (int i = 0; i < 5; ++i) {
    Wire more(m.port());
    const Answer a = more.answer();
    CHECK(a.status == 503);
    CHECK(a.headers.at("Retry-After") == "1");
  }
  CHECK(m.connections() == 3);
  wires.pop_back();
  while (m.connections() > 2) std::this_thread::yield();
  CHECK(ask(m.port(), "GET", "/api/info").status == 200);
}

TEST_CASE("many clients at once are all served") {
  const auto store = make_memory_store();
  store->add({call("a")}).wait();
  const Monitor m(store, {.max_connections = 200, .interval = 5ms});
  std::vector<Wire> watchers;
  for (int i = 0; i < 40; ++i) watchers.push_back(watch(m));
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 25; ++i)
        if (ask(m.port(), "GET", "/api/invocations").status == 200) ++good;
    });
  for (auto& t : threads) t.join();
  CHECK(good == 200);
  for (auto& w : watchers) CHECK(next_event(w).data["total"] == 1);
  store->add({call("b")}).wait();
  for (auto& w : watchers) {
    Event e = next_event(w);
    while (e.data["total"] != 2) e = next_event(w);
  }
  CHECK(m.watchers() == 40);
}

TEST_CASE("the end closes what is open, whatever it is doing") {
  const auto store = std::make_shared<OddStore>();
  std::vector<Wire> wires;
  {
    const Monitor m(store, {.interval = 1ms});
    for (int i = 0; i < 3; ++i) wires.push_back(watch(m));
    wires.emplace_back(m.port());
    wires.back().send("GET / HT");
    store->silent = true;
    wires.emplace_back(m.port());
    wires.back().send(request_text(m.port(), "GET", "/api/invocations"));
  }
  for (auto& w : wires) w.rest();
  store->silent = false;
  const Monitor other(store);  // the store is as it was
  CHECK(get(other, "/api/state")["total"] == 0);
}

TEST_CASE("addresses that cannot be served, or should not, are refused with a reason") {
  const auto store = make_memory_store();
  CHECK_THROWS_WITH_AS(Monitor(store, {.address = "0.0.0.0"}), doctest::Contains("other machines"),
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(Monitor(store, {.address = "::"}), doctest::Contains("other machines"), std::invalid_argument);
  CHECK_THROWS_AS(Monitor(store, {.address = "localhost"}), std::invalid_argument);
  CHECK_THROWS_WITH(Monitor(store, {.assets = "/nonexistent"}), doctest::Contains("/nonexistent"));
  const Monitor m(store);
  CHECK_THROWS_WITH_AS(Monitor(store, {.port = m.port()}), doctest::Contains(std::to_string(m.port()).c_str()),
                       std::system_error);
  const Monitor everywhere(store, {.address = "0.0.0.0", .allow_remote = true});
  CHECK(ask(everywhere.port(), "GET", "/api/info").status == 200);
  CHECK(ask(everywhere.port(), "GET", "/api/info", {{"Host", "192.0.2.7:80"}}).status == 200);
  CHECK(ask(everywhere.port(), "GET", "/api/info", {{"Host", "evil.example"}}).status == 421);
}
