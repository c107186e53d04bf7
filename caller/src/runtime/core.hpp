// The executor behind a Caller: queue, timers, life. See docs/ARCHITECTURE.md, "The loop".
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include <caller/caller.hpp>
#include <caller/group.hpp>
#include <caller/timeout.hpp>

#include "driver.hpp"
#include "timer_heap.hpp"

namespace caller::detail {

/// For a processor that waits by looking again and again.
inline void relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

/// Gives the processor away again and again, until `ended()` or for 50 µs, `at_most` (nanoseconds) where that is less:
/// for what is about to happen, as falling asleep and being woken would take as long. True: it has ended.
template <class F>
bool wait_awake(F ended, std::int64_t at_most = std::numeric_limits<std::int64_t>::max()) noexcept {
  constexpr std::int64_t kLonger = 50'000;
  const auto clock = [] { return std::chrono::steady_clock::now().time_since_epoch().count(); };
  const std::int64_t until = clock() + std::min(kLonger, at_most);
  do {
    if (ended()) return true;
    std::this_thread::yield();
  } while (clock() < until);
  return false;
}
/// When `wait` nanoseconds after `now` is: not before `now`, and never rather than a time that cannot be written.
constexpr std::int64_t time_after(std::int64_t now, std::int64_t wait) noexcept {
  constexpr auto kNever = std::numeric_limits<std::int64_t>::max();
  return wait <= 0 ? now : wait > kNever - now ? kNever : now + wait;
}
/// True once for each thread that the calling thread has made as a Caller and not waited for since: what it waits for
/// now is likely what that thread does first.
bool waits_for_new_thread() noexcept;

/// Keys below are the runtime's own.
inline constexpr std::uint64_t kGroupKey = 1, kFirstUserKey = 16;

using Canceller = std::function<void(const std::string& message)>;

/// Whom a Core tells of errors and of its life; outlives it with failed work nobody has looked at yet.
struct Voice {
  std::string name;
  ErrorHandler error_handler;
  LogHandler log;
};

/// Puts a list that was pushed together, newest first, behind what `tail` ends, oldest first.
template <class Node>
void append_oldest_first(Node* newest, Node**& tail) noexcept {
  Node* first = nullptr;
  Node* const last = newest;
  while (newest) {
    Node* const older = newest->next;
    newest->next = first;
    first = newest;
    newest = older;
  }
  *tail = first;
  tail = &last->next;
}

/// Rarely used parts of a Pending, made on first use.
struct Extras {
  std::string message;  // of cancel(), accumulated
  std::exception_ptr error;
  std::atomic<bool> observed{false};  // somebody looked at the error
  std::map<std::string, std::any> metadata;
  std::optional<std::stop_source> stop;
  std::unique_ptr<void, void (*)(void*) noexcept> box{nullptr, [](void*) noexcept {}};  // somebody else's value
  Canceller canceller;                         // of work that is not ours, until called
  std::shared_ptr<const Voice> voice;          // of failed work: to tell of the error if nobody looks at it, and …
  std::atomic<ContextNode*> context{nullptr};  // … the variables of the failed work, owned; free of trackers
  bool keeps_dropped = false;                  // an error of work that was cancelled goes here instead of to a handler
  std::exception_ptr dropped;
  std::shared_ptr<void> keeps;  // what it belongs to and may outlive
};
Extras& extras_of(PendingState& s);                      // locks
PendingState::Word lock_word(PendingState& s) noexcept;  // without kLock; with kDone when done (then not locked)
void unlock_word(PendingState& s, PendingState::Word word) noexcept;
void set_flag(PendingState& s, PendingState::Flag flag) noexcept;
void clear_flag(PendingState& s, PendingState::Flag flag) noexcept;

struct Pool;
struct Lanes;
struct OwnedLaneKey {
  const std::type_info* type;
  std::uint64_t word;
  std::string text;
  explicit OwnedLaneKey(const LaneKey& k) : type(k.type), word(k.word), text(k.text) {}
  friend bool operator==(const OwnedLaneKey& a, const OwnedLaneKey& b) noexcept {
    return *a.type == *b.type && a.word == b.word && a.text == b.text;
  }
};
struct OwnedLaneKeyHash {
  std::size_t operator()(const OwnedLaneKey& k) const noexcept {
    return k.type->hash_code() ^ (std::hash<std::string>{}(k.text) + k.word) * 0x9E3779B97F4A7C15u;
  }
};

class Core final : public LoopQueue {
public:
  Core(const CallerOptions& options, Core* parent, bool owns_thread);
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  // -- memory: handles, the thread itself, the parent's list and the registry's look-ups hold references --
  void retain() noexcept { refs_.fetch_add(1, std::memory_order_relaxed); }
  void release() noexcept {
    if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }

