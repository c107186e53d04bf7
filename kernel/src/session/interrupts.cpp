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
  thread_local std::shared_ptr<RunThread> mine;
  if (!mine) {
    take_signals();
    mine.reset(new RunThread{{}, Caller::current(), {}});
    const std::lock_guard lock(mutex_);
    std::erase_if(threads_, [](const auto& t) { return t.expired(); });
    threads_.push_back(mine);
  }
  return mine;
}

Interrupts::Plain::Plain(Interrupts& interrupts, std::shared_ptr<RunThread> thread)
    : interrupts_(interrupts), thread_(std::move(thread)) {
  const std::lock_guard lock(interrupts_.mutex_);
  thread_->plain.push_back(&scope_);
}

Interrupts::Plain::~Plain() {
  const std::lock_guard lock(interrupts_.mutex_);
  thread_->plain.pop_back();
}

void Interrupts::break_thread(const std::shared_ptr<RunThread>& thread) {
  const std::lock_guard lock(mutex_);
  // An outer scope waits for the inner one in a turning loop; its own wait is cancelled through its Pending.
  if (!thread->plain.empty()) return thread->plain.back()->request();
  if (std::exchange(thread->probed, true)) return;
  const bool turning = thread->caller.post([this, thread] {
    {
      const std::lock_guard inner(mutex_);
      thread->probed = false;
    }
    try {
      interrupt::check();  // nothing computes any more: a request that was not met is void
    } catch (const Interrupted&) {
    }
  });
  if (!turning) return;
  (void)control_.call_later(kPatience, [this, thread] {
    const std::lock_guard inner(mutex_);
    if (thread->probed && thread->plain.empty()) thread->base.request();
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
