// Calls from another thread enter the kernel only to wake a loop that sleeps.
//
// A seccomp filter of the calling thread turns every system call but those of malloc and of a thread's end into a
// signal, which counts it.
#include <doctest/doctest.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <caller/all.hpp>
#include <cstddef>
#include <initializer_list>
#include <thread>
#include <vector>

using namespace caller;

namespace {

constinit thread_local volatile int system_calls = 0;

constexpr auto statement(unsigned code, unsigned k) { return sock_filter{static_cast<unsigned short>(code), 0, 0, k}; }

/// From now on the calling thread's system calls are counted, and not made. False: not possible here.
bool count_system_calls() {
  struct sigaction action = {};
  action.sa_handler = [](int) { system_calls = system_calls + 1; };
  if (sigaction(SIGSYS, &action, nullptr) != 0) return false;
  std::vector<sock_filter> filter{statement(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (const unsigned allowed : {SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect, SYS_brk, SYS_madvise, SYS_rt_sigreturn,
                                 SYS_rt_sigprocmask, SYS_set_robust_list, SYS_exit, SYS_exit_group}) {
    filter.push_back({BPF_JMP | BPF_JEQ | BPF_K, 0, 1, allowed});
    filter.push_back(statement(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  }
  filter.push_back(statement(BPF_RET | BPF_K, SECCOMP_RET_TRAP));
  sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return false;
  return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/// What a thread whose system calls are counted makes of them in `body`; -1 where they cannot be counted.
template <class F>
int system_calls_of(F body) {
  int result = -1;
  std::thread([&] {
    if (!count_system_calls()) return;
    syscall(SYS_getppid);
    if (system_calls != 1) return;  // the filter is there and counts nothing
    body();
    result = system_calls - 1;
  }).join();
  return result;
}

}  // namespace

TEST_CASE("a call to a loop that is awake makes no system call, and calls run in the order made") {
  constexpr int kCalls = 1'000;
  std::vector<int> order;  // of the loop's thread
  std::atomic<bool> awake{false}, sent{false};
  int made = 0;
  {
    const Caller loop(caller::new_thread);
    const auto busy = loop.call_soon([&] {
      awake = true;
      while (!sent) std::this_thread::yield();
    });
    while (!awake) std::this_thread::yield();
    made = system_calls_of([&] {
      for (int i = 0; i < kCalls; i += 2) {
        loop.post([&order, i] { order.push_back(i); });
        loop.call_soon([&order, i] { order.push_back(i + 1); });
      }
    });
    sent = true;
    busy.wait();
    loop.call_soon([] {}).wait();
  }
  if (made < 0) {
    MESSAGE("system calls cannot be counted here: no seccomp filters");
    return;
  }
  CHECK(made == 0);
  REQUIRE(order.size() == kCalls);
  for (int i = 0; i < kCalls; ++i) CHECK(order[static_cast<std::size_t>(i)] == i);
}
