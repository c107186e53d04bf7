// Random tubes against a naive reference that walks all nodes in order, for every runner.
#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include <caller/caller.hpp>

#include "support.hpp"

using namespace caller::tube;

namespace {

using Number = std::int64_t;
using Maybe = std::optional<Number>;
using Path = std::vector<std::size_t>;

Number mix(Number a, Number b) { return (a * 31 + b * 17 + 1009) % 1009; }

class Counter {
public:
  explicit Counter(Number start) : next_(start) {}
  std::optional<Maybe> next() {
    const Number n = next_++;
    return n % 5 == 4 ? Maybe() : Maybe(n);
  }

private:
  Number next_;
};
class Sum {
public:
  Number process(Number a) { return total_ = (total_ + a) % 1009; }

private:
  Number total_ = 0;
};

const bool registered = [] {
  Registry& r = registry();
  r.add_source<Counter, Number>("prop.source", {"start"});
  r.add("prop.both", [](Number a, Number b) { return mix(a, b); }, {"a", "b"});
  r.add("prop.maybe_b", [](Number a, std::optional<Number> b) { return mix(a, b.value_or(-1)); }, {"a", "b"});
  r.add("prop.any",
        [](std::optional<Number> a, std::optional<Number> b) { return mix(a.value_or(-1), b.value_or(-2)); },
        {"a", "b"});
  r.add("prop.sieve", [](Number a) { return a % 3 == 0 ? Maybe() : Maybe(a); }, {"a"});
  r.add("prop.split",
        [](Number a) { return std::tuple(a % 2 == 0 ? Maybe(a) : Maybe(), a % 2 != 0 ? Maybe(a) : Maybe()); }, {"a"},
        {"even", "odd"});
  r.add("prop.slow",
        [](Number a) -> caller::Coro<Number> {
          co_await caller::sleep_for(std::chrono::microseconds(a % 4 * 50));
          co_return a + 1;
        },
        {"a"});
  r.add("prop.range",
        [](Number a) {
          std::vector<Number> items;
          for (Number i = 0; i < a % 4; ++i) items.push_back(a + i);
          return items;
        },
        {"a"});
  r.add("prop.total",
        [](const std::vector<Number>& items) {
          Number n = 0;
          for (const Number i : items) n = mix(n, i);
          return n;
        },
        {"items"});
  r.add_class<Sum>("prop.sum", {}, &Sum::process, {"a"});
  return true;
}();

/// One signal as the reference knows it: by the path of map items, what was emitted.
struct Signal {
  std::string name;               // node.signal
  std::vector<std::size_t> maps;  // the maps it is below
  std::map<Path, Maybe> values;
  std::map<Path, std::vector<Number>> lists;
};

/// A random tube and its naive interpretation.
class Model {
public:
  explicit Model(std::uint32_t seed) : random_(seed) {
    const int count = 4 + pick(14);
    for (int i = 0; i < 1 + pick(2); ++i) add_source();
    for (int i = 0; i < count; ++i) add_node();
    Map returned;
    List depends;
    for (std::size_t s = 0; s < signals_.size(); ++s)
      if (!is_list_[s] && (pick(2) || s + 1 == signals_.size())) {
        returned_.push_back(s);
        depends.push_back(Map{{"k" + std::to_string(s), signals_[s].name}});
      }
    nodes_.set("out", Map{{"type", "return"}, {"depends", depends}});
  }
  Map spec() const { return Map{{"noob_id", "random"}, {"nodes", nodes_}}; }

