#include "graph.hpp"

#include <utility>

#include "graph_builder.hpp"

namespace caller::tube::detail {

namespace {

/// Types of inputs by Python's names, as specifications for noob write them. Dotted names are types nobody here can
/// check.
bool input_takes(const std::string& type, const Value& v, bool& known) {
  known = true;
  const Kind kind = v.kind();
  const bool whole = kind == Kind::integer || kind == Kind::unsigned_integer;
  if (type == "any" || type == "Any" || type == "object" || type == "typing.Any") return true;
  if (type == "int") return whole;
  if (type == "float") return whole || kind == Kind::real;
  if (type == "str") return kind == Kind::string;
  if (type == "bool") return kind == Kind::boolean;
  if (type == "list" || type == "tuple" || type == "set") return kind == Kind::list;
  if (type == "dict") return kind == Kind::map;
  known = type.find_first_of(".:<") != std::string::npos;
  return known;
}

}  // namespace

std::shared_ptr<const Graph> GraphBuilder::build() {
  add_assets();
  g_.nodes.reserve(g_.spec.nodes.size());
  g_.signals.reserve(g_.spec.nodes.size());
  for (const NodeSpec& node : g_.spec.nodes) add_node(node);
  g_.by_id.reserve(g_.nodes.size());
  for (NodePlan& node : g_.nodes) g_.by_id.emplace(node.id, static_cast<std::uint32_t>(&node - g_.nodes.data()));
  for (std::uint32_t n = 0; n < g_.nodes.size(); ++n) connect(n);
  sort();
  find_regions();
  keep_assets();
  order_asset_users();
  plan_return();
  return std::move(graph_);
}
void GraphBuilder::take_inputs(const Map& given) {
  for (const InputSpec& input : g_.spec.input) {
    bool known = false;
    (void)input_takes(input.type, Value(), known);
    if (!known)
      throw SpecError(input.place, "input." + input.id + ".type",
                      "unknown type \"" + input.type + "\"" +
                          did_you_mean(input.type, {"int", "float", "str", "bool", "list", "dict", "any"}));
  }
  for (const auto& [name, value] : given) {
    const InputSpec* input = g_.spec.find_input(name);
    if (!input) {
      warn("the tube " + g_.spec.id + " declares no input \"" + name + "\"; it is ignored");
      continue;
    }
    check_input_type(*input, value);
    g_.inputs.set(name, value);
  }
  for (std::uint32_t i = 0; i < g_.spec.input.size(); ++i) {
    const InputSpec& input = g_.spec.input[i];
    if (!input.fallback.is_none()) check_default(input);
    if (input.scope == InputScope::process) g_.process_inputs.push_back(i);
    if (g_.inputs.contains(input.id)) continue;
    if (!input.required) {
      if (input.scope == InputScope::tube || !input.fallback.is_none()) g_.inputs.set(input.id, input.fallback);
    } else if (input.scope == InputScope::tube) {
      throw InputMissingError("the tube " + g_.spec.id + " needs the input \"" + input.id + "\" (" + input.type + ")" +
                              (input.place.line ? ", declared at " + input.place.str() : std::string()));
    }
  }
}
void GraphBuilder::check_default(const InputSpec& input) {
  try {
    check_input_type(input, input.fallback);
  } catch (const Error& e) {
    throw SpecError(input.place, "input." + input.id + ".default", e.what());
  }
}
Value GraphBuilder::look_up_input(const std::string& name, const Place& place, const std::string& key) const {
  const InputSpec* input = g_.spec.find_input(name);
  if (!input) {
    std::vector<std::string> names;
    for (const InputSpec& i : g_.spec.input) names.push_back(i.id);
    throw SpecError(place, key, "there is no input \"" + name + "\"" + did_you_mean(name, names));
  }
  if (const Value* v = g_.inputs.find(name)) return *v;
  throw InputMissingError("the input \"" + name + "\" of the tube " + g_.spec.id +
                          " is given with each call of process(), but a param needs it when the tube is built");
}
Value GraphBuilder::resolve(const Value& v, const Place& place, const std::string& key) const {
  if (v.is<std::string>() && v.as<std::string>().starts_with("input."))
    return look_up_input(v.as<std::string>().substr(6), place, key);
  if (const List* list = v.find<List>()) {
    List made;
    for (const Value& item : *list) made.push_back(resolve(item, place, key));
    return made;
  }
  if (const Map* map = v.find<Map>()) {
    Map made;
    for (const auto& [name, item] : *map) made.set(name, resolve(item, place, key + "." + name));
    return made;
  }
  return v;
}
void GraphBuilder::check_value(const Slot& slot, const Value& value, const Place& place, const std::string& key) {
  if (!slot.check) return;
  try {
    slot.check(value);
  } catch (const Error& e) {
    throw SpecError(place, key, e.what());
  }
}
void check_input_type(const InputSpec& spec, const Value& value) {
  bool known = false;
  if (!input_takes(spec.type, value, known))
    throw Error(Errc::wrong_type, "the input \"" + spec.id + "\" takes " + spec.type + ", found " + value.repr());
}

std::shared_ptr<const Graph> build_graph(TubeSpec spec, const Map& inputs) {
  return GraphBuilder(std::move(spec), inputs).build();
}

}  // namespace caller::tube::detail
