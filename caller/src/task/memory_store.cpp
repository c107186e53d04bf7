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

#include "queues.hpp"
#include "watch.hpp"

namespace caller::task {

Store::~Store() = default;

ChangeAndTake Store::change_and_take(Change c, std::size_t most, std::vector<std::string> queues) {
  std::string runner = c.runner;
  Pending<void> changed = change(std::move(c));
  return {std::move(changed), take(std::move(runner), most, std::move(queues), true)};
}
std::vector<Pending<InvocationRecord>> Store::final_records(const std::vector<std::string>& ids) {
  std::vector<Pending<InvocationRecord>> out;
  out.reserve(ids.size());
  for (const auto& id : ids) out.push_back(final_record(id));
  return out;
}

NewInvocation again(const InvocationRecord& record, std::string id) {
  NewInvocation n;
  n.id = std::move(id);
  n.task_id = record.task_id;
  n.call_id = record.call_id;
  n.args = record.args;
  n.parent_id = record.parent_id;
  n.queue = record.queue;
  n.priority = record.priority;
  n.registration_key = record.registration_key;
  n.running_key = record.running_key;
  n.reroute = record.reroute;
  if (record.workflow_id != record.id) n.workflow_id = record.workflow_id;
  n.data = record.data;
  return n;
}

namespace {

using std::chrono::nanoseconds;
using Steady = std::chrono::steady_clock;

constexpr nanoseconds kFirstLease = std::chrono::seconds(10);  // of a runner that has not told of itself yet

Time now() { return std::chrono::time_point_cast<nanoseconds>(std::chrono::system_clock::now()); }

struct Record : InvocationRecord {  // with no workflow_id where that is its own id
  bool cancel_requested = false;
  std::uint64_t number = 0;  // in the order made
  std::uint64_t ticket = 0;  // of its place in the queue; another one there is out of date
  Steady::time_point due{};
  std::vector<HistoryEntry> history;
  std::vector<Pending<void>> ends;  // set when it is final
  std::vector<Pending<InvocationRecord>> ends_with_record;
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
  std::vector<std::pair<Pending<InvocationRecord>, InvocationRecord>> ends_with_record;
  std::vector<std::function<void()>> calls;
  std::vector<std::string> values;  // keys; an empty one: all of them
  bool work = false;
};

struct Value {
  std::string bytes;
  Steady::time_point until{};
  bool over() const { return until != Steady::time_point{} && until <= Steady::now(); }
};

struct Data {
  std::optional<std::string> bytes;  // none: it is referred to and was not put yet
  std::size_t references = 0;
  Steady::time_point unused{};  // since when, without references
};

class MemoryStore final : public Store {
public:
  std::string description() const override { return "memory"; }

  Pending<std::vector<Added>> add(std::vector<NewInvocation> calls) override {
    return with_news<std::vector<Added>>([&](News& news) {
      std::vector<Added> out(calls.size());
      for (std::size_t i = 0; i < calls.size(); ++i)
        if (Record* known = calls[i].refuse_other_call ? waiting(calls[i]) : nullptr;
            known && known->call_id != calls[i].call_id) {
          out[i] = {known->id, true, true, known->call_id, known->args};
          return out;
        }
      for (std::size_t i = 0; i < calls.size(); ++i) out[i] = add_one(std::move(calls[i]), news);
      return out;
    });
  }

