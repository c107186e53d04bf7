// What fires when there are maps: their items, what waits for all of them, and gathers.
#include "core.hpp"

#include <utility>

namespace caller::tube::detail {

using Special = NodeType::Special;

void Core::add_inner(Instance* outer, std::uint32_t map, List items) {
  const Graph& g = *graph_;
  const NodePlan& node = g.nodes[map];
  const std::uint32_t region = node.maps_to;
  const RegionPlan& p = plans_[region];
  std::vector<Instance*>& list = outer->inner[g.regions[region].number];
  const std::uint64_t stamp = ticks();
  const auto count = static_cast<std::int64_t>(items.size());
  if (p.alive > 0) outer->open += static_cast<std::uint32_t>(items.size());
  for (std::size_t index = 0; index < items.size(); ++index) {
    Instance* i = make(region);
    i->parent = outer;
    i->root = outer->root;
    i->number = outer->number;
    i->index = static_cast<std::uint32_t>(index);
    if (index > 0) {
      i->before = list.back();
      list.back()->after = i;
    }
    list.push_back(i);
    for (const RegionPlan::Outer& o : p.outer) {
      if (o.order) {
        const NodePlan& from = g.nodes[o.from];
        const Instance* at = outer;
        while (at->region != from.region) at = at->parent;
        if (!at->places[from.place].ended) ++i->places[o.place].waits;
      } else {
        const Cell& c = cell(outer, o.from);
        if (c.state == Cell::State::pending)
          ++i->places[o.place].waits;
        else if (c.state == Cell::State::silent && o.required)
          i->places[o.place].dead = true;
      }
    }
    for (const RegionPlan::InputEdge& e : p.inputs)
      if (!i->root->inputs[e.input]) i->places[e.place].dead = true;
    // Stateful nodes take the items one after the other, also across the items of a map around this one, and epochs.
    for (const std::uint32_t place : p.gated) {
      if (index > 0 || !chained_before(outer, g.regions[region].nodes[place])) ++i->places[place].waits;
    }
    i->closed = p.alive == 0;
    // Below a map every node waits for something in there, unless another process runs it.
    for (const std::uint32_t n : p.initial)
      if (i->places[g.nodes[n].place].waits == 0) push({i, n});
  }
  map_ended(outer, map, items.size());
  for (std::size_t k = 0; k < list.size(); ++k) {
    Instance* i = list[k];
    // The map's own signals in the item's epoch: the item, and how many there are.
    if (node.signals > 0) publish(i, node.first_signal, std::move(items[k]), stamp);
    if (node.signals > 1) publish(i, node.first_signal + 1, Value(count), stamp);
  }
}

/// An edge from around to a node of an inner region: in every item there is. Later items look at the signal when they
/// are made.
void Core::resolve_inner(Instance* i, std::uint32_t node, bool required, bool present) {
  const Graph& g = *graph_;
  const std::uint32_t region = g.nodes[node].region;
  std::uint32_t towards = region;
  while (g.regions[towards].parent != i->region) towards = g.regions[towards].parent;
  for (Instance* inner : i->inner[g.regions[towards].number]) {
    if (inner->region == region)
      resolve(inner, node, !present && required);
    else
      resolve_inner(inner, node, required, present);
  }
}

void Core::map_ended(Instance* i, std::uint32_t map, std::size_t items) {
  const std::uint32_t number = graph_->regions[graph_->nodes[map].maps_to].number;
  const std::vector<Watch>& watches = plans_[i->region].watches;
  for (std::uint32_t w = 0; w < watches.size(); ++w) {
    if (watches[w].inner != number) continue;
    i->left[w] += static_cast<std::uint32_t>(items);
    watch_item_ended(i, w, 1);
  }
}

void Core::watch_item_ended(Instance* outer, std::uint32_t watch, std::uint32_t items) {
  outer->left[watch] -= items;
  if (outer->left[watch] == 0) watch_done(outer, watch);
}

/// A watched node has ended in all items inside of `i`.
void Core::watch_done(Instance* i, std::uint32_t watch) {
  const Watch& w = plans_[i->region].watches[watch];
  const Graph& g = *graph_;
  if (w.gathers) {
    i->buffers[watch].clear();  // what no emission took ends with the epoch it belongs to
    const NodePlan& node = g.nodes[w.node];
    for (std::uint32_t s = 0; s < node.signals; ++s) {
      Cell& c = i->cells[g.signals[node.first_signal + s].cell];
      const bool present = c.id != 0;
      c.state = present ? Cell::State::present : Cell::State::silent;
      resolve_all(i, node.first_signal + s, present);
    }
  }
  for (const std::uint32_t n : w.closes) resolve(i, n, false);
  if (w.chains) chain(i, watch);
  if (w.outer != kNone && i->parent) watch_item_ended(i->parent, w.outer, 1);
}

/// Whether a stateful node is through in all that comes before the first item inside of `i`: in the item before this
/// one, or before the first one around it that has one before; else in every epoch before.
bool Core::chained_before(const Instance* i, std::uint32_t node) const noexcept {
  while (!i->before && i->parent) i = i->parent;
  return i->parent ? i->before->chained[watch_of(i->region, node)] : !i->before;
}

/// A stateful node below two maps or more is through here and in every item before: the next item may begin with it.
void Core::chain(Instance* i, std::uint32_t watch) {
  const std::uint32_t node = plans_[i->region].watches[watch].node;
  for (Instance* at = i; at && at->left[watch] == 0 && !at->chained[watch]; at = at->after) {
    if (!chained_before(at, node)) return;
    at->chained[watch] = 1;
    if (at->after) chain_inside(at->after, watch);
  }
}

/// The first of the items inside of `i` may begin with a stateful node; those around it may be through already.
void Core::chain_inside(Instance* i, std::uint32_t watch) {
  const Watch& w = plans_[i->region].watches[watch];
  const std::vector<Instance*>& list = i->inner[w.inner];
  if (list.empty()) return;
  Instance* first = list.front();
  if (first->region == graph_->nodes[w.node].region) {
    resolve(first, w.node, false);
    return;
  }
  const std::uint32_t inner = watch_of(first->region, w.node);
  chain_inside(first, inner);
  chain(first, inner);
}

void Core::run_special(const Ready& ready) {
  const NodePlan& node = graph_->nodes[ready.node];
  if (node.special == Special::gather) {
    gather(ready);
    return;
  }
  const Value* v = argument(node.args.front(), ready.instance, node);
  add_inner(ready.instance, ready.node, v->items());
  end_node(ready.instance, ready.node);
}

void Core::gather(const Ready& ready) {
  const Graph& g = *graph_;
  const NodePlan& node = g.nodes[ready.node];
  Instance* home = node.region == 0 ? nullptr : ready.instance->parent;
  List& buffer = home ? home->buffers[watch_of(home->region, ready.node)] : buffers_[ready.node];
  const Value* value = nullptr;
  const Value* trigger = nullptr;
  std::int64_t n = node.gather_n;
  for (std::size_t s = 0; s < node.shape->slots.size(); ++s) {
    const Value* v = argument(node.args[s], ready.instance, node);
    if (node.shape->slots[s].name == "value")
      value = v;
    else if (node.shape->slots[s].name == "trigger")
      trigger = v;
    else if (v)
      n = v->to<std::int64_t>();
  }
  if (value) {
    if (node.flatten && value->kind() != Kind::list && value->kind() != Kind::string)
      wrong_type(*value, "a list to flatten");
    buffer.push_back(*value);
  }
  const bool full = n > 0 && buffer.size() >= static_cast<std::uint64_t>(n);
  const bool emits = full || (n == 0 && trigger);
  const std::uint64_t stamp = ticks();
  if (!emits) {
    if (!home) publish(ready.instance, node.first_signal, Value(no_event), stamp);
  } else {
    List items = std::exchange(buffer, List());
    if (node.flatten) {
      List flat;
      for (const Value& item : items)
        for (Value& part : item.items()) flat.push_back(std::move(part));
      items = std::move(flat);
    }
    Value collected(std::move(items));
    if (!home) {
      publish(ready.instance, node.first_signal, std::move(collected), stamp);
    } else {
      Cell& c = home->cells[g.signals[node.first_signal].cell];
      c.id = ++next_event_;
      c.stamp = stamp;
      c.value = std::move(collected);
      if (on_event) on_event(home, node.first_signal, c);
    }
  }
  end_node(ready.instance, ready.node);
}

/// Stateful nodes below maps waited for the end of every epoch before this one.
void Core::release_first_items(Instance* i) {
  for (const std::vector<Instance*>& list : i->inner) {
    if (list.empty()) continue;
    Instance* first = list.front();
    for (const std::uint32_t place : plans_[first->region].gated)
      resolve(first, graph_->regions[first->region].nodes[place], false);
    for (std::uint32_t w = 0; w < plans_[first->region].watches.size(); ++w)
      if (plans_[first->region].watches[w].chains) chain(first, w);
    release_first_items(first);
  }
}

}  // namespace caller::tube::detail