  /// What process() gives next.
  std::string step() {
    for (Signal& s : signals_) {
      s.values.clear();
      s.lists.clear();
    }
    items_.clear();
    for (const auto& run : steps_) run();
    Map result;
    for (const std::size_t s : returned_) {
      List found;
      for (const auto& [path, value] : signals_[s].values)
        if (value) found.push_back(*value);
      if (found.empty()) continue;
      result.set("k" + std::to_string(s), signals_[s].maps.empty() ? found.front() : Value(found));
    }
    return result.empty() ? "nothing" : Value(result).repr(100000);
  }

private:
  int pick(int n) { return static_cast<int>(random_() % static_cast<std::uint32_t>(n)); }
  std::string next_id() { return "n" + std::to_string(next_++); }
  std::size_t add_signal(std::string name, std::vector<std::size_t> maps, bool list = false) {
    signals_.push_back({std::move(name), std::move(maps), {}, {}});
    is_list_.push_back(list);
    return signals_.size() - 1;
  }
  std::size_t some_number() {
    for (;;) {
      const std::size_t s = static_cast<std::size_t>(pick(static_cast<int>(signals_.size())));
      if (!is_list_[s]) return s;
    }
  }
  static bool within(const std::vector<std::size_t>& inner, const std::vector<std::size_t>& outer) {
    return inner.size() >= outer.size() && std::equal(outer.begin(), outer.end(), inner.begin());
  }
  /// Every instance of a region: the paths of items of its maps.
  std::vector<Path> paths(const std::vector<std::size_t>& maps) const {
    std::vector<Path> found{{}};
    for (std::size_t depth = 0; depth < maps.size(); ++depth) {
      std::vector<Path> next;
      for (const Path& p : found) {
        const auto n = items_.find({maps[depth], p});
        for (std::size_t i = 0; n != items_.end() && i < n->second; ++i) {
          Path q = p;
          q.push_back(i);
          next.push_back(std::move(q));
        }
      }
      found = std::move(next);
    }
    return found;
  }
  Maybe at(std::size_t s, const Path& path) const {
    const Path prefix(path.begin(), path.begin() + static_cast<std::ptrdiff_t>(signals_[s].maps.size()));
    const auto found = signals_[s].values.find(prefix);
    return found == signals_[s].values.end() ? Maybe() : found->second;
  }

