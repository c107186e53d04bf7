// wait() and as_completed().
#include <algorithm>

#include "core.hpp"

namespace caller::detail {

// ---- wait ----

namespace {

bool failed(const PendingBase& p) noexcept { return p.cancelled() || p.state()->is(PendingState::kFailed); }

}  // namespace

Coro<void> wait_for_items(std::vector<PendingBase> items, WaitSetOptions options) {
  for (const auto& p : items)
    if (p.state() == current_task()) throw Error(Errc::deadlock, "Caller::wait: an item is the waiting task itself");
  if (items.empty()) co_return;
  // Completed by whichever item meets the condition; the items keep no trace of us when we leave.
  const Pending<void> met;
  auto left = std::make_shared<std::atomic<std::size_t>>(items.size());
  struct Callbacks {
    std::vector<std::pair<PendingBase, CallbackId>> list;
    ~Callbacks() {
      for (auto& [p, id] : list) p.remove_done_callback(id);
    }
  } callbacks;
  callbacks.list.reserve(items.size());
  for (const auto& p : items) {
    const CallbackId id = p.add_done_callback([met, left, when = options.return_when](const PendingBase& done) {
      const bool last = left->fetch_sub(1, std::memory_order_acq_rel) == 1;
      if (last || when == ReturnWhen::FIRST_COMPLETED || (when == ReturnWhen::FIRST_EXCEPTION && failed(done)))
        met.set_result();
    });
    callbacks.list.emplace_back(p, id);
  }
  co_await met.async_wait_done({.timeout = options.timeout, .protect = true, .shield = options.shield});
}

// ---- as_completed ----

struct CompletionQueue : std::enable_shared_from_this<CompletionQueue> {
  std::mutex mutex;
  std::deque<PendingBase> done;
  std::map<PendingBase, std::vector<CallbackId>> unfinished;
  std::size_t unfinished_count = 0;
  std::size_t outstanding = 0;  // pulled, not consumed
  std::size_t limit = 0;
  bool cancel_unfinished = true;
  bool ended = false;
  bool left = false;
  std::exception_ptr error;
  Suspension* consumer = nullptr;
  Suspension* producer = nullptr;
};

std::shared_ptr<CompletionQueue> make_completion_queue(std::size_t limit, bool cancel_unfinished) {
  auto q = std::make_shared<CompletionQueue>();
  q->limit = limit;
  q->cancel_unfinished = cancel_unfinished;
  return q;
}

bool completion_add(CompletionQueue& q, PendingBase item) {
  bool left = false;
  {
    std::lock_guard lock(q.mutex);
    left = q.left;
    if (!left) {
      ++q.outstanding;
      ++q.unfinished_count;
      q.unfinished.try_emplace(item);
    }
  }
  if (left) {
    if (q.cancel_unfinished) item.cancel("as_completed was left");
    return false;
  }
  const CallbackId id = item.add_done_callback([self = q.shared_from_this()](const PendingBase& p) {
    std::lock_guard lock(self->mutex);
    self->unfinished.erase(p);
    --self->unfinished_count;
    if (self->left) return;
    self->done.push_back(p);
    wake(self->consumer);
  });
  {
    std::lock_guard lock(q.mutex);
    if (auto it = q.unfinished.find(item); it != q.unfinished.end()) {
      it->second.push_back(id);
      return true;
    }
  }
  item.remove_done_callback(id);  // left in between; or done, and the callback has run
  return true;
}

Coro<bool> completion_room(std::shared_ptr<CompletionQueue> q) {
  const auto ready = [&q] { return q->left || q->ended || q->limit == 0 || q->outstanding < q->limit; };
  for (;;) {
    {
      std::lock_guard lock(q->mutex);
      if (ready()) co_return !q->left && !q->ended;
    }
    co_await GuardedWait(q->mutex, q->producer, ready);
  }
}

namespace {

/// An error of the generator that nobody will be given.
void report_unseen(const std::exception_ptr& error) noexcept {
  if (!error) return;
  try {
    std::rethrow_exception(error);
  } catch (const PendingCancelled&) {  // as it was left
  } catch (...) {
    report_error(nullptr, "as_completed's generator", error);
  }
}

}  // namespace

void completion_end(CompletionQueue& q, std::exception_ptr error) noexcept {
  {
    std::lock_guard lock(q.mutex);
    if (q.ended) return;
    q.ended = true;
    if (!q.left) q.error = std::exchange(error, nullptr);
    wake(q.consumer);
  }
  report_unseen(error);
}

namespace {

/// Looked at when somebody waits: who made the stream may be another one, or gone, and its place in memory taken.
void check_not_awaited(CompletionQueue& q) {
  PendingState* const task = current_task();
  if (!task) return;
  const std::lock_guard lock(q.mutex);
  if (q.unfinished.contains(PendingBase::share(task)))
    throw Error(Errc::deadlock, "as_completed: an item is the waiting task itself");
}

}  // namespace

Coro<PendingBase> completion_next(std::shared_ptr<CompletionQueue> q) {
  const auto ready = [&q] { return !q->done.empty() || (q->ended && q->unfinished_count == 0); };
  for (;;) {
    {
      std::lock_guard lock(q->mutex);
      if (!q->done.empty()) {
        PendingBase p = std::move(q->done.front());
        q->done.pop_front();
        --q->outstanding;
        wake(q->producer);
        co_return p;
      }
      if (ready()) {
        if (auto e = std::exchange(q->error, nullptr)) std::rethrow_exception(e);
        co_return PendingBase();
      }
    }
    check_not_awaited(*q);
    co_await GuardedWait(q->mutex, q->consumer, ready);
  }
}

void completion_leave(CompletionQueue& q, PendingBase feeder) noexcept {
  decltype(q.unfinished) unfinished;
  std::deque<PendingBase> done;
  std::exception_ptr error;
  {
    std::lock_guard lock(q.mutex);
    q.left = true;
    error = std::exchange(q.error, nullptr);
    unfinished.swap(q.unfinished);
    done.swap(q.done);
    wake(q.producer);
  }
  if (feeder) feeder.cancel("as_completed was left");
  for (auto& [p, ids] : unfinished) {
    for (const CallbackId id : ids) p.remove_done_callback(id);
    // Who was told that it waits for itself has made that mistake, but need not end for it.
    if (q.cancel_unfinished && p.state() != current_task()) p.cancel("as_completed was left");
  }
  report_unseen(error);
}

}  // namespace caller::detail
