// Lanes: what queue_call queues, worked off one by one by one long-lived task a lane.
//
// A lane is fed like a loop: a list only the loop's thread touches, and an inbox for the others. When it has nothing to
// do its task waits, and IDLE stands in the inbox; who replaces that asks the loop to wake it.
#include <algorithm>
#include <array>
#include <unordered_map>

#include "log.hpp"

namespace caller::detail {

struct Lane {
  // loop's thread
  LaneItem* head = nullptr;
  LaneItem** tail = &head;
  Suspension* waiting = nullptr;
  bool wake_queued = false;

  std::atomic<LaneItem*> inbox{nullptr};
  std::atomic<bool> remote_wake_queued{false};
  std::atomic<std::uint32_t> refs{1};
  PendingBase task;  // written before anybody but the task itself knows the lane

  struct Wake : Op {
    Lane* lane = nullptr;
  } wake_here, wake_from_elsewhere;

  Lane() noexcept;
  ~Lane() { shut(); }
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;
  void ref() noexcept { refs.fetch_add(1, std::memory_order_relaxed); }
  void unref() noexcept {
    if (refs.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }
  /// A call may still be added.
  bool open() const noexcept { return goes_on(*task.state()); }
  static bool goes_on(const PendingState& task) noexcept {
    return !(task.word.load(std::memory_order_acquire) & kEnded);
  }

  static constexpr auto kEnded = PendingState::kDone | PendingState::kCancelled;
  static LaneItem* idle() noexcept { return reinterpret_cast<LaneItem*>(std::uintptr_t{1}); }
  static LaneItem* closed() noexcept { return reinterpret_cast<LaneItem*>(std::uintptr_t{2}); }
  static bool is_list(LaneItem* p) noexcept { return p && p != idle() && p != closed(); }

  bool push(Core& core, LaneItem* item) noexcept;
  LaneItem* pop() noexcept;
  void shut() noexcept;

private:
  bool push_from_elsewhere(Core& core, LaneItem* item) noexcept;
};

Lane::Lane() noexcept {
  wake_here.lane = wake_from_elsewhere.lane = this;
  wake_here.act = [](Op* op, OpAct why) {
    Lane& lane = *static_cast<Wake*>(op)->lane;
    lane.wake_queued = false;
    if (auto* w = std::exchange(lane.waiting, nullptr)) w->act(w, why);
    lane.unref();
  };
  wake_from_elsewhere.act = [](Op* op, OpAct why) {
    Lane& lane = *static_cast<Wake*>(op)->lane;
    lane.remote_wake_queued.exchange(false, std::memory_order_acq_rel);  // before the look at the inbox that follows
    if (auto* w = std::exchange(lane.waiting, nullptr)) w->act(w, why);
    lane.unref();
  };
}

/// False: the lane has ended, and the item is the caller's.
[[gnu::always_inline]] inline bool Lane::push(Core& core, LaneItem* item) noexcept {
  if (!core.on_thread()) return push_from_elsewhere(core, item);
  item->next = nullptr;
  *tail = item;
  tail = &item->next;
  if (waiting && !wake_queued) {
    wake_queued = true;
    ref();
    if (!core.submit(&wake_here)) wake_here.act(&wake_here, OpAct::drop);
  }
  return true;
}

bool Lane::push_from_elsewhere(Core& core, LaneItem* item) noexcept {
  LaneItem* list = inbox.load(std::memory_order_relaxed);
  do {
    if (list == closed()) return false;
    item->next = list == idle() ? nullptr : list;
  } while (!inbox.compare_exchange_weak(list, item, std::memory_order_acq_rel, std::memory_order_relaxed));
  if (list == idle() && !remote_wake_queued.exchange(true, std::memory_order_acq_rel)) {
    ref();
    if (!core.submit(&wake_from_elsewhere)) unref();  // the loop has ended, and the lane with it
  }
  return true;
}

LaneItem* Lane::pop() noexcept {
  if (!head) {
    if (!is_list(inbox.load(std::memory_order_relaxed))) return nullptr;
    append_oldest_first(inbox.exchange(nullptr, std::memory_order_acquire), tail);
  }
  LaneItem* const item = head;
  if (!(head = item->next)) tail = &head;
  return item;
}

/// Drops what is left, and takes nothing more. On the loop's thread.
void Lane::shut() noexcept {
  LaneItem* const list = inbox.exchange(closed(), std::memory_order_acq_rel);
  if (is_list(list)) append_oldest_first(list, tail);
  while (LaneItem* item = head) {
    if (!(head = item->next)) tail = &head;
    item->run(item, nullptr);
  }
}

namespace {

class LaneRef {
public:
  LaneRef() noexcept = default;
  explicit LaneRef(Lane* adopted) noexcept : lane_(adopted) {}
  LaneRef(const LaneRef& o) noexcept : lane_(o.lane_) {
    if (lane_) lane_->ref();
  }
  LaneRef(LaneRef&& o) noexcept : lane_(std::exchange(o.lane_, nullptr)) {}
  LaneRef& operator=(LaneRef o) noexcept {
    std::swap(lane_, o.lane_);
    return *this;
  }
  ~LaneRef() {
    if (lane_) lane_->unref();
  }
  Lane* get() const noexcept { return lane_; }
  Lane* operator->() const noexcept { return lane_; }

private:
  Lane* lane_ = nullptr;
};

/// Goes where the lane's task goes, and with it: however that ends, the lane is shut on the loop's thread.
struct LaneEnd {
  LaneRef lane;
  explicit LaneEnd(LaneRef l) noexcept : lane(std::move(l)) {}
  LaneEnd(LaneEnd&&) noexcept = default;
  LaneEnd& operator=(LaneEnd&&) = delete;
  ~LaneEnd() {
    if (lane.get()) lane->shut();
  }
};

struct LaneAwaiter : Suspension {
  Lane& lane;
  explicit LaneAwaiter(Lane& l) noexcept : lane(l) {}
  LaneAwaiter(const LaneAwaiter&) = delete;
  LaneAwaiter& operator=(const LaneAwaiter&) = delete;
  ~LaneAwaiter() {
    if (handle && lane.waiting == this) lane.waiting = nullptr;
  }
  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> h) {
    if (!begin_suspend(*this, h)) return false;
    LaneItem* none = nullptr;
    if (!lane.inbox.compare_exchange_strong(none, Lane::idle(), std::memory_order_acq_rel) && none != Lane::idle()) {
      abort_suspend(*this);  // something has come
      return false;
    }
    detach = [](Suspension* s) noexcept {
      auto& self = *static_cast<LaneAwaiter*>(s);
      if (self.lane.waiting != &self) return false;
      self.lane.waiting = nullptr;
      return true;
    };
    lane.waiting = this;
    return true;
  }
  void await_resume() {
    handle = {};
    throw_if_cancelled(*this);
  }
};

struct [[nodiscard]] LaneWork {
  using caller_awaitable = void;
  Lane& lane;
  LaneAwaiter operator co_await() const { return LaneAwaiter(lane); }
};

/// So many plain functions run before the rest of the loop has its turn.
constexpr unsigned kTurn = 256;

[[gnu::cold, gnu::noinline]] void run_guarded(LaneItem* item, Core& core) {
  const auto fault = call_guarded([&] { item->run(item, &core); });
  if (!fault) return;
  core.report("queue_call", fault);
  replace_current_context(nullptr);
}

/// `before`: the tasks of closed or cancelled lanes of that key, whose items may still be at their clean-up.
Coro<void> work_off(LaneEnd end, Core& core, std::vector<PendingBase> before) {
  Lane& lane = *end.lane.get();
  for (const auto& task : before) co_await task.async_wait_done({.timeout = {}, .protect = true, .shield = true});
  before.clear();
  const PendingState& self = *current_task();  // `lane.task` may not be written yet
  unsigned in_turn = 0;
  for (;;) {
    LaneItem* const item = lane.pop();
    if (!item) {
      if (!Lane::goes_on(self)) co_return;
      in_turn = 0;
      co_await LaneWork{lane};
      continue;
    }
    if (!Lane::goes_on(self)) {  // cancelled meanwhile
      item->run(item, nullptr);
      co_return;
    }
    if (!item->start) {
      if (fault_guard.load(std::memory_order_acquire)) [[unlikely]]
        run_guarded(item, core);
      else
        item->run(item, &core);
      if (++in_turn == kTurn) {
        in_turn = 0;
        co_await yield_now();
      }
      continue;
    }
    struct Freed {
      LaneItem* item;
      ~Freed() {
        item->run(item, nullptr);
        replace_current_context(nullptr);
      }
    } const freed{item};
    replace_current_context(std::exchange(item->context, nullptr));
    try {
      co_await item->start(item);
    } catch (...) {
      // A cancellation of the lane itself ends it; one that the function threw does not.
      if (!Lane::goes_on(self)) throw;
      core.report("queue_call", std::current_exception());
    }
  }
}

/// The lanes a thread has just used: a look-up without the Core's lock and map. Each entry holds a reference.
struct LaneCacheEntry {
  std::uint64_t core = 0;
  const std::type_info* type = nullptr;
  std::uint64_t word = 0;
  Lane* lane = nullptr;

