// Tubes: process() of the graphs whose rates the counterpart has been measured at, firings beside oneTBB's flow graph,
// loading, and graphs that are large.
#if CALLER_BENCH_TBB
#include <oneapi/tbb/flow_graph.h>
#include <oneapi/tbb/global_control.h>
#endif
#if CALLER_BENCH_TASKFLOW
#include <taskflow/taskflow.hpp>
#endif

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>

#include <caller/tube/all.hpp>

#include "support.hpp"

namespace bench {
namespace {

using namespace caller::tube;

const char* const kBasic = R"(noob_id: bench-basic
nodes:
  a: {type: noob.testing.count_source, params: {limit: 0}}
  b: {type: noob.testing.multiply, depends: [{left: a.index}]}
  c: {type: return, depends: b.value}
)";

const char* const kBranch = R"(noob_id: bench-branch
nodes:
  numbers: {type: noob.testing.count_source, params: {limit: 0}}
  twice: {type: noob.testing.multiply, depends: [{left: numbers.index}]}
  fifth: {type: noob.testing.divide, depends: [{numerator: numbers.index}]}
  out: {type: return, depends: [{multiply: twice.value}, {divide: fifth.ratio}]}
)";

const char* const kMerge = R"(noob_id: bench-merge
nodes:
  low: {type: noob.testing.count_source, params: {limit: 0}}
  high: {type: noob.testing.count_source, params: {start: 5, limit: 0}}
  twice: {type: noob.testing.multiply, depends: [{left: low.index}]}
  ratio: {type: noob.testing.divide, depends: [{numerator: twice.value}, {denominator: high.index}]}
  out: {type: return, depends: ratio.ratio}
)";

const char* const kGatherN = R"(noob_id: bench-gather-n
nodes:
  letters: {type: noob.testing.letter_source}
  five: {type: gather, params: {n: 5}, depends: [{value: letters.letter}]}
  word: {type: noob.testing.concat, depends: [five.value]}
  out: {type: return, depends: [{word: word.value}]}
)";

const char* const kKitchenSink = R"(noob_id: bench-kitchen-sink
nodes:
  count: {type: noob.testing.count_source, params: {limit: 0}}
  count_higher: {type: noob.testing.count_source, params: {start: 5, limit: 0}}
  word: {type: noob.testing.sporadic_word}
  letter: {type: noob.testing.letter_source}
  multiply: {type: noob.testing.multiply, depends: [{left: count.index}]}
  divide: {type: noob.testing.divide, depends: [{numerator: count.index}, {denominator: count_higher.index}]}
  gather_n: {type: gather, params: {n: 5}, depends: [{value: letter.letter}]}
  out: {type: return, depends: [{multiply: multiply.value}, {divide: divide.ratio}, {gather_n: gather_n.value}]}
)";

const char* const kMapBasic = R"(noob_id: bench-map-basic
nodes:
  words: {type: noob.testing.word_source}
  letters: {type: map, depends: [{value: words.word}]}
  loud: {type: noob.testing.exclaim, depends: [{string: letters.value}]}
  out: {type: return, depends: [{word: words.word}, {letter: loud.value}]}
)";

const char* const kMapGather = R"(noob_id: bench-map-gather
nodes:
  word: {type: noob.testing.word_source}
  letters: {type: map, depends: [{value: word.word}]}
  loud: {type: noob.testing.exclaim, depends: [{string: letters.value}]}
  all: {type: gather, depends: [{value: loud.value}, {n: letters.n}]}
  joined: {type: noob.testing.concat, depends: [{strings: all.value}]}
  out: {type: return, depends: [{word: word.word}, {letter: loud.value}, {reconstructed: joined.value}]}
)";

// ---- process() ----

void process(benchmark::State& state, const char* specification) {
  SynchronousRunner runner(Tube::from_any(specification));
  runner.init();
  for (auto _ : state)
    for (int i = 0; i < kBatch; ++i) benchmark::DoNotOptimize(runner.process());
  operations(state, kBatch);
}

