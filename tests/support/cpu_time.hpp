// How long threads have computed: a loop that should sleep, and does not, shows there.
#pragma once

#include <pthread.h>
#include <chrono>
#include <ctime>

namespace caller::test {

class CpuTime {
public:
  /// Of the calling thread; to be asked by any, while that lives.
  CpuTime() { ::pthread_getcpuclockid(::pthread_self(), &clock_); }
  std::chrono::nanoseconds used() const {
    timespec t{};
    ::clock_gettime(clock_, &t);
    return std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec);
  }

private:
  clockid_t clock_{};
};

}  // namespace caller::test
