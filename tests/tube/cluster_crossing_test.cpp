// What crosses from process to process and what does not: exceptions, objects, types, what a program is told.
#include <chrono>
#include <csignal>
#include <exception>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "cluster_support.hpp"

using namespace caller::tube;
using namespace std::chrono_literals;

TEST_CASE("what a constructor or init throws is thrown here, at once and with its type") {
  for (int i = 0; i < 2; ++i) {
    ClusterRunner runner(chain("{type: test.Throws, depends: [n: a.index]}"));
    CHECK_THROWS_WITH_AS(runner.process(), "no such device", std::domain_error);
    CHECK_FALSE(runner.running());
    CHECK_THROWS_AS(runner.init(), std::domain_error);
  }
  ClusterRunner runner(chain("{type: test.ThrowsInInit, depends: [n: a.index]}"));
  CHECK_THROWS_WITH_AS(runner.init(), "cannot be opened", std::runtime_error);
}

TEST_CASE("an exception keeps its type if it is a known one, else its name") {
  const auto cause = [](const char* type) -> std::exception_ptr {
    ClusterRunner runner(chain("{type: " + std::string(type) + ", depends: [x: a.index]}"));
    try {
      (void)runner.process();
    } catch (const NodeError& e) {
      CHECK(e.node() == "b");
      CHECK(contains(e.what(), "x=0"));
      try {
        std::rethrow_if_nested(e);
      } catch (...) {
        return std::current_exception();
      }
    } catch (...) {
      return std::current_exception();
    }
    return nullptr;
  };
  CHECK_THROWS_WITH_AS(std::rethrow_exception(cause("test.throw_own")), "mine", RemoteError);
  try {
    std::rethrow_exception(cause("test.throw_own"));
  } catch (const RemoteError& e) {
    CHECK(contains(e.type(), "OwnError"));
  }
  try {
    std::rethrow_exception(cause("test.throw_system"));
  } catch (const std::system_error& e) {
    CHECK(e.code() == std::errc::no_such_file_or_directory);
    CHECK(std::string(e.what()) == std::system_error(ENOENT, std::generic_category(), "the lens").what());
  }
  CHECK_THROWS_AS(std::rethrow_exception(cause("test.throw_number")), RemoteError);
}

TEST_CASE("what a node's deinit throws becomes a warning here") {
  Warnings warnings;
  ClusterRunner runner(chain("{type: test.ThrowsAtTheEnd, depends: [n: a.index]}"));
  CHECK(runner.run(3).size() == 3);
  REQUIRE(warnings.seen.size() == 1);
  CHECK(contains(warnings.seen.front(), "cannot be closed"));
  CHECK(contains(warnings.seen.front(), "\"b\""));
}

TEST_CASE("objects cross with a codec; without one the tube is refused by node, signal and type") {
  const std::string two = "  a: {type: noob.testing.count_source, params: {limit: 0}}\n";
  ClusterRunner warm(
      from(two + "  b: {type: test.celsius, depends: [n: a.index]}\n"
                 "  c: {type: test.degrees, depends: [c: b.value]}\n  out: {type: return, depends: c.value}\n"));
  (void)warm.process();
  CHECK(warm.process() == Value(0.5));
  const Tube opaque =
      from(two +
           "  b: {type: test.opaque, depends: [n: a.index]}\n"
           "  c: {type: test.number_of, depends: [o: b.value]}\n  out: {type: return, depends: c.value}\n");
  CHECK_THROWS_WITH_AS(ClusterRunner{opaque}, doctest::Contains("\"b.value\""), Error);
  CHECK_THROWS_WITH_AS(ClusterRunner{opaque}, doctest::Contains("Opaque"), Error);
  CHECK_THROWS_WITH_AS(ClusterRunner{opaque}, doctest::Contains("\"c\""), Error);
  // In one process it need not cross, and the store says where it is.
  ClusterRunner grouped(opaque, {.groups = {{.nodes = {"b", "c"}}}});
  (void)grouped.process();
  CHECK(grouped.process() == Value(1));
  CHECK(grouped.store().get("b", "value", Epoch(1))->value.kind() == Kind::object);
  // Where the type is known only at run time, so is the error.
  ClusterRunner late(
      from(two + "  b: {type: test.opaque_any, depends: [n: a.index]}\n"
                 "  c: {type: test.number_of, depends: [o: b.value]}\n  out: {type: return, depends: c.value}\n"));
  for (int i = 0; i < 2; ++i) {
    try {
      (void)late.process();
      FAIL("no error");
    } catch (const NodeError& e) {
      CHECK(e.node() == "b");
      CHECK(contains(e.what(), "\"value\""));
      CHECK(contains(e.what(), "Opaque"));
    }
  }
}

