#include <caller/tube/tube.hpp>

#include <algorithm>
#include <utility>

#include "graph.hpp"
#include "words.hpp"

namespace caller::tube {

using detail::Graph;
using detail::kNone;
using detail::NodePlan;
using detail::Source;

Tube Tube::from_any(std::string_view source, const Map& inputs) {
  return from_spec(TubeSpec::from_any(source), inputs);
}
Tube Tube::from_any(const Map& specification, const Map& inputs) {
  return from_spec(TubeSpec::from_map(specification), inputs);
}
Tube Tube::from_spec(TubeSpec spec, const Map& inputs) { return Tube(detail::build_graph(std::move(spec), inputs)); }

const std::string& Tube::id() const noexcept { return graph_->spec.id; }
const TubeSpec& Tube::spec() const noexcept { return graph_->spec; }
const Map& Tube::inputs() const noexcept { return graph_->inputs; }
bool Tube::has_return() const noexcept { return graph_->return_node != kNone; }

std::vector<NodeInfo> Tube::nodes() const {
  std::vector<NodeInfo> infos;
  for (const NodePlan& node : graph_->nodes) {
    NodeInfo info{node.id,
                  node.type->name,
                  graph_->spec.nodes[infos.size()].description,
                  node.shape->slots,
                  node.shape->signals,
                  node.stateful,
                  node.enabled,
                  {}};
    for (std::uint32_t r = node.region; r != 0; r = graph_->regions[r].parent)
      info.below_maps.insert(info.below_maps.begin(), graph_->nodes[graph_->regions[r].map].id);
    infos.push_back(std::move(info));
  }
  return infos;
}

std::vector<Edge> Tube::edges() const {
  std::vector<Edge> edges;
  const Graph& g = *graph_;
  for (const NodePlan& node : g.nodes) {
    const auto add = [&](const Source& s, const std::string& slot) {
      Edge edge{{}, {}, node.id, slot, s.required};
      switch (s.from) {
        case Source::From::signal: {
          const NodePlan& from = g.nodes[g.signals[s.index].node];
          edge.source_node = from.id;
          edge.source_signal = from.shape->signals[s.index - from.first_signal].name;
          break;
        }
        case Source::From::input:
          edge.source_node = "input";
          edge.source_signal = g.spec.input[g.process_inputs[s.index]].id;
          break;
        case Source::From::asset:
          edge.source_node = "assets";
          edge.source_signal = g.assets[s.index].id;
          break;
        default:
          return;
      }
      edges.push_back(std::move(edge));
    };
    for (std::size_t i = 0; i < node.args.size(); ++i) add(node.args[i], node.shape->slot_names[i]);
    for (std::size_t i = 0; i < node.positional.size(); ++i)
      add(node.positional[i], std::to_string(node.args.size() + i));
    if (node.returns)
      for (std::size_t i = 0; i < g.returns.size(); ++i)
        add(g.returns[i].source, g.returns[i].key.empty() ? std::to_string(i) : g.returns[i].key);
  }
  return edges;
}
std::vector<Edge> Tube::in_edges(std::string_view node) const {
  std::vector<Edge> found = edges();
  std::erase_if(found, [&](const Edge& e) { return e.target_node != node; });
  return found;
}
std::vector<Edge> Tube::out_edges(std::string_view node) const {
  std::vector<Edge> found = edges();
  std::erase_if(found, [&](const Edge& e) { return e.source_node != node; });
  return found;
}

std::vector<std::vector<std::string>> Tube::generations() const {
  std::vector<std::vector<std::string>> layers;
  for (const std::uint32_t n : graph_->order) {
    const NodePlan& node = graph_->nodes[n];
    if (layers.size() <= node.generation) layers.resize(node.generation + 1);
    layers[node.generation].push_back(node.id);
  }
  return layers;
}

namespace {
/// What is reached from `start` along edges; `next` gives one end of an edge for the other.
std::vector<std::string> reached(const Graph& g, const std::vector<Edge>& edges, std::string_view start,
                                 std::string Edge::* from, std::string Edge::* to) {
  if (g.find(start) == kNone)
    throw Error(Errc::not_found, "the tube " + g.spec.id + " has no node \"" + std::string(start) + "\"");
  std::vector<std::vector<std::uint32_t>> next(g.nodes.size());
  for (const Edge& e : edges) {
    const std::uint32_t at = g.find(e.*from), other = g.find(e.*to);  // inputs and assets are no nodes
    if (at != kNone && other != kNone) next[at].push_back(other);
  }
  std::vector<bool> seen(g.nodes.size(), false);
  std::vector<std::uint32_t> open{g.find(start)};
  while (!open.empty()) {
    const std::uint32_t at = open.back();
    open.pop_back();
    for (const std::uint32_t n : next[at]) {
      if (seen[n]) continue;
      seen[n] = true;
      open.push_back(n);
    }
  }
  std::vector<std::string> ids;
  for (std::size_t n = 0; n < seen.size(); ++n)
    if (seen[n]) ids.push_back(g.nodes[n].id);
  return ids;
}

std::string dot_text(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}
}  // namespace

std::vector<std::string> Tube::upstream(std::string_view node) const {
  return reached(*graph_, edges(), node, &Edge::target_node, &Edge::source_node);
}
std::vector<std::string> Tube::downstream(std::string_view node) const {
  return reached(*graph_, edges(), node, &Edge::source_node, &Edge::target_node);
}

std::string Tube::dot() const {
  std::string out = "digraph " + dot_text(id()) +
                    " {\n  rankdir=LR; bgcolor=transparent;\n"
                    "  node [shape=box, style=\"rounded,filled\", fillcolor=\"#eef3f8\", color=\"#5b7a99\", "
                    "fontname=\"sans-serif\", fontsize=11];\n"
                    "  edge [color=\"#5b7a99\", fontname=\"sans-serif\", fontsize=9];\n";
  for (const NodePlan& node : graph_->nodes) {
    std::string style;
    if (!node.enabled)
      style = ", style=\"rounded,dashed\"";
    else if (node.special == NodeType::Special::map || node.special == NodeType::Special::gather)
      style = ", fillcolor=\"#fdf3dc\"";
    else if (node.returns)
      style = ", fillcolor=\"#e6f4e6\"";
    else if (node.type->source)
      style = ", fillcolor=\"#f5e9f7\"";
    out += "  " + dot_text(node.id) +
           " [label=" + dot_text(node.id == node.type->name ? node.id : node.id + "\n" + node.type->name) + style +
           "];\n";
  }
  std::vector<std::string> declared;
  for (const Edge& e : edges()) {
    std::string from = e.source_node;
    if (from == "input" || from == "assets") {
      from += "." + e.source_signal;
      if (std::find(declared.begin(), declared.end(), from) == declared.end()) {
        declared.push_back(from);
        out += "  " + dot_text(from) + " [shape=" + (e.source_node == "input" ? "ellipse" : "cylinder") +
               ", fillcolor=\"#ffffff\"];\n";
      }
    }
    out += "  " + dot_text(from) + " -> " + dot_text(e.target_node) +
           " [label=" + dot_text(from == e.source_node ? e.source_signal : "") + (e.required ? "" : ", style=dashed") +
           "];\n";
  }
  return out + "}\n";
}

}  // namespace caller::tube
