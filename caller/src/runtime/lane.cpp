// Lanes: what queue_call queues, worked off one by one by one long-lived task a lane.
#include "log.hpp"

namespace caller::detail {

struct Lane {
  std::mutex mutex;
  Suspension* waiting = nullptr;  // the lane's task, when it has nothing to do
  LaneItem* head = nullptr;
  LaneItem** tail = &head;
  bool closed = false;
  PendingBase task;

  ~Lane() { drop_items(); }
  void push(LaneItem* item) noexcept {
    *tail = item;
    tail = &item->next;
  }
  LaneItem* pop() noexcept {
    LaneItem* item = head;
    if (!item) return nullptr;
    head = item->next;
    if (!head) tail = &head;
    return item;
  }
  void drop_items() noexcept {
    while (LaneItem* item = pop()) delete item;
  }
};

namespace {

Coro<void> work_off(std::shared_ptr<Lane> lane, Core& core) {
  for (;;) {
    std::unique_ptr<LaneItem> item;
    bool closed = false;
    {
      std::lock_guard lock(lane->mutex);
      closed = lane->closed;
      if (!closed) item.reset(lane->pop());
    }
    if (closed) co_return;
    if (!item) {
      co_await GuardedWait(lane->mutex, lane->waiting, [&lane] { return lane->head || lane->closed; });
      continue;
    }
    replace_current_context(std::exchange(item->context, nullptr));
    try {
      if (item->is_coroutine())
        co_await item->start();
      else
        item->run();
    } catch (...) {
      // A cancellation of the lane itself ends it; one that the function threw does not.
      if (current_task()->is(PendingState::kCancelled)) throw;
      core.report("queue_call", std::current_exception());
    }
    item.reset();
    replace_current_context(nullptr);
  }
}

void close(Core& core, Lane& lane, std::string message) {
  PendingBase task;
  LaneItem* dropped = nullptr;
  {
    std::lock_guard lock(lane.mutex);
    lane.closed = true;
    dropped = std::exchange(lane.head, nullptr);
    lane.tail = &lane.head;
    task = lane.task;
  }
  log(&core, LogLevel::debug, "a lane was closed");
  while (dropped) delete std::exchange(dropped, dropped->next);  // user destructors: outside the lock
  if (task) task.cancel(std::move(message));
}

}  // namespace

bool queue_item(Core& core, LaneKey key, LaneItem* item) {
  std::unique_ptr<LaneItem> guard(item);
  item->context = retain(current_context());
  if (!core.accepts_calls()) return false;
  std::shared_ptr<Lane> lane;
  bool made = false;
  {
    std::lock_guard lock(core.mutex);
    auto& slot = core.lanes[key];
    bool ended = false;
    if (slot) {
      std::lock_guard lane_lock(slot->mutex);  // its maker may be writing `task` just now
      ended = slot->task && (slot->task.done() || slot->task.cancelled());
    }
    if (!slot || ended) {
      slot = std::make_shared<Lane>();
      made = true;
    }
    lane = slot;
    std::lock_guard lane_lock(lane->mutex);
    if (lane->closed) return false;
    lane->push(guard.release());
    if (!made) wake(lane->waiting);
  }
  if (made) {
    log(&core, LogLevel::debug, "a lane was opened");
    Caller caller(Caller::Adopt{}, core, false);
    core.retain();
    ScheduleOptions options;
    options.context = Context();
    options.opt_out_of_groups = true;
    // The lane's task starts with nobody's context: each item brings its own.
    PendingBase task = caller.schedule_call(options, &work_off, lane, std::ref(core));
    bool closed = false;
    {
      std::lock_guard lane_lock(lane->mutex);
      lane->task = task;
      closed = lane->closed;
    }
    if (closed) task.cancel("the lane was closed");
    task.add_done_callback([weak = std::weak_ptr<Lane>(lane)](const PendingBase&) {
      if (auto l = weak.lock()) {
        LaneItem* dropped = nullptr;
        {
          std::lock_guard lane_lock(l->mutex);
          l->closed = true;
          dropped = std::exchange(l->head, nullptr);
          l->tail = &l->head;
        }
        while (dropped) delete std::exchange(dropped, dropped->next);
      }
    });
  }
  return true;
}

PendingBase lane_pending(Core& core, const LaneKey& key) {
  std::lock_guard lock(core.mutex);
  auto it = core.lanes.find(key);
  if (it == core.lanes.end()) return {};
  std::lock_guard lane_lock(it->second->mutex);
  return it->second->task;
}

bool close_lane(Core& core, const LaneKey& key, std::string message) {
  std::shared_ptr<Lane> lane;
  {
    std::lock_guard lock(core.mutex);
    auto it = core.lanes.find(key);
    if (it == core.lanes.end()) return false;
    lane = std::move(it->second);
    core.lanes.erase(it);
  }
  close(core, *lane, std::move(message));
  return true;
}

void close_all_lanes(Core& core) noexcept {
  decltype(core.lanes) lanes;
  {
    std::lock_guard lock(core.mutex);
    lanes.swap(core.lanes);
  }
  for (auto& entry : lanes) {
    try {
      close(core, *entry.second, "the caller was stopped");
    } catch (...) {  // no memory for the message
    }
  }
}

}  // namespace caller::detail