  // -- queue --
  bool submit(Op* op) noexcept;  // any thread
  bool on_thread() const noexcept { return this_thread().core == this; }
  void enter_thread() noexcept {
    this_thread().core = this;
    this_thread().queue = this;
  }
  static void leave_thread() noexcept {
    this_thread().core = nullptr;
    this_thread().queue = nullptr;
  }

  // -- life --
  CallerState state() const noexcept { return state_.load(std::memory_order_acquire); }
  bool accepts_calls() const noexcept { return accepting(); }
  CallerState request_stop(bool force) noexcept;  // any thread
  void bind_to_this_thread();                     // registers; Error(caller_exists)
  void start_thread();
  void join();  // of a new thread, by its owner; turns the calling thread's loop meanwhile
  bool ends_on_this_thread() noexcept;
  void enter_host();        // a guest, once bound; Error(caller_exists) when the host has one
  void abandon() noexcept;  // own thread, outside the loop: end without running anything but destructors
  /// Stops it with all its family, where a wait ends that nothing here would end: what it waits for may belong to a
  /// coroutine of an abandoned Caller, which is destroyed only after those that may use what it owns. Any thread.
  void forsake() noexcept;
  bool forsaken() const noexcept { return forsaken_.load(std::memory_order_relaxed); }

  // -- turning, own thread only --
  static constexpr std::size_t kBudget = 1024;  // entries between two looks at the backend
  template <class Pred>
  std::size_t loop_until(Pred&& pred);
  std::size_t loop_once(std::size_t budget) noexcept;  // drain, as from inside the loop
  std::size_t drain(std::size_t budget) noexcept;
  void end_faulted(const std::exception_ptr& fault, const char* where) noexcept;  // what ran when a guard returned it
  std::size_t queued() noexcept;                                                  // entries ready to run
  void run();
  std::size_t run_once();
  std::size_t poll();
  void run_until(PendingState& s);
  void turn() noexcept;          // of a guest, by its host
  void ask_for_turn() noexcept;  // … of its host, unless there is one under way or asked for; own thread
  Driver& driver() noexcept { return *driver_; }

  /// Around everything that turns the loop: keeps the Core, and ends it if its last handle went meanwhile.
  class Pump {
  public:
    explicit Pump(Core& core) noexcept : core_(core) {
      core_.retain();
      if (core_.guest_) core_.begin_turn();
    }
    ~Pump() {
      if (core_.orphaned && core_.depth_ == 0) core_.abandon();
      if (core_.guest_) core_.end_turn();
      core_.release();
    }
    Pump(const Pump&) = delete;
    Pump& operator=(const Pump&) = delete;

  private:
    Core& core_;
  };

  class Bare;

  // -- suspended work, own thread only --
  void link_task(PendingState& s) noexcept;
  void unlink_task(PendingState& s) noexcept;

  // -- time --
  std::int64_t now() const noexcept;
  TimerHeap timers;

  // -- fixed after construction --
  const std::uint64_t id;
  CallerOptions options;
  Core* const parent;  // retained
  const bool owns_thread;
  std::shared_ptr<const Voice> voice;
  Pending<void> started, stopping, stopped;

