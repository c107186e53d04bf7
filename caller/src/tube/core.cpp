// What every firing runs through. All of it calls all of it, for each node, so it is one file.
#include "core.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace caller::tube::detail {

using Special = NodeType::Special;

std::uint64_t ticks() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  return __builtin_ia32_rdtsc();
#else
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
#endif
}

Core::Core(std::shared_ptr<const Graph> graph)
    : graph_(std::move(graph)),
      enabled_(graph_->nodes.size()),
      alive_(graph_->nodes.size()),
      free_(graph_->regions.size()),
      buffers_(graph_->nodes.size()),
      tick_zero_(ticks()),
      time_zero_(std::chrono::system_clock::now()) {
  for (std::size_t n = 0; n < enabled_.size(); ++n) enabled_[n] = graph_->nodes[n].enabled;
  where_.reserve(enabled_.size());
  for (const NodePlan& node : graph_->nodes) where_.push_back({node.region, node.place});
  assets.resize(graph_->assets.size());
}
Core::~Core() = default;

void Core::enable(std::uint32_t node, bool on) {
  if (enabled_[node] == static_cast<std::uint8_t>(on)) return;
  enabled_[node] = on;
  planned_ = false;
}

std::chrono::system_clock::time_point Core::time_of(std::uint64_t stamp) const {
  // Between the beginning and now, ticks and time run alike.
  const std::uint64_t now = ticks();
  const auto time_now = std::chrono::system_clock::now();
  if (now == tick_zero_ || stamp >= now) return time_now;
  const double part = static_cast<double>(stamp - tick_zero_) / static_cast<double>(now - tick_zero_);
  return time_zero_ + std::chrono::duration_cast<std::chrono::system_clock::duration>((time_now - time_zero_) * part);
}

std::uint32_t Core::watch_of(std::uint32_t region, std::uint32_t node) const noexcept {
  const std::vector<Watch>& watches = plans_[region].watches;
  for (std::uint32_t w = 0; w < watches.size(); ++w)
    if (watches[w].node == node) return w;
  return kNone;
}

// ------------------------------------------------------------------------------------------------ instances

Instance* Core::make(std::uint32_t region) {
  const RegionPlan& p = plans_[region];
  Instance* i;
  if (free_[region].empty()) {
    i = all_.emplace_back(std::make_unique<Instance>()).get();
    i->region = region;
    i->cells.resize(p.cells.size());
    i->inner.resize(graph_->regions[region].inner.size());
  } else {
    i = free_[region].back();
    free_[region].pop_back();
  }
  i->places = p.places;
  for (std::size_t c = 0; c < p.cells.size(); ++c) i->cells[c].state = p.cells[c];
  if (!p.watches.empty() || !i->left.empty()) {
    i->buffers.resize(p.watches.size());
    i->left.assign(p.watches.size(), 1);
    i->chained.assign(p.watches.size(), 0);
  }
  i->open = p.alive;
  i->parent = i->before = i->after = nullptr;
  i->root = i;
  i->error = nullptr;
  i->busy = 0;
  i->ended_stream = i->closed = false;
  return i;
}

Instance* Core::begin(std::vector<std::optional<Value>> inputs) {
  // With an epoch in flight the plan must stay: what is enabled then is decided when they have ended.
  if (!planned_ && running_ == 0) plan();
  const RegionPlan& p = plans_[0];
  Instance* i = make(0);
  i->number = next_number_++;
  i->inputs = std::move(inputs);
  if (!graph_->assets.empty()) i->assets.resize(graph_->assets.size());
  if (newest_) {
    // Stateful nodes wait for themselves in the epoch before.
    i->before = newest_;
    newest_->after = i;
    for (const std::uint32_t place : p.gated)
      if (!newest_->places[place].ended) ++i->places[place].waits;
  }
  newest_ = i;
  ++running_;
  for (const RegionPlan::InputEdge& e : p.inputs)
    if (!i->inputs[e.input]) i->places[e.place].dead = true;
  for (const std::uint32_t n : p.initial)
    if (i->places[graph_->nodes[n].place].waits == 0) push({i, n});
  if (i->open == 0) close(i);
  return i;
}

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

