// Blocking functions of libc, seen first by everything in the process: outside of an interrupt::Scope they are libc's
// own; inside, an interrupt ends them with Interrupted. glibc declares cancellation points without `nothrow`, so an
// exception may leave them.
#include <dlfcn.h>
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
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

/// Of a function that has an older version, which has another idea of a condition variable.
template <class F>
F* next(const char* name, const char* version) {
  void* const found = dlvsym(RTLD_NEXT, name, version);
  return found ? reinterpret_cast<F*>(found) : next<F>(name);
}

/// A wait that an interrupt may not leave, as of std::condition_variable, ends as if by chance; the loop it stands in
/// looks for the interrupt.
template <class Call>
int interruptible_wait(pthread_cond_t* condition, Call call) {
  namespace interrupt = caller::kernel::interrupt;
  if (!interrupt::innermost_scope()) return call();
  int result;
  {
    const interrupt::ConditionWait wait(condition);
    interrupt::check();
    result = call();
  }
  if (result == 0) interrupt::check();
  return result;
}

bool is_futex_wait(long operation) noexcept {
  switch (operation & ~(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME)) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
      return true;
    default:
      return false;
  }
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

CALLER_API int pthread_cond_wait(pthread_cond_t* condition, pthread_mutex_t* mutex) {
  static auto* const real = next<decltype(pthread_cond_wait)>("pthread_cond_wait", "GLIBC_2.3.2");
  return interruptible_wait(condition, [&] { return real(condition, mutex); });
}

CALLER_API int pthread_cond_timedwait(pthread_cond_t* condition, pthread_mutex_t* mutex, const timespec* until) {
  static auto* const real = next<decltype(pthread_cond_timedwait)>("pthread_cond_timedwait", "GLIBC_2.3.2");
  return interruptible_wait(condition, [&] { return real(condition, mutex, until); });
}

CALLER_API int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock,
                                      const timespec* until) {
  CALLER_NEXT(pthread_cond_clockwait);
  return interruptible_wait(condition, [&] { return real(condition, mutex, clock, until); });
}

/// Futures, std::atomic::wait and semaphores of the standard library wait by it.
CALLER_API long syscall(long number, ...) {
  CALLER_NEXT(syscall);
  va_list list;
  va_start(list, number);
  long a[6];
  for (long& one : a) one = va_arg(list, long);
  va_end(list);
  const auto call = [&] { return real(number, a[0], a[1], a[2], a[3], a[4], a[5]); };
  if (number != SYS_futex || !is_futex_wait(a[1]) || !caller::kernel::interrupt::innermost_scope()) return call();
  return interruptible(call);
}

}  // extern "C"