  bool is(const Core& c, const LaneKey& key) const noexcept {
    return core == c.id && type == key.type && word == key.word && key.text.empty();
  }
  void assign(std::uint64_t c, const LaneKey& key, Lane* to) noexcept {
    if (to) to->ref();
    if (Lane* old = std::exchange(lane, to)) old->unref();
    core = c;
    type = key.type;
    word = key.word;
  }
};
constexpr std::size_t kCachedLanes = 8;
thread_local constinit std::array<LaneCacheEntry, kCachedLanes> lane_cache __attribute__((tls_model("initial-exec"))){};

LaneCacheEntry& cached(const LaneKey& key) noexcept {
  const auto mix = (reinterpret_cast<std::uintptr_t>(key.type) >> 4) + (key.word ^ key.word >> 7);
  return lane_cache[mix % kCachedLanes];
}

void remember(const Core& core, const LaneKey& key, Lane* lane) noexcept {
  struct Owner {
    void touch() const noexcept {}
    ~Owner() {
      for (auto& e : lane_cache) e.assign(0, LaneKey{nullptr}, nullptr);
    }
  };
  static thread_local const Owner owner;
  owner.touch();
  cached(key).assign(core.id, key, lane);
}

using LaneMap = std::unordered_map<OwnedLaneKey, LaneRef, OwnedLaneKeyHash>;

}  // namespace

struct Lanes {
  LaneMap map;
  /// Tasks of lanes that were closed or cancelled, and may not have ended.
  std::unordered_multimap<OwnedLaneKey, PendingBase, OwnedLaneKeyHash> closing;

