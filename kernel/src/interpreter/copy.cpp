// The process and its copy hold the ends of a pair of sockets. That the other end is gone is what ends the copy, also
// in the middle of its work, by a signal. So it needs nobody who knows its number: a number may be given to another
// process.
#include "copy.hpp"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <utility>

#include "code_pages.hpp"

namespace caller::kernel {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kFd = 3;                                                   // of the copy's end
constexpr std::size_t kFault = std::numeric_limits<std::size_t>::max();  // instead of a length: a signal follows
constexpr rlim_t kMemory = rlim_t{4} << 30;                              // what it may take more than the process has
constexpr std::size_t kStack = 64 * 1024;
constexpr int kQuiet = 100;                // milliseconds without a request after which the first is taken for the last
constexpr std::chrono::seconds kBirth{5};  // until a copy that lives has said so

// A program that a cell forks (without replacing it) must not keep a copy alive by holding the process's end.
std::array<std::atomic<int>, 16> ends{};  // descriptors + 1

void close_ends() {
  for (auto& e : ends)
    if (const int fd = e.exchange(0) - 1; fd >= 0) ::close(fd);
}

void remember(int fd) {
  static const int once = pthread_atfork(nullptr, nullptr, close_ends);
  (void)once;
  for (auto& e : ends) {
    int none = 0;
    if (e.compare_exchange_strong(none, fd + 1)) return;
  }
}

void forget(int fd) {
  for (auto& e : ends) {
    int it = fd + 1;
    if (e.compare_exchange_strong(it, 0)) return;
  }
}

bool write_all(int fd, const void* data, std::size_t n) {
  const char* at = static_cast<const char*>(data);
  while (n) {
    const ssize_t w = ::send(fd, at, n, MSG_NOSIGNAL);
    if (w < 0 && errno == EINTR) continue;
    if (w <= 0) return false;
    at += w;
    n -= static_cast<std::size_t>(w);
  }
  return true;
}

// At once: what waits for it is not woken for its length alone.
bool send_text(int fd, const std::string& text) {
  std::size_t n = text.size();
  iovec parts[] = {{&n, sizeof n}, {const_cast<char*>(text.data()), n}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  ssize_t w = 0;
  do w = ::sendmsg(fd, &message, MSG_NOSIGNAL);
  while (w < 0 && errno == EINTR);
  if (w < 0) return false;
  const auto sent = static_cast<std::size_t>(w);
  if (sent < sizeof n)
    return write_all(fd, reinterpret_cast<const char*>(&n) + sent, sizeof n - sent) && write_all(fd, text.data(), n);
  return write_all(fd, text.data() + (sent - sizeof n), n - (sent - sizeof n));
}

// ---- in the copy

// Not libc's, which cells' ends go through: it may have to find something out first, and this is called by handlers.
[[noreturn]] void end_process() {
  for (;;) ::syscall(SYS_exit_group, 0);
}

// The heap of a thread, which this one goes on with, grows by single pages, each with a call of the system and a fault:
// while nobody waits it gets what a small cell needs.
void keep_heap_ready() {
  constexpr std::size_t kReady = std::size_t{256} << 10;
  void* const some = std::malloc(kReady);
#ifdef MADV_POPULATE_WRITE
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const std::uintptr_t begin = (reinterpret_cast<std::uintptr_t>(some) + page - 1) / page * page;
  if (some) ::madvise(reinterpret_cast<void*>(begin), kReady - page, MADV_POPULATE_WRITE);
#endif
  std::free(some);
}

bool read_all(void* data, std::size_t n) {
  char* at = static_cast<char*>(data);
  while (n) {
    const ssize_t r = ::recv(kFd, at, n, 0);
    if (r < 0 && errno == EINTR) continue;
    if (r <= 0) return false;
    at += r;
    n -= static_cast<std::size_t>(r);
  }
  return true;
}

void end_if_alone(int) {
  const int saved = errno;
  pollfd p{kFd, POLLRDHUP, 0};
  if (::poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLRDHUP | POLLERR))) end_process();
  errno = saved;
}

void fault(int signal) {
  const std::size_t words[] = {kFault, static_cast<std::size_t>(signal)};
  (void)write_all(kFd, words, sizeof words);
  end_process();
}

