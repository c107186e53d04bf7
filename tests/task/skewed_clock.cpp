// A wall clock that is wrong by CALLER_TEST_CLOCK_OFFSET seconds, for the program it is linked into and all libraries
// of it: what the program exports is found before libc's.
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>

namespace {
long offset() {
  static const long seconds = [] {
    const char* text = std::getenv("CALLER_TEST_CLOCK_OFFSET");
    return text ? std::atol(text) : 0;
  }();
  return seconds;
}
}  // namespace

extern "C" {
__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, struct timespec* to) noexcept {
  const auto result = static_cast<int>(::syscall(SYS_clock_gettime, clock, to));
  if (result == 0 && clock == CLOCK_REALTIME) to->tv_sec += offset();
  return result;
}
__attribute__((visibility("default"))) int gettimeofday(struct timeval* to, void*) noexcept {
  struct timespec now;
  const int result = clock_gettime(CLOCK_REALTIME, &now);
  to->tv_sec = now.tv_sec;
  to->tv_usec = now.tv_nsec / 1000;
  return result;
}
__attribute__((visibility("default"))) time_t time(time_t* to) noexcept {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (to) *to = now.tv_sec;
  return now.tv_sec;
}
}
