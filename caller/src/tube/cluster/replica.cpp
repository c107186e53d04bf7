#include "replica.hpp"

#include <algorithm>

namespace caller::tube::detail {

Replica::Replica(Core& core, std::vector<std::uint32_t> owner, std::uint32_t self, bool follows_all)
    : core_(core), owner_(std::move(owner)), self_(self), follows_all_(follows_all) {}

Instance* Replica::begin(std::vector<std::optional<Value>> inputs) {
  const std::uint64_t number = core_.next_number();
  if (epochs_.empty()) first_ = number;
  Instance* root = core_.begin(std::move(inputs));
  Epoch& e = epochs_.emplace_back();
  e.root = root;
  if (const auto found = future_.find(number); found != future_.end()) {
    e.early = std::make_unique<Held>(std::move(found->second));
    future_.erase(found);
  }
  return root;
}

Replica::Epoch* Replica::epoch_of(std::uint64_t number) noexcept {
  if (number < first_ || number - first_ >= epochs_.size()) return nullptr;
  return &epochs_[number - first_];
}
Instance* Replica::find(std::uint64_t number) const noexcept {
  if (number < first_ || number - first_ >= epochs_.size()) return nullptr;
  return epochs_[number - first_].root;
}

RecordHead Replica::head_of(const Ready& ready, RecordHead::Kind kind) const {
  RecordHead head;
  head.kind = kind;
  head.epoch = ready.instance->number;
  head.node = ready.node;
  head.key.assign(1, static_cast<char32_t>(ready.node));
  for (const Instance* i = ready.instance; i->parent; i = i->parent)
    head.key.insert(head.key.begin() + 1, static_cast<char32_t>(i->index));
  return head;
}

bool Replica::next(Ready& ready) {
  if (mine_.empty()) advance();
  if (mine_.empty()) return false;
  ready = mine_.front();
  mine_.pop_front();
  return true;
}

void Replica::advance() {
  Ready ready;
  while (core_.next(ready)) {
    const std::uint32_t owner = owner_[ready.node];
    if (owner == self_) {
      mine_.push_back(ready);
      continue;
    }
    try {
      if (on_awaited) on_awaited(ready);
      if (owner == kEverywhere) {
        core_.run_special(ready);
        continue;
      }
    } catch (...) {
      on_failed(ready, std::current_exception());
      continue;
    }
    const std::uint32_t place = core_.graph().nodes[ready.node].place;
    if (Epoch* e = held_ > 0 ? epoch_of(ready.instance->number) : nullptr; e && e->early) {
      const auto found = e->early->find(head_of(ready, RecordHead::Kind::values).key);
      if (found != e->early->end()) {
        Early early = std::move(found->second);
        e->early->erase(found);
        --held_;
        settle(ready, early.kind, early.values);
        continue;
      }
    }
    ready.instance->places[place].awaited = true;
  }
}

void Replica::settle(const Ready& ready, RecordHead::Kind kind, std::span<Value> values) {
  try {
    if (kind == RecordHead::Kind::values)
      core_.finish(ready, values);
    else
      core_.finish(ready, {});
  } catch (...) {  // a callback
    on_failed(ready, std::current_exception());
  }
}

Instance* Replica::instance_of(Instance* root, const RecordHead& head) const {
  const Graph& g = core_.graph();
  if (g.nodes[head.node].region == 0 && head.key.size() == 1) return root;
  Instance* at = root;
  std::uint32_t path[64];
  std::size_t depth = 0;
  for (std::uint32_t r = g.nodes[head.node].region; r != 0 && depth < 64; r = g.regions[r].parent) path[depth++] = r;
  if (depth + 1 != head.key.size()) ByteReader::malformed("an item of another depth");
  for (std::size_t level = 0; level < depth; ++level) {
    const std::vector<Instance*>& list = at->inner[g.regions[path[depth - 1 - level]].number];
    const auto index = static_cast<std::uint32_t>(head.key[level + 1]);
    if (index >= list.size()) return nullptr;
    at = list[index];
  }
  return at;
}

void Replica::read_values(std::uint32_t node, std::string_view bytes) {
  ByteReader reader(bytes);
  values_.resize(core_.graph().nodes[node].signals);
  for (Value& v : values_) v = reader.value();
  if (!reader.empty()) ByteReader::malformed("more values than signals");
}

void Replica::arrived(const RecordHead& head, std::string_view values) {
  const Graph& g = core_.graph();
  if (head.node >= g.nodes.size()) ByteReader::malformed("no such node");
  if (owner_[head.node] == self_ || owner_[head.node] == kEverywhere) ByteReader::malformed("values of our own node");
  ++received;
  // Who knows the inputs of a node knows that it is skipped.
  if (follows_all_ && head.kind == RecordHead::Kind::skipped) return;
  if (head.kind == RecordHead::Kind::ended) {
    on_ended(head);
    return;
  }
  Epoch* e = epoch_of(head.epoch);
  if (!e && head.epoch < core_.next_number()) return;
  if (e && (!e->root || e->root->error || e->root->closed)) return;
  try {
    values_.clear();
    if (head.kind == RecordHead::Kind::values) read_values(head.node, values);
  } catch (const std::exception&) {
    on_unreadable(head, std::current_exception());
    return;
  }
  if (!e) {
    held_most = std::max<std::uint64_t>(held_most, ++held_);
    future_[head.epoch].insert_or_assign(head.key, Early{head.kind, std::move(values_)});
    return;
  }
  Instance* at = instance_of(e->root, head);
  if (at) {
    Place& place = at->places[g.nodes[head.node].place];
    if (place.ended) return;
    if (std::exchange(place.awaited, false)) {
      settle({at, head.node}, head.kind, values_);
      return;
    }
  }
  if (!e->early) e->early = std::make_unique<Held>();
  if (e->early->insert_or_assign(head.key, Early{head.kind, std::move(values_)}).second)
    held_most = std::max<std::uint64_t>(held_most, ++held_);
}

void Replica::drop_held(Epoch& e) noexcept {
  if (!e.early) return;
  held_ -= e.early->size();
  e.early.reset();
}

bool Replica::give_up(std::uint64_t number, const std::exception_ptr& error) {
  Epoch* e = epoch_of(number);
  if (!e || !e->root || e->root->error || e->root->closed) return false;
  drop_held(*e);
  std::erase_if(mine_, [&](const Ready& ready) { return ready.instance->root == e->root; });
  e->root->busy = 0;  // those awaited; none runs here
  core_.abandon(e->root, error);
  return true;
}

std::vector<Instance*> Replica::give_up_before(std::uint64_t number, const std::exception_ptr& error) {
  std::vector<Instance*> lost;
  for (std::uint64_t n = first_; n < number && n - first_ < epochs_.size(); ++n)
    if (give_up(n, error)) lost.push_back(epochs_[n - first_].root);
  std::erase_if(future_, [&](const auto& f) {
    if (f.first >= number) return false;
    held_ -= f.second.size();
    return true;
  });
  return lost;
}

void Replica::forget(Instance* root) {
  Epoch* e = epoch_of(root->number);
  if (!e) return;
  drop_held(*e);
  e->root = nullptr;
  while (!epochs_.empty() && !epochs_.front().root) {
    epochs_.pop_front();
    ++first_;
  }
}

void Replica::count_from(std::uint64_t number) {
  core_.count_from(number);
  first_ = number;
}

}  // namespace caller::tube::detail
