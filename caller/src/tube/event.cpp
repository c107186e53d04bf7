#include <algorithm>

#include <caller/tube/event.hpp>

namespace caller::tube {

const Event* EventMap::find(std::string_view slot) const noexcept {
  for (const auto& [name, event] : events)
    if (name == slot) return &event;
  return nullptr;
}

void EventStore::add(Event event) { events_.push_back(std::move(event)); }

const Event& EventStore::add_value(std::string node_id, std::string signal, Epoch epoch, Value value) {
  events_.push_back({events_.empty() ? 0 : events_.back().id + 1, std::chrono::system_clock::now(), std::move(node_id),
                     std::move(signal), std::move(epoch), std::move(value)});
  return events_.back();
}

const Event* EventStore::get(std::string_view node_id, std::string_view signal, const Epoch& epoch) const noexcept {
  const Event* nearest = nullptr;
  for (const Event& e : events_) {
    if (e.node_id != node_id || e.signal != signal || !epoch.is_within(e.epoch)) continue;
    if (!nearest || e.epoch.len() >= nearest->epoch.len()) nearest = &e;
  }
  return nearest;
}

std::vector<const Event*> EventStore::collect(std::string_view node_id, std::string_view signal, const Epoch& epoch,
                                              bool silent) const {
  std::vector<const Event*> found;
  for (const Event& e : events_)
    if (e.node_id == node_id && e.signal == signal && e.epoch.is_within(epoch) && (silent || !e.value.is_no_event()))
      found.push_back(&e);
  std::stable_sort(found.begin(), found.end(), [](const Event* a, const Event* b) { return a->epoch < b->epoch; });
  return found;
}

}  // namespace caller::tube
