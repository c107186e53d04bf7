// The life of an invocation: what each change of its state does to queues, runners, keys and those who wait.
#include <algorithm>

#include "../queues.hpp"
#include "store.hpp"

namespace caller::task::memory {

namespace {
constexpr std::size_t kLanes = 8;                              // of a queue that are kept when they are empty
constexpr nanoseconds kFirstLease = std::chrono::seconds(10);  // of a runner that has not told of itself yet

void leave_all(std::unordered_map<std::string, std::map<std::uint64_t, Record*>>& all, std::string_view id,
               const Record& r) {
  const auto it = all.find(std::string(id));
  if (it == all.end()) return;
  it->second.erase(r.number);
  if (it->second.empty()) all.erase(it);
}
}  // namespace

Owner& MemoryStore::owner_named(const std::string& name) {
  auto [it, fresh] = runners_.try_emplace(name);
  Owner& out = it->second;
  if (fresh) {
    const auto [known, unknown] = name_numbers_.try_emplace(name, static_cast<std::uint32_t>(names_.size()));
    if (unknown) names_.push_back(name);
    out.name = known->second;
    out.told.id = name;
    out.lease_until = Steady::now() + kFirstLease;
  }
  return out;
}

/// Unless it is there.
void MemoryStore::insert(NewInvocation&& call, News& news) {
  if (find(call.id)) return;
  Record& r = *Record::make({call.id, call.call_id, call.task_id, call.parent_id, call.queue, call.registration_key,
                             call.running_key, call.args, call.priority, call.reroute});
  refer(r, call.data);
  std::string workflow = std::move(call.workflow_id);
  if (workflow.empty() && !call.parent_id.empty())
    if (const Record* const parent = find(call.parent_id)) workflow = parent->workflow();
  if (!workflow.empty() && workflow != r.id()) r.more().workflow_id = std::move(workflow);
  if (call.delay > nanoseconds::zero()) r.more().due = Steady::now() + call.delay;
  link(r, news);
}

/// One that is complete, and whose id is not there.
void MemoryStore::link(Record& r, News& news) {
  records_.insert(r);
  r.number = ++last_number_;
  if (!r.parent_id().empty()) children_[std::string(r.parent_id())].emplace(r.number, &r);
  if (r.has_workflow()) members_[r.rare->workflow_id].emplace(r.number, &r);
  in_order_.push_back(&r);
  enter(r, r.due() != Steady::time_point{} ? Status::scheduled : Status::registered, nullptr, news);
}

/// A change that is allowed.
void MemoryStore::set(Record& r, Status to, Owner* owner, News& news, bool code_goes_on) {
  leave(r, to, news, code_goes_on);
  enter(r, to, owner, news);
}

void MemoryStore::leave(Record& r, Status to, News& news, bool code_goes_on) {
  --counts_[static_cast<std::size_t>(r.status)];
  if (is_few(r.status)) few_[static_cast<std::size_t>(r.status)].erase(r.number);
  if (r.runner && !is_owned(to)) {
    Owner& owner = *std::exchange(r.runner, nullptr);
    owner.owned.erase(r);
    if (!r.running_key().empty()) {
      const std::string key(r.running_key());
      if (code_goes_on) kept_.emplace(key, Kept{std::string(r.id()), owner.name});
      if (!kept_.contains(key)) {
        busy_.erase(key);
        admit_next(key, news);
      }
    }
  } else if (is_runnable(r.status) && is_final(to) && !r.running_key().empty()) {  // it may have been its turn
    if (const std::string key(r.running_key()); !busy_.contains(key)) admit_next(key, news);
  }
  if (r.status == Status::killed) killed_.erase(&r);
  if (r.status == Status::concurrency_controlled) {
    auto& others = controlled_[std::string(r.running_key())];
    others.erase(std::find(others.begin(), others.end(), &r));
  }
  dequeue(r);
  if (!r.registration_key().empty() && waits_to_be_taken(r.status) && !waits_to_be_taken(to))
    leave_all(waiting_, r.registration_key(), r);
}

void MemoryStore::enter(Record& r, Status to, Owner* owner, News& news) {
  r.status = to;
  ++counts_[static_cast<std::size_t>(to)];
  if (is_few(to)) few_[static_cast<std::size_t>(to)].emplace(r.number, &r);
  r.history.add({news.time(), owner ? owner->name : 0, to});
  if (watched_) keep_change(r, news);
  if (owner && !r.runner) {
    r.runner = owner;
    owner->owned.push_back(r);
    if (!r.running_key().empty()) busy_.emplace(r.running_key());
  }
  if (to == Status::killed) killed_.insert(&r);
  if (to == Status::concurrency_controlled) controlled_[std::string(r.running_key())].push_back(&r);
  if (!r.registration_key().empty() && waits_to_be_taken(to))
    waiting_[std::string(r.registration_key())].emplace(r.number, &r);
  if (is_runnable(to) || to == Status::scheduled) {
    if (r.cancel_requested) return set(r, Status::cancelled, nullptr, news);
    if (r.due() != Steady::time_point{} && r.due() > Steady::now())
      delay(r);
    else
      enqueue(r, news);
  }
  if (is_final(to)) {
    r.settle(to);
    end(r, news);
  }
}

void MemoryStore::enqueue(Record& r, News& news) {
  auto queue = queues_.find(r.queue());
  if (queue == queues_.end()) queue = queues_.emplace(r.queue(), Queue()).first;
  Lane& lane = queue->second.by_priority[r.priority];
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
  due_.emplace(r.due(), r.id());
  if (!clock_) clock_.emplace(caller::new_thread, CallerOptions{.name = "tasks-clock"});
  (void)clock_->call_later(r.due() - Steady::now(),
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
    if (r.due() > steady) continue;
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
    if (detail::serves(queues, record->queue())) return record;
  Record* best = nullptr;
  const auto order = [](const Record& r) { return std::tuple(-static_cast<std::int64_t>(r.priority), r.ticket); };
  for (auto& [name, queue] : queues_) {
    if (!detail::serves(queues, name)) continue;
    auto& all = queue.by_priority;
    auto lane = all.begin();
    while (lane != all.end() && lane->second.empty()) lane = all.size() > kLanes ? all.erase(lane) : std::next(lane);
    if (lane == all.end()) continue;
    Record* const first = lane->second.first();
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
    if (!turn.record->rare || turn.next == turn.record->rare->waits_for.size()) {
      steps.pop_back();
      continue;
    }
    Record* const record = turn.record->rare->waits_for[turn.next++];
    if (seen.insert(record).second) steps.push_back({record});
  }
  return false;
}

void MemoryStore::end(Record& r, News& news) {
  if (r.rare) {
    for (Record* w : r.rare->waited_by) rank(*w, [&] { std::erase(w->rare->waits_for, &r); });
    for (Record* w : r.rare->waits_for) rank(*w, [&] { std::erase(w->rare->waited_by, &r); });
    rank(r, [&] {
      r.rare->waited_by.clear();
      r.rare->waits_for.clear();
    });
  }
  tell_waits(r, news);
}

/// What is in in_order_ of it, the caller takes away.
void MemoryStore::forget(Record& r, News& news) {
  leave(r, Status::cancelled, news);
  end(r, news);
  release(r);
  if (!r.parent_id().empty()) leave_all(children_, r.parent_id(), r);
  if (r.has_workflow()) leave_all(members_, r.rare->workflow_id, r);
  records_.erase(r);
  r.forget();
  r.unref();
}

}  // namespace caller::task::memory