  // -- guarded by mutex --
  std::mutex naming;  // held while get() looks for a name and makes the child
  std::mutex mutex;
  std::string name;
  std::string thread_name;
  std::thread::id thread_id;
  std::vector<Core*> children;   // retained, oldest first
  std::shared_ptr<Lanes> lanes;  // of queue_call
  std::shared_ptr<Pool> pool;    // of the workers this Core has; kept to its end
  std::atomic<Pool*> pool_made{nullptr};
  bool pool_closed = false;           // a pool that is made now is closed
  std::shared_ptr<Pool> worker_pool;  // the pool this Core is a worker of
  struct IdleTimer : TimerNode {
    Core* core = nullptr;
  } idle_timer;  // own thread only

  std::atomic<std::uint32_t> owners{0};
  std::atomic<bool> is_protected{false};
  bool orphaned = false;  // the last handle went inside the loop (own thread)
  /// A nested wait got what it waited for (own thread): the loop looks up after this entry.
  void break_drain() noexcept { forgone_ += std::exchange(limit, 0); }
  TimeoutGuard* fired_guards = nullptr;  // of tasks that run or wait (own thread)
  bool* nested_broken = nullptr;         // of the innermost nested wait: forsaken, it must end (own thread)

  void report(const std::string& where, const std::exception_ptr& error) noexcept;
  Core* child(const CallerOptions& options);  // Caller::get; retained for the caller
  Core* new_child(CallerOptions options);     // with `mutex` not held; retained for the caller
  Core* new_worker(CallerOptions options);    // the same, for the pool
  bool stop_ready() const noexcept;
  bool outermost() const noexcept { return depth_ == 0; }  // own thread, as the next
  bool dropping() const noexcept { return closed_; }
  /// While it drops things somebody waits for `s`, which no turn will run any more: goes on to drop until it has ended,
  /// if it is work of this Core that waits or has not begun. False: it is not. Own thread.
  bool drop_awaited(const PendingState& s) noexcept;
  bool between_turns() const noexcept { return guest_ && turns_ == 0; }  // its host's callbacks run on its thread
  void finish_if_stopped();
  void enter_running();  // own thread; nothing if it did before

private:
  ~Core();
  struct StopOp;
  struct ChildGone;
  struct NudgeOp;
  static Op* asleep() noexcept { return reinterpret_cast<Op*>(std::uintptr_t{1}); }
  static Op* closed() noexcept { return reinterpret_cast<Op*>(std::uintptr_t{2}); }
  bool grab() noexcept;
  void sleep() noexcept;
  bool spin() noexcept;
  bool linger() noexcept;
  bool linger_early() noexcept;
  /// Takes the mark back; a wait nested in a handler of the backend rises before the sleep returns.
  void rise() noexcept;
  bool fire_timers() noexcept;
  std::size_t run_entries() noexcept;
  [[gnu::cold]] std::size_t run_entries_guarded(FaultGuard guard) noexcept;
  void thread_main();
  void begin_stop() noexcept;
  void close_and_drop() noexcept;
  void drop_entries() noexcept;
  void end_children() noexcept;
  bool end_waits() noexcept;
  void finalize() noexcept;
  void join_thread();
  void await_kicks() const noexcept;
  void unbind() noexcept;
  void check_pump(const char* operation);
  Core* adopt_child(Core* core);
  void leave_host() noexcept;
  void begin_turn() noexcept;
  void end_turn() noexcept;
  void tell_busy(bool busy) noexcept;
  /// Of the backend's handlers, which run without work; one sees the variables of those before it in the same look.
  void poll_backend() noexcept {
    driver_->poll();
    leave_context();
  }
  void abandon_operations() noexcept;
  void abandon_task(PendingState& s) noexcept;

