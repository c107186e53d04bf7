// What an epoch has come to: its events and its result.
#include "core.hpp"

#include <algorithm>
#include <utility>

namespace caller::tube::detail {

Epoch Core::epoch_of(const Instance* instance) const {
  std::vector<EpochSegment> path;
  for (const Instance* i = instance; i->parent; i = i->parent)
    path.push_back({graph_->nodes[graph_->regions[i->region].map].id, i->index});
  std::reverse(path.begin(), path.end());
  return Epoch(instance->number, std::move(path));
}

Event Core::event_of(const Instance* instance, std::uint32_t signal, const Cell& c) const {
  const SignalPlan& s = graph_->signals[signal];
  const NodePlan& node = graph_->nodes[s.node];
  return {c.id,   time_of(c.stamp), node.id, node.shape->signals[signal - node.first_signal].name, epoch_of(instance),
          c.value};
}

void Core::snapshot(const Instance* root, EventStore& store) const {
  std::vector<Event> events;
  const auto visit = [&](const auto& self, const Instance* i) -> void {
    const std::vector<std::uint32_t>& signals = graph_->regions[i->region].signals;
    for (std::size_t c = 0; c < signals.size(); ++c)
      if (i->cells[c].id != 0) events.push_back(event_of(i, signals[c], i->cells[c]));
    for (const std::vector<Instance*>& list : i->inner)
      for (const Instance* inner : list) self(self, inner);
  };
  visit(visit, root);
  std::sort(events.begin(), events.end(), [](const Event& a, const Event& b) { return a.id < b.id; });
  for (Event& e : events) store.add(std::move(e));
}

std::optional<Value> Core::result(const Instance* root) const {
  const Graph& g = *graph_;
  if (g.return_node == kNone || !enabled_[g.return_node]) return std::nullopt;
  const NodePlan& node = g.nodes[g.return_node];
  const auto collect = [&](const ReturnPlan& r) -> std::optional<Value> {
    if (!r.many) {
      const Value* v = argument(r.source, root, node);
      return v ? std::optional<Value>(*v) : std::nullopt;
    }
    // Below maps: the values of all items, in their order.
    const SignalPlan& s = g.signals[r.source.index];
    List found;
    const auto visit = [&](const auto& self, const Instance* i) -> void {
      if (i->region == s.region) {
        const Cell& c = i->cells[s.cell];
        if (c.state == Cell::State::present) found.push_back(c.value);
        return;
      }
      std::uint32_t towards = s.region;
      while (g.regions[towards].parent != i->region) towards = g.regions[towards].parent;
      for (const Instance* inner : i->inner[g.regions[towards].number]) self(self, inner);
    };
    visit(visit, root);
    if (found.empty()) return std::nullopt;
    return Value(std::move(found));
  };
  if (g.return_is_scalar) return collect(g.returns.front());
  List positional;
  Map keyed;
  for (const ReturnPlan& r : g.returns) {
    std::optional<Value> v = collect(r);
    if (r.key.empty()) {
      if (!v) return std::nullopt;  // positional ones are required: the return does not happen
      positional.push_back(std::move(*v));
    } else if (v) {
      keyed.set(r.key, std::move(*v));
    }
  }
  if (positional.empty()) return keyed.empty() ? std::nullopt : std::optional<Value>(Value(std::move(keyed)));
  if (keyed.empty()) return Value(std::move(positional));
  return Value(List{Value(std::move(positional)), Value(std::move(keyed))});
}

}  // namespace caller::tube::detail