  void leave(const OwnedLaneKey& key, const PendingBase& task) {
    std::erase_if(closing, [](const auto& entry) { return entry.second.done(); });
    if (!task.done()) closing.emplace(key, task);
  }
};

namespace {

/// With the Core's mutex held. Null: no such lane, or it has ended.
Lane* find_lane(Core& core, const OwnedLaneKey& key) {
  if (!core.lanes) return nullptr;
  const auto it = core.lanes->map.find(key);
  return it != core.lanes->map.end() && it->second->open() ? it->second.get() : nullptr;
}

/// With the Core's mutex held: of lanes of that key.
std::vector<PendingBase> tasks_before(Lanes& lanes, const OwnedLaneKey& key) {
  if (const auto it = lanes.map.find(key); it != lanes.map.end()) lanes.leave(key, it->second->task);
  std::vector<PendingBase> tasks;
  for (auto [it, end] = lanes.closing.equal_range(key); it != end; ++it) tasks.push_back(it->second);
  return tasks;
}

/// The lane of that key, made if there is none.
LaneRef lane_of(Core& core, const LaneKey& key, bool& made) {
  OwnedLaneKey owned(key);
  const std::lock_guard lock(core.mutex);
  if (Lane* found = find_lane(core, owned)) {
    found->ref();
    return LaneRef(found);
  }
  if (!core.lanes) core.lanes = std::make_shared<Lanes>();
  LaneRef lane(new Lane);
  Caller caller(Caller::Adopt{}, core, false);
  core.retain();
  ScheduleOptions options;
  options.context = Context();  // nobody's: each item brings its own
  options.opt_out_of_groups = true;
  lane->task =
      caller.schedule_call(options, &work_off, LaneEnd(lane), std::ref(core), tasks_before(*core.lanes, owned));
  core.lanes->map.insert_or_assign(std::move(owned), lane);
  made = true;
  return lane;
}

}  // namespace

namespace {

[[gnu::noinline]] bool queue_item_slow(Core& core, const LaneKey& key, LaneItem* item) {
  try {
    while (core.accepts_calls()) {
      bool made = false;
      const LaneRef lane = lane_of(core, key, made);
      if (made) log(&core, LogLevel::debug, "a lane was opened");  // with no lock held
      if (key.text.empty()) remember(core, key, lane.get());
      if (lane->open() && lane->push(core, item)) return true;
    }
  } catch (...) {  // no memory for a lane
    item->run(item, nullptr);
    throw;
  }
  item->run(item, nullptr);
  return false;
}

}  // namespace

bool queue_item(Core& core, const LaneKey& key, LaneItem* item) {
  const LaneCacheEntry& entry = cached(key);
  item->context = retain(this_thread().context);
  if (entry.is(core, key) && core.accepts_calls() && entry.lane->open() && entry.lane->push(core, item)) [[likely]]
    return true;
  return queue_item_slow(core, key, item);
}

LaneItem* take_lane_of(Core& core, const PendingState& task, std::optional<OwnedLaneKey>& key) noexcept {
  LaneRef lane;
  {
    const std::lock_guard lock(core.mutex);
    if (!core.lanes) return nullptr;
    auto& map = core.lanes->map;
    const auto it = std::find_if(map.begin(), map.end(), [&](auto& e) { return e.second->task.state() == &task; });
    if (it == map.end()) return nullptr;
    key = it->first;
    lane = it->second;
  }
  LaneItem* const list = lane->inbox.exchange(Lane::closed(), std::memory_order_acq_rel);
  if (Lane::is_list(list)) append_oldest_first(list, lane->tail);
  lane->tail = &lane->head;
  return std::exchange(lane->head, nullptr);
}

void queue_again(Core& core, const OwnedLaneKey& key, LaneItem* items) noexcept {
  while (items) {
    LaneItem* const item = std::exchange(items, items->next);
    try {
      queue_item_slow(core, LaneKey{key.type, key.word, key.text}, item);
    } catch (...) {  // no memory for a lane: the item is dropped
    }
  }
}

PendingBase lane_pending(Core& core, const LaneKey& key) {
  const OwnedLaneKey owned(key);
  const std::lock_guard lock(core.mutex);
  if (!core.lanes) return {};
  const auto it = core.lanes->map.find(owned);
  return it == core.lanes->map.end() ? PendingBase() : it->second->task;
}

bool close_lane(Core& core, const LaneKey& key, std::string message) {
  const OwnedLaneKey owned(key);
  LaneRef lane;
  {
    const std::lock_guard lock(core.mutex);
    if (!core.lanes) return false;
    const auto it = core.lanes->map.find(owned);
    if (it == core.lanes->map.end()) return false;
    lane = std::move(it->second);
    core.lanes->map.erase(it);
    core.lanes->leave(owned, lane->task);
  }
  log(&core, LogLevel::debug, "a lane was closed");
  lane->task.cancel(std::move(message));
  if (core.on_thread()) lane->shut();  // elsewhere the lane's own end does it
  return true;
}

void close_all_lanes(Core& core) noexcept {
  std::shared_ptr<Lanes> lanes;
  {
    const std::lock_guard lock(core.mutex);
    lanes.swap(core.lanes);
  }
  if (!lanes) return;
  for (auto& entry : lanes->map) {
    try {
      entry.second->task.cancel("the caller was stopped");
    } catch (...) {  // no memory for the message
    }
  }
}

}  // namespace caller::detail