  // own thread
  bool closed_ = false;
  bool stop_begun_ = false;
  bool bound_ = false;  // to a thread that is not ours
  int depth_ = 0;
  int early_sleeps_ = 0;     // how many of the first sleeps of a new thread are still to come
  int short_sleeps_ = 0;     // how often it may linger before it sleeps
  std::size_t forgone_ = 0;  // what a break took off the limit of the drain that goes on
  int futile_ = 0;           // rounds of end_waits since the last sleep
  PendingState* tasks_ = nullptr;
  std::uint64_t kicks_owed_ = 0;  // sleeps that ended because a producer took our mark
  const bool guest_;              // driven by options.host
  bool asleep_ = false;           // our mark is in the inbox: in sleep(), or a guest between turns
  bool asked_ = false;            // … who has asked for a turn
  bool told_busy_ = false;        // what its host was told
  int turns_ = 0;                 // Pumps around us
  std::unique_ptr<Driver> driver_;

  std::atomic<CallerState> state_{CallerState::initial};
  std::atomic<bool> forsaken_{false};
  std::atomic<std::uint32_t> refs_{1};
  std::thread thread_;
  std::atomic<std::uint32_t> child_names_{0}, worker_names_{0};

  std::atomic<std::uint64_t> kicks_done_{0};  // wake-ups whose producer is through with us
};

extern std::atomic<FaultGuard> fault_guard, turn_guard;  // of calls in the middle of a turn; of turns
/// Calls a function of the user's from the middle of the runtime's own work, by the guard if there is one. `fn` throws
/// nothing. The fault, or null.
template <class F>
std::exception_ptr call_guarded(F&& fn) {
  if (const FaultGuard guard = fault_guard.load(std::memory_order_acquire)) [[unlikely]]
    return guard([](void* f) { (*static_cast<std::remove_reference_t<F>*>(f))(); }, &fn);
  fn();
  return nullptr;
}

// ---- registry.cpp ----
void registry_add(Core& core, std::thread::id thread);
void registry_add_unbound(Core& core);
void registry_remove(Core& core) noexcept;
Core* registry_find(std::thread::id thread);  // retained, or null
std::thread::id main_thread_id() noexcept;
std::string describe_this_thread();

// ---- pending.cpp, suspend.cpp ----
void deliver_cancel(PendingState& s) noexcept;  // loop's thread
/// Steps of it. The wait of `s` that is to be left; null: none now.
Suspension* wait_to_leave(PendingState& s) noexcept;
/// What is to be cancelled as well when that wait is left; null: `detach` knows all there is to do.
PendingState* passes_on_to(Suspension& wait) noexcept;
/// Leaves a wait that passes it on. False: it is being resumed.
bool leave(Suspension& wait) noexcept;
void resume_cancelled(PendingState& s, Suspension& wait) noexcept;
/// The wait of `task`, or its next one, ends as cancelled, whatever `task` itself has come to. Loop's thread.
void interrupt_wait(PendingState& task) noexcept;
/// Why what is waited for is cancelled with its waiter.
inline constexpr const char* kCancelledWaiter = "its waiter was cancelled";
/// The error of `from` will be that of `to`, a Pending without a call: moves what a report of it needs.
void pass_report(PendingState& from, PendingState& to) noexcept;
/// Gives a call made just now its word, its context and its groups.
void prepare_launch(PendingState& s, PendingState::Word word, const ScheduleOptions* options) noexcept;
void enqueue_launch(Core& core, PendingState& s) noexcept;
void fail_unbegun(PendingState& s, std::exception_ptr error) noexcept;  // it will never begin, for this reason

// ---- delay.cpp ----
void arm_delay(Core& core, PendingState& s, DelayNode* node, Duration delay) noexcept;  // no node: makes one
void cancel_delays(Core& core) noexcept;
void drop_timer(TimerNode& node) noexcept;
/// The call that `op` stands for until its time comes, null if it is no such thing.
PendingState* delayed_by(const Op& op) noexcept;
/// Of a call that waits for its time, with its word locked, on its Core's thread: takes it out of the timers.
void unschedule(PendingState& s) noexcept;

// ---- group.cpp, lane.cpp, workers.cpp ----
void group_add(TrackerLink& innermost, PendingState& s) noexcept;  // tracker.cpp
void close_all_lanes(Core& core) noexcept;
/// The task of a lane has faulted: what waits there. Own thread.
LaneItem* take_lane_of(Core& core, const PendingState& task, std::optional<OwnedLaneKey>& key) noexcept;
void queue_again(Core& core, const OwnedLaneKey& key, LaneItem* items) noexcept;
void worker_gone(Core& worker) noexcept;
void drop_waiting_calls(Core& core) noexcept;  // the Core stops: its calls that wait for a worker end

/// What the loop runs begins with no work and no context of its own (enter_work relies on it).
class Core::Bare {
public:
  Bare() noexcept
      : task_(std::exchange(this_thread().task, nullptr)), context_(std::exchange(this_thread().context, nullptr)) {}
  ~Bare() {
    ThreadState& ts = this_thread();
    ts.task = task_;
    detail::release(std::exchange(ts.context, context_));
  }
  Bare(const Bare&) = delete;
  Bare& operator=(const Bare&) = delete;

private:
  PendingState* task_;
  ContextNode* context_;
};

template <class Pred>
std::size_t Core::loop_until(Pred&& pred) {
  const Bare bare;
  std::size_t total = 0, since_poll = 0;
  const auto ready = [&] {
    if constexpr (std::is_invocable_v<Pred&, std::size_t>)
      return pred(total);
    else
      return pred();
  };
  rise();
  ++depth_;
  while (!ready()) {
    const std::size_t n = drain(kBudget);
    total += n;
    since_poll += n;
    if (since_poll >= kBudget) {  // many small batches starve the backend as well as one large one
      since_poll = 0;
      poll_backend();
    }
    if (n > 0 || ready()) continue;
    if (forsaken() && end_waits()) [[unlikely]]
      continue;
    sleep();
  }
  --depth_;
  return total;
}

template <class Ready>
struct GuardedAwaiter : Suspension {
  std::mutex& mutex;
  Suspension*& slot;
  Ready ready;

