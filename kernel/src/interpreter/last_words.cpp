#include "last_words.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <thread>

#include "fault_record.hpp"

namespace caller::kernel::faults {
namespace {

std::atomic<Host*> the_host{nullptr};
int log_descriptor = 2;
pid_t home = 0;
int report_pipe[2] = {-1, -1};
int reported_pipe[2] = {-1, -1};
std::array<struct sigaction, 65> before;
std::atomic_flag said = ATOMIC_FLAG_INIT;  // why the process ends

/// What is written to the thread that tells clients.
struct Report {
  int signal = 0;  // to be raised when they know; 0: whoever reports sees to that
  pid_t thread = 0;
  char reason[700] = "";
};

/// False: there is nobody to tell the clients.
bool report(const Report& r) noexcept {
  char line[800] = "[caller-kernel] error: the kernel dies: ";
  append(line, r.reason);
  append(line, "\n");
  (void)!::write(log_descriptor, line, std::strlen(line));
  return report_pipe[1] >= 0 && the_host.load() && ::write(report_pipe[1], &r, sizeof r) == sizeof r;
}

void wait_until_told() noexcept {
  pollfd told{reported_pipe[0], POLLIN, 0};
  while (::poll(&told, 1, 5000) < 0 && errno == EINTR) {
  }
}

void watch() noexcept {
  pthread_setname_np(pthread_self(), "Faults");
  Report r;
  ssize_t n;
  do n = ::read(report_pipe[0], &r, sizeof r);
  while (n < 0 && errno == EINTR);
  if (n != sizeof r) return;
  const auto tell = [r] {
    if (Host* host = the_host.load()) host->dying(r.reason);
    (void)!::write(reported_pipe[1], "", 1);
  };
  if (r.signal == 0) return tell();
  std::thread(tell).detach();  // it may wait for what never comes
  wait_until_told();
  give_signals_back();
  if (::syscall(SYS_tgkill, home, r.thread, r.signal) != 0) ::kill(home, r.signal);
}

}  // namespace

void give_signals_back() noexcept {
  for (const int s : kSignals) ::sigaction(s, &before[static_cast<std::size_t>(s)], nullptr);
}

bool in_child() noexcept { return ::getpid() != home; }

pid_t home_process() noexcept { return home; }

Host* host_of_faults() noexcept { return the_host.load(); }
Host* take_host_of_faults() noexcept { return the_host.exchange(nullptr); }

void die(const char* reason) noexcept {
  const bool child = in_child();
  if (!child && said.test_and_set()) {  // another thread is about to say so: let it
    ::poll(nullptr, 0, 6000);
  } else if (!child) {
    Report r;
    append(r.reason, reason);
    if (report(r)) wait_until_told();
  }
  give_signals_back();
}

bool die_later(const char* reason, int signal) noexcept {
  if (said.test_and_set()) return true;
  Report r;
  r.signal = signal;
  r.thread = ::gettid();
  append(r.reason, reason);
  return report(r);
}

void open_last_words(Host* host, int log, void (*handler)(int, siginfo_t*, void*)) {
  log_descriptor = log;
  home = ::getpid();
  if (report_pipe[0] < 0) {
    if (::pipe2(report_pipe, O_CLOEXEC) != 0 || ::pipe2(reported_pipe, O_CLOEXEC) != 0)
      throw std::system_error(errno, std::generic_category(), "faults: pipe");
    std::thread(&watch).detach();
  }
  the_host = host;
  struct sigaction action{};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  for (const int s : kSignals) ::sigaction(s, &action, &before[static_cast<std::size_t>(s)]);
}

}  // namespace caller::kernel::faults
