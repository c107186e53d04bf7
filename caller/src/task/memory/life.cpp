// The life of an invocation: what each change of its state does to queues, runners, keys and those who wait.
#include <algorithm>

#include "../queues.hpp"
#include "store.hpp"

namespace caller::task::memory {

namespace {
constexpr nanoseconds kFirstLease = std::chrono::seconds(10);  // of a runner that has not told of itself yet

void leave_kin(std::unordered_map<std::string, std::map<std::uint64_t, Record*>>& all, const std::string& id,
               const Record& r) {
  const auto it = all.find(id);
  if (it == all.end()) return;
  it->second.erase(r.number);
  if (it->second.empty()) all.erase(it);
}
}  // namespace

Owner& MemoryStore::owner_named(const std::string& name) {
  auto [it, fresh] = runners_.try_emplace(name);
  Owner& out = it->second;
  if (fresh) {
    out.name = &*names_.insert(name).first;
    out.told.id = name;
    out.lease_until = Steady::now() + kFirstLease;
  }
  return out;
}

/// Unless it is there.
void MemoryStore::insert(NewInvocation&& call, News& news) {
  auto made = std::make_unique<Record>();
  Record* const r = made.get();
  r->id = std::move(call.id);
  if (!records_.insert(r).second) {
    call.id = std::move(r->id);
    return;
  }
  r->task_id = std::move(call.task_id);
  r->call_id = std::move(call.call_id);
  r->args = std::move(call.args);
  r->parent_id = std::move(call.parent_id);
  r->queue = std::move(call.queue);
  r->priority = call.priority;
  r->registration_key = std::move(call.registration_key);
  r->running_key = std::move(call.running_key);
  r->reroute = call.reroute;
  r->number = ++last_number_;
  r->created = news.time();
  Record& record = *r;
  refer(record, call.data);
  if (!call.workflow_id.empty()) {
    record.workflow_id = std::move(call.workflow_id);
  } else if (!record.parent_id.empty()) {
    if (const Record* const parent = find(record.parent_id); parent && parent != r)
      record.workflow_id = workflow_of(*parent);
  }
  if (record.workflow_id == record.id) record.workflow_id.clear();
  if (!record.parent_id.empty()) children_[record.parent_id].emplace(record.number, &record);
  if (!record.workflow_id.empty()) members_[record.workflow_id].emplace(record.number, &record);
  in_order_.push_back(made.release());
  if (call.delay > nanoseconds::zero()) record.due = Steady::now() + call.delay;
  enter(record, call.delay > nanoseconds::zero() ? Status::scheduled : Status::registered, nullptr, news);
}

/// A change that is allowed.
void MemoryStore::set(Record& r, Status to, Owner* owner, News& news) {
  leave(r, to, news);
  enter(r, to, owner, news);
}

void MemoryStore::leave(Record& r, Status to, News& news) {
  --counts_[static_cast<std::size_t>(r.status)];
  if (is_few(r.status)) few_[static_cast<std::size_t>(r.status)].erase(r.number);
  if (r.runner && !is_owned(to)) {
    std::exchange(r.runner, nullptr)->owned.erase(r);
    if (!r.running_key.empty()) {
      busy_.erase(r.running_key);
      admit_next(r.running_key, news);
    }
  }
  if (r.status == Status::killed) killed_.erase(&r);
  if (r.status == Status::concurrency_controlled) {
    auto& others = controlled_[r.running_key];
    others.erase(std::find(others.begin(), others.end(), &r));
  }
  dequeue(r);
  if (!r.registration_key.empty() && waits_to_be_taken(r.status) && !waits_to_be_taken(to)) {
    if (const auto it = waiting_.find(r.registration_key); it != waiting_.end() && it->second == &r) waiting_.erase(it);
  }
}

void MemoryStore::enter(Record& r, Status to, Owner* owner, News& news) {
  r.status = to;
  r.changed = news.time();
  ++counts_[static_cast<std::size_t>(to)];
  if (is_few(to)) few_[static_cast<std::size_t>(to)].emplace(r.number, &r);
  r.history.add({r.changed, owner ? owner->name : nullptr, to});
  if (watched_) keep_change(r, news);
  if (owner && !r.runner) {
    r.runner = owner;
    owner->owned.push_back(r);
    if (!r.running_key.empty()) busy_.insert(r.running_key);
  }
  if (to == Status::killed) killed_.insert(&r);
  if (to == Status::concurrency_controlled) controlled_[r.running_key].push_back(&r);
  if (!r.registration_key.empty() && waits_to_be_taken(to)) waiting_.emplace(r.registration_key, &r);
  if (is_runnable(to) || to == Status::scheduled) {
    if (r.cancel_requested) return set(r, Status::cancelled, nullptr, news);
    if (r.due != Steady::time_point{} && r.due > Steady::now())
      delay(r);
    else
      enqueue(r, news);
  }
  if (is_final(to)) end(r, news);
}

void MemoryStore::enqueue(Record& r, News& news) {
  Lane& lane = queues_[r.queue].by_priority[r.priority];
  rank(r, [&] {
    if (r.lane) r.lane->erase(r);
    r.ticket = ++last_ticket_;
    r.lane = &lane;
    lane.push_back(r);
  });
  news.work = true;
}
void MemoryStore::dequeue(Record& r) {
  if (!r.lane) return;
  rank(r, [&] { std::exchange(r.lane, nullptr)->erase(r); });
}

/// Waits for its time; a thread of its own is made for the first one that has to.
void MemoryStore::delay(Record& r) {
  due_.emplace(r.due, r.id);
  if (!clock_) clock_.emplace(caller::new_thread, CallerOptions{.name = "tasks-clock"});
  (void)clock_->call_later(r.due - Steady::now(),
                           [this] { (void)with_news<void>([&](News& news) { release_due(news); }); });
}

void MemoryStore::release_due(News& news) {
  if (due_.empty()) return;
  const auto steady = Steady::now();
  while (!due_.empty() && due_.begin()->first <= steady) {
    Record* const found = find(due_.begin()->second);
    due_.erase(due_.begin());
    if (!found) continue;
    Record& r = *found;
    if (r.due > steady) continue;
    if (r.status == Status::scheduled)
      set(r, Status::registered, nullptr, news);
    else if (is_runnable(r.status) && !r.lane)
      enqueue(r, news);
  }
}

/// The one controlled longest may run.
void MemoryStore::admit_next(const std::string& running_key, News& news) {
  const auto it = controlled_.find(running_key);
  if (it == controlled_.end()) return;
  if (it->second.empty()) {
    controlled_.erase(it);
    return;
  }
  Record* const r = it->second.front();
  set(*r, Status::rerouted, nullptr, news);
}

Record* MemoryStore::next(const std::vector<std::string>& queues) {
  for (const auto& [key, record] : urgent_)
    if (detail::serves(queues, record->queue)) return record;
  Record* best = nullptr;
  const auto order = [](const Record& r) { return std::tuple(-static_cast<std::int64_t>(r.priority), r.ticket); };
  for (auto& [name, queue] : queues_) {
    if (!detail::serves(queues, name)) continue;
    auto& all = queue.by_priority;
    while (!all.empty() && all.begin()->second.empty()) all.erase(all.begin());
    if (all.empty()) continue;
    Record* const first = all.begin()->second.first();
    if (!best || order(*first) < order(*best)) best = first;
  }
  return best;
}

bool MemoryStore::leads_to(Record& from, const Record& to, std::vector<Record*>& path) {
  std::unordered_set<const Record*> seen;
  struct Turn {
    Record* record;
    std::size_t next = 0;
  };
  std::vector<Turn> steps{{&from}};
  while (!steps.empty()) {
    Turn& turn = steps.back();
    if (turn.record == &to) {
      for (const Turn& s : steps) path.push_back(s.record);
      return true;
    }
    if (turn.next == turn.record->waits_for.size()) {
      steps.pop_back();
      continue;
    }
    Record* const record = turn.record->waits_for[turn.next++];
    if (seen.insert(record).second) steps.push_back({record});
  }
  return false;
}

void MemoryStore::end(Record& r, News& news) {
  for (Record* w : r.waited_by) rank(*w, [&] { std::erase(w->waits_for, &r); });
  for (Record* w : r.waits_for) rank(*w, [&] { std::erase(w->waited_by, &r); });
  rank(r, [&] {
    r.waited_by.clear();
    r.waits_for.clear();
  });
  tell_waits(r, news);
}

/// What is in in_order_ of it, the caller takes away.
void MemoryStore::forget(Record& r, News& news) {
  leave(r, Status::cancelled, news);
  end(r, news);
  release(r);
  if (!r.parent_id.empty()) leave_kin(children_, r.parent_id, r);
  if (!r.workflow_id.empty()) leave_kin(members_, r.workflow_id, r);
  records_.erase(&r);
  delete &r;
}

}  // namespace caller::task::memory
