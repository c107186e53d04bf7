#include "foreign.hpp"

#include <memory>
#include <utility>
#include <vector>

#include <caller/tube/codec.hpp>
#include <caller/tube/registry.hpp>

#include "wire.hpp"

namespace caller::tube::detail {

namespace {

/// As it is, if it can cross; else something that says what it was. Only a process that has the type needs it.
Value crossing(const Value& value) {
  try {
    (void)to_cbor(value);
    return value;
  } catch (const Error&) {
    return Value(Elsewhere{type_name(value.type())});
  }
}

List slots_as_list(const std::vector<Slot>& slots) {
  List list;
  for (const Slot& s : slots) {
    Map one{{"name", s.name}, {"type", s.type}, {"optional", s.optional}, {"reference", s.reference}};
    if (s.fallback) one.set("fallback", crossing(*s.fallback));
    list.push_back(std::move(one));
  }
  return list;
}
std::vector<Slot> slots_from(const Value& list) {
  std::vector<Slot> slots;
  for (const Value& v : list.items()) {
    Slot s;
    s.name = v["name"].as<std::string>();
    s.type = v["type"].as<std::string>();
    s.optional = v["optional"].to<bool>();
    s.reference = v["reference"].to<bool>();
    const Map one = v.entries();
    if (const Value* fallback = one.find("fallback")) s.fallback = *fallback;
    slots.push_back(std::move(s));
  }
  return slots;
}

Map node_type_as_map(const NodeType& t) {
  List signals;
  for (const Signal& s : t.signals) {
    Map one{{"name", s.name}, {"type", s.type}};
    one.set("object", s.object != nullptr);
    signals.push_back(std::move(one));
  }
  return Map{{"slots", slots_as_list(t.slots)},
             {"params", slots_as_list(t.params)},
             {"signals", std::move(signals)},
             {"stateful", t.stateful},
             {"source", t.source},
             {"coroutine", t.coroutine},
             {"takes_args", t.takes_args},
             {"takes_kwargs", t.takes_kwargs},
             {"any_params", t.any_params},
             {"params_are_slots", t.params_are_slots}};
}
NodeType node_type_from(const std::string& name, const Value& v) {
  NodeType t;
  t.name = name;
  t.slots = slots_from(v["slots"]);
  t.params = slots_from(v["params"]);
  for (const Value& s : v["signals"].items())
    t.signals.push_back({s["name"].as<std::string>(), s["type"].as<std::string>(),
                         s["object"].to<bool>() ? &typeid(Elsewhere) : nullptr});
  const auto flag = [&](const char* key) { return v[key].to<bool>(); };
  t.stateful = flag("stateful");
  t.source = flag("source");
  t.coroutine = flag("coroutine");
  t.takes_args = flag("takes_args");
  t.takes_kwargs = flag("takes_kwargs");
  t.any_params = flag("any_params");
  t.params_are_slots = flag("params_are_slots");
  t.make = [name](const Params&) -> std::unique_ptr<Node> {
    throw Error(Errc::not_found, "the type \"" + name + "\" is another process's");
  };
  return t;
}

/// Made like any asset of the tube, and never opened, as no node that is here uses it.
class ForeignAsset final : public AssetInstance {
public:
  explicit ForeignAsset(std::string name) : name_(std::move(name)) {}
  Value open(const RunnerContext&) override {
    throw Error(Errc::not_found, "the asset \"" + name_ + "\" is another process's");
  }

private:
  std::string name_;
};

void collect(const Graph& g, Map& nodes, Map& assets) {
  for (const NodePlan& n : g.nodes) {
    if (n.child) collect(*n.child, nodes, assets);
    // Those that ask the specification for their slots are built in, or a plugin's.
    if (n.special != NodeType::Special::none || n.type->shape || nodes.contains(n.type->name)) continue;
    nodes.append(n.type->name, node_type_as_map(*n.type));
  }
  for (const AssetPlan& a : g.assets)
    if (!assets.contains(a.type->name))
      assets.append(a.type->name, Map{{"type", a.type->type}, {"params", slots_as_list(a.type->params)}});
}

}  // namespace

Map types_of(const Graph& g) {
  Map nodes, assets;
  collect(g, nodes, assets);
  return Map{{"nodes", std::move(nodes)}, {"assets", std::move(assets)}};
}

std::set<std::string> add_foreign_types(const Map& types) {
  std::set<std::string> added;
  for (const auto& [name, type] : types.at("nodes").entries()) {
    if (registry().find(name)) continue;
    registry().insert(node_type_from(name, type));
    added.insert(name);
  }
  for (const auto& [name, described] : types.at("assets").entries()) {
    if (registry().find_asset(name)) continue;
    AssetType t;
    t.name = name;
    t.type = described["type"].as<std::string>();
    t.params = slots_from(described["params"]);
    t.make = [its = name](const Params&) { return std::make_unique<ForeignAsset>(its); };
    registry().insert(std::move(t));
    added.insert(name);
  }
  return added;
}

}  // namespace caller::tube::detail
