// Makes a graph of a specification; whatever is wrong with it ends here, with its place.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "graph.hpp"
#include "words.hpp"

namespace caller::tube::detail {

class GraphBuilder {
public:
  GraphBuilder(TubeSpec spec, const Map& inputs) : graph_(std::make_shared<Graph>()), g_(*graph_) {
    g_.spec = std::move(spec);
    take_inputs(inputs);
  }
  std::shared_ptr<const Graph> build();

private:
  const NodeSpec& spec_of(std::uint32_t n) const { return g_.spec.nodes[n]; }
  static std::string key_of(const NodeSpec& node) { return "nodes." + node.id; }

  // ---- inputs and params: graph.cpp ----
  void take_inputs(const Map& given);
  static void check_default(const InputSpec& input);
  /// The input's value where a param says `input.x`.
  Value look_up_input(const std::string& name, const Place& place, const std::string& key) const;
  Value resolve(const Value& v, const Place& place, const std::string& key) const;
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
  static void check_value(const Slot& slot, const Value& value, const Place& place, const std::string& key);

  // ---- nodes and assets: graph_nodes.cpp ----
  void add_node(const NodeSpec& spec);
  std::shared_ptr<const Shape> shape_of(const NodeType& type);
  /// A copy for this node alone, which others of its type do not share.
  static Shape& own_shape(NodePlan& node);
  bool is_enabled(const NodeSpec& spec) const;
  void shape_gather(const NodeSpec& spec, NodePlan& node);
  void shape_tube(const NodeSpec& spec, NodePlan& node);
  static TubeSpec load_child(const std::string& source, const Place& place, const std::string& key);
  /// What is made once, from its params, must be given all of them that have no default.
  static void need_params(const Place& place, const std::string& key, const std::vector<Slot>& slots, const Map& params,
                          const std::string& type);
  void add_assets();

  // ---- edges: graph_edges.cpp ----
  Source source_of(const NodeSpec& spec, const Depend& d);
  std::uint32_t signal_of(const Depend& d, const char* of, const std::string& id) const;
  void connect(std::uint32_t n);
  /// Slots without an edge take their param, then their default.
  static void fill_rest(NodePlan& node, const NodeSpec& spec, const std::vector<bool>& filled);
  static std::uint32_t add_fixed(NodePlan& node, const Value& v);
  static void add_once(std::vector<std::uint32_t>& list, std::uint32_t item);

  // ---- order, regions, and who uses assets: graph_order.cpp ----
  template <class Each>
  void each_source(const NodePlan& node, Each&& each) const {
    for (const std::vector<Source>* list : {&node.args, &node.positional})
      for (const Source& s : *list)
        if (s.from == Source::From::signal) each(s);
    if (node.returns)
      for (const ReturnPlan& r : g_.returns)
        if (r.source.from == Source::From::signal) each(r.source);
  }
  void sort();
  [[noreturn]] void report_cycle(const std::vector<std::uint32_t>& waits) const;
  void find_regions();
  const std::string& map_name(std::uint32_t region) const { return g_.nodes[g_.regions[region].map].id; }
  /// Assets that take the value of a signal at the end of an epoch. Who uses such an asset must do so before that value
  /// exists.
  void keep_assets();
  /// Nodes that share an asset take turns, in the order in which one thread runs them.
  void order_asset_users();
  void plan_return();

  std::shared_ptr<Graph> graph_;
  Graph& g_;
  std::unordered_map<const NodeType*, std::shared_ptr<const Shape>> shapes_;
};

}  // namespace caller::tube::detail
