// Everything in the process's memory, under one mutex. Whoever is to be told of a change is told when it is released.
#include <caller/task/store.hpp>

#include <algorithm>
#include <deque>
#include <list>
#include <map>
#include <mutex>
#include <set>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

#include <caller/caller.hpp>

namespace caller::task {

Store::~Store() = default;

namespace {

using std::chrono::nanoseconds;
using Steady = std::chrono::steady_clock;

constexpr nanoseconds kFirstLease = std::chrono::seconds(10);  // of a runner that has not told of itself yet

Time now() { return std::chrono::time_point_cast<nanoseconds>(std::chrono::system_clock::now()); }

struct Record : InvocationRecord {
  std::string registration_key, running_key;
  bool reroute = true;
  bool cancel_requested = false;
  std::uint64_t number = 0;  // in the order made
  std::uint64_t ticket = 0;  // of its place in the queue; another one there is out of date
  Steady::time_point due{};
  std::vector<HistoryEntry> history;
  std::vector<Pending<void>> ends;  // set when it is final
  std::vector<Record*> waits_for, waited_by;
};
using RecordPtr = std::shared_ptr<Record>;

struct Place {
  RecordPtr record;
  std::uint64_t ticket;
};

/// What waits in one queue, by priority and age.
struct Queue {
  std::map<int, std::deque<Place>, std::greater<>> by_priority;
};

struct Runner {
  RunnerRecord told;
  Steady::time_point lease_until{};
  std::unordered_set<Record*> owned;
};

/// Collected under the mutex, told without it.
struct News {
  std::vector<Pending<void>> ends;
  std::vector<std::function<void()>> calls;
  bool work = false;
};

class MemoryStore final : public Store {
public:
  std::string description() const override { return "memory"; }

  Pending<std::vector<Added>> add(std::vector<NewInvocation> calls) override {
    return with_news<std::vector<Added>>([&](News& news) {
      std::vector<Added> out(calls.size());
      for (std::size_t i = 0; i < calls.size(); ++i)
        if (Record* known = waiting(calls[i].registration_key);
            known && calls[i].refuse_other_call && known->call_id != calls[i].call_id) {
          out[i] = {known->id, true, true, known->call_id, known->args};
          return out;
        }
      for (std::size_t i = 0; i < calls.size(); ++i) {
        NewInvocation& call = calls[i];
        if (Record* known = waiting(call.registration_key)) {
          out[i] = {known->id, true, false, known->call_id, known->args};
          continue;
        }
        out[i].id = call.id;
        insert(std::move(call), news);
      }
      return out;
    });
  }

  Pending<std::vector<InvocationRecord>> take(std::string runner, std::size_t most,
                                              std::vector<std::string> queues) override {
    return with_news<std::vector<InvocationRecord>>([&](News& news) {
      std::vector<InvocationRecord> out;
      release_due(news);
      while (out.size() < most) {
        RecordPtr r = next(queues);
        if (!r) break;
        if (!r->running_key.empty() && busy_.contains(r->running_key)) {
          set(*r, r->reroute ? Status::concurrency_controlled : Status::concurrency_controlled_final, {}, news);
          continue;
        }
        set(*r, Status::pending, runner, news);
        out.push_back(*r);
      }
      return out;
    });
  }

  Pending<void> change(Change c) override {
    return with_news<void>([&](News& news) {
      Record& r = at(c.id);
      if (is_owned(r.status) && r.owner != c.runner)
        throw InvocationStatusOwnershipError(r.id, r.status, r.owner, c.runner);
      if (!may_follow(r.status, c.to)) throw InvocationStatusTransitionError(r.id, r.status, c.to);
      if (is_owned(c.to) && c.runner.empty()) throw InvocationStatusOwnershipError(r.id, r.status, r.owner, "nobody");
      if (c.to == Status::success) r.result = std::move(c.result);
      if (c.to == Status::failed) r.exception = std::move(c.exception);
      if (c.to == Status::retry) ++r.retries;
      r.due = c.delay > nanoseconds::zero() ? Steady::now() + c.delay : Steady::time_point{};
      set(r, c.to, c.runner, news);
    });
  }