// ------------------------------------------------------------------------------------------------ events

const Cell& Core::cell(const Instance* instance, std::uint32_t signal) const noexcept {
  const SignalPlan& s = graph_->signals[signal];
  while (instance->region != s.region) instance = instance->parent;
  return instance->cells[s.cell];
}

const Value* Core::argument(const Source& source, const Instance* instance, const NodePlan& node) const noexcept {
  switch (source.from) {
    case Source::From::signal: {
      const Cell& c = cell(instance, source.index);
      return c.state == Cell::State::present ? &c.value : nullptr;
    }
    case Source::From::fixed:
      return &node.fixed[source.index];
    case Source::From::input: {
      const std::optional<Value>& v = instance->root->inputs[source.index];
      return v ? &*v : nullptr;
    }
    case Source::From::asset:
      return graph_->assets[source.index].scope == AssetScope::process ? &instance->root->assets[source.index]
                                                                       : &assets[source.index];
    case Source::From::nothing:
      break;
  }
  return nullptr;
}

void Core::publish(Instance* i, std::uint32_t signal, Value value, std::uint64_t stamp) {
  const SignalPlan& s = graph_->signals[signal];
  Cell& c = i->cells[s.cell];
  const bool present = !value.is_no_event();
  c.id = ++next_event_;
  c.stamp = stamp;
  c.state = present ? Cell::State::present : Cell::State::silent;
  c.value = std::move(value);
  if (on_event) [[unlikely]]
    on_event(i, signal, c);
  if (s.kept && present && on_kept) on_kept(signal, c.value);
  resolve_all(i, signal, present);
}