void caller_tube_basic(benchmark::State& state) { process(state, kBasic); }
void caller_tube_branch(benchmark::State& state) { process(state, kBranch); }
void caller_tube_merge(benchmark::State& state) { process(state, kMerge); }
void caller_tube_gather_n(benchmark::State& state) { process(state, kGatherN); }
void caller_tube_kitchen_sink(benchmark::State& state) { process(state, kKitchenSink); }
void caller_tube_map_basic(benchmark::State& state) { process(state, kMapBasic); }
void caller_tube_map_gather(benchmark::State& state) { process(state, kMapGather); }
BENCH_ROW(caller, tube_basic);
BENCH_ROW(caller, tube_branch);
BENCH_ROW(caller, tube_merge);
BENCH_ROW(caller, tube_gather_n);
BENCH_ROW(caller, tube_kitchen_sink);
BENCH_ROW(caller, tube_map_basic);
BENCH_ROW(caller, tube_map_gather);

caller::Coro<void> process_many(AsyncRunner& runner, int n) {
  for (int i = 0; i < n; ++i) benchmark::DoNotOptimize(co_await runner.process_async());
}

void caller_tube_async(benchmark::State& state) {
  caller::Caller loop(caller::manual, {.name = "bench"});
  AsyncRunner runner(Tube::from_any(kBasic));
  runner.init();
  for (auto _ : state) loop.run_until(loop.call_soon([&] { return process_many(runner, kBatch); }));
  operations(state, kBatch);
}
BENCH_ROW(caller, tube_async);

// ---- firings ----

int add_one(int n) { return n + 1; }
int add_two(int a, int b) { return a + b; }

/// The node types of this file.
void register_types() {
  [[maybe_unused]] static const bool once = [] {
    registry().add("bench.add_one", &add_one, {"n"});
    registry().add("bench.add_two", &add_two, {"a", "b"});
    registry().add("bench.add_five", [](int a, int b, int c, int d, int e) { return (a + b + c + d + e) & 0xffff; },
                   {"a", "b", "c", "d", "e"});
    registry().add("bench.ten_microseconds",
                   [](int n) {
                     const auto until = Clock::now() + std::chrono::microseconds(10);
                     while (Clock::now() < until) pause();
                     return n;
                   },
                   {"n"});
    return true;
  }();
}

std::string node(const std::string& id, const std::string& type, const std::string& depends) {
  return "  " + id + ": {type: bench." + type + ", depends: [" + depends + "]}\n";
}

std::string source() {
  register_types();
  return "noob_id: bench-firings\nnodes:\n  n0: {type: noob.testing.count_source, params: {limit: 0}}\n";
}

constexpr int kLength = 10;

std::string chain() {
  std::string text = source();
  for (int i = 1; i <= kLength; ++i) {
    const std::string before = "n" + std::to_string(i - 1);
    text += node("n" + std::to_string(i), "add_one", "{n: " + before + (i == 1 ? ".index}" : ".value}"));
  }
  return text;
}
std::string diamond() {
  return source() + node("top", "add_one", "{n: n0.index}") + node("left", "add_one", "{n: top.value}") +
         node("right", "add_one", "{n: top.value}") + node("bottom", "add_two", "{a: left.value}, {b: right.value}");
}
std::string fan() {
  std::string text = source();
  for (int i = 1; i <= kLength; ++i) text += node("n" + std::to_string(i), "add_one", "{n: n0.index}");
  return text;
}

/// `firings` of an epoch: the source's is one of them.
void firings(benchmark::State& state, const std::string& specification, int firings) {
  SynchronousRunner runner(Tube::from_any(specification));
  runner.init();
  for (auto _ : state)
    for (int i = 0; i < kBatch; ++i) benchmark::DoNotOptimize(runner.process());
  operations(state, std::int64_t{kBatch} * firings);
}
void caller_tube_chain(benchmark::State& state) { firings(state, chain(), kLength + 1); }
void caller_tube_diamond(benchmark::State& state) { firings(state, diamond(), 5); }
void caller_tube_fan(benchmark::State& state) { firings(state, fan(), kLength + 1); }
BENCH_ROW(caller, tube_chain);
BENCH_ROW(caller, tube_diamond);
BENCH_ROW(caller, tube_fan);

/// Ten microseconds of work in each of four nodes, which could run at the same time.
constexpr int kWide = 4;
constexpr int kEpochs = 500;

std::string wide() {
  std::string text = source();
  for (int i = 1; i <= kWide; ++i) text += node("n" + std::to_string(i), "ten_microseconds", "{n: n0.index}");
  text += node("a", "add_two", "{a: n1.value}, {b: n2.value}") + node("b", "add_two", "{a: n3.value}, {b: n4.value}") +
          node("c", "add_two", "{a: a.value}, {b: b.value}");
  return text + "  out: {type: return, depends: c.value}\n";
}

