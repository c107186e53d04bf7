// The monitor over a real Redis server that goes and comes.
#include <doctest/doctest.h>

#include <string>

#include <caller/all.hpp>
#include <caller/monitor/monitor.hpp>
#include <caller/task/all.hpp>

#include "client.hpp"
#include "task/redis_server.hpp"

using namespace caller::task;
using namespace std::chrono_literals;
using caller::monitor::Monitor;

TEST_CASE("a Redis server that goes is told of, and one that comes back is shown, without anybody asking") {
  RedisServer server({"--appendonly", "yes", "--appendfsync", "always"});
  const auto store = make_redis_store(server.url(), "watched", 2s);
  NewInvocation n;
  n.id = "a";
  n.task_id = "t";
  n.args = "{}";
  n.queue = "q";
  store->add({n}).wait();
  const Monitor m(store, {.interval = 20ms});
  Wire wire(m.port());
  wire.send(request_text(m.port(), "GET", "/api/events"));
  CHECK(wire.until("\r\n\r\n").find("200") != std::string::npos);
  CHECK(wire.until("\n\n").find("\"REGISTERED\":1") != std::string::npos);
  CHECK(ask(m.port(), "GET", "/api/invocations/a").status == 200);
  server.kill();
  CHECK(wire.until("event: trouble\n") != "");
  CHECK(wire.until("\n\n").find("Redis") != std::string::npos);
  CHECK(ask(m.port(), "GET", "/api/invocations/a").status == 503);
  server.start();
  CHECK(wire.until("event: state\n") != "");
  CHECK(wire.until("\n\n").find("\"REGISTERED\":1") != std::string::npos);
  CHECK(ask(m.port(), "GET", "/api/invocations/a").status == 200);
}
