#include "graph.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <mutex>
#include <optional>
#include <queue>
#include <unordered_set>
#include <utility>

#include <caller/tube/registry.hpp>

#include "words.hpp"

namespace caller::tube {

namespace {
struct Warnings {
  std::mutex mutex;
  std::function<void(const std::string&)> handler;
};
Warnings& warnings() {
  static Warnings w;
  return w;
}
}  // namespace

void set_warning_handler(std::function<void(const std::string&)> handler) {
  const std::lock_guard lock(warnings().mutex);
  warnings().handler = std::move(handler);
}
void warn(const std::string& message) {
  std::function<void(const std::string&)> handler;
  {
    const std::lock_guard lock(warnings().mutex);
    handler = warnings().handler;
  }
  if (handler)
    handler(message);
  else
    std::fprintf(stderr, "warning: %s\n", message.c_str());
}

namespace detail {

namespace {

using Special = NodeType::Special;

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

class Builder {
public:
  Builder(TubeSpec spec, const Map& inputs) : graph_(std::make_shared<Graph>()), g_(*graph_) {
    g_.spec = std::move(spec);
    take_inputs(inputs);
  }

  std::shared_ptr<const Graph> build() {
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

private:
  const NodeSpec& spec_of(std::uint32_t n) const { return g_.spec.nodes[n]; }
  static std::string key_of(const NodeSpec& node) { return "nodes." + node.id; }

  // ---------------------------------------------------------------------------------------------- inputs
  void take_inputs(const Map& given) {
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
      bool known = false;
      (void)input_takes(input.type, Value(), known);
      if (!known)
        throw SpecError(input.place, "input." + input.id + ".type",
                        "unknown type \"" + input.type + "\"" +
                            did_you_mean(input.type, {"int", "float", "str", "bool", "list", "dict", "any"}));
      if (!input.fallback.is_none()) check_default(input);
      if (input.scope == InputScope::process) g_.process_inputs.push_back(i);
      if (g_.inputs.contains(input.id)) continue;
      if (!input.required) {
        if (input.scope == InputScope::tube || !input.fallback.is_none()) g_.inputs.set(input.id, input.fallback);
      } else if (input.scope == InputScope::tube) {
        throw InputMissingError("the tube " + g_.spec.id + " needs the input \"" + input.id + "\" (" + input.type +
                                ")" + (input.place.line ? ", declared at " + input.place.str() : std::string()));
      }
    }
  }
  static void check_default(const InputSpec& input) {
    try {
      check_input_type(input, input.fallback);
    } catch (const Error& e) {
      throw SpecError(input.place, "input." + input.id + ".default", e.what());
    }
  }
  /// The input's value where a param says `input.x`.
  Value look_up_input(const std::string& name, const Place& place, const std::string& key) const {
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
  Value resolve(const Value& v, const Place& place, const std::string& key) const {
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
  template <class Spec>
  Params resolved_params(const Spec& spec, const std::string& key) const {
    Params params;
    for (const auto& [name, value] : spec.params)
      params.set(name, resolve(value, place_of(spec, name), key + ".params." + name));
    return params;
  }
  template <class Spec>
  static Place place_of(const Spec& spec, const std::string& param) {
    const auto found = spec.param_places.find(param);
    return found == spec.param_places.end() ? spec.place : found->second;
  }
  template <class Spec>
  static void check_params(const Spec& spec, const std::string& key, const std::vector<Slot>& known,
                           const Params& params, const std::string& type) {
    std::vector<std::string> names;
    for (const Slot& s : known) names.push_back(s.name);
    for (const auto& [name, value] : params) {
      const auto slot = std::find_if(known.begin(), known.end(), [&, &n = name](const Slot& s) { return s.name == n; });
      if (slot == known.end())
        throw SpecError(place_of(spec, name), key + ".params." + name,
                        "the type " + type + " has no param \"" + name + "\"" + did_you_mean(name, names) +
                            (names.empty() ? " (it has none)" : " (known: " + listed(names) + ")"));
      check_value(*slot, value, place_of(spec, name), key + ".params." + name);
    }
  }
  static void check_value(const Slot& slot, const Value& value, const Place& place, const std::string& key) {
    if (!slot.check) return;
    try {
      slot.check(value);
    } catch (const Error& e) {
      throw SpecError(place, key, e.what());
    }
  }

  // ---------------------------------------------------------------------------------------------- nodes
  void add_node(const NodeSpec& spec) {
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
  std::shared_ptr<const Shape> shape_of(const NodeType& type) {
    std::shared_ptr<const Shape>& known = shapes_[&type];
    if (!known) {
      auto made = std::make_shared<Shape>(Shape{type.slots, {}, type.signals});
      for (const Slot& s : made->slots) made->slot_names.push_back(s.name);
      known = std::move(made);
    }
    return known;
  }
  /// A copy for this node alone, which others of its type do not share.
  static Shape& own_shape(NodePlan& node) {
    auto made = std::make_shared<Shape>(*node.shape);
    Shape& shape = *made;
    shape.slot_names.clear();  // connect() writes them
    node.shape = std::move(made);
    return shape;
  }
  bool is_enabled(const NodeSpec& spec) const {
    if (const bool* fixed = std::get_if<bool>(&spec.enabled)) return *fixed;
    const std::string& name = std::get<std::string>(spec.enabled);
    const Value v = look_up_input(name, spec.place, key_of(spec) + ".enabled");
    if (!v.is<bool>())
      throw SpecError(spec.place, key_of(spec) + ".enabled",
                      "expected the input \"" + name + "\" to be true or false, found " + v.repr());
    return v.as<bool>();
  }
  void shape_gather(const NodeSpec& spec, NodePlan& node) {
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
        throw SpecError(place_of(spec, "n"), key_of(spec) + ".params.n",
                        "expected at least 1, found " + n_param->repr());
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
  void shape_tube(const NodeSpec& spec, NodePlan& node) {
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
  static TubeSpec load_child(const std::string& source, const Place& place, const std::string& key) {
    try {
      return TubeSpec::from_any(source);
    } catch (const SpecError&) {
      throw;
    } catch (const Error& e) {
      throw SpecError(place, key, e.what());
    }
  }

  // ---------------------------------------------------------------------------------------------- edges
  Source source_of(const NodeSpec& spec, const Depend& d) {
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
  std::uint32_t signal_of(const Depend& d, const char* of, const std::string& id) const {
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
  void connect(std::uint32_t n) {
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
  /// Slots without an edge take their param, then their default.
  static void fill_rest(NodePlan& node, const NodeSpec& spec, const std::vector<bool>& filled) {
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
  static std::uint32_t add_fixed(NodePlan& node, const Value& v) {
    node.fixed.push_back(v);
    return static_cast<std::uint32_t>(node.fixed.size() - 1);
  }
  static void add_once(std::vector<std::uint32_t>& list, std::uint32_t item) {
    if (std::find(list.begin(), list.end(), item) == list.end()) list.push_back(item);
  }

  // ---------------------------------------------------------------------------------------------- order
  template <class Each>
  void each_source(const NodePlan& node, Each&& each) const {
    for (const std::vector<Source>* list : {&node.args, &node.positional})
      for (const Source& s : *list)
        if (s.from == Source::From::signal) each(s);
    if (node.returns)
      for (const ReturnPlan& r : g_.returns)
        if (r.source.from == Source::From::signal) each(r.source);
  }
  void sort() {
    std::vector<std::uint32_t> waits(g_.nodes.size(), 0);
    std::vector<std::vector<std::uint32_t>> next(g_.nodes.size());
    for (std::uint32_t n = 0; n < g_.nodes.size(); ++n)
      each_source(g_.nodes[n], [&](const Source& s) {
        next[g_.signals[s.index].node].push_back(n);
        ++waits[n];
      });
    std::queue<std::uint32_t> ready;
    for (std::uint32_t n = 0; n < g_.nodes.size(); ++n)
      if (waits[n] == 0) ready.push(n);
    while (!ready.empty()) {
      const std::uint32_t n = ready.front();
      ready.pop();
      g_.order.push_back(n);
      for (const std::uint32_t m : next[n]) {
        g_.nodes[m].generation = std::max(g_.nodes[m].generation, g_.nodes[n].generation + 1);
        if (--waits[m] == 0) ready.push(m);
      }
    }
    if (g_.order.size() < g_.nodes.size()) report_cycle(waits);
    // By generation, and within one as written: the order in which one thread runs the nodes.
    std::stable_sort(g_.order.begin(), g_.order.end(), [&](std::uint32_t a, std::uint32_t b) {
      return std::pair(g_.nodes[a].generation, a) < std::pair(g_.nodes[b].generation, b);
    });
  }
  [[noreturn]] void report_cycle(const std::vector<std::uint32_t>& waits) const {
    // Every node left waits for another one left: going backwards must come to one twice.
    std::uint32_t n = 0;
    while (waits[n] == 0) ++n;
    std::vector<std::uint32_t> way;
    while (std::find(way.begin(), way.end(), n) == way.end()) {
      way.push_back(n);
      std::uint32_t before = kNone;
      each_source(g_.nodes[n], [&](const Source& s) {
        if (const std::uint32_t from = g_.signals[s.index].node; before == kNone && waits[from] > 0) before = from;
      });
      n = before;
    }
    way.erase(way.begin(), std::find(way.begin(), way.end(), n));
    std::reverse(way.begin(), way.end());
    std::string path;
    for (const std::uint32_t m : way) path += g_.nodes[m].id + " → ";
    const NodeSpec& first = spec_of(way.front());
    throw SpecError(first.depends_place, key_of(first) + ".depends", "a cycle: " + path + g_.nodes[way.front()].id);
  }

  // ---------------------------------------------------------------------------------------------- regions
  void find_regions() {
    g_.regions.emplace_back();
    for (const std::uint32_t n : g_.order) {
      NodePlan& node = g_.nodes[n];
      each_source(node, [&](const Source& s) {
        const std::uint32_t region = g_.signals[s.index].region;
        if (node.returns) return;  // it collects from everywhere
        if (g_.within(region, node.region))
          node.region = region;
        else if (!g_.within(node.region, region)) {
          const NodeSpec& spec = spec_of(n);
          throw SpecError(spec.depends_place, key_of(spec) + ".depends",
                          "the node \"" + node.id + "\" is below two maps that are not inside of each other, \"" +
                              map_name(node.region) + "\" and \"" + map_name(region) + "\"; gather one of them first");
        }
      });
      std::uint32_t seen_in = node.region;
      if (node.special == Special::map) {
        seen_in = node.maps_to = static_cast<std::uint32_t>(g_.regions.size());
        Region region;
        region.map = n;
        region.parent = node.region;
        region.number = static_cast<std::uint32_t>(g_.regions[node.region].inner.size());
        region.depth = g_.regions[node.region].depth + 1;
        g_.regions[node.region].inner.push_back(seen_in);
        g_.regions.push_back(std::move(region));
      } else if (node.special == Special::gather && node.region != 0) {
        seen_in = g_.regions[node.region].parent;
      }
      if (!node.returns) {
        node.place = static_cast<std::uint32_t>(g_.regions[node.region].nodes.size());
        g_.regions[node.region].nodes.push_back(n);
      }
      for (std::uint32_t i = 0; i < node.signals; ++i) {
        SignalPlan& signal = g_.signals[node.first_signal + i];
        signal.region = seen_in;
        signal.cell = static_cast<std::uint32_t>(g_.regions[seen_in].signals.size());
        g_.regions[seen_in].signals.push_back(node.first_signal + i);
      }
    }
  }
  const std::string& map_name(std::uint32_t region) const { return g_.nodes[g_.regions[region].map].id; }

  /// What is made once, from its params, must be given all of them that have no default.
  static void need_params(const Place& place, const std::string& key, const std::vector<Slot>& slots, const Map& params,
                          const std::string& type) {
    for (const Slot& slot : slots)
      if (!slot.fallback && !slot.optional && !params.contains(slot.name))
        throw SpecError(place, key, "the type " + type + " needs the param \"" + slot.name + "\" (" + slot.type + ")");
  }

  // ---------------------------------------------------------------------------------------------- assets
  void add_assets() {
    for (const AssetSpec& spec : g_.spec.assets) {
      AssetPlan asset;
      asset.id = spec.id;
      asset.scope = spec.scope;
      asset.type = registry().find_asset(spec.type);
      const std::string key = "assets." + spec.id;
      if (!asset.type)
        throw SpecError(spec.type_place, key + ".type",
                        "unknown type of asset \"" + spec.type + "\"" +
                            did_you_mean(spec.type, registry().similar(spec.type, true)));
      asset.params = resolved_params(spec, key);
      check_params(spec, key, asset.type->params, asset.params, spec.type);
      need_params(spec.place, key, asset.type->params, asset.params, spec.type);
      g_.assets.push_back(std::move(asset));
    }
  }
  /// Assets that take the value of a signal at the end of an epoch. Who uses such an asset must do so before that value
  /// exists.
  void keep_assets() {
    for (std::uint32_t a = 0; a < g_.assets.size(); ++a) {
      const AssetSpec& spec = g_.spec.assets[a];
      AssetPlan& asset = g_.assets[a];
      if (asset.scope == AssetScope::runner) g_.sequential = true;
      if (!spec.depends) continue;
      asset.keeps = signal_of(*spec.depends, "assets.", asset.id);
      SignalPlan& signal = g_.signals[asset.keeps];
      if (signal.region != 0)
        throw SpecError(
            spec.depends->place, "assets." + asset.id + ".depends",
            "the signal is below the map \"" + map_name(signal.region) + "\": an asset keeps one value an epoch");
      signal.kept = true;
      asset.copies = !signal.consumers.empty();
      const NodePlan& keeper = g_.nodes[signal.node];
      for (std::uint32_t n = 0; n < g_.nodes.size(); ++n) {
        const NodePlan& user = g_.nodes[n];
        if (n == signal.node ||
            std::find(user.assets_used.begin(), user.assets_used.end(), a) == user.assets_used.end())
          continue;
        if (user.generation >= keeper.generation)
          throw SpecError(spec_of(n).depends_place, key_of(spec_of(n)) + ".depends",
                          "the asset \"" + asset.id + "\" is used in the same generation as \"" + keeper.id +
                              "\", or after it, but it takes its next value from there; depend on " + keeper.id + "." +
                              spec.depends->signal + " instead");
      }
    }
  }
  /// Nodes that share an asset take turns, in the order in which one thread runs them.
  void order_asset_users() {
    for (std::uint32_t a = 0; a < g_.assets.size(); ++a) {
      if (g_.assets[a].scope == AssetScope::node) continue;
      std::uint32_t before = kNone;
      for (const std::uint32_t n : g_.order) {
        NodePlan& node = g_.nodes[n];
        if (std::find(node.assets_used.begin(), node.assets_used.end(), a) == node.assets_used.end()) continue;
        node.stateful = true;  // what it does depends on who used the asset before
        if (before != kNone) {
          NodePlan& first = g_.nodes[before];
          if (g_.within(node.region, first.region))
            add_once(first.order_before, n);
          else if (g_.within(first.region, node.region))
            add_once(first.order_closing, n);
        }
        before = n;
      }
    }
  }

  void plan_return() {
    for (ReturnPlan& r : g_.returns)
      r.many = r.source.from == Source::From::signal && g_.signals[r.source.index].region != 0;
  }

  std::shared_ptr<Graph> graph_;
  Graph& g_;
  std::unordered_map<const NodeType*, std::shared_ptr<const Shape>> shapes_;
};

}  // namespace

void check_input_type(const InputSpec& spec, const Value& value) {
  bool known = false;
  if (!input_takes(spec.type, value, known))
    throw Error(Errc::wrong_type, "the input \"" + spec.id + "\" takes " + spec.type + ", found " + value.repr());
}

std::shared_ptr<const Graph> build_graph(TubeSpec spec, const Map& inputs) {
  return Builder(std::move(spec), inputs).build();
}

}  // namespace detail
}  // namespace caller::tube
