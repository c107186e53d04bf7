// Everything in the process's memory, under one mutex. Whoever is to be told of a change is told when it is released.
// Internal to this folder.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

#include <caller/caller.hpp>

#include "record.hpp"

namespace caller::task::memory {

using std::chrono::nanoseconds;

class MemoryStore final : public Store, public detail::LocalStore {
public:
  MemoryStore() { shared_->store = this; }
  ~MemoryStore() override;
  std::string description() const override { return "memory"; }

  Pending<std::vector<Added>> add(std::vector<NewInvocation> calls) override;
  Pending<std::vector<InvocationRecord>> take(std::string runner, std::size_t most, std::vector<std::string> queues,
                                              bool begin) override;
  Pending<void> change(Change c) override;
  Pending<void> code_ended(std::string runner, std::string id) override;
  ChangeAndTake change_and_take(Change c, std::size_t most, std::vector<std::string> queues) override;
  Pending<InvocationRecord> get(std::string id) override;
  Pending<std::vector<HistoryEntry>> history(std::string id) override;
  Pending<void> ended(std::string id) override;
  Pending<InvocationRecord> final_record(std::string id) override;
  Pending<std::vector<Ended>> all_ended(std::span<const std::string_view> ids) override;
  using Store::list;
  Pending<std::vector<InvocationRecord>> list(Selection selection, std::size_t offset, std::size_t most) override;
  Pending<std::vector<std::pair<Status, std::size_t>>> counts() override;
  Pending<void> wait_for(std::string waiter, std::vector<std::string> ids) override;
  Pending<void> check_cycle(std::string parent_id, std::string task_id, std::string call_id) override;
  Pending<bool> cancel(std::string id) override;
  Pending<void> heartbeat(RunnerRecord told, nanoseconds lease) override;
  Pending<void> forget_runner(std::string runner) override;
  Pending<std::vector<RunnerRecord>> runners() override;
  Pending<std::vector<std::string>> recover(nanoseconds max_pending) override;
  Pending<std::size_t> purge(std::optional<nanoseconds> older_than, nanoseconds data_grace) override;
  Pending<std::optional<std::string>> value(std::string key) override;
  Pending<bool> set_value(ValueChange c) override;
  Pending<std::vector<std::pair<std::string, std::string>>> values(std::string prefix, std::string after,
                                                                   std::size_t most) override;
  Pending<void> put_data(std::string hash, std::string bytes) override;
  Pending<std::optional<std::string>> data(std::string hash) override;
  std::shared_ptr<void> listen(std::string runner, Listener listener) override;

  void add_new(std::span<const detail::LocalDraft> calls, detail::LocalRef* out) override;
  void take_some(const std::string& runner, std::size_t most, const std::vector<std::string>& queues,
                 std::vector<detail::LocalTaken>& out) override;
  std::exception_ptr change_and_take_some(const detail::LocalCall& call, Change& change, const std::string& runner,
                                          std::size_t most, const std::vector<std::string>& queues,
                                          std::vector<detail::LocalTaken>& out) override;
  InvocationRecord record_of(const detail::LocalCall& call) override;
  Pending<std::vector<std::uint32_t>> ends_of(std::span<const detail::LocalCall* const> calls) override;

private:
  struct Heard {
    std::uint64_t token;
    std::string runner;
    Listener listener;
  };
  using Listeners = std::vector<Heard>;
  using ByNumber = std::map<std::uint64_t, Record*>;

  /// Collected under the mutex, told without it.
  struct News {
    std::list<Group> ended;
    std::vector<std::function<void()>> calls;
    std::vector<std::string> values;  // keys; an empty one: all of them
    bool work = false;
    /// One for the whole step.
    Time time() {
      if (at_ == Time{}) at_ = std::chrono::time_point_cast<nanoseconds>(std::chrono::system_clock::now());
      return at_;
    }

  private:
    Time at_{};
  };

