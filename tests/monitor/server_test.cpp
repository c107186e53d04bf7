// Whom the monitor serves, and how: files, connections, requests that are none.
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

#include "bench.hpp"
#include "client.hpp"
#include "odd_store.hpp"

using namespace caller::task;
using namespace monitor_tests;
using namespace std::chrono_literals;
using namespace std::string_literals;
using caller::monitor::Monitor;
using nlohmann::json;

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
