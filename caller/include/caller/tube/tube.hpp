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
  std::string id;                       ///< as specified
  std::string type;                     ///< the name of its type
  std::string description;              ///< for people
  std::vector<Slot> slots;              ///< its inputs
  std::vector<Signal> signals;          ///< its outputs
  bool stateful = false;                ///< it sees epochs in their order
  bool enabled = true;                  ///< by the specification and its inputs
  std::vector<std::string> below_maps;  ///< the maps whose items it runs for, outermost first
};

/// A connection of a built tube. Source: noob Edge.
struct Edge {
  std::string source_node;    ///< where the value comes from; `input` and `assets`, too
  std::string source_signal;  ///< which of its signals, or the name of an input or asset
  std::string target_node;    ///< where it goes
  std::string target_slot;    ///< the slot's name; for arguments beyond the slots their number
  bool required = true;       ///< the target does not run without it
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
  /// A map of the same keys; `inputs`: the tube-scoped ones.
  static Tube from_any(const Map& specification, const Map& inputs = {});
  /// What was read or written by hand; `inputs`: the tube-scoped ones.
  static Tube from_spec(TubeSpec spec, const Map& inputs = {});

  const std::string& id() const noexcept;  ///< of the specification
  const TubeSpec& spec() const noexcept;   ///< what it was built from
  const Map& inputs() const noexcept;      ///< those it was built with
  std::vector<NodeInfo> nodes() const;     ///< all of them
  std::vector<Edge> edges() const;         ///< all of them, by target
  /// Those that end at a node; none for an id that is not there.
  std::vector<Edge> in_edges(std::string_view node) const;
  /// Those that begin at a node; none for an id that is not there.
  std::vector<Edge> out_edges(std::string_view node) const;
  bool has_return() const noexcept;  ///< process() can give something

  /// The nodes in layers: each depends only on layers before its own. Source: noob Scheduler's generations.
  std::vector<std::vector<std::string>> generations() const;
  /// All nodes that `node` depends on, directly or not, in the order of the specification. Errors: Error(not_found).
  std::vector<std::string> upstream(std::string_view node) const;
  /// All nodes that depend on `node`, directly or not. Errors: Error(not_found).
  std::vector<std::string> downstream(std::string_view node) const;
  /// The graph in the language of Graphviz; `caller tube plot` draws it.
  std::string dot() const;

  /// For runners. The graph is no part of the interface.
  explicit Tube(std::shared_ptr<const detail::Graph> graph) noexcept : graph_(std::move(graph)) {}
  /// for runners
  const std::shared_ptr<const detail::Graph>& graph() const noexcept { return graph_; }

private:
  std::shared_ptr<const detail::Graph> graph_;
};

/// Who is told of what is odd but no error, like an input that no tube declares. Without one it goes to standard error.
/// Thread-safety: any thread. Source: Python's warnings, noob ExtraInputWarning.
CALLER_API void set_warning_handler(std::function<void(const std::string&)> handler);
/// Tells the handler. Thread-safety: any thread. Errors: none.
CALLER_API void warn(const std::string& message);

}  // namespace caller::tube