  Pending<InvocationRecord> get(std::string id) override {
    return with_news<InvocationRecord>([&](News&) { return InvocationRecord(at(id)); });
  }
  Pending<std::vector<HistoryEntry>> history(std::string id) override {
    return with_news<std::vector<HistoryEntry>>([&](News&) { return at(id).history; });
  }

  Pending<void> ended(std::string id) override {
    Pending<void> p;
    const std::lock_guard lock(mutex_);
    const auto it = records_.find(id);
    if (it == records_.end()) {
      p.set_exception(std::make_exception_ptr(InvocationNotFoundError(id)));
    } else if (is_final(it->second->status)) {
      p.set_result();
    } else {
      std::erase_if(it->second->ends, [](const auto& e) { return e.done(); });  // nobody waits any more
      it->second->ends.push_back(p);
    }
    return p;
  }

  Pending<std::vector<InvocationRecord>> list(std::string task_id, std::optional<Status> status, std::size_t offset,
                                              std::size_t most) override {
    return with_news<std::vector<InvocationRecord>>([&](News&) {
      std::vector<InvocationRecord> out;
      for (auto it = in_order_.rbegin(); it != in_order_.rend() && out.size() < most; ++it) {
        const Record& r = *it->second;
        if ((!task_id.empty() && r.task_id != task_id) || (status && r.status != *status)) continue;
        if (offset > 0) {
          --offset;
          continue;
        }
        out.push_back(r);
      }
      return out;
    });
  }

  Pending<std::vector<std::pair<Status, std::size_t>>> counts() override {
    return with_news<std::vector<std::pair<Status, std::size_t>>>([&](News&) {
      std::vector<std::pair<Status, std::size_t>> out;
      for (std::size_t i = 0; i < kStatusCount; ++i)
        if (counts_[i]) out.emplace_back(static_cast<Status>(i), counts_[i]);
      return out;
    });
  }

  Pending<void> wait_for(std::string waiter, std::vector<std::string> ids) override {
    return with_news<void>([&](News&) {
      Record& w = at(waiter);
      for (const auto& id : ids) {
        Record& r = at(id);
        if (is_final(r.status) || std::find(w.waits_for.begin(), w.waits_for.end(), &r) != w.waits_for.end()) continue;
        if (std::vector<Record*> path; leads_to(r, w, path)) {
          std::string text = w.task_id;
          for (const Record* step : path) text += " -> " + step->task_id;
          throw CycleDetectedError(text);
        }
        w.waits_for.push_back(&r);
        rank(r, [&] { r.waited_by.push_back(&w); });
      }
    });
  }

  Pending<void> check_cycle(std::string parent_id, std::string task_id, std::string call_id) override {
    return with_news<void>([&](News&) {
      std::string text = task_id;
      while (!parent_id.empty()) {
        const auto it = records_.find(parent_id);
        if (it == records_.end()) return;
        text = it->second->task_id + " -> " + text;
        if (it->second->call_id == call_id) throw CycleDetectedError(text);
        parent_id = it->second->parent_id;
      }
    });
  }

  Pending<bool> cancel(std::string id) override {
    return with_news<bool>([&](News& news) {
      Record& r = at(id);
      if (is_final(r.status)) return false;
      if (may_follow(r.status, Status::cancelled) && !is_owned(r.status)) {
        set(r, Status::cancelled, {}, news);
        return true;
      }
      r.cancel_requested = true;
      for (auto& [token, listener] : listeners_)
        if (listener.first == r.owner && listener.second.cancelled)
          news.calls.push_back([tell = listener.second.cancelled, id = r.id] { tell(id); });
      return true;
    });
  }

  Pending<void> heartbeat(RunnerRecord told, nanoseconds lease) override {
    return with_news<void>([&](News&) {
      Runner& r = runners_[told.id];
      if (r.told.started == Time{}) r.told.started = now();
      told.started = r.told.started;
      told.last_heartbeat = now();
      told.lease_until = told.last_heartbeat + lease;
      r.told = std::move(told);
      r.lease_until = Steady::now() + lease;
    });
  }
  Pending<void> forget_runner(std::string runner) override {
    return with_news<void>([&](News&) {
      if (const auto it = runners_.find(runner); it != runners_.end()) it->second.lease_until = {};
    });
  }
  Pending<std::vector<RunnerRecord>> runners() override {
    return with_news<std::vector<RunnerRecord>>([&](News&) {
      std::vector<RunnerRecord> out;
      for (const auto& [id, r] : runners_)
        if (r.lease_until != Steady::time_point{}) out.push_back(r.told);
      return out;
    });
  }

