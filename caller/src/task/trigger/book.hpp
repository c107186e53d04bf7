// The triggers of an application: as this process has declared them, and what it has told the store of them.
//
// Everything lies in values of the store:
//   trigger/d/<trigger>   what it waits for and calls, for others to see
//   trigger/w/<task>      which states of the task's invocations the store is to keep: see kWatchKey
//   trigger/e/<event>     somebody waits for events of that name
//   trigger/q/<time>/…    what has happened: `c…` a change of state, written by the store; `e/<id>` an event
//   trigger/s/<trigger>   what a trigger remembers: when its clock was last due, which parts of an all_of have matched
// What has happened is taken away in the step that adds the invocations it leads to. While a trigger is known to the
// store that this process does not know, who has acted on it is noted in it instead. Ids of invocations are made from
// the trigger's and that of what has happened, so doing it twice does nothing more. Internal to this folder.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <caller/task/app.hpp>

#include "condition.hpp"

namespace caller::task::detail {

inline constexpr std::string_view kDefinitionKey = "trigger/d/", kEventKey = "trigger/e/", kStateKey = "trigger/s/";
/// For a day after the last process that knows a trigger has ended, what happens is kept for it.
inline constexpr std::chrono::hours kKnownLifetime{24}, kRenewal{6}, kStateLifetime{31 * 24};

struct Trigger {
  std::string id;
  DefinitionPtr task;
  std::string text;
  std::function<CallBytes(const Match&)> arguments;
  std::vector<ConditionPtr> leaves;  // in the order in which they were written
  struct Alternative {
    ConditionPtr root;
    std::size_t first = 0;  // its first leaf
    std::size_t count = 0;
  };
  std::vector<Alternative> alternatives;
  bool remembers = false;  // it has a value trigger/s/…
  bool opaque = false;     // a function of it is not told by its text

  bool has_cron() const;
  /// `e:` an event's name, `c:` a task's id: where what it waits for comes from.
  std::vector<std::string> sources() const;
};
using TriggerPtr = std::shared_ptr<const Trigger>;

/// What a trigger remembers.
struct Mark {
  std::string occurrence;  // what has happened, by a name that nothing else has
  MatchPart part;
};
struct TriggerState {
  std::uint64_t version = 0;
  std::map<std::string, std::int64_t> due;  // by leaf: when its clock was last due
  std::map<std::string, Mark> marks;        // by leaf: what matched last
  std::vector<std::string> applied;         // what has happened, as long as it may still be in its place
};
std::string state_bytes(const TriggerState& state);
/// None: they are no such state, or not that trigger's.
std::optional<TriggerState> state_from(const Trigger& trigger, std::string_view bytes);

class TriggerService;

/// Thread-safety: any thread.
class TriggerBook {
public:
  std::string add(TriggerPtr trigger);
  std::vector<TriggerPtr> all() const;
  bool empty() const noexcept { return count_.load(std::memory_order_acquire) == 0; }

  /// Tells the store of what was declared here, if it was not told lately. Errors: the store's.
  void tell(Store& store);
  void forget_told();
  /// Whether it was told lately of everything.
  bool is_told() const;

  Time now() const;
  void set_clock(std::function<Time()> clock);

  void add_service(std::weak_ptr<TriggerService> service);
  void wake_services() const;

private:
  TriggerPtr untold() const;
  void tell_of(Store& store, const Trigger& trigger);

  mutable std::mutex mutex_;
  std::vector<TriggerPtr> triggers_;
  std::map<std::string, std::chrono::steady_clock::time_point> told_;
  std::function<Time()> clock_;
  std::vector<std::weak_ptr<TriggerService>> services_;
  std::atomic<std::size_t> count_{0}, changes_{0};
  std::atomic<std::chrono::steady_clock::rep> told_until_{0};  // until then nothing is to be told
  std::mutex telling_;
};

/// Looks at what has happened and at the clock, and adds the invocations that follow. Blocks: not on a loop.
/// Thread-safety: one thread at a time.
class TriggerPass {
public:
  /// `settled` is told of each key before this pass changes or removes it.
  explicit TriggerPass(AppCore& app, std::function<void(const std::string&)> settled = {});

  /// Everything that lies there.
  void all();
  /// Values that were changed.
  void some(std::vector<std::string> keys);
  void cron(Time now);
  /// When a clock is next due.
  std::optional<Time> next(Time now) const;

  /// Invocations that were added.
  const std::vector<std::string>& added() const noexcept { return added_; }
  /// Whether everything could be looked at.
  bool good() const noexcept { return failures_ == 0; }

private:
  struct Entry;
  struct Known {  // to the store
    std::string id;
    std::vector<std::string> sources;
  };
  using Fired = std::vector<NewInvocation>;

  void look(std::vector<std::pair<std::string, std::string>> values);
  void read_known();
  bool parse(Entry& entry) const;
  void remove(const Entry& entry);
  void evaluate(Entry& entry);
  bool is_open(const std::string& key, const std::optional<std::string>& value, const std::string& trigger_id) const;
  void settle(Entry& entry, Fired then);
  bool leads_on(const Trigger& trigger, const Entry& entry) const;
  void remember(const Trigger& trigger, const Entry& entry);
  std::vector<std::size_t> matching(const Trigger& trigger, const MatchPart& part) const;
  /// Adds to `then` what the alternatives that are complete lead to, and forgets what they have used.
  void complete(const Trigger& trigger, TriggerState& state, Fired& then) const;
  void fire(const Trigger& trigger, std::vector<Mark> marks, Fired& then) const;
  void due(const Trigger& trigger, Time now);
  bool set_state(const Trigger& trigger, const std::optional<std::string>& before, TriggerState state, Fired then);

  AppCore& app_;
  Store& store_;
  const std::vector<TriggerPtr> triggers_;
  std::vector<Known> known_;
  const std::function<void(const std::string&)> settled_;
  std::vector<std::string> added_;
  std::size_t failures_ = 0;
};

/// Keys that name what has happened. Errors: none; what is no such key has none of it.
struct QueueName {
  char kind = 0;  // 'c' or 'e'
  Time at{};
  Status status{};
  std::string id;
  static std::optional<QueueName> of(std::string_view key);
};
std::string event_key(Time at, const std::string& id);

/// Texts that were packed_text(), one behind the other. None: there is something else.
std::optional<std::vector<std::string>> unpacked_texts(std::string_view bytes);

/// An id like a random one, but always the same of the same.
std::string id_of_match(const std::string& trigger_id, std::vector<std::string> occurrences);

}  // namespace caller::task::detail
