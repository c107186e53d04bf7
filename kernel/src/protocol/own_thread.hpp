// Threads that serve the kernel: signals meant for cells are not delivered to them.
#pragma once

#include <pthread.h>
#include <signal.h>

#include <thread>
#include <utility>

namespace caller::kernel {

/// Starts a thread of that name (15 characters at most), in which all signals are blocked but those of its own faults:
/// blocked, these kill without a word.
template <class F>
std::thread own_thread(const char* name, F work) {
  sigset_t all, before;
  sigfillset(&all);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT}) sigdelset(&all, fault);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // the thread begins with it
  std::thread made([name, work = std::move(work)]() mutable {
    pthread_setname_np(pthread_self(), name);
    work();
  });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return made;
}

}  // namespace caller::kernel
