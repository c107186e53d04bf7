// Blocking functions of libc, seen first by everything in the process: outside of an interrupt::Scope they are libc's
// own; inside, an interrupt ends them with Interrupted. glibc declares cancellation points without `nothrow`, so an
// exception may leave them.
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "interrupt.hpp"

namespace {

template <class F>
F* next(const char* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}

template <class Call>
auto interruptible(Call call) {
  caller::kernel::interrupt::check();
  const auto result = call();
  if (result == -1 && errno == EINTR) {
    caller::kernel::interrupt::check();
    errno = EINTR;
  }
  return result;
}

}  // namespace

#define CALLER_NEXT(name) static auto* const real = next<decltype(name)>(#name)

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wattributes"
#endif

extern "C" {

CALLER_API int nanosleep(const timespec* request, timespec* remaining) {
  CALLER_NEXT(nanosleep);
  return interruptible([&] { return real(request, remaining); });
}

CALLER_API int clock_nanosleep(clockid_t clock, int flags, const timespec* request, timespec* remaining) {
  CALLER_NEXT(clock_nanosleep);
  caller::kernel::interrupt::check();
  const int result = real(clock, flags, request, remaining);  // returns the error itself
  if (result == EINTR) caller::kernel::interrupt::check();
  return result;
}

CALLER_API int usleep(useconds_t us) {
  CALLER_NEXT(usleep);
  return interruptible([&] { return real(us); });
}

CALLER_API unsigned sleep(unsigned seconds) {
  CALLER_NEXT(sleep);
  caller::kernel::interrupt::check();
  const unsigned left = real(seconds);
  if (left) caller::kernel::interrupt::check();
  return left;
}

CALLER_API int pause(void) {
  CALLER_NEXT(pause);
  return interruptible([&] { return real(); });
}

CALLER_API ssize_t read(int fd, void* data, size_t size) {
  CALLER_NEXT(read);
  return interruptible([&] { return real(fd, data, size); });
}

CALLER_API ssize_t readv(int fd, const iovec* parts, int n) {
  CALLER_NEXT(readv);
  return interruptible([&] { return real(fd, parts, n); });
}

CALLER_API ssize_t recv(int fd, void* data, size_t size, int flags) {
  CALLER_NEXT(recv);
  return interruptible([&] { return real(fd, data, size, flags); });
}

CALLER_API int accept(int fd, sockaddr* address, socklen_t* size) {
  CALLER_NEXT(accept);
  return interruptible([&] { return real(fd, address, size); });
}

CALLER_API int poll(pollfd* fds, nfds_t n, int timeout) {
  CALLER_NEXT(poll);
  return interruptible([&] { return real(fds, n, timeout); });
}

CALLER_API int select(int n, fd_set* r, fd_set* w, fd_set* e, timeval* timeout) {
  CALLER_NEXT(select);
  return interruptible([&] { return real(n, r, w, e, timeout); });
}

CALLER_API pid_t waitpid(pid_t pid, int* status, int options) {
  CALLER_NEXT(waitpid);
  return interruptible([&] { return real(pid, status, options); });
}

}  // extern "C"
