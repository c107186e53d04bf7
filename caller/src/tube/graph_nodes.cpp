// What stands by itself: each node with its type, params and shape, each asset.
#include <algorithm>
#include <optional>
#include <utility>

#include <caller/tube/registry.hpp>

#include "graph_builder.hpp"

namespace caller::tube::detail {

using Special = NodeType::Special;

void GraphBuilder::add_node(const NodeSpec& spec) {
  NodePlan node;
  node.id = spec.id;
  node.type = registry().find(spec.type);
  if (!node.type) {
    std::vector<std::string> near = registry().similar(spec.type, false);
    throw SpecError(spec.type_place, key_of(spec) + ".type",
                    "unknown type \"" + spec.type + "\"" + did_you_mean(spec.type, near));
  }
  node.special = node.type->special;
  node.stateful = spec.stateful.value_or(node.type->stateful);
  node.params = resolved_params(spec, key_of(spec));
  node.shape = shape_of(*node.type);
  switch (node.special) {
    case Special::none:
      if (node.type->shape) {
        Shape& shape = own_shape(node);
        node.type->shape(spec, shape.slots, shape.signals);
      }
      if (!node.type->any_params)
        check_params(spec, key_of(spec), node.type->params_are_slots ? node.shape->slots : node.type->params,
                     node.params, spec.type);
      if (!node.type->any_params && !node.type->params_are_slots)
        need_params(spec.place, key_of(spec), node.type->params, node.params, spec.type);
      break;
    case Special::map:
      check_params(spec, key_of(spec), {}, node.params, spec.type);
      break;
    case Special::gather:
      shape_gather(spec, node);
      break;
    case Special::ret:
      check_params(spec, key_of(spec), {}, node.params, spec.type);
      node.returns = true;
      g_.return_node = static_cast<std::uint32_t>(g_.nodes.size());
      break;
    case Special::tube:
      shape_tube(spec, node);
      break;
  }
  node.enabled = is_enabled(spec);
  node.first_signal = static_cast<std::uint32_t>(g_.signals.size());
  node.signals = static_cast<std::uint32_t>(node.shape->signals.size());
  for (std::uint32_t i = 0; i < node.signals; ++i) {
    SignalPlan signal{};
    signal.node = static_cast<std::uint32_t>(g_.nodes.size());
    g_.signals.push_back(std::move(signal));
  }
  g_.nodes.push_back(std::move(node));
}
std::shared_ptr<const Shape> GraphBuilder::shape_of(const NodeType& type) {
  std::shared_ptr<const Shape>& known = shapes_[&type];
  if (!known) {
    auto made = std::make_shared<Shape>(Shape{type.slots, {}, type.signals});
    for (const Slot& s : made->slots) made->slot_names.push_back(s.name);
    known = std::move(made);
  }
  return known;
}
Shape& GraphBuilder::own_shape(NodePlan& node) {
  auto made = std::make_shared<Shape>(*node.shape);
  Shape& shape = *made;
  shape.slot_names.clear();  // connect() writes them
  node.shape = std::move(made);
  return shape;
}
bool GraphBuilder::is_enabled(const NodeSpec& spec) const {
  if (const bool* fixed = std::get_if<bool>(&spec.enabled)) return *fixed;
  const std::string& name = std::get<std::string>(spec.enabled);
  const Value v = look_up_input(name, spec.place, key_of(spec) + ".enabled");
  if (!v.is<bool>())
    throw SpecError(spec.place, key_of(spec) + ".enabled",
                    "expected the input \"" + name + "\" to be true or false, found " + v.repr());
  return v.as<bool>();
}
void GraphBuilder::shape_gather(const NodeSpec& spec, NodePlan& node) {
  Slot n = make_slot<std::int64_t>("n");
  Slot flatten = make_slot<bool>("flatten");
  check_params(spec, key_of(spec), {n, flatten}, node.params, spec.type);
  const bool n_edge =
      std::any_of(spec.depends.begin(), spec.depends.end(), [](const Depend& d) { return d.slot == "n"; });
  const auto trigger =
      std::find_if(spec.depends.begin(), spec.depends.end(), [](const Depend& d) { return d.slot == "trigger"; });
  const Value* n_param = node.params.find("n");
  if (n_param && n_param->is_none()) n_param = nullptr;
  if (n_param) {
    node.gather_n = n_param->to<std::int64_t>();
    if (node.gather_n < 1)
      throw SpecError(place_of(spec, "n"), key_of(spec) + ".params.n", "expected at least 1, found " + n_param->repr());
  }
  if (const Value* f = node.params.find("flatten")) node.flatten = f->to<bool>();
  if (trigger != spec.depends.end() && (n_edge || n_param))
    throw SpecError(trigger->place, key_of(spec), "a gather has either n or a trigger, not both");
  if (trigger == spec.depends.end() && !n_edge && !n_param)
    throw SpecError(spec.place, key_of(spec), "a gather needs the param n, or an edge to the slot n or trigger");
  if (n_edge && n_param)
    throw SpecError(place_of(spec, "n"), key_of(spec) + ".params.n", "the slot n is filled by an edge already");
  // Only the slots that edges fill exist: an unfilled n or trigger is not missing.
  std::erase_if(own_shape(node).slots, [&](const Slot& s) {
    return (s.name == "n" && !n_edge) || (s.name == "trigger" && trigger == spec.depends.end());
  });
}
void GraphBuilder::shape_tube(const NodeSpec& spec, NodePlan& node) {
  const Value* source = node.params.find("tube");
  const std::string key = key_of(spec) + ".params.tube";
  if (!source) throw SpecError(spec.place, key_of(spec), "a node of type tube needs the param tube");
  TubeSpec child;
  if (const Map* map = source->find<Map>())
    child = TubeSpec::from_map(*map);
  else if (source->is<std::string>())
    child = load_child(source->as<std::string>(), place_of(spec, "tube"), key);
  else
    throw SpecError(place_of(spec, "tube"), key, "expected an id, a path or a map, found " + source->repr());
  thread_local std::vector<std::string> chain;
  if (chain.empty()) chain.push_back(g_.spec.id);
  if (std::find(chain.begin(), chain.end(), child.id) != chain.end()) {
    std::string circle;
    for (const std::string& link : chain) circle += link + " → ";
    if (chain.size() == 1) chain.clear();
    throw SpecError(place_of(spec, "tube"), key, "a tube inside of itself: " + circle + child.id);
  }
  // A child takes the params of its node and the inputs of the tubes around it, as far as it declares them.
  Map inputs;
  for (const InputSpec& input : child.input) {
    if (const Value* v = node.params.find(input.id))
      inputs.set(input.id, *v);
    else if (const Value* outer = g_.inputs.find(input.id))
      inputs.set(input.id, *outer);
  }
  std::vector<std::string> names;
  for (const InputSpec& input : child.input) names.push_back(input.id);
  for (const auto& [name, value] : node.params)
    if (name != "tube" && !child.find_input(name))
      throw SpecError(place_of(spec, name), key_of(spec) + ".params." + name,
                      "the tube " + child.id + " has no input \"" + name + "\"" + did_you_mean(name, names));
  chain.push_back(child.id);
  struct Unchain {
    ~Unchain() {
      chain.pop_back();
      if (chain.size() == 1) chain.clear();
    }
  } unchain;
  node.child = build_graph(std::move(child), inputs);
  const Graph& c = *node.child;
  Shape& shape = own_shape(node);
  for (const std::uint32_t i : c.process_inputs) {
    const InputSpec& input = c.spec.input[i];
    Slot slot;
    slot.name = input.id;
    slot.type = input.type;
    slot.optional = !input.required || c.inputs.contains(input.id);
    shape.slots.push_back(std::move(slot));
  }
  const bool keyed =
      c.return_node != kNone && !c.return_is_scalar &&
      std::any_of(c.returns.begin(), c.returns.end(), [](const ReturnPlan& r) { return !r.key.empty(); });
  if (!keyed)
    shape.signals.push_back({"value", "any"});
  else
    for (const ReturnPlan& r : c.returns)
      if (!r.key.empty()) shape.signals.push_back({r.key, "any"});
}
TubeSpec GraphBuilder::load_child(const std::string& source, const Place& place, const std::string& key) {
  try {
    return TubeSpec::from_any(source);
  } catch (const SpecError&) {
    throw;
  } catch (const Error& e) {
    throw SpecError(place, key, e.what());
  }
}
void GraphBuilder::need_params(const Place& place, const std::string& key, const std::vector<Slot>& slots,
                               const Map& params, const std::string& type) {
  for (const Slot& slot : slots)
    if (!slot.fallback && !slot.optional && !params.contains(slot.name))
      throw SpecError(place, key, "the type " + type + " needs the param \"" + slot.name + "\" (" + slot.type + ")");
}
void GraphBuilder::add_assets() {
  for (const AssetSpec& spec : g_.spec.assets) {
    AssetPlan asset;
    asset.id = spec.id;
    asset.scope = spec.scope;
    asset.type = registry().find_asset(spec.type);
    const std::string key = "assets." + spec.id;
    if (!asset.type)
      throw SpecError(
          spec.type_place, key + ".type",
          "unknown type of asset \"" + spec.type + "\"" + did_you_mean(spec.type, registry().similar(spec.type, true)));
    asset.params = resolved_params(spec, key);
    check_params(spec, key, asset.type->params, asset.params, spec.type);
    need_params(spec.place, key, asset.type->params, asset.params, spec.type);
    g_.assets.push_back(std::move(asset));
  }
}
}  // namespace caller::tube::detail
