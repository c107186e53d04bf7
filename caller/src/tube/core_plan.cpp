// What fires when, worked out once for the nodes that are enabled.
#include "core.hpp"

namespace caller::tube::detail {

std::vector<std::uint8_t> alive_nodes(const Graph& g, const std::vector<std::uint8_t>& enabled) {
  std::vector<std::uint8_t> found(g.nodes.size());
  for (const std::uint32_t n : g.order) {
    const NodePlan& node = g.nodes[n];
    bool alive = enabled[n] && !node.returns;
    for (std::uint32_t r = node.region; alive && r != 0; r = g.regions[r].parent) alive = found[g.regions[r].map];
    for (const std::vector<Source>* list : {&node.args, &node.positional})
      for (const Source& s : *list)
        if (s.from == Source::From::signal && s.required && !found[g.signals[s.index].node]) alive = false;
    found[n] = alive;
  }
  return found;
}

void Core::plan() {
  const Graph& g = *graph_;
  plans_.assign(g.regions.size(), {});
  alive_ = alive_nodes(g, enabled_);
  for (std::uint32_t r = 0; r < g.regions.size(); ++r) {
    RegionPlan& p = plans_[r];
    p.places.assign(g.regions[r].nodes.size(), {});
    for (const std::uint32_t s : g.regions[r].signals)
      p.cells.push_back(alive_[g.signals[s].node] ? Cell::State::pending : Cell::State::silent);
  }
  for (std::uint32_t n = 0; n < g.nodes.size(); ++n) {
    const NodePlan& node = g.nodes[n];
    if (!alive_[n]) continue;
    RegionPlan& p = plans_[node.region];
    ++p.alive;
    if (node.stateful) p.gated.push_back(node.place);
    for (const std::vector<Source>* list : {&node.args, &node.positional})
      for (const Source& s : *list) {
        if (s.from == Source::From::input && s.required) p.inputs.push_back({node.place, s.index});
        if (s.from != Source::From::signal || !alive_[g.signals[s.index].node]) continue;
        if (g.signals[s.index].region == node.region)
          ++p.places[node.place].waits;
        else
          p.outer.push_back({node.place, s.index, s.required, false});
      }
    for (const std::uint32_t m : node.order_before) {
      if (!alive_[m]) continue;
      if (g.nodes[m].region == node.region)
        ++plans_[node.region].places[g.nodes[m].place].waits;
      else
        plans_[g.nodes[m].region].outer.push_back({g.nodes[m].place, n, false, true});
    }
  }
  // Watches, innermost region first, so that each knows the one around it.
  const auto watch = [&](std::uint32_t region, std::uint32_t n) -> Watch& {
    if (const std::uint32_t w = watch_of(region, n); w != kNone) return plans_[region].watches[w];
    std::uint32_t inside = g.nodes[n].region;
    while (g.regions[inside].parent != region) inside = g.regions[inside].parent;
    Watch made{};
    made.node = n;
    made.inner = g.regions[inside].number;
    plans_[region].watches.push_back(std::move(made));
    return plans_[region].watches.back();
  };
  for (std::uint32_t n = 0; n < g.nodes.size(); ++n) {
    const NodePlan& node = g.nodes[n];
    if (!alive_[n] || node.region == 0) continue;
    const std::uint32_t around = g.regions[node.region].parent;
    if (node.special == NodeType::Special::gather) watch(around, n).gathers = true;
    if (node.stateful)
      for (std::uint32_t r = around; r != 0; r = g.regions[r].parent) watch(r, n).chains = true;
    for (const std::uint32_t m : node.order_closing) {
      if (!alive_[m]) continue;
      for (std::uint32_t r = around;; r = g.regions[r].parent) {
        (void)watch(r, n);
        if (r == g.nodes[m].region) break;
      }
      watch(g.nodes[m].region, n).closes.push_back(m);
      ++plans_[g.nodes[m].region].places[g.nodes[m].place].waits;
    }
  }
  for (std::uint32_t r = 1; r < g.regions.size(); ++r)
    for (Watch& w : plans_[r].watches) w.outer = watch_of(g.regions[r].parent, w.node);
  for (const std::uint32_t n : g.order)
    if (alive_[n] && plans_[g.nodes[n].region].places[g.nodes[n].place].waits == 0)
      plans_[g.nodes[n].region].initial.push_back(n);
  planned_ = true;
}

}  // namespace caller::tube::detail
