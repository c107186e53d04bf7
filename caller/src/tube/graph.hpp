// The graph behind a Tube: everything by number, so that running it looks nothing up.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <caller/tube/node.hpp>
#include <caller/tube/spec.hpp>
#include <caller/tube/tube.hpp>

namespace caller::tube::detail {

inline constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

/// Where an argument comes from.
struct Source {
  enum class From : std::uint8_t { nothing, signal, fixed, input, asset };
  From from = From::nothing;
  bool required = true;
  std::uint32_t index = 0;  ///< of the signal, the fixed value of the node, the process input, the asset
};

struct Consumer {
  std::uint32_t node;
  bool required;
};

/// A signal of a node. It belongs to the region where its consumers see it: a map's signals to its items, a gather's to
/// the epoch around them.
struct SignalPlan {
  std::uint32_t node;
  std::uint32_t region;
  std::uint32_t cell;  ///< its number in the region
  std::vector<Consumer> consumers;
  bool kept = false;  ///< an asset takes its value at the end of each epoch
};

/// What calls of a node look like; nodes of one type share it.
struct Shape {
  std::vector<Slot> slots;  ///< declared ones, then keywords of a pack
  std::vector<std::string> slot_names;
  std::vector<Signal> signals;
};

/// What every call needs comes first, in two cache lines: of thousands of nodes the rest does not fit a cache.
struct alignas(64) NodePlan {
  NodeType::Special special = NodeType::Special::none;
  bool stateful = false;
  bool enabled = true;   ///< as specified
  bool returns = false;  ///< the return node: collected, never called
  bool flatten = false;  ///< of a gather
  std::uint32_t region = 0;
  std::uint32_t place = 0;  ///< its number in the region
  std::uint32_t first_signal = 0;
  std::uint32_t signals = 0;
  std::vector<Source> args;                 ///< by slot
  std::vector<Source> positional;           ///< beyond the slots
  std::vector<std::uint32_t> node_assets;   ///< made anew for each call
  std::vector<std::uint32_t> order_before;  ///< nodes that wait for this one although no signal connects them

  std::vector<Value> fixed;
  std::string id;
  std::shared_ptr<const NodeType> type;
  std::shared_ptr<const Shape> shape;
  std::uint32_t maps_to = kNone;  ///< of a map: the region of its items
  std::uint32_t generation = 0;
  Params params;
  std::vector<std::uint32_t> order_closing;  ///< nodes around this one's region that wait for the end of all its items
  std::int64_t gather_n = 0;
  std::shared_ptr<const Graph> child;      ///< of a tube node
  std::vector<std::uint32_t> assets_used;  ///< of scope runner and process
};

/// The root epoch, or what runs for each item of a map.
struct Region {
  std::uint32_t map = kNone;
  std::uint32_t parent = kNone;
  std::uint32_t number = 0;  ///< among the regions directly inside its parent
  std::uint32_t depth = 0;
  std::vector<std::uint32_t> nodes, signals, inner;
};

struct AssetPlan {
  std::string id;
  AssetScope scope = AssetScope::runner;
  std::shared_ptr<const AssetType> type;
  Params params;
  std::uint32_t keeps = kNone;  ///< the signal whose value it takes at the end of an epoch
  bool copies = false;          ///< a copy, since others get that value, too
};

/// A keyword or position of the return node.
struct ReturnPlan {
  std::string key;  ///< empty: positional
  Source source;
  bool many = false;  ///< below a map: a list
};

struct Graph {
  TubeSpec spec;
  Map inputs;  ///< tube-scoped ones, defaults included
  std::vector<NodePlan> nodes;
  std::vector<SignalPlan> signals;
  std::vector<Region> regions;
  std::vector<AssetPlan> assets;
  std::vector<std::uint32_t> order;           ///< the nodes, each after those it depends on
  std::vector<std::uint32_t> process_inputs;  ///< the inputs of scope process, by their number in spec.input
  std::vector<ReturnPlan> returns;
  std::uint32_t return_node = kNone;
  bool return_is_scalar = false;
  bool sequential = false;  ///< epochs must not overlap: assets pass from one to the next
  std::unordered_map<std::string_view, std::uint32_t> by_id;

  std::uint32_t find(std::string_view id) const noexcept {
    const auto found = by_id.find(id);
    return found == by_id.end() ? kNone : found->second;
  }
  /// Whether `inner` is `outer` or lies inside of it.
  bool within(std::uint32_t inner, std::uint32_t outer) const noexcept {
    while (regions[inner].depth > regions[outer].depth) inner = regions[inner].parent;
    return inner == outer;
  }
};

/// Errors: SpecError, InputMissingError, Error(not_found).
std::shared_ptr<const Graph> build_graph(TubeSpec spec, const Map& inputs);

/// Throws unless `value` is what an input of that type takes.
void check_input_type(const InputSpec& spec, const Value& value);

}  // namespace caller::tube::detail
