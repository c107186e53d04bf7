#include "session/interrupts.hpp"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

#include "session/work.hpp"

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

namespace {

struct Mine {
  std::shared_ptr<RunThread> thread;
  bool runs_cells = false;
  bool exempt = false;
  ~Mine() { leave(); }
  void leave() {
    if (!thread) return;
    const std::lock_guard lock(thread->mutex);
    thread->base.reset();  // here, and before the thread is gone: signals are sent to it
  }
};
thread_local Mine mine;

bool is_code_of_cells(const Message& request) {
  const std::string type = request.type();
  return type == "execute_request" || type == "comm_open" || type == "comm_msg" || type == "comm_close";
}

// For whom the calling thread works. The kernel's own work for a cell, as that of a worker which runs a command, has no
// code of a cell on its stack; only of a thread that runs cells it is not asked at first.
const void* works_for(bool again) noexcept {
  const WorkPtr* const work = work_var().find();
  const Message* const request = work && *work ? (*work)->request.get() : nullptr;
  if (mine.runs_cells && !again) return request ? static_cast<const void*>(request) : &mine;
  if (!request || !is_code_of_cells(*request)) return nullptr;
  const void* frame = nullptr;
  return faults::cell_frames(&frame, 1) > 0 ? request : nullptr;
}

}  // namespace

RunThread::RunThread() { base.emplace(&works_for); }

void Interrupts::add(const std::shared_ptr<RunThread>& thread) {
  const std::lock_guard lock(mutex_);
  std::erase_if(threads_, [](const auto& t) { return t.expired(); });
  if (std::none_of(threads_.begin(), threads_.end(), [&](const auto& t) { return t.lock() == thread; }))
    threads_.push_back(thread);
}

std::shared_ptr<RunThread> Interrupts::enter() {
  if (!mine.thread) {
    take_signals();
    mine.thread = std::make_shared<RunThread>();
    mine.thread->caller = Caller::current();
  }
  mine.runs_cells = true;
  add(mine.thread);
  return mine.thread;
}

void Interrupts::watch(const faults::LoopTurns& turns) {
  if (mine.exempt || mine.thread) return;
  take_signals();
  mine.thread = std::make_shared<RunThread>();
  mine.thread->turns = &turns;
  add(mine.thread);
}

void Interrupts::exempt_this_thread() {
  mine.exempt = true;
  mine.leave();
}

Interrupts::Plain::Plain(std::shared_ptr<RunThread> thread)
    : thread_(std::move(thread)), whose_([] {
        const WorkPtr work = current_work();
        return work ? work->request : nullptr;
      }()) {
  const std::lock_guard lock(thread_->mutex);
  thread_->plain.push_back(this);
}

Interrupts::Plain::~Plain() {
  const std::lock_guard lock(thread_->mutex);
  thread_->plain.pop_back();
}

void Interrupts::break_thread(const std::shared_ptr<RunThread>& thread, const Request& whom) {
  const std::lock_guard lock(thread->mutex);
  // An outer scope waits for the inner one in a turning loop; its own wait is cancelled through its Pending.
  if (!thread->plain.empty()) {
    auto& plain = *static_cast<Plain*>(thread->plain.back());
    if (!whom || plain.whose_ == whom) plain.request();
  } else if (!thread->turns) {
    break_loop(thread, whom);
  } else if (thread->base && thread->turns->depth.load() > 0) {
    (void)control_.call_later(kPatience, [thread, whom, before = thread->turns->count.load()] {
      const std::lock_guard inner(thread->mutex);
      if (!thread->plain.empty() || !thread->base || thread->turns->count.load() != before) return;
      thread->whom = whom;
      thread->base->request(whom.get());
      if (thread->turns->count.load() != before) thread->base->withdraw();
    });
  }
}

// Where nobody counts the turns of the loop.
void Interrupts::break_loop(const std::shared_ptr<RunThread>& thread, const Request& whom) {
  if (std::exchange(thread->probed, true)) return;
  const auto turned = [thread] {
    {
      const std::lock_guard inner(thread->mutex);
      thread->probed = false;
    }
    interrupt::loop_turned();
  };
  if (!thread->caller->post(turned)) return;
  (void)control_.call_later(kPatience, [thread, whom, turned] {
    const std::lock_guard inner(thread->mutex);
    if (!thread->probed || !thread->plain.empty() || !thread->base) return;
    thread->whom = whom;
    thread->base->request(whom.get());
  });
}

void Interrupts::break_all(const Request& whom) {
  std::vector<std::shared_ptr<RunThread>> threads;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& weak : threads_)
      if (auto thread = weak.lock()) threads.push_back(std::move(thread));
  }
  for (const auto& thread : threads) break_thread(thread, whom);
}

}  // namespace caller::kernel
