// What the monitor's tests ask, and the invocations that it shows.
#pragma once

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include <caller/monitor/monitor.hpp>
#include <caller/task/all.hpp>

#include "client.hpp"

namespace monitor_tests {

using namespace caller::task;
using caller::monitor::Monitor;
using caller::monitor::MonitorOptions;
using nlohmann::json;

inline NewInvocation call(std::string id, std::string task = "t", std::string args = "{}", std::string parent = {}) {
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
inline void succeed(Store& store, const std::string& id, const std::string& result = "1",
                    const std::string& runner = "r1") {
  const auto taken = store.take(runner, 1, {}).wait();
  REQUIRE(taken.size() == 1);
  REQUIRE(taken[0].id == id);
  store.change({id, Status::running, runner, {}, {}, {}, {}, {}}).wait();
  store.change({id, Status::success, runner, result, {}, {}, {}, {}}).wait();
}

inline MonitorOptions writing() {
  MonitorOptions o;
  o.allow_write = true;
  return o;
}

inline json get(const Monitor& m, const std::string& target) {
  const Answer a = ask(m.port(), "GET", target);
  CHECK_MESSAGE(a.status == 200, target, " gives ", a.status, " ", a.body);
  CHECK(a.headers.at("Content-Type") == "application/json");
  return json::parse(a.body);
}
inline Answer post(const Monitor& m, const std::string& target, const std::string& body = "{}", Headers more = {}) {
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
inline Event next_event(Wire& wire) {
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
inline Wire watch(const Monitor& m) {
  Wire wire(m.port());
  wire.send(request_text(m.port(), "GET", "/api/events"));
  const Answer head = wire.answer();
  CHECK(head.status == 200);
  CHECK(head.headers.at("Content-Type") == "text/event-stream");
  return wire;
}

}  // namespace monitor_tests