  Pending<std::vector<std::string>> recover(nanoseconds max_pending) override {
    return with_news<std::vector<std::string>>([&](News& news) {
      std::vector<std::string> out;
      const auto steady = Steady::now();
      const Time wall = now();
      for (auto it = runners_.begin(); it != runners_.end();) {
        const bool gone = it->second.lease_until < steady;
        const std::vector<Record*> owned(it->second.owned.begin(), it->second.owned.end());
        for (Record* r : owned) {
          const bool is_pending = r->status == Status::pending;
          if (!gone && !(is_pending && wall - r->changed > max_pending)) continue;
          set(*r, is_pending ? Status::pending_recovery : Status::running_recovery, {}, news);
          set(*r, Status::rerouted, {}, news);
          out.push_back(r->id);
        }
        it = gone ? runners_.erase(it) : std::next(it);
      }
      for (Record* r : std::vector<Record*>(killed_.begin(), killed_.end())) {
        set(*r, Status::rerouted, {}, news);
        out.push_back(r->id);
      }
      return out;
    });
  }

  Pending<std::size_t> purge(std::optional<nanoseconds> older_than) override {
    return with_news<std::size_t>([&](News& news) {
      std::size_t n = 0;
      const Time wall = now();
      for (auto it = in_order_.begin(); it != in_order_.end();) {
        Record& r = *it->second;
        if (older_than && (!is_final(r.status) || wall - r.changed < *older_than)) {
          ++it;
          continue;
        }
        forget(r, news);
        it = in_order_.erase(it);
        ++n;
      }
      return n;
    });
  }

  std::shared_ptr<void> listen(std::string runner, Listener listener) override {
    const std::lock_guard lock(mutex_);
    const std::uint64_t token = ++last_token_;
    listeners_.emplace(token, std::pair(std::move(runner), std::move(listener)));
    return std::shared_ptr<void>(nullptr, [self = shared_, token](void*) {
      const std::lock_guard alive(self->mutex);
      if (!self->store) return;
      const std::lock_guard inner(self->store->mutex_);
      self->store->listeners_.erase(token);
    });
  }

  ~MemoryStore() override {
    if (clock_) {  // what it runs uses us
      clock_->stop(true);
      clock_->stopped().wait_done();
    }
    const std::lock_guard lock(shared_->mutex);
    shared_->store = nullptr;
  }

private:
  /// Runs `f` under the mutex, tells the news, and gives what it gave or threw.
  template <class T, class F>
  Pending<T> with_news(F f) {
    Pending<T> p;
    News news;
    try {
      std::unique_lock lock(mutex_);
      if constexpr (std::is_void_v<T>) {
        f(news);
        finish(news, lock);
        p.set_result();
      } else {
        T value = f(news);
        finish(news, lock);
        p.set_result(std::move(value));
      }
    } catch (...) {
      p.set_exception(std::current_exception());
    }
    return p;
  }

  void finish(News& news, std::unique_lock<std::mutex>& lock) {
    if (news.work)
      for (const auto& [token, listener] : listeners_)
        if (listener.second.work) news.calls.push_back(listener.second.work);
    lock.unlock();
    for (const auto& end : news.ends) end.set_result();
    for (const auto& call : news.calls) call();
  }

  Record& at(const std::string& id) {
    const auto it = records_.find(id);
    if (it == records_.end()) throw InvocationNotFoundError(id);
    return *it->second;
  }
  Record* waiting(const std::string& registration_key) {
    if (registration_key.empty()) return nullptr;
    const auto it = waiting_.find(registration_key);
    return it == waiting_.end() ? nullptr : it->second;
  }

  void insert(NewInvocation&& call, News& news) {
    auto r = std::make_shared<Record>();
    r->id = std::move(call.id);
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
    r->created = now();
    Record& record = *r;
    in_order_.emplace_hint(in_order_.end(), r->number, r);
    records_.emplace(record.id, std::move(r));
    ++counts_[0];  // as set() takes it for one that has a status
    if (call.delay > nanoseconds::zero()) record.due = Steady::now() + call.delay;
    begin(record, call.delay > nanoseconds::zero() ? Status::scheduled : Status::registered, news);
  }