TEST_CASE("a worker that does not know the types, or is no worker, is named") {
  const Tube pids = from("  a: {type: test.pid}\n  out: {type: return, depends: a.value}\n");
  ClusterRunner unknown(pids, {.worker = {CALLER_TUBE_NODE}});
  CHECK_THROWS_WITH_AS(unknown.process(), doctest::Contains("unknown type \"test.pid\""), SpecError);
  CHECK_THROWS_WITH_AS(unknown.process(), doctest::Contains("cluster_main"), SpecError);
  ClusterRunner missing(pids, {.worker = {"/no/such/program"}});
  CHECK_THROWS_WITH_AS(missing.process(), doctest::Contains("/no/such/program"), std::system_error);
  ClusterRunner other(pids, {.worker = {"/bin/false"}});
  CHECK_THROWS_WITH_AS(other.process(), doctest::Contains("exit code 1"), ProcessError);
  ClusterRunner silent(pids, {.worker = {"/bin/sh", "-c", "exec sleep 60"}, .start_timeout = 300ms});
  CHECK_THROWS_WITH_AS(silent.process(), doctest::Contains("no answer within 300 ms"), ProcessError);
}

TEST_CASE("a process is told what its nodes need; others know what those look like") {
  register_told("told.half told.degrees told.Store told.add");  // here, but not in programs that are started
  ClusterOptions options{.worker = {CALLER_TUBE_NODE}};
  std::vector<std::vector<std::string>> asked;
  options.program = [&](const std::vector<std::string>& nodes) -> ClusterProgram {
    asked.push_back(nodes);
    if (nodes.front() == "b") return {{"/proc/self/exe"}, "told.half"};
    if (nodes.front() == "d") return {{"/proc/self/exe"}, "told.degrees"};
    if (nodes.front() == "e") return {{"/proc/self/exe"}, "told.Store told.add"};
    return {};
  };
  const Tube tube = Tube::from_any(
      "noob_id: told\nassets:\n  store: {type: told.Store, scope: runner}\nnodes:\n"
      "  a: {type: noob.testing.count_source, params: {limit: 0}}\n"
      "  b: {type: told.half, depends: [n: a.index]}\n"
      // Not of its process: it hands on what it has no codec for.
      "  c: {type: noob.testing.passthrough, depends: [value: b.value]}\n"
      "  d: {type: told.degrees, depends: [c: c.value]}\n"
      "  e: {type: told.add, depends: [{n: a.index}, {store: assets.store}]}\n"
      "  out: {type: return, depends: [d.value, e.value]}\n");
  {
    ClusterRunner runner(tube, options);
    const std::vector<Result> results = runner.run(4);
    REQUIRE(results.size() == 4);
    CHECK(results[3] == Value(List{1.5, 6}));
    CHECK(asked == std::vector<std::vector<std::string>>{{"a"}, {"b"}, {"c"}, {"d"}, {"e"}});
    // Who takes the place of another is told the same.
    ::kill(pid_of(runner, "b"), SIGKILL);
    CHECK_THROWS_AS((void)runner.run(4), ProcessError);
    CHECK(runner.run(4).size() == 4);
    CHECK(asked.size() == 5);
  }
  // What looks like a type is none.
  options.program = [](const std::vector<std::string>&) { return ClusterProgram{}; };
  ClusterRunner unknown(tube, options);
  CHECK_THROWS_WITH_AS(unknown.init(), doctest::Contains("unknown type \"told."), SpecError);
  options.program = [](const std::vector<std::string>&) { return ClusterProgram{{"/proc/self/exe"}, "fail"}; };
  ClusterRunner unready(tube, options);
  CHECK_THROWS_WITH_AS(unready.init(), "nothing is ready", std::length_error);
}

TEST_CASE("what a program knows of an exception comes with it, inside of its cause") {
  register_told("told.fails told.guarded");
  for (const std::string type : {"told.fails", "told.guarded"}) {
    ClusterRunner runner(from("  a: {type: noob.testing.count_source, params: {limit: 0}}\n  b: {type: " + type +
                              ", depends: [n: a.index]}\n  out: {type: return, depends: b.value}\n"),
                         {.program = [&](const std::vector<std::string>&) { return ClusterProgram{{}, type}; }});
    try {
      (void)runner.process();
      FAIL("no error");
    } catch (const NodeError& e) {
      CHECK(e.node() == "b");
      try {
        std::rethrow_if_nested(e);
      } catch (const std::exception& cause) {
        if (type == "told.fails") {
          CHECK(dynamic_cast<const std::out_of_range*>(&cause));
          CHECK(std::string(cause.what()) == "no 0");
        } else {
          const auto* remote = dynamic_cast<const RemoteError*>(&cause);
          REQUIRE(remote);
          CHECK(remote->type() == "Number");
          CHECK(std::string(remote->what()) == "the number 0");
        }
        CHECK_THROWS_AS(std::rethrow_if_nested(cause), RemoteTrace);
        try {
          std::rethrow_if_nested(cause);
        } catch (const RemoteTrace& trace) {
          CHECK(trace.lines() == std::vector<std::string>{"outer", "inner of " + type});
          CHECK(std::string(trace.what()) == "inner of " + type);
        }
      }
    }
  }
}
