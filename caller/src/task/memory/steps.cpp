// The steps that callers and runners ask for; each is whole under the mutex.
#include "store.hpp"

#include "runtime/shielded_wait.hpp"

#include <algorithm>

namespace caller::task {

namespace memory {

namespace {
constexpr int kTries = 64;  // for the mutex, before the thread sleeps: a step is shorter than a sleep

/// Has the processor read a record, but for its texts.
void ask_for(const Record& r) noexcept {
  const char* const begin = reinterpret_cast<const char*>(&r);
  for (std::size_t at = 0; at < sizeof(Record); at += 64) __builtin_prefetch(begin + at);
}

Added there_already(const Record& r, bool refused) {
  return {std::string(r.id()), true, refused, std::string(r.call_id()), std::string(r.args())};
}
}  // namespace

void MemoryStore::lock_soon(std::unique_lock<std::mutex>& lock) {
  for (int i = 0; i < kTries; ++i)
    if (lock.try_lock()) return;
  lock.lock();
}

void MemoryStore::finish(News& news, std::unique_lock<std::mutex>& lock) {
  std::shared_ptr<const Listeners> listeners;
  if (news.work || !news.values.empty()) listeners = listeners_;
  lock.unlock();
  for (Group& group : news.ended) group.tell();
  for (const auto& call : news.calls) call();
  if (!listeners) return;
  for (const Heard& heard : *listeners) {
    const Listener& l = heard.listener;
    if (news.work && l.work) l.work();
    if (!l.value) continue;
    for (const std::string& key : news.values)
      if (key.empty() || key.starts_with(l.values)) l.value(key);
  }
}

MemoryStore::~MemoryStore() {
  if (clock_) caller::detail::end_loop(*clock_);  // what it runs uses us
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->store = nullptr;
  }
  const auto error = std::make_exception_ptr(StateBackendError("the store of tasks was closed before that ended"));
  for (Group& group : groups_) group.fail(error);
  for (Record* const r : in_order_) r->unref();
}

Record* MemoryStore::find(std::string_view id) { return records_.find(id); }
Record& MemoryStore::at(std::string_view id) {
  if (Record* const r = find(id)) return *r;
  throw InvocationNotFoundError(std::string(id));
}
/// The one that waits with its key; none if it is there itself.
Record* MemoryStore::waiting(const NewInvocation& call) {
  if (call.registration_key.empty() || find(call.id)) return nullptr;
  const auto it = waiting_.find(call.registration_key);
  return it == waiting_.end() ? nullptr : it->second.begin()->second;
}

Added MemoryStore::add_one(NewInvocation&& call, News& news) {
  if (const Record* known = waiting(call)) return there_already(*known, false);
  Added out;
  out.id = call.id;
  insert(std::move(call), news);
  return out;
}

Pending<std::vector<Added>> MemoryStore::add(std::vector<NewInvocation> calls) {
  return with_news<std::vector<Added>>([&](News& news) {
    std::vector<Added> out(calls.size());
    for (std::size_t i = 0; i < calls.size(); ++i)
      if (Record* known = calls[i].refuse_other_call ? waiting(calls[i]) : nullptr;
          known && known->call_id() != calls[i].call_id) {
        out[i] = there_already(*known, true);
        return out;
      }
    for (std::size_t i = 0; i < calls.size(); ++i) out[i] = add_one(std::move(calls[i]), news);
    return out;
  });
}

template <class F>
void MemoryStore::take_each(const std::string& runner, std::size_t most, const std::vector<std::string>& queues,
                            bool begin, News& news, F taken) {
  release_due(news);
  Owner* owner = nullptr;
  while (most > 0) {
    Record* const r = next(queues);
    if (!r) break;
    if (!r->running_key().empty() && busy_.contains(std::string(r->running_key()))) {
      const auto kept = kept_.find(std::string(r->running_key()));
      const bool its_own = kept != kept_.end() && kept->second.id == r->id();
      set(*r, r->reroute || its_own ? Status::concurrency_controlled : Status::concurrency_controlled_final, nullptr,
          news);
      continue;
    }
    if (r->in_lane.next) ask_for(*r->in_lane.next);  // who takes that one will not have to wait for it
    if (!owner) owner = &owner_named(runner);
    set(*r, Status::pending, owner, news);
    if (begin) set(*r, Status::running, owner, news);
    taken(*r);
    --most;
  }
}

Pending<std::vector<InvocationRecord>> MemoryStore::take(std::string runner, std::size_t most,
                                                         std::vector<std::string> queues, bool begin) {
  return with_news<std::vector<InvocationRecord>>([&](News& news) {
    std::vector<InvocationRecord> out;
    take_each(runner, most, queues, begin, news, [&](const Record& r) { out.push_back(shown(r)); });
    return out;
  });
}

/// What a runner ends it has, and has used just now: no need to look among all there are.
Record& MemoryStore::at_of(std::string_view id, const std::string& runner) {
  if (const auto it = runners_.find(runner); it != runners_.end()) {
    int looks = 8;
    for (Record* r = it->second.owned.first(); r && looks > 0; r = r->of_runner.next, --looks)
      if (r->id() == id) return *r;
  }
  return at(id);
}

void MemoryStore::change_one(Record& r, Change& c, const std::string& runner, News& news) {
  const std::string& owner = name(r.runner ? r.runner->name : 0);
  const bool others = is_owned(r.status) && owner != runner;
  if (others) throw InvocationStatusOwnershipError(std::string(r.id()), r.status, owner, runner);
  if (!may_follow(r.status, c.to)) throw InvocationStatusTransitionError(std::string(r.id()), r.status, c.to);
  if (is_owned(c.to) && runner.empty())
    throw InvocationStatusOwnershipError(std::string(r.id()), r.status, owner, "nobody");
  if (c.to == Status::success) r.result = std::move(c.result);
  if (c.to == Status::failed) r.more().exception = std::move(c.exception);
  if (c.to == Status::retry) ++r.retries;
  if (c.delay > nanoseconds::zero())
    r.more().due = Steady::now() + c.delay;
  else if (r.rare)
    r.rare->due = {};
  refer(r, c.data);
  set(r, c.to, is_owned(c.to) ? &owner_named(runner) : nullptr, news, c.code_goes_on);
  for (NewInvocation& call : c.then) (void)add_one(std::move(call), news);
}

Pending<void> MemoryStore::change(Change c) {
  return with_news<void>([&](News& news) { change_one(at_of(c.id, c.runner), c, c.runner, news); });
}

Pending<void> MemoryStore::code_ended(std::string runner, std::string id) {
  return with_news<void>([&](News& news) {
    const auto number = name_numbers_.find(runner);
    if (number == name_numbers_.end()) return;
    free_keys([&](const Kept& k) { return k.runner == number->second && k.id == id; }, news);
  });
}

ChangeAndTake MemoryStore::change_and_take(Change c, std::size_t most, std::vector<std::string> queues) {
  ChangeAndTake out;
  std::exception_ptr refused;
  out.taken = with_news<std::vector<InvocationRecord>>([&](News& news) {
    try {
      change_one(at_of(c.id, c.runner), c, c.runner, news);
    } catch (...) {
      refused = std::current_exception();
    }
    std::vector<InvocationRecord> list;
    take_each(c.runner, most, queues, true, news, [&](const Record& r) { list.push_back(shown(r)); });
    return list;
  });
  if (refused)
    (void)out.changed.set_exception(refused);
  else
    (void)out.changed.set_result();
  return out;
}

// ---- for this process's own ----

void MemoryStore::add_new(std::span<const detail::LocalDraft> calls, detail::LocalRef* out) {
  for (std::size_t i = 0; i < calls.size(); ++i) {
    Record* const r = Record::make(calls[i]);
    out[i] = detail::LocalRef(*r);
    r->unref();  // until the store has it, it is the caller's alone
  }
  step([&](News& news) {
    for (std::size_t i = 0; i < calls.size(); ++i) {
      Record& r = own(*out[i]);
      r.ref();
      link(r, news);
    }
  });
}

detail::LocalTaken MemoryStore::local(Record& r) {
  return {detail::LocalRef(r), r.retries, r.has_workflow() ? r.rare->workflow_id : std::string()};
}

void MemoryStore::take_some(const std::string& runner, std::size_t most, const std::vector<std::string>& queues,
                            std::vector<detail::LocalTaken>& out) {
  step([&](News& news) { take_each(runner, most, queues, true, news, [&](Record& r) { out.push_back(local(r)); }); });
}

std::exception_ptr MemoryStore::change_and_take_some(const detail::LocalCall& call, Change& c,
                                                     const std::string& runner, std::size_t most,
                                                     const std::vector<std::string>& queues,
                                                     std::vector<detail::LocalTaken>& out) {
  std::exception_ptr refused;
  step([&](News& news) {
    try {
      if (call.forgotten()) throw InvocationNotFoundError(std::string(call.id()));
      change_one(own(call), c, runner, news);
    } catch (...) {
      refused = std::current_exception();
    }
    take_each(runner, most, queues, true, news, [&](Record& r) { out.push_back(local(r)); });
  });
  return refused;
}

InvocationRecord MemoryStore::record_of(const detail::LocalCall& call) {
  InvocationRecord out;
  step([&](News&) { out = shown(own(call)); });
  return out;
}

Pending<InvocationRecord> MemoryStore::get(std::string id) {
  return with_news<InvocationRecord>([&](News&) { return shown(at(id)); });
}
Pending<std::vector<HistoryEntry>> MemoryStore::history(std::string id) {
  return with_news<std::vector<HistoryEntry>>([&](News&) {
    const History& steps = at(id).history;
    std::vector<HistoryEntry> out;
    out.reserve(steps.size());
    for (std::size_t i = 0; i < steps.size(); ++i) out.push_back({steps[i].status, name(steps[i].who), steps[i].at});
    return out;
  });
}

Pending<void> MemoryStore::wait_for(std::string waiter, std::vector<std::string> ids) {
  return with_news<void>([&](News&) {
    Record& w = at(waiter);
    for (const auto& id : ids) {
      Record& r = at(id);
      std::vector<Record*>& waits = w.more().waits_for;
      if (is_final(r.status) || std::find(waits.begin(), waits.end(), &r) != waits.end()) continue;
      if (std::vector<Record*> path; leads_to(r, w, path)) {
        std::string text(w.task_id());
        for (const Record* step : path) text.append(" -> ").append(step->task_id());
        throw CycleDetectedError(text);
      }
      waits.push_back(&r);
      rank(r, [&] { r.more().waited_by.push_back(&w); });
    }
  });
}

Pending<void> MemoryStore::check_cycle(std::string parent_id, std::string task_id, std::string call_id) {
  return with_news<void>([&](News&) {
    std::string text = task_id;
    std::unordered_set<std::string> seen;  // whoever adds says who the parent is
    while (!parent_id.empty() && seen.insert(parent_id).second) {
      const Record* const parent = find(parent_id);
      if (!parent) return;
      text = std::string(parent->task_id()) + " -> " + text;
      if (parent->call_id() == call_id) throw CycleDetectedError(text);
      parent_id = parent->parent_id();
    }
  });
}

Pending<bool> MemoryStore::cancel(std::string id) {
  return with_news<bool>([&](News& news) {
    Record& r = at(id);
    if (is_final(r.status)) return false;
    if (may_follow(r.status, Status::cancelled) && !is_owned(r.status)) {
      set(r, Status::cancelled, nullptr, news);
      return true;
    }
    r.cancel_requested = true;
    for (const Heard& heard : *listeners_)
      if (r.runner && heard.runner == name(r.runner->name) && heard.listener.cancelled)
        news.calls.push_back([tell = heard.listener.cancelled, id = std::string(r.id())] { tell(id); });
    return true;
  });
}

Pending<void> MemoryStore::heartbeat(RunnerRecord told, nanoseconds lease) {
  return with_news<void>([&](News& news) {
    Owner& r = owner_named(told.id);
    if (r.told.started == Time{}) r.told.started = news.time();
    told.started = r.told.started;
    told.last_heartbeat = news.time();
    told.lease_until = told.last_heartbeat + lease;
    r.told = std::move(told);
    r.lease_until = Steady::now() + lease;
  });
}

Pending<void> MemoryStore::forget_runner(std::string runner) {
  return with_news<void>([&](News&) {
    if (const auto it = runners_.find(runner); it != runners_.end()) it->second.lease_until = {};
  });
}

Pending<std::vector<RunnerRecord>> MemoryStore::runners() {
  return with_news<std::vector<RunnerRecord>>([&](News&) {
    std::vector<RunnerRecord> out;
    for (const auto& [id, r] : runners_)
      if (r.lease_until != Steady::time_point{}) out.push_back(r.told);
    return out;
  });
}

Pending<std::vector<std::string>> MemoryStore::recover(nanoseconds max_pending) {
  return with_news<std::vector<std::string>>([&](News& news) {
    std::vector<std::string> out;
    const auto steady = Steady::now();
    const Time wall = news.time();
    for (auto it = runners_.begin(); it != runners_.end();) {
      const bool gone = it->second.lease_until < steady;
      std::vector<Record*> owned;
      it->second.owned.each([&](Record& r) { owned.push_back(&r); });
      for (Record* r : owned) {
        const bool is_pending = r->status == Status::pending;
        if (!gone && !(is_pending && wall - r->changed() > max_pending)) continue;
        set(*r, is_pending ? Status::pending_recovery : Status::running_recovery, nullptr, news);
        set(*r, Status::rerouted, nullptr, news);
        out.emplace_back(r->id());
      }
      if (gone) free_keys([&](const Kept& k) { return k.runner == it->second.name; }, news);
      it = gone ? runners_.erase(it) : std::next(it);
    }
    for (Record* r : std::vector<Record*>(killed_.begin(), killed_.end())) {
      set(*r, Status::rerouted, nullptr, news);
      out.emplace_back(r->id());
    }
    return out;
  });
}

Pending<std::size_t> MemoryStore::purge(std::optional<nanoseconds> older_than, nanoseconds data_grace) {
  return with_news<std::size_t>([&](News& news) {
    const std::size_t before_it = in_order_.size();
    const Time wall = news.time();
    std::erase_if(in_order_, [&](Record* r) {
      if (older_than && (!is_final(r->status) || wall - r->changed() < *older_than)) return false;
      forget(*r, news);
      return true;
    });
    if (older_than) {
      forget_values(values_.size());
      const auto before = Steady::now() - data_grace;
      std::erase_if(data_, [&](const auto& d) { return d.second.references == 0 && d.second.unused <= before; });
    } else {
      busy_.clear();
      kept_.clear();
      values_.clear();
      value_ends_.clear();
      data_.clear();
      news.values.emplace_back();
    }
    return before_it - in_order_.size();
  });
}

std::shared_ptr<void> MemoryStore::listen(std::string runner, Listener listener) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t token = ++last_token_;
  auto with = std::make_shared<Listeners>(*listeners_);
  with->push_back({token, std::move(runner), std::move(listener)});
  listeners_ = std::move(with);
  return std::shared_ptr<void>(nullptr, [self = shared_, token](void*) {
    std::shared_ptr<const Listeners> before;  // goes after the locks
    const std::lock_guard alive(self->mutex);
    if (!self->store) return;
    const std::lock_guard inner(self->store->mutex_);
    auto without = std::make_shared<Listeners>(*self->store->listeners_);
    std::erase_if(*without, [&](const Heard& h) { return h.token == token; });
    before = std::exchange(self->store->listeners_, std::move(without));
  });
}

}  // namespace memory

std::shared_ptr<Store> make_memory_store() { return std::make_shared<memory::MemoryStore>(); }

}  // namespace caller::task
