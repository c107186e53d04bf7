#include "follower.hpp"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "code_pages.hpp"

namespace caller::kernel {
namespace {

constexpr std::size_t kBehind = 64;  // cells; an error has to wait for them
constexpr std::chrono::milliseconds kQuiet{100};
constexpr int kNice = 5;  // of its thread: cells that are compiled and run come first

}  // namespace

Follower::~Follower() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Follower::push(CompileRequest request, std::vector<FollowedPart> parts) {
  request.directory.clear();  // the process is where it is
  push(Work{std::move(request), std::move(parts), nullptr});
}

void Follower::push(std::function<void(Compiler&)> work) { push(Work{{}, {}, std::move(work)}); }

void Follower::push(Work work) {
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return queue_.size() < kBehind; });
    queue_.push_back(std::move(work));
  }
  changed_.notify_all();
  if (thread_.joinable()) return;
  sigset_t ours, before;
  sigfillset(&ours);
  // A fault signal that is blocked would end the process without a word.
  for (const int s : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT}) sigdelset(&ours, s);
  pthread_sigmask(SIG_BLOCK, &ours, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Follower::settle() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return queue_.empty(); });
}

bool Follower::settle_within(std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  const auto settled = [this] { return queue_.empty(); };
  if (settled()) return true;
  const bool in_time = limit > in_vain_ && changed_.wait_for(lock, limit - in_vain_, settled);
  if (!in_time) in_vain_ = std::max(in_vain_, limit);
  return in_time;
}

void Follower::run() {
  pthread_setname_np(pthread_self(), "Compiler");
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNice);
  std::unique_lock lock(mutex_);
  bool followed = false;
  bool started = false;  // something was done for the first time, which needs more than what is done again
  for (;;) {
    const auto something = [this] { return ends_ || !queue_.empty(); };
    if (started && !changed_.wait_for(lock, kQuiet, something)) {
      started = false;
      lock.unlock();
      give_back_code_pages();
      lock.lock();
    }
    changed_.wait(lock, something);
    if (ends_) return;
    const Work& work = queue_.front();
    if (work.other || !std::exchange(followed, true)) started = true;
    lock.unlock();
    if (work.other)
      work.other(compiler_);
    else if (const std::string wrong = compiler_.follow(work.request, work.parts); !wrong.empty() && failed_)
      failed_(wrong);
    lock.lock();
    queue_.pop_front();
    if (queue_.empty()) in_vain_ = {};
    changed_.notify_all();
  }
}

}  // namespace caller::kernel