  GuardedAwaiter(std::mutex& m, Suspension*& s, Ready r) : mutex(m), slot(s), ready(std::move(r)) {}
  GuardedAwaiter(const GuardedAwaiter&) = delete;
  GuardedAwaiter& operator=(const GuardedAwaiter&) = delete;
  ~GuardedAwaiter() {
    if (!handle) return;
    std::lock_guard lock(mutex);
    if (slot == this) slot = nullptr;
  }
  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> h) {
    std::lock_guard lock(mutex);
    if (ready() && !cancellation_due()) return false;
    if (!begin_suspend(*this, h)) return false;
    detach = [](Suspension* s) noexcept {
      auto& self = *static_cast<GuardedAwaiter*>(s);
      std::lock_guard guard(self.mutex);
      if (self.slot != &self) return false;
      self.slot = nullptr;
      return true;
    };
    slot = this;
    return true;
  }
  void await_resume() {
    handle = {};
    throw_if_cancelled(*this);
  }
};

/// For internal queues: waits until `ready()` holds, both under `mutex`; at most one waiter a slot.
template <class Ready>
struct [[nodiscard]] GuardedWait {
  using caller_awaitable = void;
  std::mutex& mutex;
  Suspension*& slot;
  Ready ready;
  GuardedWait(std::mutex& m, Suspension*& s, Ready r) : mutex(m), slot(s), ready(std::move(r)) {}
  GuardedAwaiter<Ready> operator co_await() const { return GuardedAwaiter<Ready>(mutex, slot, ready); }
};
/// With the mutex held.
inline void wake(Suspension*& slot) noexcept {
  if (slot) resume_later(*std::exchange(slot, nullptr));
}

}  // namespace caller::detail