void caller_tube_threads(benchmark::State& state) {
  ThreadRunner runner(Tube::from_any(wide()));
  runner.init();
  Median median(state, kEpochs * kWide);
  for (auto _ : state) median.time([&] { benchmark::DoNotOptimize(runner.run(kEpochs)); });
}
BENCHMARK(caller_tube_threads)->Name("caller/tube_threads")->UseManualTime();

#if CALLER_BENCH_TBB
namespace flow = oneapi::tbb::flow;

struct OneThread {
  oneapi::tbb::global_control limit{oneapi::tbb::global_control::max_allowed_parallelism, 1};
};
using Step = flow::function_node<int, int>;

void tbb_tube_chain(benchmark::State& state) {
  const OneThread alone;
  flow::graph g;
  std::vector<std::unique_ptr<Step>> steps;
  for (int i = 0; i <= kLength; ++i) steps.push_back(std::make_unique<Step>(g, flow::unlimited, add_one));
  for (int i = 0; i < kLength; ++i)
    flow::make_edge(*steps[static_cast<std::size_t>(i)], *steps[static_cast<std::size_t>(i) + 1]);
  for (auto _ : state) {
    for (int i = 0; i < kBatch; ++i) steps[0]->try_put(i);
    g.wait_for_all();
  }
  operations(state, std::int64_t{kBatch} * (kLength + 1));
}

void tbb_tube_diamond(benchmark::State& state) {
  const OneThread alone;
  flow::graph g;
  Step source(g, flow::unlimited, add_one), top(g, flow::unlimited, add_one), left(g, flow::unlimited, add_one),
      right(g, flow::unlimited, add_one);
  flow::join_node<std::tuple<int, int>> both(g);
  flow::function_node<std::tuple<int, int>, int> bottom(
      g, flow::unlimited, [](const std::tuple<int, int>& t) { return add_two(std::get<0>(t), std::get<1>(t)); });
  flow::make_edge(source, top);
  flow::make_edge(top, left);
  flow::make_edge(top, right);
  flow::make_edge(left, flow::input_port<0>(both));
  flow::make_edge(right, flow::input_port<1>(both));
  flow::make_edge(both, bottom);
  for (auto _ : state) {
    for (int i = 0; i < kBatch; ++i) source.try_put(i);
    g.wait_for_all();
  }
  operations(state, std::int64_t{kBatch} * 5);
}

void tbb_tube_fan(benchmark::State& state) {
  const OneThread alone;
  flow::graph g;
  Step source(g, flow::unlimited, add_one);
  std::vector<std::unique_ptr<Step>> steps;
  for (int i = 0; i < kLength; ++i) {
    steps.push_back(std::make_unique<Step>(g, flow::unlimited, add_one));
    flow::make_edge(source, *steps.back());
  }
  for (auto _ : state) {
    for (int i = 0; i < kBatch; ++i) source.try_put(i);
    g.wait_for_all();
  }
  operations(state, std::int64_t{kBatch} * (kLength + 1));
}
BENCH_ROW(tbb, tube_chain);
BENCH_ROW(tbb, tube_diamond);
BENCH_ROW(tbb, tube_fan);

void tbb_tube_threads(benchmark::State& state) {
  flow::graph g;
  const auto work = [](int n) {
    const auto until = Clock::now() + std::chrono::microseconds(10);
    while (Clock::now() < until) pause();
    return n;
  };
  Step source(g, flow::unlimited, add_one), n1(g, flow::unlimited, work), n2(g, flow::unlimited, work),
      n3(g, flow::unlimited, work), n4(g, flow::unlimited, work);
  using Four = std::tuple<int, int, int, int>;
  flow::join_node<Four> all(g);
  std::vector<int> results;
  flow::function_node<Four, flow::continue_msg> sink(g, flow::serial, [&results](const Four& t) {
    results.push_back(std::get<0>(t) + std::get<1>(t) + std::get<2>(t) + std::get<3>(t));
    return flow::continue_msg();
  });
  for (Step* step : {&n1, &n2, &n3, &n4}) flow::make_edge(source, *step);
  flow::make_edge(n1, flow::input_port<0>(all));
  flow::make_edge(n2, flow::input_port<1>(all));
  flow::make_edge(n3, flow::input_port<2>(all));
  flow::make_edge(n4, flow::input_port<3>(all));
  flow::make_edge(all, sink);
  Median median(state, kEpochs * kWide);
  for (auto _ : state) {
    results.clear();
    median.time([&] {
      for (int i = 0; i < kEpochs; ++i) source.try_put(i);
      g.wait_for_all();
    });
  }
}
BENCHMARK(tbb_tube_threads)->Name("tbb/tube_threads")->UseManualTime();
#endif

