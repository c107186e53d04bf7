// The node types of noob's own test graphs, so that those graphs run here.
#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include <caller/caller.hpp>
#include <caller/generator.hpp>
#include <caller/tube/spec.hpp>

#include "builtin.hpp"

namespace caller::tube::detail {

namespace {

using namespace std::chrono_literals;

constexpr std::array kWords{"amber",  "birch", "cedar", "delta",  "ember", "fjord", "grove",  "heath",
                            "inlet",  "jetty", "knoll", "lagoon", "maple", "north", "orchid", "prism",
                            "quartz", "ridge", "slate", "tide",   "umbra", "vale",  "willow", "zephyr"};

/// A word a call, the same ones in every run: results can be compared between runners.
class Words {
public:
  std::string next() {
    std::string word = kWords[n_ % kWords.size()];
    if (n_ >= kWords.size()) word += std::to_string(n_ / kWords.size());
    ++n_;
    return word;
  }

private:
  std::size_t n_ = 0;
};

Generator<std::int64_t> count_source(std::int64_t limit, std::int64_t start) {
  for (std::int64_t i = start; limit == 0 || i < limit; ++i) {
    std::int64_t value = i;
    co_yield value;
  }
}
Generator<std::string> letter_source() {
  for (char c = 'a';; c = c == 'z' ? 'a' : static_cast<char>(c + 1)) co_yield std::string(1, c);
}
Generator<std::string> word_source() {
  for (Words words;;) co_yield words.next();
}
Generator<std::vector<std::string>> multi_words_source(std::int64_t n) {
  for (Words words;;) {
    std::vector<std::string> list;
    for (std::int64_t i = 0; i < n; ++i) list.push_back(words.next());
    co_yield std::move(list);
  }
}
Generator<std::optional<std::string>> sporadic_word(std::int64_t every) {
  Words words;
  for (std::int64_t i = 1;; ++i) {
    std::optional<std::string> word;
    if (i % every == 0) word = words.next();
    co_yield std::move(word);
  }
}
Generator<std::tuple<std::string, std::vector<std::int64_t>>> word_counts() {
  Words words;
  std::minstd_rand random(1);
  for (;;) {
    std::vector<std::int64_t> counts(2 + random() % 4);
    for (std::int64_t& c : counts) c = static_cast<std::int64_t>(1 + random() % 100);
    std::tuple<std::string, std::vector<std::int64_t>> both(words.next(), std::move(counts));
    co_yield std::move(both);
  }
}
using Kinds = std::tuple<MaybeEvent<std::string>, MaybeEvent<std::string>, MaybeEvent<std::string>>;
Generator<Kinds> switch_source() {
  constexpr std::array fruits{"apple", "banana", "cherry"};
  constexpr std::array vegetables{"daikon", "eggplant", "fiddlehead"};
  constexpr std::array minerals{"galaxite", "halite", "iolite"};
  for (std::size_t i = 0;; i = (i + 1) % 3) {
    Kinds fruit(fruits[i], no_event, no_event);
    co_yield std::move(fruit);
    Kinds vegetable(no_event, vegetables[i], no_event);
    co_yield std::move(vegetable);
    Kinds mineral(no_event, no_event, minerals[i]);
    co_yield std::move(mineral);
  }
}
Generator<double> cycle(std::int64_t start, std::int64_t stop, std::int64_t step) {
  if (step == 0 || (step > 0 && start >= stop) || (step < 0 && start <= stop))
    throw std::invalid_argument("an empty range has no cycle");
  for (;;)
    for (std::int64_t i = start; step > 0 ? i < stop : i > stop; i += step) {
      double value = static_cast<double>(i);
      co_yield value;
    }
}

Value multiply(const Value& left, const Value& right) {
  std::int64_t product = 0;
  if (left.kind() == Kind::integer && right.kind() == Kind::integer &&
      !__builtin_mul_overflow(left.as<std::int64_t>(), right.as<std::int64_t>(), &product))
    return product;
  if (left.kind() == Kind::string || right.kind() == Kind::string) {
    const std::string& text = left.kind() == Kind::string ? left.as<std::string>() : right.as<std::string>();
    const std::int64_t times = (left.kind() == Kind::string ? right : left).to<std::int64_t>();
    std::string out;
    for (std::int64_t i = 0; i < times; ++i) out += text;
    return out;
  }
  return left.to<double>() * right.to<double>();
}
double divide(double numerator, double denominator) { return numerator / denominator; }
std::string concat(const List& strings) {
  std::string out;
  for (const Value& s : strings) out += s.as<std::string>();
  return out;
}
std::string multi_concat(const Kwargs& words) {
  std::string out;
  for (const auto& [slot, word] : words.values) out += word.as<std::string>();
  return out;
}
std::string exclaim(const std::string& text, std::int64_t hype) {
  return text + std::string(static_cast<std::size_t>(std::max<std::int64_t>(hype, 0)), '!');
}
std::string repeat(const std::string& text, std::int64_t times) {
  std::string out;
  for (std::int64_t i = 0; i < times; ++i) out += text;
  return out;
}
Map dictify(const std::string& key, const List& items) { return Map{{key, items}}; }
void error(const Value&) { throw std::invalid_argument("This node just emits errors"); }
Coro<void> async_error(Value) {
  co_await sleep_for(1ms);
  throw std::invalid_argument("This is the error that should be raised");
}
double long_add(double value, double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  return value + 1;
}
Value just_wait(const Value& value, double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  return value;
}
std::string letter_of(std::int64_t number) {
  return std::string(1, static_cast<char>('a' + ((number % 26) + 26) % 26));
}
Coro<std::string> number_to_letter(std::int64_t number, std::int64_t offset) {
  // As long as noob's takes at most, but not by chance: later numbers are not always later.
  co_await sleep_for(std::chrono::microseconds(100 + (number * 7 + offset * 3) % 10 * 200));
  co_return letter_of(number + offset);
}
class NumberToLetter {
public:
  explicit NumberToLetter(std::int64_t offset) : offset_(offset) {}
  Coro<std::string> process(std::int64_t number) { return number_to_letter(number, offset_); }

private:
  std::int64_t offset_;
};

class Multiply {
public:
  std::int64_t process(std::int64_t left, std::int64_t right) { return left * right; }
};
class Volume {
public:
  explicit Volume(std::int64_t height) : height_(height) {}
  std::int64_t process(std::int64_t width, std::int64_t depth) { return height_ * width * depth; }

private:
  std::int64_t height_;
};
class StatefulMultiply {
public:
  explicit StatefulMultiply(std::int64_t start) : current_(start) {}
  double process(double left, double right) { return left * right * static_cast<double>(current_++); }

private:
  std::int64_t current_;
};
class CountSource {
public:
  CountSource(std::int64_t limit, std::int64_t start) : limit_(limit), next_(start) {}
  std::optional<std::int64_t> next() {
    if (next_ >= limit_) return std::nullopt;
    return next_++;
  }

private:
  std::int64_t limit_, next_;
};
/// Cannot be made.
class ErrorAtStart {
public:
  ErrorAtStart() { throw std::domain_error("This node cannot be made"); }
  void process(const Value&) {}
};
class InitCounter {
public:
  void init() { ++inits_; }
  void deinit() { ++deinits_; }
  std::tuple<std::int64_t, std::int64_t> process() { return {inits_, deinits_}; }

private:
  std::int64_t inits_ = 0, deinits_ = 0;
};

bool input_party(const Value&, const Value&, const Value&, const Value&, const Value&, const Value&, const Value&) {
  return true;
}

std::string inject_epoch(const Epoch& epoch) { return epoch.str(); }
Map inject_eventmap(const Value&, const EventMap& events) {
  Map map;
  for (const auto& [slot, event] : events.events)
    map.set(slot, Map{{"node_id", event.node_id},
                      {"signal", event.signal},
                      {"epoch", event.epoch.str()},
                      {"value", event.value}});
  return map;
}
Map this_or_that(const std::optional<Value>& first, const std::optional<Value>& second,
                 const std::optional<Value>& third) {
  Map map;
  if (first) map.set("this", *first);
  if (second) map.set("that", *second);
  if (third) map.set("the_other", *third);
  return map;
}
List passthrough(const Value& value, const Args& args, const Kwargs& kwargs) {
  return {value, args.values, kwargs.values};
}

// ------------------------------------------------------------------ assets
/// Counts up; nodes share it and hand it on.
class Counter {
public:
  explicit Counter(std::int64_t start) : current_(start) {}
  std::int64_t next() { return current_++; }

private:
  std::int64_t current_;
};
/// Counts its own opening and closing as well.
class LifecycleCounter {
public:
  explicit LifecycleCounter(std::int64_t start) : counter(start) {}
  void init() {
    ++entered;
    (void)counter.next();
  }
  void deinit() {
    (void)counter.next();
    ++exited;
  }
  std::int64_t next() { return counter.next(); }
  Counter counter;
  int entered = 0, exited = 0;
};
class Initializer {
public:
  void init() { open = true; }
  void deinit() { open = false; }
  bool open = false;
};

/// A counter of either kind.
std::int64_t advance(const Value& counter) {
  if (counter.is<Counter>()) return counter.shared<Counter>()->next();
  return counter.shared<LifecycleCounter>()->next();
}
std::tuple<Value, std::int64_t> increment(const Value& iterator, std::int64_t times) {
  std::int64_t value = 0;
  for (std::int64_t i = 0; i < times; ++i) value = advance(iterator);
  return {iterator, value};
}
std::int64_t fast_forward(const Value& generator, std::int64_t n) { return std::get<1>(increment(generator, n)); }
Value rewind(const Value& generator, std::int64_t n) { return std::make_shared<Counter>(advance(generator) - n); }
List zip_iter(const Args& iterators) {
  List values;
  for (const Value& i : iterators.values) values.emplace_back(advance(i));
  return values;
}

/// Signals and slots as the params say.
class DynamicNode final : public Node {
public:
  void process(Call& call) override {
    for (std::size_t i = 0; i < call.signals() && i < call.args().size(); ++i)
      if (const Value* v = call.arg(i)) call.emit(i, *v);
  }
};

void add_dynamic(Registry& r) {
  NodeType type;
  type.name = "noob.testing.DynamicSignals";
  type.any_params = true;
  type.shape = [](const NodeSpec& spec, std::vector<Slot>& slots, std::vector<Signal>& signals) {
    if (const Value* names = spec.params.find("slots_"))
      for (const Value& name : names->items()) {
        Slot s;
        s.name = name.as<std::string>();
        s.type = "any";
        slots.push_back(std::move(s));
      }
    if (const Value* names = spec.params.find("signals_"))
      for (const Value& name : names->items()) signals.push_back({name.as<std::string>(), "any"});
  };
  type.make = [](const Params&) -> std::unique_ptr<Node> { return std::make_unique<DynamicNode>(); };
  r.insert(std::move(type));
}

}  // namespace

void add_testing_types(Registry& r) {
  const std::string t = "noob.testing.";
  r.add(t + "count_source", &count_source, {{"limit", 10000}, {"start", 0}}, {"index"});
  r.add(t + "letter_source", &letter_source, {}, {"letter"});
  r.add(t + "word_source", &word_source, {}, {"word"});
  r.add(t + "multi_words_source", &multi_words_source, {"n"}, {"multi_words"});
  r.add(t + "sporadic_word", &sporadic_word, {{"every", 3}}, {"word"});
  r.add(t + "sporadic_word_noevent", &sporadic_word, {{"every", 3}}, {"word"});
  r.add(t + "word_counts", &word_counts, {}, {"word", "counts"});
  r.add(t + "switch", &switch_source, {}, {"fruits", "vegetables", "minerals"});
  r.add(t + "cycle", &cycle, {{"start", 0}, {"stop", 100}, {"step", 1}});
  r.add(t + "multiply", &multiply, {"left", {"right", 2}});
  r.add(t + "divide", &divide, {"numerator", {"denominator", 5}}, {"ratio"});
  r.add(t + "concat", &concat, {"strings"});
  r.add(t + "multi_concat", &multi_concat);
  r.add(t + "exclaim", &exclaim, {"string", {"hype", 1}});
  r.add(t + "repeat", &repeat, {"string", "times"});
  r.add(t + "dictify", &dictify, {"key", "items"});
  r.add(t + "error", &error, {"value"}, {});
  r.add(t + "async_error", &async_error, {"value"});
  r.add(t + "long_add", &long_add, {"value", {"sleep_for", 0.25}});
  r.add(t + "just_wait", &just_wait, {"value", {"wait_for", 0.5}});
  r.add(t + "number_to_letter", &number_to_letter, {"number", {"offset", 0}});
  r.add(t + "input_party", &input_party, {"one", "two", "three", "four", "five", "six", "seven"}, {"works"});
  r.add(t + "inject_epoch", &inject_epoch);
  r.add(t + "inject_eventmap", &inject_eventmap, {"special_value"});
  r.add(t + "this_or_that", &this_or_that, {"this", "that", "the_other"});
  r.add(t + "passthrough", &passthrough, {"value"});
  r.add(t + "increment", &increment, {"iterator", {"increment", 1}}, {"iterator", "value"});
  r.add(t + "fast_forward", &fast_forward, {"generator", {"n", 1}}, {"next"});
  r.add(t + "jump", &increment, {"generator", {"n", 1}}, {"skirttt", "next"});
  r.add(t + "rewind", &rewind, {"generator", {"n", 1}}, {"skrittt"});
  r.add(t + "zip_iter", &zip_iter);
  r.add_class<NumberToLetter, std::int64_t>(t + "NumberToLetterCls", {{"offset", 0}}, &NumberToLetter::process,
                                            {"number"});
  r.add_class<Multiply>(t + "Multiply", {}, &Multiply::process, {"left", {"right", 2}}, {"product"});
  r.add_class<Volume, std::int64_t>(t + "Volume", {{"height", 2}}, &Volume::process, {"width", "depth"}, {"volume"});
  r.add_class<Volume, std::int64_t>(t + "VolumeProcess", {{"height", 2}}, &Volume::process, {"width", "depth"},
                                    {"volume"});
  r.add_class<StatefulMultiply, std::int64_t>(t + "StatefulMultiply", {{"start", 0}}, &StatefulMultiply::process,
                                              {"left", {"right", 1}});
  r.add_source<CountSource, std::int64_t, std::int64_t>(t + "CountSource", {{"limit", 1000}, {"start", 0}}, {"index"});
  r.add_source<CountSource, std::int64_t, std::int64_t>(t + "UnannotatedGenerator", {{"limit", 1000}, {"start", 0}});
  r.add_class<InitCounter>(t + "InitCounter", {}, &InitCounter::process, {}, {"inits", "deinits"});
  r.add_class<ErrorAtStart>(t + "error_at_start", {}, &ErrorAtStart::process, {"value"});
  add_dynamic(r);
  r.add_asset<Counter, std::int64_t>(t + "counter", {{"start", 0}});
  r.add_asset<LifecycleCounter, std::int64_t>(t + "counter_cm", {{"start", 0}});
  r.add_asset<Initializer>(t + "Initializer");
}

}  // namespace caller::tube::detail
