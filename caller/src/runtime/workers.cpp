// The worker pool of to_thread.
#include <algorithm>
#include <utility>

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

/// Calls that wait for a worker, each with its work's reference. Where all workers have work, who makes a call pushes
/// it without the mutex, and looks again whether that is so still; whoever makes a place says so and looks whether
/// there came one: one of the two sees the other.
///
/// Thread-safety: `push` and `is_open` any thread; the rest is guarded by `mutex`. A worker is either idle (in `idle`)
/// or has exactly one call.
struct Pool {
  /// Whether a call might get a worker now, or never will: then take() under the mutex is to be asked.
  bool is_open() const noexcept { return open_.load(std::memory_order_seq_cst); }
  void push(PendingState& s) noexcept {
    Op* newest = incoming_.load(std::memory_order_relaxed);
    do {
      s.next = newest;
    } while (!incoming_.compare_exchange_weak(newest, &s, std::memory_order_seq_cst, std::memory_order_relaxed));
  }

  /// The one that waits longest; null: none does.
  PendingState* take() noexcept {
    if (!head_) collect();
    Op* const op = head_;
    if (op && !(head_ = op->next)) tail_ = &head_;
    return static_cast<PendingState*>(op);
  }
  bool some_wait() const noexcept { return head_ || incoming_.load(std::memory_order_seq_cst); }
  /// All that wait, in order, linked.
  Op* take_all() noexcept {
    collect();
    Op* const all = std::exchange(head_, nullptr);
    tail_ = &head_;
    return all;
  }
  /// After a push that met no place, without the mutex: whether so many have come that it is worth a look who of them
  /// does not wait any more. The count may miss some.
  bool is_to_be_sifted() noexcept {
    const std::size_t n = came_.load(std::memory_order_relaxed) + 1;
    came_.store(n, std::memory_order_relaxed);
    return n > sift_at_.load(std::memory_order_relaxed);
  }
  /// Those that were cancelled, linked.
  Op* take_cancelled() noexcept {
    collect();
    Op* gone = nullptr;
    std::size_t left = 0;
    for (Op** at = &head_; *at;) {
      Op* const op = *at;
      if (!static_cast<PendingState*>(op)->done()) {
        at = &op->next;
        ++left;
        continue;
      }
      if (!(*at = op->next)) tail_ = at;
      op->next = std::exchange(gone, op);
    }
    came_.store(left, std::memory_order_relaxed);
    sift_at_.store(2 * left + kFew, std::memory_order_relaxed);
    return gone;
  }
  /// There may be a place.
  void open() noexcept { open_.store(true, std::memory_order_seq_cst); }
  bool is_full() const noexcept { return max_workers && count >= max_workers; }
  /// After one was taken.
  void close_if_full() noexcept {
    if (!closed && idle.empty() && is_full()) open_.store(false, std::memory_order_relaxed);
  }

  SpinLock mutex;
  bool closed = false;    // the Core stops: nothing waits any more
  std::size_t count = 0;  // workers alive
  std::size_t max_idle = 0, max_workers = 0;
  std::deque<Core*> idle;  // retained; oldest idle first: the newest is taken, it may still be awake
  Duration idle_timeout{};

  ~Pool() {
    for (Core* c : idle) c->release();
  }

private:
  void collect() noexcept {
    if (incoming_.load(std::memory_order_seq_cst))
      append_oldest_first(incoming_.exchange(nullptr, std::memory_order_acquire), tail_);
  }

  static constexpr std::size_t kFew = 1024;

