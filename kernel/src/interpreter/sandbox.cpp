#include "sandbox.hpp"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <mutex>

namespace caller::kernel {
namespace {

void write_all(int fd, const char* data, std::size_t n) {
  while (n) {
    const ssize_t w = ::write(fd, data, n);
    if (w < 0 && errno == EINTR) continue;
    if (w <= 0) return;
    data += w;
    n -= static_cast<std::size_t>(w);
  }
}

[[noreturn]] void child(const std::function<std::string()>& work, int fd) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::prctl(PR_SET_DUMPABLE, 0);
  // A compiler that runs away ends itself, not the machine.
  if (std::FILE* f = std::fopen("/proc/self/statm", "r")) {
    unsigned long pages = 0;
    if (std::fscanf(f, "%lu", &pages) == 1) {
      const rlim_t limit =
          static_cast<rlim_t>(pages) * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + (rlim_t{4} << 30);
      const rlimit memory{limit, limit};
      ::setrlimit(RLIMIT_AS, &memory);
    }
    std::fclose(f);
  }
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  // The kernel's crash handlers would try to rescue a cell that is not running here.
  for (const int s : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTERM, SIGINT, SIGCHLD, SIGALRM})
    ::signal(s, SIG_DFL);
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  // What the compiler may write in despair is not the cell's output.
  if (const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC); null >= 0) {
    ::dup2(null, 1);
    ::dup2(null, 2);
  }
  const std::string data = work();
  const std::size_t n = data.size();
  write_all(fd, reinterpret_cast<const char*>(&n), sizeof n);
  write_all(fd, data.data(), n);
  ::_exit(0);
}

}  // namespace

SandboxResult in_child(const std::function<std::string()>& work, std::chrono::milliseconds limit,
                       std::stop_token stop) {
  SandboxResult out;
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return out;
  const pid_t pid = ::fork();
  if (pid < 0) {
    ::close(fds[0]);
    ::close(fds[1]);
    return out;
  }
  if (pid == 0) child(work, fds[1]);
  ::close(fds[1]);
  std::mutex mutex;
  pid_t alive = pid;  // may be killed: nobody has waited for it yet
  const std::stop_callback kill_child(stop, [&] {
    const std::lock_guard lock(mutex);
    if (alive > 0) ::kill(alive, SIGKILL);
  });
  const auto deadline = std::chrono::steady_clock::now() + limit;
  std::string data;
  bool late = false;
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    if (left <= 0) {
      late = true;
      break;
    }
    pollfd p{fds[0], POLLIN, 0};
    const int ready = ::poll(&p, 1, static_cast<int>(left));
    if (ready < 0 && errno != EINTR) break;
    if (ready <= 0) continue;
    char buffer[65536];
    const ssize_t n = ::read(fds[0], buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    data.append(buffer, static_cast<std::size_t>(n));
    // The answer is complete: no need to wait for the child to give its memory back.
    if (data.size() >= sizeof(std::size_t)) {
      std::size_t want;
      std::memcpy(&want, data.data(), sizeof want);
      if (data.size() >= sizeof want + want) break;
    }
  }
  ::close(fds[0]);
  if (late) ::kill(pid, SIGKILL);
  {
    const std::lock_guard lock(mutex);
    alive = 0;
  }
  int status = 0;
  pid_t waited;
  do waited = ::waitpid(pid, &status, 0);
  while (waited < 0 && errno == EINTR);
  std::size_t want = 0;
  if (data.size() >= sizeof want) std::memcpy(&want, data.data(), sizeof want);
  if (data.size() >= sizeof want && data.size() == sizeof want + want) {
    out.status = SandboxResult::Status::done;
    out.data = data.substr(sizeof want);
  } else {
    out.status = stop.stop_requested() ? SandboxResult::Status::stopped
                 : late                ? SandboxResult::Status::timed_out
                                       : SandboxResult::Status::crashed;
    out.signal = waited == pid && WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  }
  return out;
}

Packer& Packer::operator<<(const std::string& s) {
  *this << s.size();
  data_ += s;
  return *this;
}
Packer& Packer::operator<<(std::size_t n) {
  data_.append(reinterpret_cast<const char*>(&n), sizeof n);
  return *this;
}
std::size_t Unpacker::number() {
  std::size_t n = 0;
  if (at_ + sizeof n > data_.size()) return 0;
  std::memcpy(&n, data_.data() + at_, sizeof n);
  at_ += sizeof n;
  return n;
}
std::string Unpacker::text() {
  const std::size_t n = number();
  if (at_ + n > data_.size()) return {};
  std::string s = data_.substr(at_, n);
  at_ += n;
  return s;
}

}  // namespace caller::kernel
