// Every runner gives the same results: one table of tubes, no expectations of a runner's own.
#include <algorithm>
#include <atomic>
#include <barrier>
#include <ostream>

#include <caller/caller.hpp>

#include "cases.hpp"
#include "support.hpp"

using namespace caller::tube;

TEST_CASE_TEMPLATE_DEFINE("every tube of the table gives its results, call by call", Runner, results_id) {
  for (const tube_cases::Case& c : tube_cases::cases()) {
    CAPTURE(c.id);
    Runner runner(Tube::from_any(c.id, c.inputs));
    for (std::size_t i = 0; i < c.results.size(); ++i) {
      CAPTURE(i);
      const Result result = runner.process(c.process_inputs ? c.process_inputs(static_cast<int>(i)) : Map{});
      CHECK(result.repr(1000) == c.results[i]);
    }
    runner.deinit();
    CHECK_FALSE(runner.running());
  }
}

TEST_CASE_TEMPLATE_DEFINE("run gives the results there are, iter one result after the other", Runner, iteration_id) {
  for (const tube_cases::Case& c : tube_cases::cases()) {
    if (c.process_inputs) continue;
    CAPTURE(c.id);
    std::vector<std::string> expected;
    for (const std::string& r : c.results)
      if (r != "nothing") expected.push_back(r);
    {
      Runner runner(Tube::from_any(c.id, c.inputs));
      std::vector<std::string> found;
      for (const Result& r : runner.run(c.results.size())) found.push_back(r.repr(1000));
      CHECK(found == expected);
      CHECK_FALSE(runner.running());
    }
    if (expected.empty()) continue;
    Runner runner(Tube::from_any(c.id, c.inputs));
    std::vector<std::string> found;
    for (const Result& r : runner.iter(expected.size())) found.push_back(r.repr(1000));
    CHECK(found == expected);
    CHECK_FALSE(runner.running());
  }
}

TEST_CASE_TEMPLATE_DEFINE("the end of a source ends run and iter, and process says so", Runner, end_id) {
  Runner runner(tube("testing-short-source"));
  CHECK(runner.run(10).size() == 3);
  CHECK(runner.exhausted());
  CHECK_THROWS_AS(runner.process(), EndOfStream);
  Runner again(tube("testing-short-source"));
  std::size_t n = 0;
  for ([[maybe_unused]] const Result& r : again.iter()) ++n;
  CHECK(n == 3);
  Runner endless(tube("testing-short-source"));
  endless.run();
  CHECK(endless.exhausted());
}

