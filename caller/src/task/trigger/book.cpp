#include "book.hpp"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "../app.hpp"
#include "../watch.hpp"
#include "service.hpp"

namespace caller::task {

namespace detail {
CALLER_TASK_FIELDS(Mark, occurrence, part)
CALLER_TASK_FIELDS(TriggerState, version, due, marks, applied)
}  // namespace detail
CALLER_TASK_FIELDS(MatchPart, condition, kind, source, id, at, status, payload, args, result, exception, format)

namespace detail {

// ---- triggers ----

bool Trigger::has_cron() const {
  return std::any_of(leaves.begin(), leaves.end(),
                     [](const ConditionPtr& l) { return l->kind == ConditionNode::Kind::cron; });
}

std::vector<std::string> Trigger::sources() const {
  std::vector<std::string> out;
  for (const auto& leaf : leaves) {
    if (leaf->kind == ConditionNode::Kind::cron) continue;
    out.push_back((leaf->kind == ConditionNode::Kind::event ? "e:" : "c:") + leaf->source);
  }
  return out;
}

namespace {

void collect(const ConditionPtr& node, std::vector<ConditionPtr>& leaves) {
  if (node->is_leaf()) return leaves.push_back(node);
  for (const auto& child : node->children) collect(child, leaves);
}

void split(const ConditionPtr& node, Trigger& into) {
  if (node->kind == ConditionNode::Kind::any) {
    for (const auto& child : node->children) split(child, into);
    return;
  }
  Trigger::Alternative a{node, into.leaves.size(), 0};
  collect(node, into.leaves);
  a.count = into.leaves.size() - a.first;
  into.remembers = into.remembers || a.count > 1;
  into.alternatives.push_back(std::move(a));
}

std::string definition_bytes(const Trigger& t) {
  std::string out = packed_text(t.task->id) + packed_text(t.text);
  for (const auto& source : t.sources()) out += packed_text(source);
  return out;
}

constexpr auto kCbor = Format::cbor;

}  // namespace

std::string add_trigger(const AppPtr& app, const Condition& when, DefinitionPtr task, const std::string& arguments,
                        std::function<CallBytes(const Match&)> make, bool computed) {
  auto trigger = std::make_shared<Trigger>();
  trigger->task = std::move(task);
  trigger->text = when.text();
  trigger->arguments = std::move(make);
  split(when.node(), *trigger);
  trigger->remembers = trigger->remembers || trigger->has_cron();
  trigger->opaque = computed || std::any_of(trigger->leaves.begin(), trigger->leaves.end(),
                                            [](const ConditionPtr& l) { return l->opaque; });
  trigger->id = args_id({{"task", trigger->task->id}, {"when", trigger->text}, {"arguments", arguments}});
  return app->triggers.add(std::move(trigger));
}

std::string state_bytes(const TriggerState& state) { return to_bytes(kCbor, state); }

std::optional<TriggerState> state_from(const Trigger& trigger, std::string_view bytes) {
  try {
    TriggerState state = from_bytes<TriggerState>(kCbor, bytes);
    const auto is_leaf = [&](const std::string& text) {
      std::size_t n = 0;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
      return error == std::errc() && end == text.data() + text.size() && n < trigger.leaves.size();
    };
    for (const auto& [leaf, time] : state.due)
      if (!is_leaf(leaf)) return std::nullopt;
    for (const auto& [leaf, mark] : state.marks)
      if (!is_leaf(leaf) || static_cast<std::size_t>(mark.part.status) >= kStatusCount ||
          mark.part.kind > ConditionKind::change || mark.part.format > Format::cbor)
        return std::nullopt;
    return state;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

// ---- the book ----

std::string TriggerBook::add(TriggerPtr trigger) {
  std::string id;
  {
    const std::lock_guard lock(mutex_);
    // Those that differ only in their functions are told apart by their order; the same one again is the same one.
    const std::string first = trigger->id;
    for (int n = 2;; ++n) {
      const bool there =
          std::any_of(triggers_.begin(), triggers_.end(), [&](const TriggerPtr& t) { return t->id == trigger->id; });
      if (!there) break;
      if (!trigger->opaque) return trigger->id;
      auto next = std::make_shared<Trigger>(*trigger);
      next->id = args_id({{"trigger", first}, {"number", std::to_string(n)}});
      trigger = std::move(next);
    }
    id = trigger->id;
    triggers_.push_back(std::move(trigger));
    told_until_ = 0;
    ++changes_;
    count_.store(triggers_.size(), std::memory_order_release);
  }
  wake_services();
  return id;
}

std::vector<TriggerPtr> TriggerBook::all() const {
  const std::lock_guard lock(mutex_);
  return triggers_;
}

void TriggerBook::forget_told() {
  const std::lock_guard lock(mutex_);
  told_.clear();
  told_until_ = 0;
  ++changes_;
}

/// One the store was not told of lately.
TriggerPtr TriggerBook::untold() const {
  const std::lock_guard lock(mutex_);
  for (const auto& t : triggers_)
    if (const auto it = told_.find(t->id);
        it == told_.end() || std::chrono::steady_clock::now() - it->second >= kRenewal)
      return t;
  return nullptr;
}

bool TriggerBook::is_told() const {
  return empty() || std::chrono::steady_clock::now().time_since_epoch().count() < told_until_.load();
}

void TriggerBook::tell(Store& store) {
  if (is_told()) return;
  const std::lock_guard one_at_a_time(telling_);
  const auto until = std::chrono::steady_clock::now() + kRenewal;
  const std::size_t changes = changes_.load();
  while (const TriggerPtr t = untold()) {
    tell_of(store, *t);
    const std::lock_guard lock(mutex_);
    told_.insert_or_assign(t->id, std::chrono::steady_clock::now());
  }
  const std::lock_guard lock(mutex_);
  if (changes != changes_.load()) return;  // there is something new, or nothing is known any more
  auto first = until;
  for (const auto& [id, when] : told_) first = std::min(first, when + kRenewal);
  told_until_ = first.time_since_epoch().count();
}

void TriggerBook::tell_of(Store& store, const Trigger& t) {
  using If = ValueChange::If;
  store.set_value({std::string(kDefinitionKey) + t.id, If::anything, {}, definition_bytes(t), kKnownLifetime, {}})
      .wait();
  for (const auto& leaf : t.leaves) {
    if (leaf->kind == ConditionNode::Kind::event)
      store.set_value({std::string(kEventKey) + leaf->source, If::anything, {}, "1", kKnownLifetime, {}}).wait();
    if (leaf->kind != ConditionNode::Kind::change) continue;
    const std::string key = std::string(kWatchKey) + leaf->source;
    for (;;) {  // others may watch the same task for other states
      const auto before = store.value(key).wait();
      std::uint32_t bits = 0;
      if (before) std::from_chars(before->data(), before->data() + before->size(), bits);
      if (store
              .set_value({key,
                          before ? If::equal : If::absent,
                          before.value_or(""),
                          std::to_string(bits | leaf->statuses),
                          kKnownLifetime,
                          {}})
              .wait())
        break;
    }
  }
  if (!t.remembers) return;
  const std::string key = std::string(kStateKey) + t.id;
  const auto since = std::chrono::floor<std::chrono::seconds>(now()).time_since_epoch().count();
  for (;;) {  // a clock that is new is not due at once
    const auto before = store.value(key).wait();
    TriggerState state = (before ? state_from(t, *before) : std::nullopt).value_or(TriggerState());
    for (std::size_t i = 0; i < t.leaves.size(); ++i)
      if (t.leaves[i]->kind == ConditionNode::Kind::cron) state.due.try_emplace(std::to_string(i), since);
    ++state.version;
    if (store
            .set_value(
                {key, before ? If::equal : If::absent, before.value_or(""), state_bytes(state), kStateLifetime, {}})
            .wait())
      break;
  }
}

Time TriggerBook::now() const {
  std::function<Time()> clock;
  {
    const std::lock_guard lock(mutex_);
    clock = clock_;
  }
  return clock ? clock() : std::chrono::time_point_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now());
}

void TriggerBook::set_clock(std::function<Time()> clock) {
  {
    const std::lock_guard lock(mutex_);
    clock_ = std::move(clock);
  }
  wake_services();
}

void TriggerBook::add_service(std::weak_ptr<TriggerService> service) {
  const std::lock_guard lock(mutex_);
  std::erase_if(services_, [](const auto& s) { return s.expired(); });
  services_.push_back(std::move(service));
}

void TriggerBook::wake_services() const {
  std::vector<std::weak_ptr<TriggerService>> services;
  {
    const std::lock_guard lock(mutex_);
    services = services_;
  }
  for (const auto& s : services)
    if (const auto service = s.lock()) service->look_at_all();
}

// ---- names ----

std::optional<QueueName> QueueName::of(std::string_view key) {
  if (!key.starts_with(kChangeKey)) return std::nullopt;
  key.remove_prefix(kChangeKey.size());
  const auto number = [&](std::size_t digits) -> std::optional<std::int64_t> {
    std::int64_t n = 0;
    if (key.size() < digits + 1 || key[digits] != '/') return std::nullopt;
    const auto [end, error] = std::from_chars(key.data(), key.data() + digits, n);
    if (error != std::errc() || end != key.data() + digits || n < 0) return std::nullopt;
    key.remove_prefix(digits + 1);
    return n;
  };
  QueueName out;
  const auto us = number(20);
  if (!us || *us > std::numeric_limits<std::int64_t>::max() / 1000 || key.size() < 2) return std::nullopt;
  out.at = Time(std::chrono::microseconds(*us));
  out.kind = key.front();
  key.remove_prefix(1);
  if (out.kind == 'c') {
    const auto status = number(2);
    if (!status || *status >= static_cast<std::int64_t>(kStatusCount)) return std::nullopt;
    out.status = static_cast<Status>(*status);
  } else if (out.kind == 'e' && key.starts_with('/')) {
    key.remove_prefix(1);
  } else {
    return std::nullopt;
  }
  out.id = key;
  return out;
}

std::string event_key(Time at, const std::string& id) { return queue_key(at) + "e/" + id; }

std::optional<std::vector<std::string>> unpacked_texts(std::string_view bytes) {
  std::vector<std::string> out;
  while (!bytes.empty()) {
    std::size_t size = 0;
    const auto [end, error] = std::from_chars(bytes.data(), bytes.data() + bytes.size(), size);
    if (error != std::errc()) return std::nullopt;
    const auto digits = static_cast<std::size_t>(end - bytes.data());
    if (bytes.size() <= digits || bytes[digits] != ':' || bytes.size() - digits - 1 < size) return std::nullopt;
    out.emplace_back(bytes.substr(digits + 1, size));
    bytes.remove_prefix(digits + 1 + size);
  }
  return out;
}

std::string id_of_match(const std::string& trigger_id, std::vector<std::string> occurrences) {
  std::sort(occurrences.begin(), occurrences.end());
  occurrences.erase(std::unique(occurrences.begin(), occurrences.end()), occurrences.end());
  std::vector<std::pair<std::string, std::string>> all{{"trigger", trigger_id}};
  for (const auto& o : occurrences) all.emplace_back("match", packed_text(o));
  std::string hex = args_id(all).substr(0, 32);
  hex[12] = '8';
  hex[16] = "89ab"[(hex[16] <= '9' ? hex[16] - '0' : hex[16] - 'a' + 10) & 3];
  for (const std::size_t at : {8u, 13u, 18u, 23u}) hex.insert(at, 1, '-');
  return hex;
}

// ---- what applications ask for ----

std::string emit_event(const AppPtr& app, const std::string& name, const Payload& payload) {
  Store& store = store_of(*app);
  app->triggers.tell(store);
  std::string id = new_uuid();
  const auto waits_for_it = [&](const TriggerPtr& t) {
    const auto sources = t->sources();
    return std::find(sources.begin(), sources.end(), "e:" + name) != sources.end();
  };
  const auto here = app->triggers.all();
  if (std::none_of(here.begin(), here.end(), waits_for_it) && !store.value(std::string(kEventKey) + name).wait())
    return id;  // nobody does
  const Time at = std::chrono::time_point_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now());
  store
      .set_value({event_key(at, id),
                  ValueChange::If::absent,
                  {},
                  packed_text(name) + packed_text(payload.text()),
                  kChangeLifetime,
                  {}})
      .wait();
  after_changes(app);
  return id;
}

std::vector<TriggerRecord> list_triggers(const AppPtr& app) {
  Store& store = store_of(*app);
  std::map<std::string, TriggerRecord> out;
  constexpr std::size_t kAtOnce = 500;
  for (std::string after;;) {
    const auto some = store.values(std::string(kDefinitionKey), after, kAtOnce).wait();
    for (const auto& [key, bytes] : some) {
      const auto texts = unpacked_texts(bytes);
      if (!texts || texts->size() < 2) continue;
      TriggerRecord r{key.substr(kDefinitionKey.size()), (*texts)[0], (*texts)[1]};
      out.emplace(r.id, std::move(r));
    }
    if (some.size() < kAtOnce) break;
    after = some.back().first;
  }
  const Time now = app->triggers.now();
  for (const auto& t : app->triggers.all()) {
    TriggerRecord& r = out[t->id];
    r = {t->id, t->task->id, t->text, true};
    for (const auto& leaf : t->leaves) {
      if (!leaf->schedule) continue;
      const Time due = leaf->schedule->next(std::chrono::floor<std::chrono::seconds>(now));
      if (!r.next || due < *r.next) r.next = due;
    }
    if (!t->remembers) continue;
    const auto bytes = store.value(std::string(kStateKey) + t->id).wait();
    if (const auto state = bytes ? state_from(*t, *bytes) : std::nullopt)
      for (const auto& [leaf, mark] : state->marks) r.seen.push_back(text_of(*t->leaves[std::stoul(leaf)]));
  }
  std::vector<TriggerRecord> list;
  for (auto& [id, record] : out) list.push_back(std::move(record));
  return list;
}

std::size_t evaluate_triggers(const AppPtr& app) {
  if (app->triggers.empty()) return 0;
  app->triggers.tell(store_of(*app));
  TriggerPass pass(*app);
  pass.cron(app->triggers.now());
  pass.all();
  if (app->runs_here())
    for (const auto& id : pass.added()) run_here(app, id);
  return pass.added().size();
}

void after_changes(const AppPtr& app) {
  if (!app->runs_here()) return;
  while (evaluate_triggers(app) > 0) {
  }
}

void set_trigger_clock(AppCore& app, std::function<Time()> now) { app.triggers.set_clock(std::move(now)); }

}  // namespace detail
}  // namespace caller::task