#if CALLER_BENCH_TASKFLOW
/// Taskflow knows no epochs: a graph that holds all of them, built before.
void taskflow_tube_threads(benchmark::State& state) {
  const auto work = [](int n) {
    const auto until = Clock::now() + std::chrono::microseconds(10);
    while (Clock::now() < until) pause();
    return n;
  };
  struct Epoch {
    int source, wide[kWide], sum;
  };
  std::vector<Epoch> epochs(kEpochs);
  tf::Executor executor;
  tf::Taskflow graph;
  for (int e = 0; e < kEpochs; ++e) {
    Epoch& at = epochs[static_cast<std::size_t>(e)];
    tf::Task source = graph.emplace([&at, e] { at.source = add_one(e); });
    tf::Task sum = graph.emplace([&at] { at.sum = at.wide[0] + at.wide[1] + at.wide[2] + at.wide[3]; });
    for (int& result : at.wide) {
      tf::Task step = graph.emplace([&at, &result, work] { result = work(at.source); });
      source.precede(step);
      step.precede(sum);
    }
  }
  Median median(state, kEpochs * kWide);
  for (auto _ : state) median.time([&] { executor.run(graph).wait(); });
}
BENCHMARK(taskflow_tube_threads)->Name("taskflow/tube_threads")->UseManualTime();
#endif

// ---- loading ----

void load(benchmark::State& state, const char* specification) {
  for (auto _ : state) benchmark::DoNotOptimize(Tube::from_any(specification));
  operations(state);
}
void caller_tube_load_basic(benchmark::State& state) { load(state, kBasic); }
void caller_tube_load_kitchen_sink(benchmark::State& state) { load(state, kKitchenSink); }
BENCH_ROW(caller, tube_load_basic);
BENCH_ROW(caller, tube_load_kitchen_sink);

/// `layers` of a hundred nodes; each node depends on five of the layer before.
constexpr int kLayer = 100;
std::string grid(int layers) {
  constexpr std::array kSlots{"a", "b", "c", "d", "e"};
  std::string text = source();
  const auto id = [](int layer, int i) { return "n" + std::to_string(layer) + "_" + std::to_string(i); };
  for (int i = 0; i < kLayer; ++i) text += node(id(1, i), "add_one", "{n: n0.index}");
  for (int layer = 2; layer <= layers; ++layer)
    for (int i = 0; i < kLayer; ++i) {
      std::string depends;
      for (int k = 0; k < static_cast<int>(kSlots.size()); ++k)
        depends += std::string(k ? ", {" : "{") + kSlots[static_cast<std::size_t>(k)] + ": " +
                   id(layer - 1, (i + k * 17) % kLayer) + ".value}";
      text += node(id(layer, i), "add_five", depends);
    }
  return text;
}
void caller_tube_load_large(benchmark::State& state) {
  const std::string text = grid(100);
  for (auto _ : state) benchmark::DoNotOptimize(Tube::from_any(text));
  operations(state);
}
BENCHMARK(caller_tube_load_large)->Name("caller/tube_load_large")->Unit(benchmark::kMillisecond);

void epochs_of(benchmark::State& state, int layers) {
  SynchronousRunner runner(Tube::from_any(grid(layers)));
  runner.init();
  for (auto _ : state) benchmark::DoNotOptimize(runner.process());
  operations(state, layers * kLayer + 1);
}
void caller_tube_epoch_small(benchmark::State& state) { epochs_of(state, 10); }
void caller_tube_epoch_large(benchmark::State& state) { epochs_of(state, 100); }
BENCH_ROW(caller, tube_epoch_small);
BENCH_ROW(caller, tube_epoch_large);

}  // namespace
}  // namespace bench