  void begin(Record& r, Status status, News& news) {
    --counts_[0];
    enter(r, status, {}, news);
  }

  /// A change that is allowed.
  void set(Record& r, Status to, const std::string& owner, News& news) {
    leave(r, to, news);
    enter(r, to, owner, news);
  }

  void leave(Record& r, Status to, News& news) {
    --counts_[static_cast<std::size_t>(r.status)];
    if (is_owned(r.status) && !is_owned(to)) {
      if (const auto it = runners_.find(r.owner); it != runners_.end()) it->second.owned.erase(&r);
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
    if (is_runnable(r.status)) rank(r, [&] { r.ticket = 0; });
    if (waits_to_be_taken(r.status) && !waits_to_be_taken(to)) {
      if (const auto it = waiting_.find(r.registration_key); it != waiting_.end() && it->second == &r)
        waiting_.erase(it);
    }
  }

  void enter(Record& r, Status to, const std::string& owner, News& news) {
    const bool was_owned = is_owned(r.status) && !r.owner.empty();
    r.status = to;
    r.owner = is_owned(to) ? owner : std::string();
    r.changed = now();
    ++counts_[static_cast<std::size_t>(to)];
    r.history.push_back({to, is_owned(to) ? owner : std::string(), r.changed});
    if (is_owned(to) && !was_owned) {
      auto [it, fresh] = runners_.try_emplace(owner);
      if (fresh) {
        it->second.told.id = owner;
        it->second.lease_until = Steady::now() + kFirstLease;
      }
      it->second.owned.insert(&r);
      if (!r.running_key.empty()) busy_.insert(r.running_key);
    }
    if (to == Status::killed) killed_.insert(&r);
    if (to == Status::concurrency_controlled) controlled_[r.running_key].push_back(&r);
    if (waits_to_be_taken(to) && !r.registration_key.empty()) waiting_.emplace(r.registration_key, &r);
    if (is_runnable(to) || to == Status::scheduled) {
      if (r.cancel_requested) return set(r, Status::cancelled, {}, news);
      if (r.due > Steady::now())
        delay(r);
      else
        enqueue(r, news);
    }
    if (is_final(to)) end(r, news);
  }

  static bool waits_to_be_taken(Status s) {
    return is_runnable(s) || s == Status::scheduled || s == Status::concurrency_controlled;
  }

  void enqueue(Record& r, News& news) {
    const auto it = in_order_.find(r.number);
    rank(r, [&] { r.ticket = ++last_ticket_; });
    queues_[r.queue].by_priority[r.priority].push_back({it->second, r.ticket});
    news.work = true;
  }

  /// Waits for its time; a thread of its own is made for the first one that has to.
  void delay(Record& r) {
    due_.emplace(r.due, r.id);
    if (!clock_) clock_.emplace(caller::new_thread, CallerOptions{.name = "tasks-clock"});
    (void)clock_->call_later(r.due - Steady::now(),
                             [this] { (void)with_news<void>([&](News& news) { release_due(news); }); });
  }

  void release_due(News& news) {
    const auto steady = Steady::now();
    while (!due_.empty() && due_.begin()->first <= steady) {
      const auto it = records_.find(due_.begin()->second);
      due_.erase(due_.begin());
      if (it == records_.end()) continue;
      Record& r = *it->second;
      if (r.due > steady) continue;
      if (r.status == Status::scheduled)
        set(r, Status::registered, {}, news);
      else if (is_runnable(r.status) && r.ticket == 0)
        enqueue(r, news);
    }
  }

  /// The one controlled longest may run.
  void admit_next(const std::string& running_key, News& news) {
    const auto it = controlled_.find(running_key);
    if (it == controlled_.end()) return;
    if (it->second.empty()) {
      controlled_.erase(it);
      return;
    }
    Record* const r = it->second.front();
    set(*r, Status::rerouted, {}, news);
  }

  RecordPtr next(const std::vector<std::string>& queues) {
    const auto wanted = [&](const std::string& queue) {
      return queues.empty() || std::find(queues.begin(), queues.end(), queue) != queues.end();
    };
    for (const auto& [key, record] : urgent_)
      if (wanted(record->queue)) return records_.at(record->id);
    Queue* best = nullptr;
    for (auto& [name, queue] : queues_) {
      if (!wanted(name)) continue;
      auto& all = queue.by_priority;
      while (!all.empty()) {  // what was taken otherwise is still in its place
        auto& places = all.begin()->second;
        while (!places.empty() && places.front().record->ticket != places.front().ticket) places.pop_front();
        if (!places.empty()) break;
        all.erase(all.begin());
      }
      if (all.empty()) continue;
      const auto order = [](const Queue& q) {
        const auto& [priority, places] = *q.by_priority.begin();
        return std::tuple(-priority, places.front().ticket);
      };
      if (!best || order(queue) < order(*best)) best = &queue;
    }
    if (!best) return nullptr;
    auto& places = best->by_priority.begin()->second;
    RecordPtr r = std::move(places.front().record);
    places.pop_front();
    return r;
  }

  /// Changes what decides whether others' waiting puts `r` first: how many do, whether it waits itself, whether it can
  /// be taken.
  template <class F>
  void rank(Record& r, F change) {
    const auto key = [&] { return std::tuple(-static_cast<std::int64_t>(r.waited_by.size()), r.number); };
    const auto is_urgent = [&] { return r.ticket && !r.waited_by.empty() && r.waits_for.empty(); };
    if (is_urgent()) urgent_.erase(key());
    change();
    if (is_urgent()) urgent_.emplace(key(), &r);
  }

  static bool leads_to(Record& from, const Record& to, std::vector<Record*>& path) {
    std::unordered_set<const Record*> seen;
    struct Step {
      Record* record;
      std::size_t next = 0;
    };
    std::vector<Step> steps{{&from}};
    while (!steps.empty()) {
      Step& step = steps.back();
      if (step.record == &to) {
        for (const Step& s : steps) path.push_back(s.record);
        return true;
      }
      if (step.next == step.record->waits_for.size()) {
        steps.pop_back();
        continue;
      }
      Record* const record = step.record->waits_for[step.next++];
      if (seen.insert(record).second) steps.push_back({record});
    }
    return false;
  }

  void end(Record& r, News& news) {
    for (Record* w : r.waited_by) rank(*w, [&] { std::erase(w->waits_for, &r); });
    for (Record* w : r.waits_for) rank(*w, [&] { std::erase(w->waited_by, &r); });
    rank(r, [&] {
      r.waited_by.clear();
      r.waits_for.clear();
    });
    news.ends.insert(news.ends.end(), r.ends.begin(), r.ends.end());
    r.ends.clear();
  }

  void forget(Record& r, News& news) {
    const RecordPtr keep = records_.at(r.id);
    leave(r, Status::cancelled, news);
    rank(r, [&] { r.ticket = 0; });
    end(r, news);
    records_.erase(r.id);
  }

  struct Shared {  // what outlives the store
    std::mutex mutex;
    MemoryStore* store;
  };

  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
  std::mutex mutex_;
  std::unordered_map<std::string, RecordPtr> records_;
  std::map<std::uint64_t, RecordPtr> in_order_;
  std::map<std::string, Queue> queues_;
  std::map<std::tuple<std::int64_t, std::uint64_t>, Record*> urgent_;
  std::multimap<Steady::time_point, std::string> due_;
  std::unordered_map<std::string, Record*> waiting_;  // by registration key
  std::unordered_set<std::string> busy_;              // running keys at work
  std::unordered_map<std::string, std::list<Record*>> controlled_;
  std::unordered_set<Record*> killed_;
  std::map<std::string, Runner> runners_;
  std::map<std::uint64_t, std::pair<std::string, Listener>> listeners_;
  std::array<std::size_t, kStatusCount> counts_{};
  std::uint64_t last_number_ = 0, last_ticket_ = 0, last_token_ = 0;
  std::optional<Caller> clock_;

public:
  MemoryStore() { shared_->store = this; }
};

}  // namespace

std::shared_ptr<Store> make_memory_store() { return std::make_shared<MemoryStore>(); }

}  // namespace caller::task