void limit_memory() {
  unsigned long pages = 0;
  if (std::FILE* f = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(f, "%lu", &pages) == 1) {
      const rlim_t limit = rlim_t{pages} * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + kMemory;
      const rlimit memory{limit, limit};
      ::setrlimit(RLIMIT_AS, &memory);
    }
    std::fclose(f);
  }
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  // If the machine runs out of memory, better the copy than the process.
  if (const int f = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC); f >= 0) {
    if (::write(f, "500", 3) < 0) {  // then as it is
    }
    ::close(f);
  }
}

void set_signals() {
  // The debugger sees to breakpoints of its own that are met here.
  for (int s = 1; s < NSIG; ++s)
    if (s != SIGTRAP) ::signal(s, SIG_DFL);
  // What a terminal sends to the group is meant for the process.
  for (const int s : {SIGINT, SIGQUIT, SIGHUP, SIGTSTP, SIGPIPE}) ::signal(s, SIG_IGN);
  // A stack that is used up is an end like any other.
  stack_t stack{};
  stack.ss_size = kStack;
  stack.ss_sp = ::mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (stack.ss_sp != MAP_FAILED) ::sigaltstack(&stack, nullptr);
  struct sigaction action{};
  action.sa_flags = SA_ONSTACK | SA_NODEFER;
  action.sa_handler = fault;
  for (const int s : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) ::sigaction(s, &action, nullptr);
  action.sa_flags = SA_ONSTACK | SA_RESTART;
  action.sa_handler = end_if_alone;
  ::sigaction(SIGIO, &action, nullptr);
  ::fcntl(kFd, F_SETOWN, ::getpid());
  ::fcntl(kFd, F_SETFL, O_ASYNC);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

[[noreturn]] void serve_requests(int fd, const char* name,
                                 const std::function<std::string(const std::string&)>& serve) {
  if (fd != kFd) ::dup2(fd, kFd);
  if (::close_range(kFd + 1, ~0U, 0) != 0)
    for (int f = static_cast<int>(::sysconf(_SC_OPEN_MAX)) - 1; f > kFd; --f) ::close(f);
  ::fcntl(kFd, F_SETFD, FD_CLOEXEC);
  // What the compiler may write in despair is not the cell's output.
  if (const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC); null >= 0) {
    for (int f = 0; f < kFd; ++f) ::dup2(null, f);
    if (null > kFd) ::close(null);
  }
  ::prctl(PR_SET_NAME, name);
  limit_memory();
  ::prctl(PR_SET_DUMPABLE, 0);
  ::mallopt(M_TRIM_THRESHOLD, 4 << 20);  // what keep_heap_ready() makes stays
  ::mallopt(M_MMAP_THRESHOLD, 1 << 20);
  set_signals();
  // What another thread held when the process was copied is held for ever here. Libc sees to its heap, not to its
  // loader.
  (void)::dlsym(RTLD_DEFAULT, "caller_is_there_such_a_name");
  if (!write_all(kFd, "", 1)) end_process();
  std::string request;
  bool started = false;
  for (std::size_t n = 0; read_all(&n, sizeof n);) {
    request.resize(n);
    if (!read_all(request.data(), n) || !send_text(kFd, serve(request))) break;
    keep_heap_ready();
    if (std::exchange(started, true)) continue;
    pollfd next{kFd, POLLIN, 0};
    if (::poll(&next, 1, kQuiet) == 0) give_back_code_pages();
  }
  end_process();
}

// As vfork, but at its end no signal is sent: so a cell that awaits any child does not meet it.
[[gnu::always_inline]] inline pid_t vfork_unseen() {
#if defined(__x86_64__)
  register long none_of_r10 asm("r10") = 0;
  register long none_of_r8 asm("r8") = 0;
  long result = SYS_clone;
  asm volatile("syscall"
               : "+a"(result)
               : "D"(CLONE_VM | CLONE_VFORK), "S"(0L), "d"(0L), "r"(none_of_r10), "r"(none_of_r8)
               : "rcx", "r11", "memory");
  return static_cast<pid_t>(result);
#else
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  return ::vfork();
#pragma GCC diagnostic pop
#endif
}

