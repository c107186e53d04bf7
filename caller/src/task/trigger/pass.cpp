// What a look at the triggers does; book.hpp says what lies where.
#include <algorithm>
#include <set>

#include "../app.hpp"
#include "../watch.hpp"
#include "book.hpp"

namespace caller::task::detail {

namespace {

constexpr std::size_t kAtOnce = 64;
using If = ValueChange::If;

ConditionNode::Kind kind_of(char queue_kind) {
  return queue_kind == 'e' ? ConditionNode::Kind::event : ConditionNode::Kind::change;
}

/// Whether the marks make a condition true. `leaf` is the number of its first leaf, and afterwards of the next one.
bool is_true(const ConditionNode& node, const TriggerState& state, std::size_t& leaf) {
  if (node.is_leaf()) return state.marks.contains(std::to_string(leaf++));
  const bool all = node.kind == ConditionNode::Kind::all;
  bool out = all;
  for (const auto& child : node.children) {
    const bool one = is_true(*child, state, leaf);
    out = all ? out && one : out || one;
  }
  return out;
}

}  // namespace

/// Something that has happened.
struct TriggerPass::Entry {
  std::string key, value;
  QueueName name;
  std::string source;            // as Trigger::sources()
  std::string payload;           // of an event
  std::set<std::string> done;    // triggers that have acted on it
  std::size_t head = 0;          // how much of the value is not about them
  std::vector<TriggerPtr> here;  // which have not, and are known here
  bool elsewhere = false;        // others have not
  std::optional<Pending<InvocationRecord>> asked;
  MatchPart part;
};

TriggerPass::TriggerPass(AppCore& app, std::function<void(const std::string&)> settled)
    : app_(app), store_(store_of(app)), triggers_(app.triggers.all()), settled_(std::move(settled)) {}

// ---- what there is ----

void TriggerPass::read_known() {
  known_.clear();
  constexpr std::size_t kDefinitionsAtOnce = 500;
  for (std::string after;;) {
    auto some = store_.values(std::string(kDefinitionKey), after, kDefinitionsAtOnce).wait();
    for (auto& [key, bytes] : some) {
      auto texts = unpacked_texts(bytes);
      if (!texts || texts->size() < 2) continue;
      known_.push_back({key.substr(kDefinitionKey.size()), {texts->begin() + 2, texts->end()}});
    }
    if (some.size() < kDefinitionsAtOnce) return;
    after = some.back().first;
  }
}

void TriggerPass::all() {
  for (std::string after;;) {
    auto some = store_.values(std::string(kChangeKey), after, kAtOnce).wait();
    if (!some.empty()) read_known();  // afterwards: who waited for what is there already is among them
    const bool last = some.size() < kAtOnce;
    if (!last) after = some.back().first;
    look(std::move(some));
    if (last) return;
  }
}

void TriggerPass::some(std::vector<std::string> keys) {
  read_known();
  std::sort(keys.begin(), keys.end());
  for (std::size_t from = 0; from < keys.size(); from += kAtOnce) {
    const std::size_t end = std::min(keys.size(), from + kAtOnce);
    std::vector<Pending<std::optional<std::string>>> asked;
    for (std::size_t i = from; i < end; ++i) asked.push_back(store_.value(keys[i]));
    std::vector<std::pair<std::string, std::string>> values;
    for (std::size_t i = from; i < end; ++i)
      if (auto value = asked[i - from].wait()) values.emplace_back(keys[i], std::move(*value));
    look(std::move(values));
  }
}

bool TriggerPass::parse(Entry& e) const {
  const auto name = QueueName::of(e.key);
  const auto texts = unpacked_texts(e.value);
  if (!name || !texts || texts->empty()) return false;
  e.name = *name;
  const std::size_t own = name->kind == 'e' ? 2 : 1;
  if (texts->size() < own) return false;
  e.source = std::string(1, name->kind) + ":" + (*texts)[0];
  if (own == 2) e.payload = (*texts)[1];
  for (std::size_t i = 0; i < own; ++i) e.head += packed_text((*texts)[i]).size();
  e.done.insert(texts->begin() + static_cast<std::ptrdiff_t>(own), texts->end());
  return true;
}

void TriggerPass::look(std::vector<std::pair<std::string, std::string>> values) {
  std::vector<Entry> entries;
  for (auto& [key, value] : values) {
    Entry e;
    e.key = std::move(key);
    e.value = std::move(value);
    if (!parse(e)) {  // written by a stranger
      app_.log("triggers: what lies at " + to_bytes(Format::json, e.key) + " cannot be read, and is removed");
      remove(e);
      continue;
    }
    const auto waits = [&](const std::vector<std::string>& sources) {
      return std::find(sources.begin(), sources.end(), e.source) != sources.end();
    };
    std::set<std::string> mine;
    bool wanted = false;
    for (const auto& t : triggers_) {
      mine.insert(t->id);
      if (e.done.contains(t->id) || !waits(t->sources())) continue;
      e.here.push_back(t);
      wanted = wanted || leads_on(*t, e);
    }
    for (const Known& k : known_)
      e.elsewhere = e.elsewhere || (!mine.contains(k.id) && !e.done.contains(k.id) && waits(k.sources));
    if (e.here.empty() && e.elsewhere) continue;
    if (wanted && e.name.kind == 'c') e.asked = store_.get(e.name.id);
    entries.push_back(std::move(e));
  }
  constexpr std::size_t kMostFailures = 3;  // more are not those of single invocations
  for (Entry& e : entries) {
    try {
      evaluate(e);
    } catch (...) {
      if (++failures_ > kMostFailures) throw;
      app_.log("triggers: " + ExceptionRecord::of(std::current_exception()).message);
    }
  }
}

// ---- what has happened ----

/// Whether it is worth a look at the invocation.
bool TriggerPass::leads_on(const Trigger& t, const Entry& e) const {
  for (const auto& leaf : t.leaves)
    if (leaf->kind == kind_of(e.name.kind) && leaf->source == std::string_view(e.source).substr(2) &&
        (e.name.kind == 'e' || leaf->statuses >> static_cast<unsigned>(e.name.status) & 1u))
      return true;
  return false;
}

void TriggerPass::evaluate(Entry& e) {
  MatchPart& part = e.part;
  part.kind = e.name.kind == 'e' ? ConditionKind::event : ConditionKind::change;
  part.source = e.source.substr(2);
  part.id = e.name.id;
  part.at = e.name.at;
  part.status = e.name.status;
  part.payload = e.payload;
  part.format = app_.options.format;
  bool there = true;
  const auto drop = [&](const std::exception& why) {  // or it would be looked at again and again
    there = false;
    app_.log("triggers: what invocation " + e.name.id + " became leads to nothing: " + why.what());
  };
  if (e.asked) {
    try {
      InvocationRecord record = e.asked->wait();
      part.args = whole_bytes(app_, std::move(record.args));
      if (part.status == Status::success) part.result = whole_bytes(app_, std::move(record.result));
      if (part.status == Status::failed) part.exception = std::move(record.exception);
    } catch (const InvocationNotFoundError&) {
      there = false;  // it was purged meanwhile
    } catch (const UnreadableError& why) {
      drop(why);
    } catch (const SerializationError& why) {
      drop(why);
    }
  }
  Fired fired;
  if (there)
    for (const auto& t : e.here) {
      const auto leaves = matching(*t, part);
      const auto of = [&](const Trigger::Alternative& a) {
        return std::find_if(leaves.begin(), leaves.end(),
                            [&](std::size_t l) { return l >= a.first && l < a.first + a.count; });
      };
      bool marks = false;
      for (const auto& a : t->alternatives) {
        const auto leaf = of(a);
        if (leaf == leaves.end()) continue;
        if (a.count > 1) {
          marks = true;
          continue;
        }
        Mark mark{e.key, part};
        mark.part.condition = *leaf;
        fire(*t, {std::move(mark)}, fired);
      }
      if (marks) remember(*t, e);
    }
  settle(e, std::move(fired));
}

std::vector<std::size_t> TriggerPass::matching(const Trigger& t, const MatchPart& part) const {
  const auto kind = part.kind == ConditionKind::event ? ConditionNode::Kind::event : ConditionNode::Kind::change;
  std::vector<std::size_t> out;
  for (std::size_t i = 0; i < t.leaves.size(); ++i) {
    const ConditionNode& leaf = *t.leaves[i];
    if (leaf.kind != kind || leaf.source != part.source) continue;
    if (part.kind == ConditionKind::change && !(leaf.statuses >> static_cast<unsigned>(part.status) & 1u)) continue;
    try {
      if (matches(leaf, part)) out.push_back(i);
    } catch (...) {
      app_.log("trigger " + t.text + ": " + ExceptionRecord::of(std::current_exception()).message);
    }
  }
  return out;
}

void TriggerPass::fire(const Trigger& t, std::vector<Mark> marks, Fired& then) const {
  std::vector<std::string> occurrences;
  std::vector<MatchPart> parts;
  for (Mark& m : marks) {
    occurrences.push_back(std::move(m.occurrence));
    parts.push_back(std::move(m.part));
  }
  std::string id = id_of_match(t.id, std::move(occurrences));
  if (std::any_of(then.begin(), then.end(), [&](const NewInvocation& n) { return n.id == id; })) return;
  const auto cannot = [&] {
    app_.log("trigger " + t.text + " cannot call " + t.task->id + ": " +
             ExceptionRecord::of(std::current_exception()).message);
  };
  try {
    then.push_back(triggered_call(app_, *t.task, t.arguments(Match(t.id, std::move(parts))), std::move(id)));
  } catch (const UnreadableError&) {  // that of which its arguments are made stays so
    cannot();
  } catch (const StateBackendError&) {
    throw;
  } catch (...) {
    cannot();
  }
}

/// Takes it away, or notes in it who has acted, together with what that leads to.
void TriggerPass::settle(Entry& e, Fired then) {
  std::vector<std::string> ids;
  for (const auto& n : then) ids.push_back(n.id);
  std::optional<std::string> left;
  if (e.elsewhere) {
    left = e.value;
    for (const auto& t : e.here) *left += packed_text(t->id);
  }
  if (settled_) settled_(e.key);
  const auto lifetime = left ? std::chrono::nanoseconds(kChangeLifetime) : std::chrono::nanoseconds(0);
  if (store_.set_value({e.key, If::equal, e.value, std::move(left), lifetime, std::move(then)}).wait()) {
    added_.insert(added_.end(), ids.begin(), ids.end());
    return;
  }
  // Somebody else was quicker; is there anything left to do?
  auto now = store_.value(e.key).wait();
  if (now && *now != e.value) look({{e.key, std::move(*now)}});
}

void TriggerPass::remove(const Entry& e) {
  if (settled_) settled_(e.key);
  store_.set_value({e.key, If::equal, e.value, std::nullopt, {}, {}}).wait();
}

// ---- what is remembered ----

bool TriggerPass::set_state(const Trigger& t, const std::optional<std::string>& before, TriggerState state,
                            Fired then) {
  std::vector<std::string> ids;
  for (const auto& n : then) ids.push_back(n.id);
  ++state.version;  // so that no state comes twice
  if (!store_
           .set_value({std::string(kStateKey) + t.id, before ? If::equal : If::absent, before.value_or(""),
                       state_bytes(state), kStateLifetime, std::move(then)})
           .wait())
    return false;
  added_.insert(added_.end(), ids.begin(), ids.end());
  return true;
}

void TriggerPass::complete(const Trigger& t, TriggerState& state, Fired& then) const {
  for (const auto& a : t.alternatives) {
    std::size_t leaf = a.first;
    if (a.count == 1 || !is_true(*a.root, state, leaf)) continue;
    std::vector<Mark> marks;
    for (std::size_t i = a.first; i < a.first + a.count; ++i)
      if (auto mark = state.marks.extract(std::to_string(i))) marks.push_back(std::move(mark.mapped()));
    fire(t, std::move(marks), then);
  }
}

/// Whether a trigger may still act on what lies there.
bool TriggerPass::is_open(const std::string& key, const std::optional<std::string>& value,
                          const std::string& trigger_id) const {
  Entry e;
  e.key = key;
  e.value = value.value_or("");
  return value && parse(e) && !e.done.contains(trigger_id);
}

/// Notes that it has happened, once: the state says so until it is no longer in its place. So the state is read first,
/// then what has happened, and if it is there and the state does not name it, it has not been noted yet.
void TriggerPass::remember(const Trigger& t, const Entry& e) {
  for (;;) {
    const auto before = store_.value(std::string(kStateKey) + t.id).wait();
    const auto there = store_.value(e.key).wait();
    if (there != e.value) return;
    TriggerState state = (before ? state_from(t, *before) : std::nullopt).value_or(TriggerState());
    if (std::find(state.applied.begin(), state.applied.end(), e.key) != state.applied.end()) return;
    std::vector<Pending<std::optional<std::string>>> asked;
    for (const auto& key : state.applied) asked.push_back(store_.value(key));
    std::vector<std::string> still;
    for (std::size_t i = 0; i < asked.size(); ++i) {
      if (is_open(state.applied[i], asked[i].wait(), t.id)) still.push_back(state.applied[i]);
    }
    state.applied = std::move(still);
    state.applied.push_back(e.key);
    for (const std::size_t leaf : matching(t, e.part)) {
      const bool alone = std::any_of(t.alternatives.begin(), t.alternatives.end(),
                                     [&](const auto& a) { return a.first == leaf && a.count == 1; });
      if (alone) continue;
      Mark mark{e.key, e.part};
      mark.part.condition = leaf;
      state.marks.insert_or_assign(std::to_string(leaf), std::move(mark));
    }
    Fired then;
    complete(t, state, then);
    if (set_state(t, before, std::move(state), std::move(then))) return;
  }
}

// ---- the clock ----

void TriggerPass::cron(Time now) {
  for (const auto& t : triggers_)
    if (t->has_cron()) due(*t, now);
}

void TriggerPass::due(const Trigger& t, Time now) {
  const Seconds second = std::chrono::floor<std::chrono::seconds>(now);
  for (;;) {
    const auto before = store_.value(std::string(kStateKey) + t.id).wait();
    TriggerState state = (before ? state_from(t, *before) : std::nullopt).value_or(TriggerState());
    bool changed = false;
    Fired then;
    for (std::size_t i = 0; i < t.leaves.size(); ++i) {
      const ConditionNode& leaf = *t.leaves[i];
      if (!leaf.schedule) continue;
      const auto [last, fresh] = state.due.try_emplace(std::to_string(i), second.time_since_epoch().count());
      changed = changed || fresh;
      const auto tick =
          leaf.schedule->last(std::max(Seconds(std::chrono::seconds(last->second)), second - leaf.late), second);
      if (!tick) continue;
      last->second = tick->time_since_epoch().count();
      changed = true;
      Mark mark{"cron:" + std::to_string(last->second), {}};
      mark.part.condition = i;
      mark.part.source = leaf.words;
      mark.part.id = mark.occurrence;
      mark.part.at = *tick;
      try {
        if (!matches(leaf, mark.part)) continue;
      } catch (...) {
        app_.log("trigger " + t.text + ": " + ExceptionRecord::of(std::current_exception()).message);
        continue;
      }
      const bool alone = std::any_of(t.alternatives.begin(), t.alternatives.end(),
                                     [&](const auto& a) { return a.first == i && a.count == 1; });
      if (alone)
        fire(t, {std::move(mark)}, then);
      else
        state.marks.insert_or_assign(std::to_string(i), std::move(mark));
    }
    if (!changed) return;
    complete(t, state, then);
    if (set_state(t, before, std::move(state), std::move(then))) return;
  }
}

std::optional<Time> TriggerPass::next(Time now) const {
  std::optional<Time> out;
  for (const auto& t : triggers_)
    for (const auto& leaf : t->leaves)
      if (leaf->schedule) {
        const Time due = leaf->schedule->next(std::chrono::floor<std::chrono::seconds>(now));
        if (!out || due < *out) out = due;
      }
  return out;
}

}  // namespace caller::task::detail
