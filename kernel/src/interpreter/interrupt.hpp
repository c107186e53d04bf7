// Interrupting synchronous code of cells.
#pragma once

#include <pthread.h>

#include <caller/export.hpp>
#include <caller/kernel/interrupted.hpp>

namespace caller::kernel::interrupt {

/// While it lives, the thread that made it may be interrupted: loops of cells and blocking system calls throw
/// Interrupted. Scopes nest; a request meets the innermost one of the thread.
///
/// A request that has not been met when the scope ends is dropped. Blocking calls are only ended when the program was
/// linked with this library before libc, as the kernel's is.
///
/// Thread-safety: made and destroyed by one thread; request() by any. Errors: none. Source: ipykernel interrupt.
class CALLER_API Scope {
public:
  Scope() noexcept;
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

  /// Asks this scope's thread to throw Interrupted. Repeats itself until it is met.
  void request() noexcept;

private:
  friend struct Access;
  struct State;
  State* state_;
};

/// Asks every thread with a scope. Returns how many were asked. Thread-safety: any thread. Errors: none. Source: –
CALLER_API int request_all() noexcept;

/// The calling thread's innermost scope, and how to leave those inside of it whose frames are gone without their
/// destructors. Thread-safety: any thread. Errors: none. Source: –
void* innermost_scope() noexcept;
void forget_scopes(void* up_to) noexcept;

/// While it lives, a request to the calling thread wakes those that wait on `condition`, too: glibc's waits do not end
/// by a signal. Thread-safety: made and destroyed by one thread. Errors: none. Source: –
class ConditionWait {
public:
  explicit ConditionWait(pthread_cond_t* condition) noexcept;
  ~ConditionWait();
  ConditionWait(const ConditionWait&) = delete;
  ConditionWait& operator=(const ConditionWait&) = delete;
};

/// Throws Interrupted when the calling thread is asked to; for blocking waits of the kernel's own.
/// Thread-safety: any thread. Errors: Interrupted. Source: –
CALLER_API void check();

}  // namespace caller::kernel::interrupt