  void add_source() {
    const std::string id = next_id();
    const Number start = pick(50);
    nodes_.set(id, Map{{"type", "prop.source"}, {"params", Map{{"start", start}}}});
    const std::size_t out = add_signal(id + ".value", {});
    auto counter = std::make_shared<Counter>(start);
    steps_.push_back([this, out, counter] { signals_[out].values[{}] = *counter->next(); });
  }
  template <class F>
  void add_unary(const char* type, std::size_t in, F f) {
    const std::string id = next_id();
    nodes_.set(id, Map{{"type", type}, {"depends", List{Map{{"a", signals_[in].name}}}}});
    const std::size_t out = add_signal(id + ".value", signals_[in].maps);
    steps_.push_back([this, in, out, f]() mutable {
      for (const Path& p : paths(signals_[out].maps))
        if (const Maybe a = at(in, p)) signals_[out].values[p] = f(*a);
    });
  }
  void add_binary(const char* type, bool a_required, bool b_required) {
    const std::size_t a = some_number(), b = some_number();
    std::vector<std::size_t> maps = signals_[a].maps;
    if (within(signals_[b].maps, maps))
      maps = signals_[b].maps;
    else if (!within(maps, signals_[b].maps))
      return;
    const std::string id = next_id();
    nodes_.set(id, Map{{"type", type}, {"depends", List{Map{{"a", signals_[a].name}}, Map{{"b", signals_[b].name}}}}});
    const std::size_t out = add_signal(id + ".value", std::move(maps));
    steps_.push_back([this, a, b, out, a_required, b_required] {
      for (const Path& p : paths(signals_[out].maps)) {
        const Maybe x = at(a, p), y = at(b, p);
        if ((a_required && !x) || (b_required && !y)) continue;
        signals_[out].values[p] = mix(x.value_or(-1), y.value_or(a_required ? -1 : -2));
      }
    });
  }
  void add_split() {
    const std::size_t in = some_number();
    const std::string id = next_id();
    nodes_.set(id, Map{{"type", "prop.split"}, {"depends", List{Map{{"a", signals_[in].name}}}}});
    const std::size_t even = add_signal(id + ".even", signals_[in].maps),
                      odd = add_signal(id + ".odd", signals_[in].maps);
    steps_.push_back([this, in, even, odd] {
      for (const Path& p : paths(signals_[even].maps))
        if (const Maybe a = at(in, p)) signals_[*a % 2 == 0 ? even : odd].values[p] = a;
    });
  }
  /// A list, mapped, each item changed, and gathered again.
  void add_map() {
    const std::size_t in = some_number();
    if (signals_[in].maps.size() >= 4) return;
    const std::string range = next_id(), map = next_id();
    nodes_.set(range, Map{{"type", "prop.range"}, {"depends", List{Map{{"a", signals_[in].name}}}}});
    const std::size_t list = add_signal(range + ".value", signals_[in].maps, true);
    nodes_.set(map, Map{{"type", "map"}, {"depends", List{Map{{"value", range + ".value"}}}}});
    const std::size_t number = next_map_++;
    std::vector<std::size_t> maps = signals_[in].maps;
    maps.push_back(number);
    const std::size_t item = add_signal(map + ".value", maps);
    steps_.push_back([this, in, list, item, number] {
      for (const Path& p : paths(signals_[list].maps)) {
        const Maybe a = at(in, p);
        if (!a) continue;
        items_[{number, p}] = static_cast<std::size_t>(*a % 4);
        for (Number i = 0; i < *a % 4; ++i) {
          Path q = p;
          q.push_back(static_cast<std::size_t>(i));
          signals_[item].values[q] = *a + i;
        }
      }
    });
    add_unary("prop.sum", item, [total = Number(0)](Number a) mutable { return total = (total + a) % 1009; });
    if (pick(3) == 0) return;
    const std::size_t last = signals_.size() - 1;
    const std::string gather = next_id(), sum = next_id();
    nodes_.set(gather,
               Map{{"type", "gather"}, {"depends", List{Map{{"value", signals_[last].name}}, Map{{"n", map + ".n"}}}}});
    nodes_.set(sum, Map{{"type", "prop.total"}, {"depends", List{Map{{"items", gather + ".value"}}}}});
    const std::size_t out = add_signal(sum + ".value", signals_[in].maps);
    steps_.push_back([this, last, out, number] {
      for (const Path& p : paths(signals_[out].maps)) {
        const auto n = items_.find({number, p});
        if (n == items_.end() || n->second == 0) continue;
        Number total = 0;
        bool whole = true;
        for (std::size_t i = 0; i < n->second; ++i) {
          Path q = p;
          q.push_back(i);
          const Maybe v = at(last, q);
          whole = whole && v;
          if (v) total = mix(total, *v);
        }
        if (whole) signals_[out].values[p] = total;
      }
    });
  }
  void add_node() {
    switch (pick(8)) {
      case 0:
        add_binary("prop.both", true, true);
        break;
      case 1:
        add_binary("prop.maybe_b", true, false);
        break;
      case 2:
        add_binary("prop.any", false, false);
        break;
      case 3:
        add_unary("prop.sieve", some_number(), [](Number a) { return a % 3 == 0 ? Maybe() : Maybe(a); });
        break;
      case 4:
        add_unary("prop.sum", some_number(),
                  [total = Number(0)](Number a) mutable { return Maybe(total = (total + a) % 1009); });
        break;
      case 5:
        add_unary("prop.slow", some_number(), [](Number a) { return Maybe(a + 1); });
        break;
      case 6:
        add_split();
        break;
      default:
        add_map();
    }
  }

