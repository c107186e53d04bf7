// CallerOptions::log, set_log_handler
#include "support/coro.hpp"

#include <algorithm>
#include <thread>

using namespace caller;
using namespace caller::test;

namespace {

/// Collects what is logged, as "level: text".
class Log {
public:
  LogHandler handler() {
    return [this](LogLevel level, std::string_view text) {
      std::string line = std::string(to_string(level)) + ": " + std::string(text);
      std::lock_guard lock(mutex_);
      for (auto& [part, found] : awaited_)
        if (line.find(part) != std::string::npos) found.set_result();
      lines_.push_back(std::move(line));
    };
  }
  /// Done once a line with `part` in it is logged.
  Pending<> line_with(std::string part) {
    std::lock_guard lock(mutex_);
    return awaited_.emplace_back(std::move(part), Pending<>()).second;
  }
  std::vector<std::string> lines() const {
    std::lock_guard lock(mutex_);
    return lines_;
  }
  bool has(const std::string& line) const {
    const auto all = lines();
    return std::find(all.begin(), all.end(), line) != all.end();
  }
  std::size_t count(const std::string& start) const {
    const auto all = lines();
    return std::count_if(all.begin(), all.end(), [&](const std::string& l) { return l.starts_with(start); });
  }

private:
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
  std::vector<std::pair<std::string, Pending<>>> awaited_;
};

}  // namespace

TEST_CASE("the log tells of a Caller's life") {
  Log log;
  ManualLoop loop({.name = "a", .log = log.handler()});
  loop.settle();
  loop.caller.stop();
  CHECK(log.lines() == std::vector<std::string>{"debug: Caller \"a\": started", "debug: Caller \"a\": stopping",
                                                "debug: Caller \"a\": stopped"});
}

TEST_CASE("the log tells of a stop that was ignored") {
  Log log;
  ManualLoop loop({.name = "a", .protect = true, .log = log.handler()});
  loop.caller.stop();
  CHECK(log.lines() == std::vector<std::string>{"debug: Caller \"a\": stop was ignored: it is protected"});
}

TEST_CASE("the log warns of coroutines that were abandoned, and only then") {
  for (const bool suspended : {false, true}) {
    Log log;
    {
      ManualLoop loop({.name = "a", .log = log.handler()});
      if (suspended) loop.caller.call_soon([]() -> Coro<void> { co_await sleep_for(1h); });
      loop.settle();
    }
    CHECK(log.count("warning:") == (suspended ? 1 : 0));
    CHECK(log.count("debug: Caller \"a\": abandoned") == (suspended ? 0 : 1));
  }
}

TEST_CASE("children and workers write to their parent's log, and to their own if they have one") {
  Log log, own;
  {
    Caller c(new_thread, {.name = "p", .max_idle_workers = 0, .log = log.handler()});
    auto retired = log.line_with("retired: enough others are idle");
    c.get({.name = "first"});
    c.get({.name = "second", .log = own.handler()}).call_soon([] {}).wait();
    c.to_thread([] {}).wait();
    retired.wait();
  }
  CHECK(log.has("debug: Caller \"p\": new child: first"));
  CHECK(log.has("debug: Caller \"first\": stopped"));
  CHECK(log.has("debug: Caller \"p\": new child: second"));
  CHECK(log.has("debug: Caller \"p\": new worker: p-worker-1"));
  CHECK(log.has("debug: Caller \"p-worker-1\": started"));
  CHECK(log.has("debug: Caller \"p-worker-1\": stopped"));
  CHECK(own.has("debug: Caller \"second\": stopped"));
  CHECK(log.count("debug: Caller \"second\"") == 0);
}

TEST_CASE("errors nobody can observe are logged as errors, cancellations never") {
  Log log;
  ManualLoop loop({.name = "a", .log = log.handler()});
  loop.caller.call_direct([] { throw std::runtime_error("direct"); });
  loop.caller.queue_call("lane", [] { throw std::runtime_error("item"); });
  loop.caller.queue_call("lane", [] { throw PendingCancelled("on purpose"); });
  loop.caller.call_soon([] { throw std::runtime_error("dropped"); });
  loop.caller.call_later(1h, [] {}).cancel();
  auto sleeper = loop.caller.call_soon([]() -> Coro<void> { co_await sleep_for(1h); });
  loop.settle();
  sleeper.cancel();
  loop.settle();
  CHECK(log.has("error: Caller \"a\": call_direct: direct"));
  CHECK(log.has("error: Caller \"a\": queue_call: item"));
  CHECK(log.has("error: Caller \"a\": a Pending nobody looked at: dropped"));
  CHECK(log.count("error:") == 3);
  CHECK(log.count("warning:") == 0);
  CHECK(log.count("debug: Caller \"a\": queue_call: on purpose") == 1);
  CHECK(loop.reports.size() == 4);  // the error handler is told as well
  loop.caller.queue_close("lane");
  CHECK(log.has("debug: Caller \"a\": a lane was opened"));
  CHECK(log.has("debug: Caller \"a\": a lane was closed"));
}

TEST_CASE("the log tells of start-stop tasks") {
  Log log;
  ManualLoop loop({.name = "a", .log = log.handler()});
  auto task = loop.caller.create_start_stop_task([](StartSignal started, Pending<>) {
    started();
    started();
  });
  task.start();
  loop.settle();
  CHECK(log.count("debug: Caller \"a\": a start-stop task has started") == 1);
  CHECK(log.count("debug: Caller \"a\": a start-stop task has ended") == 1);
}

TEST_CASE("the process's log serves Callers that have none, until it is taken away") {
  Log process, own;
  set_log_handler(process.handler());
  {
    ManualLoop loop({.name = "without"});
    loop.settle();
  }
  {
    ManualLoop loop({.name = "with", .log = own.handler()});
    loop.settle();
  }
  set_log_handler({});
  {
    ManualLoop loop({.name = "later"});
    loop.settle();
  }
  CHECK(process.has("debug: Caller \"without\": started"));
  CHECK(process.count("debug: Caller \"with\"") == 0);
  CHECK(own.has("debug: Caller \"with\": started"));
  CHECK(process.count("debug: Caller \"later\"") == 0);
}

TEST_CASE("a log that throws, or uses its Caller, does no harm") {
  std::optional<Caller> inside;
  int lines = 0;
  ManualLoop loop({.name = "a", .log = [&](LogLevel, std::string_view) {
                     ++lines;
                     if (inside) (void)inside->children();
                     throw std::runtime_error("the disk is full");
                   }});
  inside = loop.caller;
  auto p = loop.caller.call_soon([] { return 1; });
  loop.settle();
  CHECK(p.result() == 1);
  CHECK(lines > 0);
  inside.reset();
}
