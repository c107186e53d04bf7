#include "session/fd_capture.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <system_error>
#include <utility>

#include "protocol/own_thread.hpp"

namespace caller::kernel {
namespace {
constexpr int kPipeSize = 1 << 20;  // bytes; a burst of a child should not wait for us

// Not libc's read: in the kernel that one ends with an exception when the cell is interrupted, and text would be lost.
ssize_t read_pipe(int fd, char* data, std::size_t size) { return ::syscall(SYS_read, fd, data, size); }
}  // namespace

FdCapture::FdCapture(Sink sink) : sink_(std::move(sink)) {
  wake_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  for (int i = 0; i < 2; ++i) {
    int ends[2] = {-1, -1};
    saved_[i] = ::fcntl(i + 1, F_DUPFD_CLOEXEC, 3);
    if (::pipe2(ends, O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "capturing output");
    ::fcntl(ends[1], F_SETPIPE_SZ, kPipeSize);
    ::fcntl(ends[0], F_SETFL, O_NONBLOCK);  // of the read end only: writers block until there is room
    ::dup2(ends[1], i + 1);
    ::close(ends[1]);
    pipes_[i] = ends[0];
  }
  thread_ = own_thread("caller-output", [this] { run(); });
}

FdCapture::~FdCapture() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = ::write(wake_, &one, sizeof one);
  thread_.join();
  for (int i = 0; i < 2; ++i) {
    ::dup2(saved_[i], i + 1);  // the write end goes, unless a child holds it
    read_some(i, SIZE_MAX);    // the sink may still write to the originals
    ::close(pipes_[i]);
  }
  for (const int fd : saved_) ::close(fd);
  ::close(wake_);
}

void FdCapture::read_some(int index, std::size_t limit) {
  std::array<char, 65536> buffer;
  while (limit > 0) {
    const ssize_t n = read_pipe(pipes_[index], buffer.data(), std::min(limit, buffer.size()));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    sink_(index + 1, {buffer.data(), static_cast<std::size_t>(n)});
    limit -= static_cast<std::size_t>(n);
  }
}

void FdCapture::drain() {
  // Whoever holds the lock has delivered all it took from the pipe: what FIONREAD shows is all that is left.
  const std::lock_guard lock(reading_);
  pollfd items[2] = {{pipes_[0], POLLIN, 0}, {pipes_[1], POLLIN, 0}};
  if (::syscall(SYS_poll, items, 2, 0) == 0) return;  // nothing, as mostly; not libc's, as above
  for (int i = 0; i < 2; ++i) {
    int waiting = 0;
    if (::ioctl(pipes_[i], FIONREAD, &waiting) == 0 && waiting > 0) read_some(i, static_cast<std::size_t>(waiting));
  }
}

void FdCapture::run() {
  for (;;) {
    pollfd items[3] = {{pipes_[0], POLLIN, 0}, {pipes_[1], POLLIN, 0}, {wake_, POLLIN, 0}};
    if (::poll(items, 3, -1) < 0 && errno != EINTR) return;
    if (items[2].revents) return;
    const std::lock_guard lock(reading_);
    for (int i = 0; i < 2; ++i)
      if (items[i].revents) read_some(i, 1 << 20);
  }
}

}  // namespace caller::kernel