TEST_CASE_TEMPLATE_DEFINE("a node that throws is named with its epoch and inputs, and the runner goes on", Runner,
                          error_id) {
  for (const char* id : {"testing-error", "testing-async-error"}) {
    CAPTURE(id);
    Runner runner(tube(id));
    for (int i = 0; i < 3; ++i) {
      try {
        (void)runner.process();
        FAIL("no error");
      } catch (const NodeError& e) {
        CHECK(e.node() == "b");
        CHECK(e.epoch() == std::to_string(i));
        CHECK(contains(e.what(), "value=" + std::to_string(i)));
        CHECK(contains(e.what(), e.cause()));
        CHECK_THROWS_AS(std::rethrow_if_nested(e), std::invalid_argument);
      }
      CHECK(runner.running());
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("nodes are disabled and enabled while the runner runs; epochs go on counting", Runner,
                          disable_id) {
  Runner runner(tube("testing-basic"));
  CHECK(runner.process() == Value(0));
  runner.disable_node("b");
  CHECK_FALSE(runner.process().has_value());
  CHECK_FALSE(runner.process().has_value());
  runner.enable_node("b");
  CHECK(runner.process() == Value(6));
  runner.disable_node("c");
  CHECK_FALSE(runner.process().has_value());
  runner.enable_node("c");
  CHECK(runner.process() == Value(10));
  CHECK(runner.next_epoch() == 6);
  CHECK_THROWS_WITH_AS(runner.disable_node("bb"), doctest::Contains("did you mean"), Error);
}

TEST_CASE_TEMPLATE_DEFINE("missing inputs stop a call before any node runs, undeclared ones are dropped with a warning",
                          Runner, inputs_id) {
  Runner runner(Tube::from_any("testing-inputs", {{"start", 0}, {"multiply_tube", 1}}));
  Warnings warnings;
  CHECK_THROWS_AS(runner.process(), InputMissingError);
  CHECK_THROWS_AS(runner.process({{"irrelevant", 1}}), InputMissingError);
  CHECK(warnings.seen.size() == 1);
  CHECK_THROWS_AS(runner.process({{"multiply_process", "text"}}), Error);
  CHECK(runner.process({{"multiply_process", 10}}) == Value(0));
  CHECK(runner.process({{"multiply_process", 10}}) == Value(10));
  CHECK_THROWS_AS(runner.run(3), InputMissingError);
  CHECK_THROWS_AS(runner.run(), InputMissingError);
}

TEST_CASE_TEMPLATE_DEFINE("callbacks get every event and the ends of epochs", Runner, callbacks_id) {
  Runner runner(tube("testing-basic"));
  std::vector<std::string> seen;
  const std::size_t number = runner.add_callback([&](const Notice& notice) {
    if (const Event* e = std::get_if<Event>(&notice))
      seen.push_back(e->node_id + "." + e->signal + "@" + e->epoch.str() + "=" + e->value.repr());
    else
      seen.push_back(std::get<MetaEvent>(notice).type == MetaEvent::Type::epoch_ended
                         ? "end"
                         : "ready " + std::get<MetaEvent>(notice).node_id);
  });
  (void)runner.process();
  CHECK(seen == std::vector<std::string>{"ready a", "a.index@0=0", "ready b", "b.value@0=0", "end"});
  runner.remove_callback(number);
  (void)runner.process();
  CHECK(seen.size() == 5);
}

TEST_CASE_TEMPLATE_DEFINE("an error below a map names the item, in what is thrown and to callbacks", Runner,
                          item_error_id) {
  Runner runner(
      Tube::from_any("noob_id: item-error\nnodes:\n"
                     "  word: {type: noob.testing.word_source}\n"
                     "  letters: {type: map, depends: [{value: word.word}]}\n"
                     "  x: {type: noob.testing.multiply, depends: [{left: letters.value}, {right: letters.value}]}\n"
                     "  out: {type: return, depends: [{x: x.value}]}\n"));
  std::vector<std::string> seen;
  runner.add_callback([&](const Notice& notice) {
    const MetaEvent* e = std::get_if<MetaEvent>(&notice);
    if (e && e->type == MetaEvent::Type::error) seen.push_back(e->node_id + "@" + e->epoch.str());
  });
  for (int i = 0; i < 2; ++i) {
    try {
      (void)runner.process();
      FAIL("no error");
    } catch (const NodeError& e) {
      CHECK(e.node() == "x");
      CHECK(e.epoch().starts_with(std::to_string(i) + "/letters."));
      // Items may fail at the same time; one is thrown, and all are told.
      CHECK(std::find(seen.begin(), seen.end(), "x@" + e.epoch()) != seen.end());
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("the store holds the events of the last epoch, items of maps in theirs", Runner, store_id) {
  Runner runner(tube("testing-map-gather"));
  (void)runner.process();
  (void)runner.process();
  const EventStore store = runner.store();
  const Epoch epoch(1);
  CHECK(store.get("word", "word", epoch)->value == Value("birch"));
  CHECK(store.get("loud", "value", epoch) == nullptr);
  CHECK(store.get("loud", "value", epoch / EpochSegment{"letters", 2})->value == Value("r!"));
  CHECK(store.get("word", "word", epoch / EpochSegment{"letters", 2})->value == Value("birch"));
  CHECK(store.collect("loud", "value", epoch).size() == 5);
  CHECK(store.get("all", "value", epoch)->value.size() == 5);
  CHECK(store.get("joined", "value", epoch)->value == Value("b!i!r!c!h!"));
  const auto age = std::chrono::system_clock::now() - store.get("joined", "value", epoch)->timestamp;
  CHECK(age < std::chrono::minutes(1));
  CHECK(age > std::chrono::seconds(-1));
}

TEST_CASE_TEMPLATE_DEFINE("iter gives up after max_iter_loops calls without a result", Runner, loops_id) {
  Runner runner(tube("testing-gather-n"));
  runner.max_iter_loops = 4;
  auto results = runner.iter(1);
  CHECK_THROWS_WITH_AS(results.next(), doctest::Contains("max_iter_loops"), Error);
  // Without a return node there is nothing to wait for.
  Runner without(Tube::from_any("noob_id: without\nnodes:\n  a: {type: noob.testing.count_source}\n"));
  without.max_iter_loops = 1;
  std::size_t n = 0;
  for ([[maybe_unused]] const Result& r : without.iter(5)) ++n;
  CHECK(n == 5);
}

TEST_CASE_TEMPLATE_DEFINE("an iteration that is left early closes the runner", Runner, leave_id) {
  Runner runner(tube("testing-basic"));
  {
    auto results = runner.iter();
    CHECK(*results.next() == Value(0));
    CHECK(runner.running());
  }
  CHECK_FALSE(runner.running());
  CHECK(runner.process() == Value(2));  // nodes live as long as the runner
}

TEST_CASE_TEMPLATE_DEFINE("a node that cannot be made stops every call, not only the first", Runner, made_id) {
  Runner runner(
      Tube::from_any("noob_id: empty-cycle\nnodes:\n"
                     "  a: {type: noob.testing.cycle, params: {start: 1, stop: 1}}\n"
                     "  b: {type: noob.testing.error_at_start, depends: [value: a.value]}\n"
                     "  out: {type: return, depends: a.value}\n"));
  Warnings warnings;
  for (int i = 0; i < 2; ++i) {
    CHECK_THROWS_AS(runner.init(), std::domain_error);
    CHECK_FALSE(runner.running());
    CHECK_THROWS_AS(runner.process(), std::domain_error);
  }
  REQUIRE(warnings.seen.size() == 4);
  CHECK(warnings.seen[0] == "the node \"b\" (noob.testing.error_at_start) of the tube empty-cycle cannot be made");
}

namespace {

/// Notes each step of process() that a derived class may replace, and can leave a node out.
template <class Runner>
class Observed : public Runner {
public:
  using Runner::Runner;
  std::vector<std::string> steps;
  std::string left_out;

protected:
  Map validate_input(const Map& inputs) override { return note("validate_input"), Runner::validate_input(inputs); }
  void before_process() override { note("before_process"), Runner::before_process(); }
  bool filter_ready(Firing& f) override {
    return note("filter_ready", f), f.node_id() != left_out && Runner::filter_ready(f);
  }
  Node& get_node(Firing& f) override { return note("get_node", f), Runner::get_node(f); }
  void collect_input(Firing& f) override { note("collect_input", f), Runner::collect_input(f); }
  void before_call_node(Firing& f) override { note("before_call_node", f), Runner::before_call_node(f); }
  void call_node(Firing& f) override { note("call_node", f), Runner::call_node(f); }
  void after_call_node(Firing& f) override { note("after_call_node", f), Runner::after_call_node(f); }
  void handle_events(Firing& f) override { note("handle_events", f), Runner::handle_events(f); }
  void after_process() override { note("after_process"), Runner::after_process(); }
  Result collect_return() override { return note("collect_return"), Runner::collect_return(); }

private:
  void note(const char* step) {
    const std::lock_guard lock(mutex_);
    steps.emplace_back(step);
  }
  void note(const char* step, Firing& f) {
    const std::lock_guard lock(mutex_);
    steps.push_back(f.node_id() + "." + step);
  }
  std::mutex mutex_;
};

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("the steps of process() can be replaced, and come in their order", Runner, hooks_id) {
  Observed<Runner> runner(tube("testing-basic"));
  CHECK(runner.process() == Value(0));
  std::vector<std::string> expected{"validate_input", "before_process"};
  for (const char* node : {"a", "b"})  // "c" is the return
    for (const char* step : {"filter_ready", "get_node", "collect_input", "before_call_node", "call_node",
                             "after_call_node", "handle_events"})
      expected.push_back(std::string(node) + "." + step);
  expected.insert(expected.end(), {"after_process", "collect_return"});
  CHECK(runner.steps == expected);
  runner.left_out = "b";
  CHECK_FALSE(runner.process().has_value());
}

#define CALLER_TUBE_CONTRACT(Runner)                \
  TEST_CASE_TEMPLATE_INVOKE(results_id, Runner);    \
  TEST_CASE_TEMPLATE_INVOKE(iteration_id, Runner);  \
  TEST_CASE_TEMPLATE_INVOKE(end_id, Runner);        \
  TEST_CASE_TEMPLATE_INVOKE(error_id, Runner);      \
  TEST_CASE_TEMPLATE_INVOKE(disable_id, Runner);    \
  TEST_CASE_TEMPLATE_INVOKE(inputs_id, Runner);     \
  TEST_CASE_TEMPLATE_INVOKE(callbacks_id, Runner);  \
  TEST_CASE_TEMPLATE_INVOKE(item_error_id, Runner); \
  TEST_CASE_TEMPLATE_INVOKE(store_id, Runner);      \
  TEST_CASE_TEMPLATE_INVOKE(loops_id, Runner);      \
  TEST_CASE_TEMPLATE_INVOKE(made_id, Runner);       \
  TEST_CASE_TEMPLATE_INVOKE(leave_id, Runner)

CALLER_TUBE_CONTRACT(SynchronousRunner);
CALLER_TUBE_CONTRACT(AsyncRunner);
CALLER_TUBE_CONTRACT(ThreadRunner);
// In a cluster the nodes' steps are elsewhere.
TEST_CASE_TEMPLATE_INVOKE(hooks_id, SynchronousRunner);
TEST_CASE_TEMPLATE_INVOKE(hooks_id, AsyncRunner);
TEST_CASE_TEMPLATE_INVOKE(hooks_id, ThreadRunner);
#ifdef CALLER_TUBE_CLUSTER
CALLER_TUBE_CONTRACT(ClusterRunner);
#endif

TEST_CASE("a cancelled epoch of an AsyncRunner ends when the nodes on workers have ended") {
  static std::atomic<bool> started{false}, let_go{false}, finished{false};
  registry().add("test.slow_plain", [] {
    started = true;
    started.notify_all();
    let_go.wait(false);
    finished = true;
    return 1;
  });
  AsyncRunner runner(Tube::from_any("noob_id: slow-plain\nnodes:\n  s: {type: test.slow_plain}\n"));
  caller::Caller host(caller::new_thread, {.name = "host of a tube"});
  caller::Pending<Result> epoch = host.call_soon([&] { return runner.process_async(); });
  started.wait(false);
  epoch.cancel();
  // Whatever the cancellation makes the loop do at once is done before these.
  for (int turn = 0; turn < 10; ++turn) host.call_soon([] {}).wait();
  CHECK_FALSE(epoch.done());
  let_go = true;
  let_go.notify_all();
  epoch.wait_done();
  CHECK(epoch.cancelled());
  CHECK(finished);
  host.stop();
}

TEST_CASE("nodes of a ThreadRunner that wait for each other run at the same time, though one worker made both ready") {
  static std::barrier<> meeting(2);
  registry().add("test.meet",
                 [](std::int64_t n) {
                   meeting.arrive_and_wait();
                   return n;
                 },
                 {"n"});
  ThreadRunner runner(Tube::from_any("noob_id: meet\nnodes:\n"
                                     "  a: {type: noob.testing.count_source, params: {limit: 0}}\n"
                                     "  left: {type: test.meet, depends: [{n: a.index}]}\n"
                                     "  right: {type: test.meet, depends: [{n: a.index}]}\n"
                                     "  out: {type: return, depends: [left.value, right.value]}\n"),
                      {.threads = 2});
  // One epoch at a time, where only its own two can meet; then many at once.
  std::int64_t n = 0;
  for (; n < 50; ++n) CHECK(runner.process() == Value(List{n, n}));
  runner.deinit();
  for (const Result& r : runner.run(500)) {
    CHECK(r == Value(List{n, n}));
    ++n;
  }
  CHECK(n == 550);
}
