// A tube: a specification whose types are known and whose nodes are connected, ready for a runner.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <caller/export.hpp>
#include <caller/tube/node.hpp>
#include <caller/tube/spec.hpp>

namespace caller::tube {

namespace detail {
struct Graph;
}

/// A node of a built tube. Source: noob NodeInfo.
struct NodeInfo {
  std::string id, type, description;
  std::vector<Slot> slots;
  std::vector<Signal> signals;
  bool stateful = false;
  bool enabled = true;
  std::vector<std::string> below_maps;  ///< the maps whose items it runs for, outermost first
};

/// A connection of a built tube. Source: noob Edge.
struct Edge {
  std::string source_node, source_signal, target_node;
  std::string target_slot;  ///< the slot's name; for arguments beyond the slots their number
  bool required = true;
};

/// A tube, built and checked. Cheap to copy: copies are the same tube. Nodes at work belong to runners, so several
/// runners may run it.
///
/// Thread-safety: any thread.
/// Errors: SpecError, InputMissingError, Error(not_found).
/// Source: noob Tube; differs: noob's tube holds the nodes at work.
class CALLER_API Tube {
public:
  /// An id, a path or YAML text (which has more than one line); `inputs`: the tube-scoped ones.
  static Tube from_any(std::string_view source, const Map& inputs = {});
  static Tube from_any(const Map& specification, const Map& inputs = {});
  static Tube from_spec(TubeSpec spec, const Map& inputs = {});

  const std::string& id() const noexcept;
  const TubeSpec& spec() const noexcept;
  const Map& inputs() const noexcept;
  std::vector<NodeInfo> nodes() const;
  std::vector<Edge> edges() const;
  std::vector<Edge> in_edges(std::string_view node) const;
  std::vector<Edge> out_edges(std::string_view node) const;
  bool has_return() const noexcept;

  /// The nodes in layers: each depends only on layers before its own. Source: noob Scheduler's generations.
  std::vector<std::vector<std::string>> generations() const;
  /// All nodes that `node` depends on, directly or not, in the order of the specification. Errors: Error(not_found).
  std::vector<std::string> upstream(std::string_view node) const;
  std::vector<std::string> downstream(std::string_view node) const;
  /// The graph in the language of Graphviz; `caller tube plot` draws it.
  std::string dot() const;

  /// For runners. The graph is no part of the interface.
  explicit Tube(std::shared_ptr<const detail::Graph> graph) noexcept : graph_(std::move(graph)) {}
  const std::shared_ptr<const detail::Graph>& graph() const noexcept { return graph_; }

private:
  std::shared_ptr<const detail::Graph> graph_;
};

/// Who is told of what is odd but no error, like an input that no tube declares. Without one it goes to standard error.
/// Thread-safety: any thread. Source: Python's warnings, noob ExtraInputWarning.
CALLER_API void set_warning_handler(std::function<void(const std::string&)> handler);
CALLER_API void warn(const std::string& message);

}  // namespace caller::tube
