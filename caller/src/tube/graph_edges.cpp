// Where each argument of each node comes from.
#include <utility>

#include "graph_builder.hpp"

namespace caller::tube::detail {

Source GraphBuilder::source_of(const NodeSpec& spec, const Depend& d) {
  Source source;
  if (d.node == "input") {
    const InputSpec& input = *g_.spec.find_input(d.signal);
    if (input.scope == InputScope::tube) {
      // The value is known now: it is a fixed argument, and the caller of this function stores it.
      source.from = Source::From::fixed;
      return source;
    }
    source.from = Source::From::input;
    for (std::uint32_t i = 0; i < g_.process_inputs.size(); ++i)
      if (g_.spec.input[g_.process_inputs[i]].id == d.signal) source.index = i;
    return source;
  }
  if (d.node == "assets") {
    source.from = Source::From::asset;
    for (std::uint32_t i = 0; i < g_.assets.size(); ++i)
      if (g_.assets[i].id == d.signal) source.index = i;
    return source;
  }
  source.from = Source::From::signal;
  source.index = signal_of(d, "nodes.", spec.id);
  return source;
}
std::uint32_t GraphBuilder::signal_of(const Depend& d, const char* of, const std::string& id) const {
  const NodePlan& from = g_.nodes[g_.by_id.at(d.node)];
  for (std::uint32_t i = 0; i < from.signals; ++i)
    if (from.shape->signals[i].name == d.signal) return from.first_signal + i;
  std::vector<std::string> names;
  for (const Signal& s : from.shape->signals) names.push_back(s.name);
  throw SpecError(d.place, of + id + ".depends",
                  "the node \"" + d.node + "\" (" + from.type->name + ") has no signal \"" + d.signal + "\"" +
                      did_you_mean(d.signal, names) +
                      (names.empty() ? "; it has none" : " (it has " + listed(names) + ")"));
}
void GraphBuilder::connect(std::uint32_t n) {
  NodePlan& node = g_.nodes[n];
  const NodeSpec& spec = spec_of(n);
  const auto key = [&] { return key_of(spec) + ".depends"; };
  Shape* own = nullptr;  // once keywords of a pack are among the slots
  const auto slots = [&]() -> const std::vector<Slot>& { return node.shape->slots; };
  const std::size_t declared = slots().size();
  node.args.resize(declared);
  std::vector<bool> filled(declared, false);
  const auto fill = [&](std::vector<Source>& to, std::size_t at, const Depend& d, const Slot* slot) {
    Source source = source_of(spec, d);
    source.required = !slot || !slot->optional;
    if (source.from == Source::From::fixed) {
      const Value* v = g_.inputs.find(d.signal);
      source.index = add_fixed(node, *v);
      if (slot) check_value(*slot, *v, d.place, key());
    } else if (source.from == Source::From::signal) {
      g_.signals[source.index].consumers.push_back({n, source.required});
    } else if (source.from == Source::From::asset) {
      AssetPlan& asset = g_.assets[source.index];
      if (asset.scope == AssetScope::node)
        add_once(node.node_assets, source.index);
      else
        add_once(node.assets_used, source.index);
    }
    if (to.size() <= at) to.resize(at + 1);
    to[at] = source;
  };
  if (node.type->source && !spec.depends.empty())
    throw SpecError(spec.depends_place, key(),
                    "the node \"" + node.id + "\" (" + node.type->name + ") is a source: it takes nothing");
  std::size_t position = 0;
  for (const Depend& d : spec.depends) {
    if (node.returns) {
      ReturnPlan r;
      r.key = d.slot.value_or("");
      r.source = source_of(spec, d);
      if (r.source.from == Source::From::fixed) r.source.index = add_fixed(node, *g_.inputs.find(d.signal));
      r.source.required = !d.slot;
      g_.returns.push_back(std::move(r));
      g_.return_is_scalar = spec.depends_is_scalar;
      continue;
    }
    if (!d.slot) {
      if (position < declared) {
        filled[position] = true;
        Slot always = slots()[position];
        always.optional = false;  // positional arguments are always required
        fill(node.args, position, d, &always);
      } else if (node.type->takes_args) {
        fill(node.positional, position - declared, d, nullptr);
      } else {
        throw SpecError(d.place, key(),
                        "too many positional arguments: the type " + node.type->name + " has " +
                            std::to_string(declared) + (declared == 1 ? " slot" : " slots"));
      }
      ++position;
      continue;
    }
    std::size_t at = 0;
    while (at < slots().size() && slots()[at].name != *d.slot) ++at;
    if (at == slots().size()) {
      if (!node.type->takes_kwargs) {
        std::vector<std::string> names;
        for (const Slot& s : slots()) names.push_back(s.name);
        throw SpecError(d.place, key(),
                        "the type " + node.type->name + " has no slot \"" + *d.slot + "\"" +
                            did_you_mean(*d.slot, names) +
                            (names.empty() ? " (it has none)" : " (known: " + listed(names) + ")"));
      }
      Slot extra;
      extra.name = *d.slot;
      extra.type = "any";
      extra.optional = true;
      if (!own) own = &own_shape(node);
      own->slots.push_back(std::move(extra));
      filled.push_back(false);
      node.args.resize(slots().size());
    }
    if (filled[at]) throw SpecError(d.place, key(), "the slot \"" + *d.slot + "\" is filled twice");
    filled[at] = true;
    fill(node.args, at, d, &slots()[at]);
  }
  if (node.returns && spec.depends.empty())
    throw SpecError(spec.place, key_of(spec), "a return node needs depends: what it returns");
  fill_rest(node, spec, filled);
  if (node.shape->slot_names.size() != slots().size()) {
    if (!own) own = &own_shape(node);
    for (const Slot& s : own->slots) own->slot_names.push_back(s.name);
  }
}
void GraphBuilder::fill_rest(NodePlan& node, const NodeSpec& spec, const std::vector<bool>& filled) {
  for (std::size_t i = 0; i < node.shape->slots.size(); ++i) {
    const Slot& slot = node.shape->slots[i];
    const Value* param = node.type->params_are_slots ? node.params.find(slot.name) : nullptr;
    if (filled[i]) {
      if (param)
        throw SpecError(place_of(spec, slot.name), key_of(spec) + ".params." + slot.name,
                        "the slot \"" + slot.name + "\" is filled by an edge already");
      continue;
    }
    Source source;
    source.from = Source::From::fixed;
    if (param)
      source.index = add_fixed(node, *param);
    else if (slot.fallback)
      source.index = add_fixed(node, *slot.fallback);
    else if (slot.optional)
      source.from = Source::From::nothing;
    else
      throw SpecError(spec.place, key_of(spec),
                      "the slot \"" + slot.name + "\" (" + slot.type + ") of the type " + node.type->name +
                          " is filled by no edge and no param, and has no default");
    node.args[i] = source;
  }
}
std::uint32_t GraphBuilder::add_fixed(NodePlan& node, const Value& v) {
  node.fixed.push_back(v);
  return static_cast<std::uint32_t>(node.fixed.size() - 1);
}
void GraphBuilder::add_once(std::vector<std::uint32_t>& list, std::uint32_t item) {
  if (std::find(list.begin(), list.end(), item) == list.end()) list.push_back(item);
}
}  // namespace caller::tube::detail
