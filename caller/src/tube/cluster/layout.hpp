// Which node runs in which process, and what each process must know of the tube.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <caller/tube/cluster.hpp>

#include "../graph.hpp"

namespace caller::tube::detail {

/// Maps, and gathers inside of maps, keep nothing from one epoch to the next: every process works them out for itself.
/// Every other node has an owner.
inline constexpr std::uint32_t kEverywhere = kNone;
inline constexpr std::uint32_t kRunner = kNone - 1;  ///< the runner's own process
bool is_replicated(const Graph& g, std::uint32_t node) noexcept;

struct Layout {
  std::vector<std::uint32_t> owner;                 ///< by node: a process, kRunner or kEverywhere
  std::vector<std::vector<std::uint32_t>> nodes;    ///< by process
  std::vector<std::vector<std::uint32_t>> peers;    ///< by process: those that need what its nodes emit
  std::vector<std::vector<std::uint32_t>> sources;  ///< by process: those whose nodes' values it needs
  std::vector<std::uint8_t> uses_inputs;            ///< by process
  std::vector<std::uint8_t> must_cross;             ///< by signal: another process cannot do without the value
  std::vector<const ClusterGroup*> group;           ///< by process; null: none was given
  std::size_t processes() const noexcept { return nodes.size(); }
};

/// Errors: Error(not_found) for a group's node, Error(invalid_specification) for one in two groups, Error(wrong_type)
/// for a signal that cannot cross.
Layout lay_out(const Graph& g, const std::vector<ClusterGroup>& groups);

/// The owners as another process gets them. Errors: Error(wrong_type).
Layout layout_of(const Graph& g, std::vector<std::uint32_t> owner, std::size_t processes);

/// By process: whether it must be told of an epoch. The others hear of each one from a node of another process, which
/// emits, or says that it was skipped, in every epoch; they take no inputs and open nothing when an epoch begins.
/// `alive`: by node, see alive_nodes().
std::vector<std::uint8_t> to_be_told(const Graph& g, const Layout& layout, const std::vector<std::uint8_t>& alive);

/// The tube as one process sees it: nodes of others are sources of values, and what it does not need is not there.
struct Projection {
  std::shared_ptr<const Graph> graph;
  std::vector<std::uint8_t> needed;  ///< by node of the whole graph
};
Projection project(const Graph& g, const Layout& layout, std::uint32_t process);

/// A number that two processes agree on only if they read the same tube and know the same types.
std::uint64_t fingerprint(const Graph& g);

/// The specification as a map that TubeSpec::from_map() takes.
Map spec_map(const TubeSpec& spec);

}  // namespace caller::tube::detail
