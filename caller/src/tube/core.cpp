// What every firing runs through: epochs begin, nodes become ready, their values are published, epochs end. All of it
// calls all of it, for each node, so it is one file; what only maps need is in core_maps.cpp.
#include "core.hpp"

#include <algorithm>
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