  Op* head_ = nullptr;  // what was taken from `incoming_`, in order
  Op** tail_ = &head_;
  alignas(64) std::atomic<Op*> incoming_{nullptr};  // newest first
  std::atomic<std::size_t> came_{0}, sift_at_{kFew};
  alignas(64) std::atomic<bool> open_{true};
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
    core.pool->closed = core.pool_closed;
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
    next = pool.take();
    if (!next && pool.idle.size() >= pool.max_idle) {
      surplus = true;
    } else if (!next) {
      pool.idle.push_back(&worker);
      pool.open();
      next = pool.take();
      if (next) {
        pool.idle.pop_back();
        pool.close_if_full();
      } else {
        worker.retain();
      }
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
  worker.idle_timer.when = time_after(worker.now(), pool.idle_timeout.count());
  worker.timers.add(worker.idle_timer);
}

enum class Launched : std::uint8_t { yes, no_others_will_serve, no_and_nobody_will };
/// A new worker for `s`; its place in `count` is taken already.
Launched launch_on_new_worker(Core& core, Pool& pool, PendingState& s) noexcept {
  CallerOptions options;
  options.backend = core.options.backend;
  options.worker_idle_timeout = core.options.worker_idle_timeout;
  Core* worker = nullptr;
  try {
    worker = core.new_worker(std::move(options));
  } catch (...) {
    bool others = false;
    {
      std::lock_guard lock(pool.mutex);
      others = --pool.count > 0;
      pool.open();
    }
    fail_unbegun(s, std::current_exception());
    return others ? Launched::no_others_will_serve : Launched::no_and_nobody_will;
  }
  enqueue_launch(*worker, s);
  worker->release();
  return Launched::yes;
}

/// Newest first; retained. Null: none.
Core* idle_worker(Pool& pool) noexcept {
  while (!pool.idle.empty()) {
    Core* const worker = pool.idle.back();
    pool.idle.pop_back();
    if (worker->accepts_calls()) return worker;
    worker->release();
  }
  return nullptr;
}

/// Gives what waits to those who can take it.
void serve(Core& core, Pool& pool) noexcept {
  for (;;) {
    PendingState* next = nullptr;
    Core* worker = nullptr;
    bool closed = false, more = false;
    {
      std::lock_guard lock(pool.mutex);
      closed = pool.closed;
      if (!closed && !core.accepts_calls()) return;  // drop_waiting_calls() comes
      if (!closed) {
        worker = idle_worker(pool);
        if (!worker && pool.is_full()) return pool.close_if_full();
      }
      next = pool.take();
      if (!next) {
        if (worker) pool.idle.push_back(worker);
        return;
      }
      if (!worker && !closed) ++pool.count;
      pool.close_if_full();
      more = pool.some_wait();  // what comes after this is looked after by who makes it, or by those who have work
    }
    if (worker) {
      enqueue_launch(*worker, *next);
      worker->release();
    } else if (closed) {
      next->act(next, OpAct::drop);
    } else {
      switch (launch_on_new_worker(core, pool, *next)) {
        case Launched::yes:
          break;
        case Launched::no_others_will_serve:
          return;
        case Launched::no_and_nobody_will:
          more = true;  // those who came meanwhile counted on it
          break;
      }
    }
    if (!more) return;
  }
}

}  // namespace

namespace {

void drop_all(Op* list) noexcept {
  while (Op* const op = list) {
    list = op->next;
    op->act(op, OpAct::drop);
  }
}

/// Nothing but its place in the queue is left of a call that was cancelled before it got a worker; that keeps what the
/// call holds, for as long as all workers are busy.
void drop_cancelled(Pool& pool) noexcept {
  Op* gone = nullptr;
  {
    std::lock_guard lock(pool.mutex);
    gone = pool.take_cancelled();
  }
  drop_all(gone);
}

}  // namespace

void work_of_worker_ended(PendingState& s) noexcept { worker_free(*s.core); }

void launch_on_worker(Core& core, PendingState& s) noexcept {
  prepare_launch(s, PendingState::kWork | PendingState::kWorker, nullptr);
  Pool& pool = pool_of(core);
  pool.push(s);
  if (pool.is_open()) return serve(core, pool);
  if (pool.is_to_be_sifted()) [[unlikely]]
    drop_cancelled(pool);
}

void worker_gone(Core& worker) noexcept {
  if (!worker.worker_pool) return;
  Pool& pool = *worker.worker_pool;
  bool was_idle = false;
  {
    std::lock_guard lock(pool.mutex);
    was_idle = std::erase(pool.idle, &worker) > 0;
    --pool.count;
    pool.open();
  }
  if (was_idle) worker.release();
  serve(*worker.parent, pool);  // it was counted until now, so calls may have queued behind it
}

void drop_waiting_calls(Core& core) noexcept {
  std::shared_ptr<Pool> pool;
  {
    std::lock_guard lock(core.mutex);
    pool = core.pool;
    core.pool_closed = true;  // who has found the Caller running may make the pool only now
  }
  if (!pool) return;
  Op* waiting = nullptr;
  {
    std::lock_guard lock(pool->mutex);
    pool->closed = true;
    pool->open();
    waiting = pool->take_all();  // at once: what comes from now on is known to nobody but who makes it
  }
  drop_all(waiting);
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
