#include "magics/command.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <system_error>

#include "interpreter/shell_program.hpp"

namespace caller::kernel {
namespace {

struct Descriptor {
  int fd = -1;
  ~Descriptor() { close(); }
  void close() {
    if (fd >= 0) ::close(fd);
    fd = -1;
  }
};

[[noreturn]] void fail(int error, const char* what) { throw std::system_error(error, std::generic_category(), what); }

}  // namespace

int run_command(const std::string& command, const std::function<void(int, std::string_view)>& output,
                std::stop_token stop) {
  using Clock = std::chrono::steady_clock;
  int out[2], err[2];
  if (::pipe2(out, O_CLOEXEC) != 0) fail(errno, "running a command");
  Descriptor read_out{out[0]}, write_out{out[1]};
  if (::pipe2(err, O_CLOEXEC) != 0) fail(errno, "running a command");
  Descriptor read_err{err[0]}, write_err{err[1]};
  Descriptor nothing{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
  if (nothing.fd < 0) fail(errno, "running a command");
  Descriptor wake{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  const pid_t pid = start_shell(command.c_str(), {{nothing.fd, 0}, {write_out.fd, 1}, {write_err.fd, 2}});
  if (pid < 0) fail(errno, "starting /bin/sh");
  nothing.close();
  write_out.close();
  write_err.close();
  Descriptor process{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};
  ::fcntl(read_out.fd, F_SETFL, O_NONBLOCK);
  ::fcntl(read_err.fd, F_SETFL, O_NONBLOCK);

  const std::stop_callback on_stop(stop, [&] {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t n = ::write(wake.fd, &one, sizeof one);
  });
  const auto forward = [&](Descriptor& from, int fd) {
    std::array<char, 16384> buffer;
    ssize_t n;
    while ((n = ::read(from.fd, buffer.data(), buffer.size())) > 0)
      output(fd, {buffer.data(), static_cast<std::size_t>(n)});
    if (n == 0 || errno != EAGAIN) from.close();
  };

  constexpr std::array kSignals{SIGINT, SIGTERM, SIGKILL};
  std::size_t sent = 0;
  Clock::time_point next_signal = Clock::time_point::max();
  int status = 0;
  for (bool ended = false; !ended;) {
    pollfd items[4] = {
        {read_out.fd, POLLIN, 0}, {read_err.fd, POLLIN, 0}, {process.fd, POLLIN, 0}, {wake.fd, POLLIN, 0}};
    int wait_ms = process.fd < 0 ? 50 : -1;  // without a pidfd the child is looked after from time to time
    if (next_signal != Clock::time_point::max())
      wait_ms = std::max(
          0, static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(next_signal - Clock::now()).count()));
    if (::poll(items, 4, wait_ms) < 0 && errno != EINTR) break;
    if (items[0].revents) forward(read_out, 1);
    if (items[1].revents) forward(read_err, 2);
    if (items[3].revents) {  // only emptied: whoever wrote to it may still be about to return from the call
      std::uint64_t count = 0;
      [[maybe_unused]] const ssize_t n = ::read(wake.fd, &count, sizeof count);
      if (sent == 0) next_signal = Clock::now();
    }
    if (sent < kSignals.size() && Clock::now() >= next_signal) {
      ::kill(-pid, kSignals[sent++]);
      next_signal = sent < kSignals.size() ? Clock::now() + std::chrono::seconds(1) : Clock::time_point::max();
    }
    ended = ::waitpid(pid, &status, WNOHANG) == pid;
  }
  if (read_out.fd >= 0) forward(read_out, 1);
  if (read_err.fd >= 0) forward(read_err, 2);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace caller::kernel