  std::mt19937 random_;
  Map nodes_;
  std::vector<Signal> signals_;
  std::vector<bool> is_list_;
  std::vector<std::size_t> returned_;
  std::map<std::pair<std::size_t, Path>, std::size_t> items_;
  std::vector<std::function<void()>> steps_;
  std::size_t next_ = 0, next_map_ = 0;
};

constexpr int kSteps = 5000;  // of CALLER_STRESS, a round
#ifdef CALLER_SANITIZED       // starting a process takes ten times as long, and every round does it anew
[[maybe_unused]] constexpr int kStepsOfProcesses = 10 * kSteps;
#else
[[maybe_unused]] constexpr int kStepsOfProcesses = kSteps;
#endif
int rounds(int few, int steps = kSteps) {
  const char* given = std::getenv("CALLER_STRESS");
  return given ? std::max(few, std::atoi(given) / steps) : few;
}

template <class Runner>
void compare(int seeds = 40, int steps = kSteps) {
  for (int seed = 1; seed <= rounds(seeds, steps); ++seed) {
    CAPTURE(seed);
    Model model(static_cast<std::uint32_t>(seed));
    Model again(static_cast<std::uint32_t>(seed));
    std::vector<std::string> expected;
    for (int i = 0; i < 12; ++i) expected.push_back(model.step());
    const Tube random = Tube::from_any(model.spec());
    {
      Runner runner(random);
      for (int i = 0; i < 12; ++i) {
        const std::string found = runner.process().repr(100000);
        if (found != expected[static_cast<std::size_t>(i)]) {
          FAIL_CHECK("epoch " << i << "\n  found    " << found << "\n  expected "
                              << expected[static_cast<std::size_t>(i)] << "\n"
                              << Value(model.spec()).repr(100000));
          break;
        }
      }
    }
    std::erase(expected, "nothing");
    Runner runner(random);
    std::vector<std::string> found;
    for (const Result& r : runner.run(12)) found.push_back(r.repr(100000));
    CHECK(found == expected);
  }
}

}  // namespace

TEST_CASE("random tubes give what a naive walk gives: synchronous") { compare<SynchronousRunner>(); }
TEST_CASE("random tubes give what a naive walk gives: asynchronous") { compare<AsyncRunner>(); }
TEST_CASE("random tubes give what a naive walk gives: threads") { compare<ThreadRunner>(); }
#ifdef CALLER_TUBE_CLUSTER
// This program's own node types run in processes of this program.
extern "C" void caller_test_begin(int argc, char** argv) { cluster_main(argc, argv); }
TEST_CASE("random tubes give what a naive walk gives: processes") { compare<ClusterRunner>(12, kStepsOfProcesses); }

TEST_CASE("single epochs and many, in random groups of nodes: every process hears of each") {
  for (int seed = 1; seed <= rounds(12, kStepsOfProcesses); ++seed) {
    CAPTURE(seed);
    std::mt19937 random(static_cast<std::uint32_t>(seed));
    Model model(static_cast<std::uint32_t>(seed));
    // Groups whose nodes feed each other in both directions, and others.
    ClusterOptions options{.groups = std::vector<ClusterGroup>(2 + random() % 4), .max_pending = 1 + random() % 9};
    for (const auto& [id, node] : model.spec().at("nodes").entries())
      if (random() % 4 != 0) options.groups[random() % options.groups.size()].nodes.push_back(id);
    ClusterRunner runner(Tube::from_any(model.spec()), std::move(options));
    std::vector<std::string> found;
    const auto keep = [&](const Result& r) {
      if (r) found.push_back(r.repr(100000));
    };
    for (int turn = 0; turn < 12; ++turn) {
      if (random() % 3 != 0) {
        keep(runner.process());
        continue;
      }
      std::size_t take = 1 + random() % 4;  // some of them left behind, for the next turn
      for (const Result& r : runner.iter(take + random() % 6)) {
        keep(r);
        if (--take == 0) break;
      }
    }
    std::vector<std::string> expected;
    for (int silent = 0; expected.size() < found.size() && silent < 200; ++silent) {
      std::string next = model.step();
      if (next == "nothing") continue;
      expected.push_back(std::move(next));
      silent = 0;
    }
    CHECK(found == expected);
  }
}
#endif
