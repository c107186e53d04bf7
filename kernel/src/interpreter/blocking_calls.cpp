// Blocking functions of libc, seen first by everything in the process: outside of an interrupt::Scope they are libc's
// own; inside, an interrupt ends them with Interrupted, and one that is not for what the thread does never shows. glibc
// declares cancellation points without `nothrow`, so an exception may leave them.
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <limits>

#include "interrupt.hpp"
#include "next.hpp"

namespace {

namespace interrupt = caller::kernel::interrupt;

/// The call is made again when it was only woken to see whether it is meant.
template <class Call>
auto interruptible(Call call) {
  for (;;) {
    interrupt::check();
    const unsigned before = interrupt::wakes();
    const auto result = call();
    if (result != -1 || errno != EINTR) return result;
    const bool in_vain = interrupt::asked_in_vain();
    if (interrupt::wakes() != before && !in_vain) continue;
    errno = EINTR;
    return result;
  }
}

timespec now_of(clockid_t clock) noexcept {
  timespec now{};
  ::clock_gettime(clock, &now);
  return now;
}
/// As far as it can be said.
timespec sum(timespec a, const timespec& b) noexcept {
  if (__builtin_add_overflow(a.tv_sec, b.tv_sec, &a.tv_sec)) return {std::numeric_limits<time_t>::max(), 0};
  if ((a.tv_nsec += b.tv_nsec) < 1'000'000'000) return a;
  return {a.tv_sec + (a.tv_sec < std::numeric_limits<time_t>::max()), a.tv_nsec - 1'000'000'000};
}
/// From `now` to `end`. Counted from an end that stands, so that what passes between two tries counts, too.
timespec rest(const timespec& end, const timespec& now) noexcept {
  if (now.tv_sec > end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec >= end.tv_nsec)) return {0, 0};
  if (end.tv_nsec >= now.tv_nsec) return {end.tv_sec - now.tv_sec, end.tv_nsec - now.tv_nsec};
  return {end.tv_sec - now.tv_sec - 1, end.tv_nsec - now.tv_nsec + 1'000'000'000};
}

/// A wait that an interrupt may not leave, as of std::condition_variable, ends as if by chance; the loop it stands in
/// looks for the interrupt.
template <class Call>
int interruptible_wait(pthread_cond_t* condition, Call call) {
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

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wattributes"
#pragma GCC diagnostic ignored "-Wignored-attributes"
#endif

#define CALLER_EACH(X) \
  X(clock_nanosleep)   \
  X(pause)             \
  X(read)              \
  X(readv)             \
  X(recv)              \
  X(accept)            \
  X(poll)              \
  X(select)            \
  X(wait)              \
  X(wait3)             \
  X(wait4)             \
  X(waitid)            \
  X(waitpid)           \
  X(pthread_cond_clockwait) X(syscall)

namespace {

using caller::kernel::Next;

#define CALLER_NEXT(name) constinit Next<decltype(name)> next_##name(#name);
CALLER_EACH(CALLER_NEXT)
#undef CALLER_NEXT
// They have older versions, which have another idea of a condition variable.
constinit Next<decltype(pthread_cond_wait)> next_pthread_cond_wait("pthread_cond_wait", "GLIBC_2.3.2");
constinit Next<decltype(pthread_cond_timedwait)> next_pthread_cond_timedwait("pthread_cond_timedwait", "GLIBC_2.3.2");

[[gnu::constructor]] void find_all() {
#define CALLER_FIND(name) (void)*next_##name;
  CALLER_EACH(CALLER_FIND)
  CALLER_FIND(pthread_cond_wait)
  CALLER_FIND(pthread_cond_timedwait)
}

}  // namespace

extern "C" {

CALLER_API int clock_nanosleep(clockid_t clock, int flags, const timespec* request, timespec* remaining) {
  auto* const real = *next_clock_nanosleep;
  const int saved = errno;
  const bool relative = !(flags & TIMER_ABSTIME);
  const clockid_t passes = clock == CLOCK_REALTIME ? CLOCK_MONOTONIC : clock;  // by which a relative time does
  timespec end{}, left{};
  if (relative && request) end = sum(now_of(passes), *request);
  int error = 0;  // which it returns
  (void)interruptible([&] {
    error = real(clock, flags, request, relative ? &left : nullptr);
    if (error != EINTR) return 0;
    if (relative) {
      left = rest(end, now_of(passes));
      request = &left;
    }
    errno = EINTR;
    return -1;
  });
  if (error == EINTR && remaining && relative) *remaining = left;
  errno = saved;
  return error;
}

CALLER_API int nanosleep(const timespec* request, timespec* remaining) {
  const int error = clock_nanosleep(CLOCK_REALTIME, 0, request, remaining);
  if (error == 0) return 0;
  errno = error;
  return -1;
}

CALLER_API int usleep(useconds_t us) {
  const timespec time{us / 1'000'000, us % 1'000'000 * 1000L};
  return nanosleep(&time, nullptr);
}

CALLER_API unsigned sleep(unsigned seconds) {
  const int saved = errno;
  timespec left{seconds, 0};
  if (nanosleep(&left, &left) != 0) return static_cast<unsigned>(left.tv_sec);
  errno = saved;
  return 0;
}

CALLER_API int pause(void) {
  auto* const real = *next_pause;
  return interruptible([&] { return real(); });
}

CALLER_API ssize_t read(int fd, void* data, size_t size) {
  auto* const real = *next_read;
  return interruptible([&] { return real(fd, data, size); });
}

CALLER_API ssize_t readv(int fd, const iovec* parts, int n) {
  auto* const real = *next_readv;
  return interruptible([&] { return real(fd, parts, n); });
}

CALLER_API ssize_t recv(int fd, void* data, size_t size, int flags) {
  auto* const real = *next_recv;
  return interruptible([&] { return real(fd, data, size, flags); });
}

CALLER_API int accept(int fd, sockaddr* address, socklen_t* size) {
  auto* const real = *next_accept;
  return interruptible([&] { return real(fd, address, size); });
}

CALLER_API int poll(pollfd* fds, nfds_t n, int timeout) {
  auto* const real = *next_poll;
  using Clock = std::chrono::steady_clock;
  using std::chrono::milliseconds;
  const auto end = timeout > 0 ? Clock::now() + milliseconds(timeout) : Clock::time_point{};
  int left = timeout;
  return interruptible([&] {
    const int result = real(fds, n, left);
    if (result == -1 && timeout > 0)
      left = std::max(0, static_cast<int>(std::chrono::ceil<milliseconds>(end - Clock::now()).count()));
    return result;
  });
}

CALLER_API int select(int n, fd_set* r, fd_set* w, fd_set* e, timeval* timeout) {
  auto* const real = *next_select;
  return interruptible([&] { return real(n, r, w, e, timeout); });  // which leaves the rest of the time there
}

CALLER_API pid_t wait(int* status) {
  auto* const real = *next_wait;
  return interruptible([&] { return real(status); });
}

CALLER_API pid_t wait3(int* status, int options, rusage* usage) {
  auto* const real = *next_wait3;
  return interruptible([&] { return real(status, options, usage); });
}

CALLER_API pid_t wait4(pid_t pid, int* status, int options, rusage* usage) {
  auto* const real = *next_wait4;
  return interruptible([&] { return real(pid, status, options, usage); });
}

CALLER_API int waitid(idtype_t type, id_t id, siginfo_t* info, int options) {
  auto* const real = *next_waitid;
  return interruptible([&] { return real(type, id, info, options); });
}

CALLER_API pid_t waitpid(pid_t pid, int* status, int options) {
  auto* const real = *next_waitpid;
  return interruptible([&] { return real(pid, status, options); });
}

CALLER_API int pthread_cond_wait(pthread_cond_t* condition, pthread_mutex_t* mutex) {
  auto* const real = *next_pthread_cond_wait;
  return interruptible_wait(condition, [&] { return real(condition, mutex); });
}

CALLER_API int pthread_cond_timedwait(pthread_cond_t* condition, pthread_mutex_t* mutex, const timespec* until) {
  auto* const real = *next_pthread_cond_timedwait;
  return interruptible_wait(condition, [&] { return real(condition, mutex, until); });
}

CALLER_API int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock,
                                      const timespec* until) {
  auto* const real = *next_pthread_cond_clockwait;
  return interruptible_wait(condition, [&] { return real(condition, mutex, clock, until); });
}

/// Futures, std::atomic::wait and semaphores of the standard library wait by it, and expect to be woken by chance.
CALLER_API long syscall(long number, ...) {
  auto* const real = *next_syscall;
  va_list list;
  va_start(list, number);
  long a[6];
  for (long& one : a) one = va_arg(list, long);
  va_end(list);
  const auto call = [&] { return real(number, a[0], a[1], a[2], a[3], a[4], a[5]); };
  if (number != SYS_futex || !is_futex_wait(a[1]) || !interrupt::innermost_scope()) return call();
  interrupt::check();
  const long result = call();
  if (result == -1 && errno == EINTR) {
    interrupt::check();
    errno = EINTR;
  }
  return result;
}

}  // extern "C"