  Pending<std::vector<InvocationRecord>> take(std::string runner, std::size_t most, std::vector<std::string> queues,
                                              bool begin) override {
    return with_news<std::vector<InvocationRecord>>([&](News& news) {
      std::vector<InvocationRecord> out;
      out.reserve(std::min<std::size_t>(most, 32));
      release_due(news);
      while (out.size() < most) {
        RecordPtr r = next(queues);
        if (!r) break;
        if (!r->running_key.empty() && busy_.contains(r->running_key)) {
          set(*r, r->reroute ? Status::concurrency_controlled : Status::concurrency_controlled_final, {}, news);
          continue;
        }
        set(*r, Status::pending, runner, news);
        if (begin) set(*r, Status::running, runner, news);
        show(*r, out);
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
      refer(r, c.data);
      set(r, c.to, c.runner, news);
      for (NewInvocation& call : c.then) (void)add_one(std::move(call), news);
    });
  }

  Pending<InvocationRecord> get(std::string id) override {
    return with_news<InvocationRecord>([&](News&) { return shown(at(id)); });
  }
  Pending<std::vector<HistoryEntry>> history(std::string id) override {
    return with_news<std::vector<HistoryEntry>>([&](News&) { return at(id).history; });
  }

  Pending<void> ended(std::string id) override {
    return when_final(id, &Record::ends, [](const Pending<void>& p, const Record&) { p.set_result(); });
  }
  Pending<InvocationRecord> final_record(std::string id) override {
    return when_final(id, &Record::ends_with_record,
                      [](const Pending<InvocationRecord>& p, const Record& r) { p.set_result(shown(r)); });
  }

  Pending<std::vector<InvocationRecord>> list(Selection selection, std::size_t offset, std::size_t most) override {
    return with_news<std::vector<InvocationRecord>>([&](News&) {
      const Selection& s = selection;
      std::vector<InvocationRecord> out;
      // The numbers that may be meant.
      std::uint64_t first = 0, end = last_number_ + 1;
      if (!s.before.empty()) end = at(s.before).number;
      if (s.status && counts_[static_cast<std::size_t>(*s.status)] == 0) return out;
      if (s.from) first = number_at(*s.from);
      if (s.until) end = std::min(end, number_at(*s.until));
      const auto look = [&](const Record& r) {
        if ((!s.task_id.empty() && r.task_id != s.task_id) || (s.status && r.status != *s.status) ||
            (!s.parent_id.empty() && r.parent_id != s.parent_id) ||
            (!s.workflow_id.empty() && workflow_of(r) != s.workflow_id) || (s.from && r.created < *s.from) ||
            (s.until && r.created >= *s.until))
          return;
        if (offset > 0)
          --offset;
        else
          show(r, out);
      };
      const auto walk = [&](const auto& records) {
        for (auto it = records.lower_bound(end); it != records.begin() && out.size() < most;) {
          --it;
          if (it->first < first) break;
          look(*it->second);
        }
      };
      if (!s.parent_id.empty())
        walk(kin(children_, s.parent_id));
      else if (!s.workflow_id.empty())
        walk(members(s.workflow_id));
      else if (s.status && is_few(*s.status))
        walk(few_[static_cast<std::size_t>(*s.status)]);
      else if (s.status && is_owned(*s.status))
        walk(owned());
      else
        walk(in_order_);
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

  Pending<std::size_t> purge(std::optional<nanoseconds> older_than, nanoseconds data_grace) override {
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
      if (older_than) {
        forget_values(values_.size());
        const auto before = Steady::now() - data_grace;
        std::erase_if(data_, [&](const auto& d) { return d.second.references == 0 && d.second.unused <= before; });
      } else {
        values_.clear();
        value_ends_.clear();
        data_.clear();
        news.values.emplace_back();
      }
      return n;
    });
  }

  Pending<std::optional<std::string>> value(std::string key) override {
    return with_news<std::optional<std::string>>([&](News&) {
      const Value* const v = find_value(key);
      return v ? std::optional(v->bytes) : std::nullopt;
    });
  }

  Pending<bool> set_value(ValueChange c) override {
    return with_news<bool>([&](News& news) {
      if (c.key.empty()) throw StateBackendError("a value needs a key");
      forget_values(2);
      const Value* const v = find_value(c.key);
      if (c.expect == ValueChange::If::absent && v) return false;
      if (c.expect == ValueChange::If::equal && !(v && v->bytes == c.expected)) return false;
      if (c.value)
        put_value(c.key, std::move(*c.value), c.lifetime);
      else
        values_.erase(c.key);
      for (NewInvocation& call : c.then) (void)add_one(std::move(call), news);
      news.values.push_back(std::move(c.key));
      return true;
    });
  }

  Pending<std::vector<std::pair<std::string, std::string>>> values(std::string prefix, std::string after,
                                                                   std::size_t most) override {
    return with_news<std::vector<std::pair<std::string, std::string>>>([&](News&) {
      std::vector<std::pair<std::string, std::string>> out;
      for (auto it = after < prefix ? values_.lower_bound(prefix) : values_.upper_bound(after);
           it != values_.end() && out.size() < most && it->first.starts_with(prefix); ++it)
        if (!it->second.over()) out.emplace_back(it->first, it->second.bytes);
      return out;
    });
  }

  Pending<void> put_data(std::string hash, std::string bytes) override {
    return with_news<void>([&](News&) {
      Data& d = data_[std::move(hash)];
      d.bytes = std::move(bytes);
      d.unused = Steady::now();
    });
  }
  Pending<std::optional<std::string>> data(std::string hash) override {
    return with_news<std::optional<std::string>>([&](News&) {
      const auto it = data_.find(hash);
      return it == data_.end() ? std::nullopt : it->second.bytes;
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
    for (const std::string& key : news.values)
      for (const auto& [token, listener] : listeners_)
        if (listener.second.value && (key.empty() || key.starts_with(listener.second.values)))
          news.calls.push_back([tell = listener.second.value, key] { tell(key); });
    lock.unlock();
    for (const auto& end : news.ends) end.set_result();
    for (auto& [end, record] : news.ends_with_record)
      if (is_final(record.status))
        end.set_result(std::move(record));
      else  // purged
        end.set_exception(std::make_exception_ptr(InvocationNotFoundError(record.id)));
    for (const auto& call : news.calls) call();
  }

  /// Set now by `settle`, or kept with those that are set at the end.
  template <class T, class F>
  Pending<T> when_final(const std::string& id, std::vector<Pending<T>> Record::* kept, F settle) {
    Pending<T> p;
    const std::lock_guard lock(mutex_);
    const auto it = records_.find(id);
    if (it == records_.end()) {
      p.set_exception(std::make_exception_ptr(InvocationNotFoundError(id)));
    } else if (Record& r = *it->second; is_final(r.status)) {
      settle(p, r);
    } else {
      std::erase_if(r.*kept, [](const auto& e) { return e.done(); });  // nobody waits any more
      (r.*kept).push_back(p);
    }
    return p;
  }

  Record& at(const std::string& id) {
    const auto it = records_.find(id);
    if (it == records_.end()) throw InvocationNotFoundError(id);
    return *it->second;
  }
  /// The one that waits with its key; none if it is there itself.
  Record* waiting(const NewInvocation& call) {
    if (call.registration_key.empty() || records_.contains(call.id)) return nullptr;
    const auto it = waiting_.find(call.registration_key);
    return it == waiting_.end() ? nullptr : it->second;
  }

  static const std::string& workflow_of(const Record& r) { return r.workflow_id.empty() ? r.id : r.workflow_id; }
  static void show(const Record& r, std::vector<InvocationRecord>& out) {
    out.emplace_back(r).workflow_id = workflow_of(r);
  }
  static InvocationRecord shown(const Record& r) {
    InvocationRecord out = r;
    out.workflow_id = workflow_of(r);
    return out;
  }

  Added add_one(NewInvocation&& call, News& news) {
    if (Record* known = waiting(call)) return {known->id, true, false, known->call_id, known->args};
    Added out;
    out.id = call.id;
    insert(std::move(call), news);
    return out;
  }

  // ---- lists ----

  using ByNumber = std::map<std::uint64_t, Record*>;

  /// Of what is in these there is little beside the rest, so that a list of it need not look at all there is.
  static bool is_few(Status s) { return !is_owned(s) && s != Status::registered && s != Status::success; }
  static const ByNumber& kin(const std::unordered_map<std::string, ByNumber>& all, const std::string& id) {
    static const ByNumber none;
    const auto it = all.find(id);
    return it == all.end() ? none : it->second;
  }
  ByNumber members(const std::string& workflow) {
    ByNumber out = kin(members_, workflow);
    if (const auto it = records_.find(workflow); it != records_.end())
      out.emplace(it->second->number, it->second.get());
    return out;
  }
  ByNumber owned() {
    ByNumber out;
    for (const auto& [id, runner] : runners_)
      for (Record* r : runner.owned) out.emplace(r->number, r);
    return out;
  }
  /// Of the first one made then or later; they are in the order of their times.
  std::uint64_t number_at(Time t) {
    std::uint64_t from = 0, to = last_number_ + 1;
    while (from < to) {
      const std::uint64_t middle = from + (to - from) / 2;
      const auto it = in_order_.lower_bound(middle);
      if (it == in_order_.end() || it->first >= to || it->second->created >= t)
        to = middle;
      else
        from = it->first + 1;
    }
    return from;
  }
  static void leave_kin(std::unordered_map<std::string, ByNumber>& all, const std::string& id, const Record& r) {
    const auto it = all.find(id);
    if (it == all.end()) return;
    it->second.erase(r.number);
    if (it->second.empty()) all.erase(it);
  }

  // ---- values and data ----

  const Value* find_value(const std::string& key) {
    const auto it = values_.find(key);
    return it == values_.end() || it->second.over() ? nullptr : &it->second;
  }
  void put_value(const std::string& key, std::string bytes, nanoseconds lifetime) {
    watched_ = watched_ || key.starts_with(kWatchKey);
    Value fresh{std::move(bytes), {}};
    if (lifetime > nanoseconds::zero()) {
      fresh.until = Steady::now() + lifetime;
      value_ends_.emplace(fresh.until, key);
    }
    values_.insert_or_assign(key, std::move(fresh));
  }
  /// For those who watch its task.
  void keep_change(const Record& r, News& news) {
    const Value* const mask = find_value(std::string(kWatchKey) + r.task_id);
    if (!mask || !detail::wants(mask->bytes, r.status)) return;
    std::string key = detail::change_key(r.changed, r.status, r.id);
    put_value(key, detail::packed_text(r.task_id), kChangeLifetime);
    news.values.push_back(std::move(key));
  }
  /// Those whose time is over, some of them.
  void forget_values(std::size_t most) {
    const auto steady = Steady::now();
    for (; most > 0 && !value_ends_.empty() && value_ends_.begin()->first <= steady; --most) {
      const auto it = values_.find(value_ends_.begin()->second);
      if (it != values_.end() && it->second.until == value_ends_.begin()->first) values_.erase(it);
      value_ends_.erase(value_ends_.begin());
    }
  }
  void refer(Record& r, std::vector<std::string>& hashes) {
    for (std::string& hash : hashes) {
      if (std::find(r.data.begin(), r.data.end(), hash) != r.data.end()) continue;
      ++data_[hash].references;
      r.data.push_back(std::move(hash));
    }
  }
  void release(Record& r) {
    for (const std::string& hash : r.data) {
      const auto it = data_.find(hash);
      if (it == data_.end() || it->second.references == 0 || --it->second.references > 0) continue;
      it->second.unused = Steady::now();
      if (!it->second.bytes) data_.erase(it);
    }
  }

  /// Unless it is there.
  void insert(NewInvocation&& call, News& news) {
    auto r = std::make_shared<Record>();
    const auto [place, fresh] = records_.try_emplace(call.id);
    if (!fresh) return;
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
    refer(record, call.data);
    if (!call.workflow_id.empty()) {
      record.workflow_id = std::move(call.workflow_id);
    } else if (!record.parent_id.empty()) {
      if (const auto it = records_.find(record.parent_id); it != records_.end() && it->second)
        record.workflow_id = workflow_of(*it->second);
    }
    if (record.workflow_id == record.id) record.workflow_id.clear();
    if (!record.parent_id.empty()) children_[record.parent_id].emplace(record.number, &record);
    if (!record.workflow_id.empty()) members_[record.workflow_id].emplace(record.number, &record);
    in_order_.emplace_hint(in_order_.end(), r->number, r);
    place->second = std::move(r);
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
    if (is_few(r.status)) few_[static_cast<std::size_t>(r.status)].erase(r.number);
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
    if (is_few(to)) few_[static_cast<std::size_t>(to)].emplace(r.number, &r);
    r.history.push_back({to, is_owned(to) ? owner : std::string(), r.changed});
    if (watched_) keep_change(r, news);
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
    for (const auto& [key, record] : urgent_)
      if (detail::serves(queues, record->queue)) return records_.at(record->id);
    Queue* best = nullptr;
    for (auto& [name, queue] : queues_) {
      if (!detail::serves(queues, name)) continue;
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
    for (auto& p : r.ends_with_record) news.ends_with_record.emplace_back(std::move(p), shown(r));
    r.ends_with_record.clear();
  }

  void forget(Record& r, News& news) {
    const RecordPtr keep = records_.at(r.id);
    leave(r, Status::cancelled, news);
    rank(r, [&] { r.ticket = 0; });
    end(r, news);
    release(r);
    if (!r.parent_id.empty()) leave_kin(children_, r.parent_id, r);
    if (!r.workflow_id.empty()) leave_kin(members_, r.workflow_id, r);
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
  std::array<ByNumber, kStatusCount> few_;
  std::unordered_map<std::string, ByNumber> children_, members_;  // by parent, and by workflow without its beginning
  std::map<std::string, Value> values_;
  std::multimap<Steady::time_point, std::string> value_ends_;
  bool watched_ = false;  // a task was, at some time
  std::unordered_map<std::string, Data> data_;
  std::uint64_t last_number_ = 0, last_ticket_ = 0, last_token_ = 0;
  std::optional<Caller> clock_;

public:
  MemoryStore() { shared_->store = this; }
};

}  // namespace

std::shared_ptr<Store> make_memory_store() { return std::make_shared<MemoryStore>(); }

}  // namespace caller::task
