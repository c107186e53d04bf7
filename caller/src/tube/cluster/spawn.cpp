#include "spawn.hpp"

#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

namespace caller::tube::detail {

namespace fs = std::filesystem;

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
  args.push_back(const_cast<char*>(kWorkerArgument));
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

void send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;  // it has gone: whoever watches it will say so
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
}

}  // namespace

Child Child::start(const std::vector<std::string>& command, std::string_view setup) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    throw std::system_error(errno, std::generic_category(), "socketpair");
  Child child;
  child.channel_ = Descriptor(ends[0]);
  Descriptor theirs(ends[1]);
  pid_t pid = 0;
  const int error = Starter::get().run([&] { return spawn(command, theirs.get(), pid); });
  if (error != 0)
    throw std::system_error(error, std::generic_category(), "cannot start the process of a node: " + command.front());
  child.pid_ = pid;
  child.watch_ = Descriptor(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!child.watch_) throw std::system_error(errno, std::generic_category(), "pidfd_open");
  theirs.reset();
  const auto size = static_cast<std::uint64_t>(setup.size());
  char length[8];
  std::memcpy(length, &size, 8);
  send_all(child.channel_.get(), {length, 8});
  send_all(child.channel_.get(), setup);
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
  if (watch_) ::syscall(SYS_pidfd_send_signal, watch_.get(), SIGKILL, nullptr, 0);
  (void)wait_for(std::chrono::minutes(1));
}

std::string Child::end_text() const {
  if (signal_ == 0) return "left with exit code " + std::to_string(exit_code_);
  const char* name = ::strsignal(signal_);
  return "was killed by signal " + std::to_string(signal_) + (name ? " (" + std::string(name) + ")" : "");
}

std::string find_worker() {
  const char* name = "caller-tube-node";
  Dl_info here{};
  std::error_code error;
  if (::dladdr(reinterpret_cast<const void*>(&find_worker), &here) != 0 && here.dli_fname) {
    const fs::path folder = fs::canonical(here.dli_fname, error).parent_path();
    // Installed in a folder of the library's own; in a build tree in bin/ beside lib/, or with the program that the
    // library is part of.
    for (const char* way : {"caller", "", "../bin", "../../bin"}) {
      const fs::path found = folder / way / name;
      if (::access(found.c_str(), X_OK) == 0) return found.lexically_normal().string();
    }
  }
  return name;
}

std::string read_setup(int channel) {
  const auto read_all = [&](char* to, std::size_t n) {
    while (n > 0) {
      const ssize_t got = ::read(channel, to, n);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) throw std::runtime_error("the runner has gone");
      to += got;
      n -= static_cast<std::size_t>(got);
    }
  };
  std::uint64_t size = 0;
  read_all(reinterpret_cast<char*>(&size), 8);
  if (size > (std::uint64_t{1} << 32)) throw std::runtime_error("the setup is too large");
  std::string setup(size, '\0');
  read_all(setup.data(), size);
  return setup;
}

}  // namespace caller::tube::detail
