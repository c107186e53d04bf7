#include "process.hpp"

#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <functional>
#include <mutex>
#include <system_error>
#include <thread>

#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

namespace caller::detail {

void Descriptor::reset() noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

namespace {

/// One thread that starts all children and never ends: a child may ask to be told when its parent has gone
/// (PR_SET_PDEATHSIG), and by parent the system means the thread that started it.
class Starter {
public:
  static Starter& get() {
    static Starter* const shared = new Starter;
    return *shared;
  }
  int run(const std::function<int()>& work) {
    const std::lock_guard one_at_a_time(callers_);
    std::unique_lock lock(mutex_);
    if (owner_ != ::getpid()) {  // the first one, or in a fork, where the thread is not
      owner_ = ::getpid();
      std::thread([this] { serve(); }).detach();
    }
    work_ = &work;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !work_; });
    return result_;
  }

private:
  void serve() {
    sigset_t all;
    sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);  // signals are for the program's own threads
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return work_ != nullptr; });
      result_ = (*work_)();
      work_ = nullptr;
      changed_.notify_all();
    }
  }
  std::mutex callers_, mutex_;
  std::condition_variable changed_;
  const std::function<int()>* work_ = nullptr;
  int result_ = 0;
  pid_t owner_ = 0;
};

int spawn(const std::vector<std::string>& command, int channel, pid_t& pid) {
  std::vector<char*> args;
  for (const std::string& part : command) args.push_back(const_cast<char*>(part.c_str()));
  args.push_back(nullptr);
  ::posix_spawn_file_actions_t actions;
  ::posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawn_file_actions_adddup2(&actions, channel, kChannel);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  const int error = ::posix_spawnp(&pid, args.front(), &actions, &attributes, args.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  return error;
}

}  // namespace

Child Child::start(const std::vector<std::string>& command) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    throw std::system_error(errno, std::generic_category(), "socketpair");
  Child child;
  child.channel_ = Descriptor(ends[0]);
  Descriptor theirs(ends[1]);
  pid_t pid = 0;
  const int error = Starter::get().run([&] { return spawn(command, theirs.get(), pid); });
  if (error != 0)
    throw std::system_error(error, std::generic_category(), "cannot start a process of " + command.front());
  child.pid_ = pid;
  child.watch_ = Descriptor(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!child.watch_) throw std::system_error(errno, std::generic_category(), "pidfd_open");
  return child;
}

Child::~Child() { stop(std::chrono::milliseconds(0)); }

bool Child::ended() noexcept {
  if (pid_ == 0 || ended_) return ended_;
  siginfo_t info{};
  if (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(watch_.get()), &info, WEXITED | WNOHANG) != 0) {
    if (errno != ECHILD) return false;
    ended_ = true;  // somebody else has taken its status
    return true;
  }
  if (info.si_pid == 0) return false;
  ended_ = true;
  if (info.si_code == CLD_EXITED)
    exit_code_ = info.si_status;
  else
    signal_ = info.si_status;
  return true;
}

bool Child::wait_for(std::chrono::milliseconds timeout) noexcept {
  const auto until = std::chrono::steady_clock::now() + timeout;
  while (!ended()) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd p{watch_.get(), POLLIN, 0};
    (void)::poll(&p, 1, static_cast<int>(left.count()));
  }
  return true;
}

void Child::stop(std::chrono::milliseconds timeout) noexcept {
  channel_.reset();
  if (pid_ == 0 || wait_for(timeout)) return;
  kill();
  (void)wait_for(std::chrono::minutes(1));
}

void Child::kill() noexcept {
  if (watch_) ::syscall(SYS_pidfd_send_signal, watch_.get(), SIGKILL, nullptr, 0);
}

std::string Child::end_text() const {
  if (signal_ == 0) return "left with exit code " + std::to_string(exit_code_);
  const char* name = ::strsignal(signal_);
  return "was killed by signal " + std::to_string(signal_) + (name ? " (" + std::string(name) + ")" : "");
}

bool send_all(int socket, std::string_view bytes) noexcept {
  while (!bytes.empty()) {
    const ssize_t n = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

}  // namespace caller::detail
