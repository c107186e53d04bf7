// Events: what nodes have emitted, and what runners tell those who watch.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <caller/export.hpp>
#include <caller/tube/epoch.hpp>
#include <caller/tube/value.hpp>

namespace caller::tube {

/// What a node emitted for one signal in one epoch. The value may be NoEvent: the signal was silent.
/// Source: noob Event.
struct Event {
  std::uint64_t id = 0;                             ///< rises by one with every event of a runner
  std::chrono::system_clock::time_point timestamp;  ///< when the node returned
  std::string node_id;                              ///< the node that emitted it
  std::string signal;                               ///< the name of the signal
  Epoch epoch;                                      ///< where it belongs
  Value value;                                      ///< what was emitted
};

/// What a runner tells callbacks besides events; never stored. Source: noob MetaEvent.
struct MetaEvent {
  /// What happened.
  enum class Type : std::uint8_t {
    node_ready,   ///< `node_id` is about to run in `epoch`
    epoch_ended,  ///< nothing is left to run in `epoch`, a root epoch
    error,        ///< `node_id` threw in `epoch`; `text` says what
  };
  Type type = Type::node_ready;                     ///< what happened
  std::chrono::system_clock::time_point timestamp;  ///< when
  std::string node_id;                              ///< empty for an epoch's end
  Epoch epoch;                                      ///< where
  std::string text;                                 ///< of an error
};

/// The event behind each slot of a call, for nodes that ask for it by a parameter of this type. Fixed params have none.
/// Source: noob EventMap.
struct EventMap {
  std::vector<std::pair<std::string, Event>> events;  ///< by slot name; positional arguments beyond the slots by number
  /// The event behind a slot; null: a fixed param, or no such slot.
  CALLER_API const Event* find(std::string_view slot) const noexcept;
};

/// The events of the epochs a runner still holds: those of the last process() call, or of the last epoch of a run.
///
/// A snapshot: later runs do not change it.
///
/// Thread-safety: distinct objects: safe; shared objects: unsafe while one changes. Errors: std::bad_alloc.
/// Source: noob EventStore; differs: a copy instead of the live store.
class CALLER_API EventStore {
public:
  /// Adds an event as it is.
  void add(Event event);
  /// Adds `value` as the event of `signal` and returns it.
  const Event& add_value(std::string node_id, std::string signal, Epoch epoch, Value value);
  /// The latest event of the signal in `epoch`, else in the nearest epoch around it; null if there is none.
  const Event* get(std::string_view node_id, std::string_view signal, const Epoch& epoch) const noexcept;
  /// The events of the signal in `epoch` and below, in the order of epochs; silent ones (NoEvent) only if asked for.
  std::vector<const Event*> collect(std::string_view node_id, std::string_view signal, const Epoch& epoch,
                                    bool silent = false) const;
  /// in the order of their ids
  const std::vector<Event>& events() const noexcept { return events_; }
  /// how many
  std::size_t size() const noexcept { return events_.size(); }
  /// forgets all of them
  void clear() noexcept { events_.clear(); }

private:
  std::vector<Event> events_;
};

}  // namespace caller::tube
