#include "session/interrupts.hpp"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include <caller/kernel/interrupted.hpp>

namespace caller::kernel {

// A thread made while a message was routed has all signals blocked, as the I/O thread has: no interrupt would wake it,
// no breakpoint stop it, and the programs it starts would inherit that.
void Interrupts::take_signals() {
  thread_local bool taken = false;
  if (std::exchange(taken, true) || ::syscall(SYS_gettid) == ::getpid()) return;
  sigset_t none;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, nullptr);
}

std::shared_ptr<RunThread> Interrupts::enter() {
  struct Mine {
    std::shared_ptr<RunThread> thread;
    ~Mine() {
      if (!thread) return;
      const std::lock_guard lock(thread->mutex);
      thread->base.reset();  // here, and before the thread is gone: signals are sent to it
    }
  };
  thread_local Mine mine;
  if (!mine.thread) {
    take_signals();
    mine.thread = std::make_shared<RunThread>(Caller::current());
  }
  const std::lock_guard lock(mutex_);
  std::erase_if(threads_, [](const auto& t) { return t.expired(); });
  if (std::none_of(threads_.begin(), threads_.end(), [](const auto& t) { return t.lock() == mine.thread; }))
    threads_.push_back(mine.thread);
  return mine.thread;
}

Interrupts::Plain::Plain(std::shared_ptr<RunThread> thread) : thread_(std::move(thread)) {
  const std::lock_guard lock(thread_->mutex);
  thread_->plain.push_back(&scope_);
}

Interrupts::Plain::~Plain() {
  const std::lock_guard lock(thread_->mutex);
  thread_->plain.pop_back();
}

void Interrupts::break_thread(const std::shared_ptr<RunThread>& thread) {
  const std::lock_guard lock(thread->mutex);
  // An outer scope waits for the inner one in a turning loop; its own wait is cancelled through its Pending.
  if (!thread->plain.empty()) return thread->plain.back()->request();
  if (std::exchange(thread->probed, true)) return;
  const bool turning = thread->caller.post([thread] {
    {
      const std::lock_guard inner(thread->mutex);
      thread->probed = false;
    }
    try {
      interrupt::check();  // nothing computes any more: a request that was not met is void
    } catch (const Interrupted&) {
    }
  });
  if (!turning) return;
  (void)control_.call_later(kPatience, [thread] {
    const std::lock_guard inner(thread->mutex);
    if (thread->probed && thread->plain.empty() && thread->base) thread->base->request();
  });
}

void Interrupts::break_all() {
  std::vector<std::shared_ptr<RunThread>> threads;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& weak : threads_)
      if (auto thread = weak.lock()) threads.push_back(std::move(thread));
  }
  for (const auto& thread : threads) break_thread(thread);
}

}  // namespace caller::kernel