// On the stack of the process that waits meanwhile, so in a frame of its own, which is not returned from.
[[noreturn, gnu::noinline]] void fork_and_end(int fd, const char* name,
                                              const std::function<std::string(const std::string&)>& serve,
                                              volatile bool& done) {
  const pid_t copy = ::fork();
  if (copy == 0) serve_requests(fd, name, serve);
  done = copy > 0;
  end_process();
}

// Whoever forks the copy ends at once, so that it is nobody's child here. It shares the memory of the process
// meanwhile, which the fork copies once and not twice.
[[gnu::noinline]] bool fork_orphan(int fd, const char* name,
                                   const std::function<std::string(const std::string&)>& serve) {
  volatile bool done = false;
  sigset_t all, mask;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &mask);  // no handler of the process runs in between
  const pid_t between = vfork_unseen();
  if (between == 0) fork_and_end(fd, name, serve, done);
  pthread_sigmask(SIG_SETMASK, &mask, nullptr);
  if (between < 0) return false;
  while (::waitpid(between, nullptr, __WALL) < 0 && errno == EINTR) {
  }
  return done;
}

}  // namespace

std::unique_ptr<Copy> Copy::make(const char* name, std::function<std::string(const std::string&)> serve) {
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) return nullptr;
  remember(fds[0]);
  std::unique_ptr<Copy> copy(new Copy(fds[0]));
  const bool made = fork_orphan(fds[1], name, serve);
  ::close(fds[1]);
  return made ? std::move(copy) : nullptr;
}

Copy::~Copy() {
  forget(fd_);
  ::shutdown(fd_, SHUT_RDWR);  // a program that a cell is about to start may still hold the descriptor
  ::close(fd_);
}

void Copy::shut() { ::shutdown(fd_, SHUT_RDWR); }

bool Copy::await_birth(const std::stop_token& stop) {
  const auto deadline = Clock::now() + kBirth;
  while (!stop.stop_requested()) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd p{fd_, POLLIN, 0};
    const int ready = left > 0 ? ::poll(&p, 1, static_cast<int>(left)) : 0;
    if (ready < 0 && errno == EINTR) continue;
    char c;
    born_ = ready > 0 && ::recv(fd_, &c, 1, 0) == 1;
    break;
  }
  if (!born_) shut();
  return born_;
}

SandboxResult Copy::ask(const std::string& request, std::chrono::milliseconds limit, const std::stop_token& stop) {
  SandboxResult out;
  out.status = SandboxResult::Status::crashed;
  const std::stop_callback end_it(stop, [this] { shut(); });
  const auto deadline = Clock::now() + limit;
  std::string data;
  std::size_t want = 0;
  if (!born_ && !await_birth(stop)) {
    out.status = stop.stop_requested() ? SandboxResult::Status::stopped : SandboxResult::Status::unavailable;
    return out;
  }
  const bool sent = send_text(fd_, request);
  while (sent) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) {
      out.status = SandboxResult::Status::timed_out;
      shut();
      break;
    }
    pollfd p{fd_, POLLIN, 0};
    const int ready = ::poll(&p, 1, static_cast<int>(std::min<long long>(left, 60'000)));
    if (ready < 0 && errno != EINTR) break;
    if (ready <= 0) continue;
    char buffer[65536];
    const ssize_t n = ::recv(fd_, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    data.append(buffer, static_cast<std::size_t>(n));
    if (data.size() < sizeof want) continue;
    std::memcpy(&want, data.data(), sizeof want);
    if (want == kFault) {
      if (data.size() < 2 * sizeof want) continue;
      std::memcpy(&want, data.data() + sizeof want, sizeof want);
      out.signal = static_cast<int>(want);
      break;
    }
    data.reserve(sizeof want + want);
    if (data.size() < sizeof want + want) continue;
    data.erase(0, sizeof want);
    out.data = std::move(data);
    out.status = SandboxResult::Status::done;
    return out;
  }
  if (stop.stop_requested()) out.status = SandboxResult::Status::stopped;
  return out;
}

}  // namespace caller::kernel