  /// Runs `f` under the mutex, tells the news, and gives what it gave or threw.
  template <class T, class F>
  Pending<T> with_news(F f) {
    Pending<T> p;
    News news;
    try {
      std::unique_lock lock(mutex_, std::defer_lock);
      lock_soon(lock);
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
  /// The same for who waits in this thread: what `f` throws is thrown.
  template <class F>
  void step(F f) {
    News news;
    std::unique_lock lock(mutex_, std::defer_lock);
    lock_soon(lock);
    f(news);
    finish(news, lock);
  }
  static void lock_soon(std::unique_lock<std::mutex>& lock);
  void finish(News& news, std::unique_lock<std::mutex>& lock);

  // steps.cpp
  template <class F>
  void take_each(const std::string& runner, std::size_t most, const std::vector<std::string>& queues, bool begin,
                 News& news, F taken);
  void change_one(Record& r, Change& c, const std::string& runner, News& news);
  static Record& own(const detail::LocalCall& call) {
    return static_cast<Record&>(const_cast<detail::LocalCall&>(call));
  }
  static detail::LocalTaken local(Record& r);
  Record& at(std::string_view id);
  Record& at_of(std::string_view id, const std::string& runner);
  Record* find(std::string_view id);
  Record* waiting(const NewInvocation& call);
  Added add_one(NewInvocation&& call, News& news);

  // life.cpp
  void insert(NewInvocation&& call, News& news);
  void link(Record& r, News& news);
  void set(Record& r, Status to, Owner* owner, News& news, bool code_goes_on = false);
  void leave(Record& r, Status to, News& news, bool code_goes_on = false);
  void enter(Record& r, Status to, Owner* owner, News& news);
  Owner& owner_named(const std::string& name);
  void enqueue(Record& r, News& news);
  void dequeue(Record& r);
  void delay(Record& r);
  void release_due(News& news);
  void admit_next(const std::string& running_key, News& news);
  template <class F>
  void free_keys(F whose, News& news);
  Record* next(const std::vector<std::string>& queues);
  template <class F>
  void rank(Record& r, F change);
  static bool leads_to(Record& from, const Record& to, std::vector<Record*>& path);
  void end(Record& r, News& news);
  void forget(Record& r, News& news);

  // waits.cpp
  template <class T>
  Pending<T> when_final(std::span<const std::string_view> ids);
  void watch(Record& r, Wait& wait);
  void note_end(Group& group, std::size_t place, const Record& r) const;
  void tell_waits(Record& r, News& news);

  // lists.cpp
  InvocationRecord shown(const Record& r) const;
  const std::string& name(std::uint32_t number) const { return names_[number]; }
  ByNumber members(const std::string& workflow);
  ByNumber owned();
  std::deque<Record*>::const_iterator from_number(std::uint64_t number) const;
  std::uint64_t number_at(Time t) const;

  // values.cpp
  const Value* find_value(const std::string& key);
  void put_value(const std::string& key, std::string bytes, nanoseconds lifetime);
  void keep_change(const Record& r, News& news);
  void forget_values(std::size_t most);
  void refer(Record& r, std::vector<std::string>& hashes);
  void release(Record& r);

  struct Shared {  // what outlives the store
    std::mutex mutex;
    MemoryStore* store;
  };

  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
  std::mutex mutex_;
  Table records_;
  std::deque<Record*> in_order_;  // by number
  std::map<std::string, Queue, std::less<>> queues_;
  std::map<std::tuple<std::int64_t, std::uint64_t>, Record*> urgent_;
  std::multimap<Steady::time_point, std::string> due_;
  std::unordered_map<std::string, ByNumber> waiting_;  // by registration key
  std::unordered_set<std::string> busy_;               // running keys at work
  struct Kept {                                        // for code that goes on
    std::string id;
    std::uint32_t runner;
  };
  std::unordered_map<std::string, Kept> kept_;  // those of them that no invocation at work has
  std::unordered_map<std::string, std::list<Record*>> controlled_;
  std::unordered_set<Record*> killed_;
  std::list<Group> groups_;
  std::deque<std::string> names_{std::string()};  // of runners, as histories have them; the first is nobody's
  std::map<std::string, std::uint32_t> name_numbers_;
  std::map<std::string, Owner> runners_;
  std::shared_ptr<const Listeners> listeners_ = std::make_shared<const Listeners>();  // replaced as a whole
  std::array<std::size_t, kStatusCount> counts_{};
  std::array<ByNumber, kStatusCount> few_;
  std::unordered_map<std::string, ByNumber> children_, members_;  // by parent, and by workflow without its beginning
  std::map<std::string, Value> values_;
  std::multimap<Steady::time_point, std::string> value_ends_;
  bool watched_ = false;  // a task was, at some time
  std::unordered_map<std::string, Data> data_;
  std::uint64_t last_number_ = 0, last_ticket_ = 0, last_token_ = 0;
  std::optional<Caller> clock_;
};

/// Changes what decides whether others' waiting puts `r` first: how many do, whether it waits itself, whether it can be
/// taken.
template <class F>
void MemoryStore::rank(Record& r, F change) {
  const auto key = [&] { return std::tuple(-static_cast<std::int64_t>(r.waiting()), r.number); };
  const auto is_urgent = [&] { return r.lane && r.waiting() > 0 && !r.waits_itself(); };
  if (is_urgent()) urgent_.erase(key());
  change();
  if (is_urgent()) urgent_.emplace(key(), &r);
}

/// Those that were kept for code of which `whose` says that it has ended.
template <class F>
void MemoryStore::free_keys(F whose, News& news) {
  std::vector<std::string> keys;
  for (const auto& [key, kept] : kept_)
    if (whose(kept)) keys.push_back(key);
  for (const std::string& key : keys) {
    kept_.erase(key);
    busy_.erase(key);
    admit_next(key, news);
  }
}

/// Of what is in these there is little beside the rest, so that a list of it need not look at all there is.
inline bool is_few(Status s) { return !is_owned(s) && s != Status::registered && s != Status::success; }

inline bool waits_to_be_taken(Status s) {
  return is_runnable(s) || s == Status::scheduled || s == Status::concurrency_controlled;
}

}  // namespace caller::task::memory
