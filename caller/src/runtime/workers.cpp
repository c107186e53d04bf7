// The worker pool of to_thread.
#include <algorithm>

#include "log.hpp"

namespace caller::detail {

/// Held for a few instructions, often by two threads at once: going to sleep for it would cost more than the work.
class SpinLock {
public:
  void lock() noexcept {
    for (unsigned tries = 0; taken_.exchange(true, std::memory_order_acquire); ++tries)
      while (taken_.load(std::memory_order_relaxed))
        if (++tries > 64) std::this_thread::yield();
  }
  void unlock() noexcept { taken_.store(false, std::memory_order_release); }

private:
  std::atomic<bool> taken_{false};
};

/// Thread-safety: guarded by `mutex`. A worker is either idle (in `idle`) or has exactly one call.
struct Pool {
  SpinLock mutex;
  std::deque<Core*> idle;             // retained; oldest idle first: the newest is taken, it may still be awake
  std::size_t count = 0;              // workers alive
  std::deque<PendingState*> waiting;  // above max_workers; each with its work's reference
  bool closed = false;                // the Core stops: nothing waits any more
  std::size_t max_idle = 0, max_workers = 0;
  Duration idle_timeout{};

  ~Pool() {
    for (Core* c : idle) c->release();
  }
};

namespace {

Pool& pool_of(Core& core) {
  if (Pool* const there = core.pool_made.load(std::memory_order_acquire)) return *there;
  std::lock_guard lock(core.mutex);
  if (!core.pool) {
    core.pool = std::make_shared<Pool>();
    core.pool->max_idle = core.options.max_idle_workers;
    core.pool->max_workers = core.options.max_workers;
    core.pool->idle_timeout = core.options.worker_idle_timeout;
    core.pool_made.store(core.pool.get(), std::memory_order_release);
  }
  return *core.pool;
}

/// On the worker's thread: has it been idle long enough?
void idle_too_long(Op* op, OpAct why) {
  if (why != OpAct::run) return;
  Core& worker = *static_cast<Core::IdleTimer*>(static_cast<TimerNode*>(op))->core;
  {
    std::lock_guard lock(worker.worker_pool->mutex);
    auto& idle = worker.worker_pool->idle;
    auto it = std::find(idle.begin(), idle.end(), &worker);
    if (it == idle.end()) return;  // busy again: armed anew when that call ends
    idle.erase(it);
  }
  log(&worker, LogLevel::debug, "retired: it was idle for too long");
  worker.request_stop(true);
  worker.release();
}

/// On the worker's thread, when its function has ended.
void worker_free(Core& worker) noexcept {
  Pool& pool = *worker.worker_pool;
  PendingState* next = nullptr;
  bool surplus = false;
  {
    std::lock_guard lock(pool.mutex);
    if (!worker.accepts_calls()) return;
    if (!pool.waiting.empty()) {
      next = pool.waiting.front();
      pool.waiting.pop_front();
    } else if (pool.idle.size() >= pool.max_idle) {
      surplus = true;
    } else {
      worker.retain();
      pool.idle.push_back(&worker);
    }
  }
  if (next) return enqueue_launch(worker, *next);
  if (surplus) {
    log(&worker, LogLevel::debug, "retired: enough others are idle");
    worker.request_stop(true);
    return;
  }
  if (pool.idle_timeout <= Duration::zero()) return;
  worker.timers.remove(worker.idle_timer);
  worker.idle_timer.core = &worker;
  worker.idle_timer.act = &idle_too_long;
  worker.idle_timer.when = worker.now() + pool.idle_timeout.count();
  worker.timers.add(worker.idle_timer);
}

/// A new worker for `s`; its place in `count` is taken already.
void launch_on_new_worker(Core& core, Pool& pool, PendingState& s) noexcept {
  CallerOptions options;
  options.backend = core.options.backend;
  options.worker_idle_timeout = core.options.worker_idle_timeout;
  Core* worker = nullptr;
  try {
    worker = core.new_worker(std::move(options));
  } catch (...) {
    {
      std::lock_guard lock(pool.mutex);
      --pool.count;
    }
    fail_unbegun(s, std::current_exception());
    return;
  }
  enqueue_launch(*worker, s);
  worker->release();
}

}  // namespace

void work_of_worker_ended(PendingState& s) noexcept { worker_free(*s.core); }

void launch_on_worker(Core& core, PendingState& s) noexcept {
  s.word.store(PendingState::kWork | PendingState::kWorker, std::memory_order_relaxed);  // nobody else knows it yet
  prepare_launch(s, nullptr);
  Pool& pool = pool_of(core);
  Core* worker = nullptr;
  bool closed = false;
  {
    std::lock_guard lock(pool.mutex);
    closed = pool.closed;
    while (!worker && !pool.idle.empty()) {
      worker = pool.idle.back();
      pool.idle.pop_back();
      if (!worker->accepts_calls()) {
        worker->release();
        worker = nullptr;
      }
    }
    if (!worker && !closed) {
      if (pool.max_workers && pool.count >= pool.max_workers) {
        pool.waiting.push_back(&s);
        return;
      }
      ++pool.count;
    }
  }
  if (worker) {
    enqueue_launch(*worker, s);
    worker->release();
  } else if (closed) {
    s.act(&s, OpAct::drop);
  } else {
    launch_on_new_worker(core, pool, s);
  }
}

void worker_gone(Core& worker) noexcept {
  if (!worker.worker_pool) return;
  Pool& pool = *worker.worker_pool;
  bool was_idle = false;
  PendingState* next = nullptr;
  {
    std::lock_guard lock(pool.mutex);
    was_idle = std::erase(pool.idle, &worker) > 0;
    if (pool.waiting.empty()) {
      --pool.count;
    } else {  // it was counted until now, so calls may have queued behind it: its place goes to one of them
      next = pool.waiting.front();
      pool.waiting.pop_front();
    }
  }
  if (was_idle) worker.release();
  if (next) launch_on_new_worker(*worker.parent, pool, *next);
}

void drop_waiting_calls(Core& core) noexcept {
  std::shared_ptr<Pool> pool;
  {
    std::lock_guard lock(core.mutex);
    pool = core.pool;
  }
  if (!pool) return;
  std::deque<PendingState*> waiting;
  {
    std::lock_guard lock(pool->mutex);
    pool->closed = true;
    waiting.swap(pool->waiting);
  }
  for (PendingState* s : waiting) s->act(s, OpAct::drop);
}

Core* Core::new_worker(CallerOptions opts) {
  opts.name = name + "-worker-" + std::to_string(++worker_names_);
  log(this, LogLevel::debug, "new worker: ", opts.name);
  pool_of(*this);
  auto* core = new Core(opts, this, true);
  core->worker_pool = pool;
  return adopt_child(core);
}

}  // namespace caller::detail
