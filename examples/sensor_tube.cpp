// A pipeline in a program of one's own: no kernel, no notebook, only the library.
//
//   sensor_tube            runs the pipeline and prints its summaries
//   sensor_tube --check    the same under every runner, and fails unless all of them give the same, right results
//
// What to look at:
//   - a node is any function: its parameters are slots, its result a signal; a class keeps state, a generator is a
//   source;
//   - the graph is data (YAML): who wires it need not know C++, and every mistake in it is an error with line and
//   column;
//   - runners are interchangeable: one thread, a Caller's loop, as many threads as the machine has, or a process a
//   node.
#include <caller/tube/all.hpp>

#include <cstdio>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

namespace tube = caller::tube;

namespace {

// ---- nodes ----

/// A source: a reading each millisecond, three channels in turn. It ends after `count` readings.
class Sensor {
public:
  explicit Sensor(int count) : count_(count) {}
  std::optional<std::tuple<std::string, double>> next() {
    if (at_ == count_) return std::nullopt;
    static constexpr const char* kChannels[] = {"left", "middle", "right"};
    const int n = at_++;
    const bool spike = n % 10 == 7;  // a loose contact
    return std::tuple(std::string(kChannels[n % 3]), spike ? 1e6 : n % 3 * 100.0 + n);
  }

private:
  int count_;
  int at_ = 0;
};

/// A filter: what it does not let through is silent, so nothing that requires it runs.
std::optional<double> plausible(double reading, double most) {
  if (reading > most) return std::nullopt;
  return reading;
}

/// A class with state: how far a reading is from the mean of those before it.
class Centre {
public:
  double process(double reading) {
    const double off = n_ ? reading - sum_ / n_ : 0;
    sum_ += reading;
    ++n_;
    return off;
  }

private:
  double sum_ = 0;
  int n_ = 0;
};

double mean(const std::vector<double>& window) {
  return std::accumulate(window.begin(), window.end(), 0.0) / static_cast<double>(window.size());
}

constexpr const char* kPipeline = R"(
tube_id: sensor
input:
  most: {type: float, default: 1000.0, description: readings above are a loose contact}
nodes:
  sensor: {type: sensor.read, params: {count: 100}}
  reading: {type: sensor.plausible, params: {most: input.most}, depends: [{reading: sensor.reading}]}
  centred: {type: sensor.centre, depends: [{reading: reading.value}]}
  window: {type: gather, params: {n: 10}, depends: [{value: centred.value}]}
  mean: {type: sensor.mean, depends: [{window: window.value}]}
  out: {type: return, depends: mean.value}
)";

void register_nodes() {
  auto& registry = tube::registry();
  registry.add_source<Sensor, int>("sensor.read", {"count"}, {"channel", "reading"});
  registry.add("sensor.plausible", &plausible, {"reading", "most"});
  registry.add_class<Centre>("sensor.centre", {}, &Centre::process, {"reading"});
  registry.add("sensor.mean", &mean, {"window"});
}

/// The means of the full windows, in order.
std::vector<double> run(tube::TubeRunner& runner) {
  runner.init();
  std::vector<double> means;
  for (const tube::Result& mean : runner.iter()) means.push_back(mean.to<double>());  // until the source ends
  runner.deinit();
  return means;
}

int check() {
  const tube::Tube pipeline = tube::Tube::from_any(kPipeline);
  tube::SynchronousRunner one(pipeline);
  tube::AsyncRunner loop(pipeline);
  tube::ThreadRunner many(pipeline);
  const std::vector<double> expected = run(one);
  if (expected.size() != 9) return std::puts("there are 90 plausible readings, so nine windows"), 1;
  if (run(loop) != expected || run(many) != expected) return std::puts("the runners do not agree"), 1;
  try {
    tube::ClusterRunner processes(pipeline);  // a process for each node
    if (run(processes) != expected) return std::puts("the processes do not agree"), 1;
  } catch (const tube::Error& error) {
    if (error.code() != tube::Errc::not_found) throw;  // a library without ZeroMQ has no processes
  }

  std::string wrong = kPipeline;
  wrong.replace(wrong.find("window.value"), 12, "window.valeu");
  try {
    (void)tube::Tube::from_any(wrong);
    return std::puts("a signal that does not exist was accepted"), 1;
  } catch (const tube::SpecError& error) {
    if (std::string_view(error.what()).find("value") == std::string_view::npos)
      return std::puts("the nearest name is missing"), 1;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  register_nodes();
  tube::cluster_main(argc, argv);  // a ClusterRunner starts this program again, for each of its processes
  if (argc > 1 && std::string_view(argv[1]) == "--check") return check();
  tube::ThreadRunner runner(tube::Tube::from_any(kPipeline));
  for (const double m : run(runner)) std::printf("%.2f\n", m);
}