void Core::resolve_all(Instance* i, std::uint32_t signal, bool present) {
  const SignalPlan& s = graph_->signals[signal];
  for (const Consumer& c : s.consumers) {
    if (!alive_[c.node]) continue;
    if (where_[c.node].region == i->region)
      resolve(i, c.node, !present && c.required);
    else
      resolve_inner(i, c.node, c.required, present);
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

void Core::resolve(Instance* i, std::uint32_t node, bool dead) {
  const std::uint32_t place = where_[node].place;
  if (dead) i->places[place].dead = true;
  if (--i->places[place].waits == 0 && !i->root->error) push({i, node});
}

void Core::shelve(const Ready& ready) {
  std::vector<Aged>& heap = shelves_[turner_].heap;
  heap.push_back({ready.instance->number, ++turn_, ready});
  std::push_heap(heap.begin(), heap.end());
  ++shelved_;
}

bool Core::pop_shelved(Ready& ready) {
  if (shelved_ == 0) return false;
  --shelved_;
  if (std::vector<Aged>& own = shelves_[turner_].heap; !own.empty()) {
    ready = own.front().ready;
    std::pop_heap(own.begin(), own.end());
    own.pop_back();
    return true;
  }
  std::size_t victim = turner_;
  do victim = victim + 1 < shelves_.size() ? victim + 1 : 0;
  while (shelves_[victim].heap.empty());
  // A new one, perhaps not the newest: it is among the leaves, of which a few are looked at.
  constexpr std::ptrdiff_t kLookedAt = 16;
  std::vector<Aged>& heap = shelves_[victim].heap;
  const auto size = static_cast<std::ptrdiff_t>(heap.size());
  const auto found = std::min_element(heap.begin() + std::max(size / 2, size - kLookedAt), heap.end());
  ready = found->ready;
  *found = heap.back();
  heap.pop_back();
  if (found != heap.end()) std::push_heap(heap.begin(), found + 1);
  return true;
}

bool Core::pop(Ready& ready) {
  if (head_ < queue_.size()) {
    ready = queue_[head_++];
    if (head_ == queue_.size()) {
      queue_.clear();
      head_ = 0;
    } else if (head_ >= 1024 && head_ * 2 >= queue_.size()) {
      queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(head_));
      head_ = 0;
    }
    return true;
  }
  return pop_shelved(ready);
}

bool Core::next(Ready& ready) {
  Ready r;
  while (pop(r)) {
    ++r.instance->root->busy;
    if (!r.instance->places[where_[r.node].place].dead) {
      ready = r;
      return true;
    }
    if (on_skipped) on_skipped(r);
    finish(r, {});
  }
  return false;
}

void Core::finish(const Ready& ready, std::span<Value> out) {
  const NodePlan& node = graph_->nodes[ready.node];
  const std::uint64_t stamp = ticks();
  if (node.special == Special::map) {
    // Only a map that did not run comes here.
    map_ended(ready.instance, ready.node, 0);
  } else if (node.special == Special::gather && node.region != 0) {
    // Its signal belongs to the epoch around, and is resolved when every item is through.
  } else {
    for (std::uint32_t s = 0; s < node.signals; ++s)
      publish(ready.instance, node.first_signal + s,
              out.empty() ? Value(no_event) : std::exchange(out[s], Value(no_event)), stamp);
  }
  end_node(ready.instance, ready.node);
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

void Core::end_node(Instance* i, std::uint32_t node) {
  const Graph& g = *graph_;
  const NodePlan& n = g.nodes[node];
  --i->root->busy;
  i->places[n.place].ended = true;
  for (const std::uint32_t m : n.order_before) {
    if (!alive_[m]) continue;
    if (g.nodes[m].region == i->region)
      resolve(i, m, false);
    else
      resolve_inner(i, m, false, true);
  }
  if (n.stateful && i->after) resolve(i->after, node, false);
  if (n.region != 0) {
    const std::uint32_t around = g.regions[n.region].parent;
    if (!plans_[around].watches.empty())
      if (const std::uint32_t w = watch_of(around, node); w != kNone) watch_item_ended(i->parent, w, 1);
  }
  if (--i->open == 0) close(i);
}

void Core::close(Instance* i) {
  while (i) {
    i->closed = true;
    if (i->region == 0) {
      // One that ends before an earlier one steps out of the chain. Its stateful nodes have all run, so those of the
      // earlier one have as well, and nobody is told of them twice.
      Instance* before = i->before;
      Instance* after = i->after;
      if (newest_ == i) newest_ = before;
      if (before) before->after = after;
      if (after) after->before = before;
      i->before = i->after = nullptr;
      if (!before && after) release_first_items(after);
      --running_;
      if (on_closed) on_closed(i);
      if (!before && after && after->error && after->busy == 0) close_abandoned(after);
      return;
    }
    Instance* outer = i->parent;
    if (--outer->open != 0) return;
    i = outer;
  }
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

void Core::abandon(Instance* root, std::exception_ptr error) {
  if (!root->error) root->error = std::move(error);
  if (root->closed) return;
  std::vector<Ready> kept;
  for (std::size_t q = head_; q < queue_.size(); ++q)
    if (queue_[q].instance->root != root) kept.push_back(queue_[q]);
  queue_ = std::move(kept);
  head_ = 0;
  for (Shelf& shelf : shelves_) {
    const std::size_t dropped =
        std::erase_if(shelf.heap, [root](const Aged& a) { return a.ready.instance->root == root; });
    if (dropped > 0) std::make_heap(shelf.heap.begin(), shelf.heap.end());
    shelved_ -= dropped;
  }
  if (root->busy == 0 && !root->before) close_abandoned(root);
}

void Core::drop(const Ready& ready) {
  Instance* root = ready.instance->root;
  if (--root->busy == 0 && root->error && !root->closed && !root->before) close_abandoned(root);
}

/// Every epoch before has ended, and none of its nodes runs: who waits for it in the next epoch goes on.
void Core::close_abandoned(Instance* root) {
  if (root->after)
    for (const std::uint32_t place : plans_[0].gated)
      if (!root->places[place].ended) {
        root->places[place].ended = true;
        resolve(root->after, graph_->regions[0].nodes[place], false);
      }
  root->open = 0;
  close(root);
}

void Core::recycle(Instance* i) {
  for (std::vector<Instance*>& list : i->inner) {
    for (Instance* inner : list) recycle(inner);
    list.clear();
  }
  for (Cell& c : i->cells) {
    c.value = Value();
    c.id = 0;
  }
  for (List& b : i->buffers) b.clear();
  i->inputs.clear();
  i->assets.clear();
  free_[i->region].push_back(i);
}

void Core::release(Instance* root) { recycle(root); }

}  // namespace caller::tube::detail
