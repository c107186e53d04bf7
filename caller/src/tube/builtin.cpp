#include "builtin.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

namespace caller::tube::detail {

namespace {

Slot slot(const char* name, const char* type, bool optional = false) {
  Slot s;
  s.name = name;
  s.type = type;
  s.optional = optional;
  return s;
}

NodeType special(const char* name, NodeType::Special kind, bool stateful, const char* description) {
  NodeType t;
  t.name = name;
  t.special = kind;
  t.stateful = stateful;
  t.description = description;
  return t;
}

bool less(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (a.kind() == Kind::integer && b.kind() == Kind::integer) return a.as<std::int64_t>() < b.as<std::int64_t>();
    return a.to<double>() < b.to<double>();
  }
  if (a.kind() == Kind::string && b.kind() == Kind::string) return a.as<std::string>() < b.as<std::string>();
  throw Error(Errc::wrong_type, a.repr() + " and " + b.repr() + " cannot be compared");
}

Value sum(const Value& items) {
  std::int64_t whole = 0;
  double real = 0;
  bool is_real = false;
  for (const Value& item : items.items()) {
    std::int64_t next = 0;
    if (item.kind() == Kind::integer && !is_real && !__builtin_add_overflow(whole, item.as<std::int64_t>(), &next)) {
      whole = next;
      continue;
    }
    if (!item.is_number()) wrong_type(item, "a number");
    if (!is_real) real = static_cast<double>(whole);
    is_real = true;
    real += item.to<double>();
  }
  return is_real ? Value(real) : Value(whole);
}

std::int64_t len(const Value& items) {
  const auto n = items.size();
  if (!n) wrong_type(items, "a list, a map or a text");
  return static_cast<std::int64_t>(*n);
}

Value extreme(const Value& items, bool largest) {
  const List list = items.items();
  if (list.empty()) throw Error(Errc::out_of_range, "an empty list has no smallest and no largest item");
  const auto found =
      largest ? std::max_element(list.begin(), list.end(), less) : std::min_element(list.begin(), list.end(), less);
  return *found;
}

List sorted(const Value& items) {
  List list = items.items();
  std::stable_sort(list.begin(), list.end(), less);
  return list;
}

Value absolute(const Value& x) {
  if (x.kind() == Kind::integer && x.as<std::int64_t>() != std::numeric_limits<std::int64_t>::min())
    return std::abs(x.as<std::int64_t>());
  if (!x.is_number()) wrong_type(x, "a number");
  return std::fabs(x.to<double>());
}

/// An empty collection that nodes may fill: the asset `list` or `set` of specifications for noob.
struct Collection {
  List items;
};

}  // namespace

void add_special_types(Registry& registry) {
  using S = NodeType::Special;
  NodeType map = special("map", S::map, false, "Runs what follows once for each item of a list.");
  map.slots = {slot("value", "list")};
  map.signals = {{"value", "any"}, {"n", "int"}};
  registry.insert(std::move(map));
  NodeType gather = special("gather", S::gather, true, "Collects n values, or all until a trigger, into a list.");
  gather.slots = {slot("value", "any"), slot("trigger", "any", true), slot("n", "int")};
  gather.signals = {{"value", "list"}};
  registry.insert(std::move(gather));
  registry.insert(special("return", S::ret, false, "What process() returns."));
  NodeType tube =
      special("tube", S::tube, true, "A tube as a node: its process inputs are slots, the keys of its return signals.");
  tube.any_params = true;
  registry.insert(std::move(tube));
}

void add_builtin_types(Registry& registry) {
  registry.add("sum", &sum, {"items"});
  registry.add("len", &len, {"items"});
  registry.add("min", [](const Value& items) { return extreme(items, false); }, {"items"});
  registry.add("max", [](const Value& items) { return extreme(items, true); }, {"items"});
  registry.add("sorted", &sorted, {"items"});
  registry.add("abs", &absolute, {"x"});
  registry.add("str", [](const Value& x) { return x.is<std::string>() ? x.as<std::string>() : x.repr(1 << 20); },
               {"x"});
  registry.add_asset<Collection>("list");
  registry.add_asset<Collection>("set");
}

}  // namespace caller::tube::detail
