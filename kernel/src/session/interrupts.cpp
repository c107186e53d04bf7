#include "session/interrupts.hpp"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <string>
#include <utility>

#include "session/work.hpp"

namespace caller::kernel {

namespace {
// Of the process, as what a cell runs on any thread takes signals for itself, without a kernel at hand.
std::atomic<bool> signals_are_the_programs{false};
}  // namespace

Interrupts::Interrupts(Caller control, bool embedded) : control_(std::move(control)) {
  if (embedded) signals_are_the_programs = true;
}

// A thread made while a message was routed has all signals blocked, as the I/O thread has: no interrupt would wake it,
// no breakpoint stop it, and the programs it starts would inherit that.
void Interrupts::take_signals() {
  thread_local bool taken = false;
  if (std::exchange(taken, true) || ::syscall(SYS_gettid) == ::getpid()) return;
  sigset_t taken_now;
  if (!signals_are_the_programs) {
    sigfillset(&taken_now);
  } else {
    sigemptyset(&taken_now);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS}) sigaddset(&taken_now, fault);
    for (const int signal : interrupt::signals()) sigaddset(&taken_now, signal);
  }
  pthread_sigmask(SIG_UNBLOCK, &taken_now, nullptr);
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

const void* works_now() noexcept {
  const WorkPtr* const work = work_var().find();
  return work && *work ? (*work)->request.get() : nullptr;
}

bool is_code_of_cells(const Message& request) {
  const std::string type = request.type();
  return type == "execute_request" || type == "comm_open" || type == "comm_msg" || type == "comm_close";
}

// The interrupt that its thread was asked for is older than it. Asked at each turn of a loop of its code meanwhile.
bool is_too_young(const Message* request) noexcept {
  thread_local constinit const Message* known = nullptr;
  thread_local constinit unsigned known_at = 0;
  thread_local constinit bool answer = false;
  if (!request || !mine.thread || !mine.thread->plain.empty()) return false;  // a scope above it was asked
  RunThread& thread = *mine.thread;
  const unsigned asks = thread.asks.load();
  if (known == request && known_at == asks) return answer;
  const std::lock_guard lock(thread.mutex);
  answer = false;
  try {
    answer = thread.older && !thread.older->comes_after(*request);
  } catch (const std::exception&) {  // no memory: it is interrupted like any other
  }
  known = request;
  known_at = asks;
  return answer;
}

// For whom the calling thread works. The kernel's own work for a cell, as that of a worker which runs a command, has no
// code of a cell on its stack; only of a thread that runs cells it is not asked at first.
const void* works_for(bool again) noexcept {
  const WorkPtr* const work = work_var().find();
  const Message* const request = work && *work ? (*work)->request.get() : nullptr;
  if (mine.thread && !mine.thread->plain.empty()) {
    // While no loop turns within, it is all the cell's, in whichever context.
    const auto& plain = *static_cast<const Interrupts::Plain*>(mine.thread->plain.back());
    if (!plain.waits() || !request) return plain.whose() ? static_cast<const void*>(plain.whose().get()) : &mine;
  }
  if (is_too_young(request)) return nullptr;
  if (mine.runs_cells && !again) return request ? static_cast<const void*>(request) : &mine;
  if (!request || !is_code_of_cells(*request)) return nullptr;
  const void* frame = nullptr;
  return faults::cell_frames(&frame, 1) > 0 ? request : nullptr;
}

}  // namespace

RunThread::RunThread() { base.emplace(&works_for, interrupt::Scope::Of::loop, &works_now); }

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
    : thread_(std::move(thread)),
      whose_([] {
        const WorkPtr work = current_work();
        return work ? work->request : nullptr;
      }()),
      depth_(thread_->turns ? thread_->turns->depth.load() : 0),
      scope_(&works_for, interrupt::Scope::Of::code, &works_now) {
  const std::lock_guard lock(thread_->mutex);
  thread_->plain.push_back(this);
}

Interrupts::Plain::~Plain() {
  const std::lock_guard lock(thread_->mutex);
  thread_->plain.pop_back();
}

void Interrupts::break_thread(const std::shared_ptr<RunThread>& thread, const Meant& meant) {
  const std::lock_guard lock(thread->mutex);
  // An outer scope waits for the inner one in a turning loop; its own wait is cancelled through its Pending.
  auto* const plain = thread->plain.empty() ? nullptr : static_cast<Plain*>(thread->plain.back());
  if (plain && meant.includes(plain->whose_)) {
    if (meant.patience)
      (void)plain->scope_.remind(meant.whom.get(), *meant.patience);
    else
      plain->scope_.request(meant.whom.get());
  } else if (!plain || (meant.whom && plain->waits())) {
    break_turn(thread, meant, plain);
  }
}

// What runs in a turn of the loop is asked only when the turn lasts. `within`: the plain code that waits there.
void Interrupts::break_turn(const std::shared_ptr<RunThread>& thread, const Meant& meant, void* within) {
  if (thread->turns) {
    if (!thread->base || thread->turns->depth.load() == 0) return;
    (void)control_.call_later(kPatience, [thread, meant, within, before = thread->turns->count.load()] {
      const std::lock_guard inner(thread->mutex);
      if (!thread->base || thread->turns->count.load() != before) return;
      interrupt::Scope* const asked = ask(*thread, meant, within);
      if (asked && thread->turns->count.load() != before) asked->withdraw();
    });
    return;
  }
  const auto turned = [thread] {
    {
      const std::lock_guard inner(thread->mutex);
      thread->probed = false;
    }
    interrupt::loop_turned();
  };
  // Whoever was asked for before may have met it; who is meant now has to be asked for in any case.
  if (!thread->probed && !thread->caller->post(turned)) return;
  thread->probed = true;
  (void)control_.call_later(kPatience, [thread, meant, within] {
    const std::lock_guard inner(thread->mutex);
    if (thread->probed && thread->base) (void)ask(*thread, meant, within);
  });
}

interrupt::Scope* Interrupts::ask(RunThread& thread, const Meant& meant, void* within) {
  void* const now = thread.plain.empty() ? nullptr : thread.plain.back();
  if (now != within) return nullptr;  // it began after the cell was told to stop, and has seen that
  auto* const plain = static_cast<Plain*>(within);
  interrupt::Scope& scope = plain ? plain->scope_ : *thread.base;
  if (!plain) {  // before the thread looks
    if (!meant.patience) {
      thread.older = meant.whom ? std::nullopt : std::optional(meant.asked);
    } else if (thread.older && !thread.older->comes_after(*meant.whom)) {
      scope.withdraw();  // what may stand there is not for it
      thread.older.reset();
    }
    ++thread.asks;
  }
  const void* const whom = meant.whom.get();
  if (meant.patience) {
    if (!scope.remind(whom, *meant.patience, plain != nullptr)) return nullptr;  // another one's request may stand
  } else if (plain) {
    scope.request_guest(whom);
  } else {
    scope.request(whom);
  }
  (plain ? plain->guest_ : thread.whom) = meant.whom;
  return &scope;
}

void Interrupts::break_all(const Meant& meant) {
  std::vector<std::shared_ptr<RunThread>> threads;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& weak : threads_)
      if (auto thread = weak.lock()) threads.push_back(std::move(thread));
  }
  for (const auto& thread : threads) break_thread(thread, meant);
}

}  // namespace caller::kernel
