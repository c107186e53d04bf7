// Interrupting synchronous code of cells.
#pragma once

#include <pthread.h>

#include <array>
#include <chrono>

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
  /// For whom the calling thread works at this moment; null: nothing runs there that may be interrupted. `again`: it
  /// has been interrupted already.
  using Who = const void* (*)(bool again) noexcept;

  /// The same as far as a handler of a signal may find out; null: not known.
  using WhoNow = const void* (*)() noexcept;
  enum class Of {
    code,  ///< that may wait in a loop: what the loop runs meanwhile runs in it as well
    loop,  ///< the scope below all others of a thread that runs one: a request is dropped when the loop turns
  };

  Scope() noexcept;
  /// With `now` calls of the system that go on after a signal are not disturbed by a request for somebody else.
  Scope(Who who, Of of, WhoNow now = nullptr) noexcept;
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

  /// Asks this scope's thread to throw Interrupted, while it works for `whom` (null: for anybody), if there are no
  /// scopes inside of one of a loop. A blocked call is woken again and again until the request is met.
  ///
  /// What catches it and goes on, as `catch (...)` does, is interrupted again as soon as its handler has ended, and is
  /// left behind without its destructors when that does not help for half a second.
  void request(const void* whom = nullptr) noexcept;
  /// Asks what runs for `whom` in a loop that code waits in, until that loop turns; what the code was asked stands.
  void request_guest(const void* whom) noexcept;
  /// Asks whoever was told to stop and may not have been reached then: as request, or as request_guest (`guest`),
  /// unless such a request stands already. It meets nothing but code of cells, and does not disturb what deals with an
  /// interrupt or a cancellation: handlers, and destructors on the way. What has done that for `patience` (zero: it may
  /// do so for ever) is interrupted all the same, in a function that must not throw by leaving its frames behind.
  ///
  /// In a loop only one can be asked at a time: another one's request is replaced once something else than it was meant
  /// for has run there; before that, this asks nobody. Returns whether it has asked.
  bool remind(const void* whom, std::chrono::milliseconds patience, bool guest = false) noexcept;
  /// Takes back what would be dropped when the loop turns.
  void withdraw() noexcept;

private:
  friend struct Access;
  struct State;
  State* state_;
};

/// Asks every thread with a scope. Returns how many were asked. Thread-safety: any thread. Errors: none. Source: –
CALLER_API int request_all() noexcept;

/// The signals that wake threads. Their handlers are set with the first scope of the process; they must reach the
/// threads of scopes. Thread-safety: any thread. Errors: none. Source: –
CALLER_API std::array<int, 2> signals() noexcept;

/// While it lives, nothing interrupts the calling thread: a request is kept until afterwards. For what is left in
/// pieces by an exception that ends a blocked call, as a library in C with its locks. Nests.
///
/// Thread-safety: made and destroyed by one thread. Errors: none. Source: –
class CALLER_API Shelter {
public:
  Shelter() noexcept;
  ~Shelter();
  Shelter(const Shelter&) = delete;
  Shelter& operator=(const Shelter&) = delete;
};

/// A loop of the calling thread turns: what was asked of that turn is void.
/// Thread-safety: any thread. Errors: none. Source: –
CALLER_API void loop_turned() noexcept;

/// The calling thread's innermost scope, and how to leave those inside of it whose frames are gone without their
/// destructors. Thread-safety: any thread. Errors: none. Source: –
void* innermost_scope() noexcept;
void forget_scopes(void* up_to) noexcept;

/// Interrupted was thrown in the calling thread, and is on its way or being handled.
/// Thread-safety: any thread. Errors: none. Source: –
bool is_leaving() noexcept;

/// While it lives, a request to the calling thread wakes those that wait on `condition`, too: glibc's waits do not end
/// by a signal. Thread-safety: made and destroyed by one thread. Errors: none. Source: –
class ConditionWait {
public:
  explicit ConditionWait(pthread_cond_t* condition) noexcept;
  ~ConditionWait();
  ConditionWait(const ConditionWait&) = delete;
  ConditionWait& operator=(const ConditionWait&) = delete;
};

/// How often the calling thread was woken: a call that fails with EINTR meanwhile failed by that.
/// Thread-safety: any thread. Errors: none. Source: –
unsigned wakes() noexcept;

/// Throws Interrupted when the calling thread is asked to; for blocking waits of the kernel's own.
/// Thread-safety: any thread. Errors: Interrupted. Source: –
CALLER_API void check();
/// The same. True: it is asked to, but may not here.
bool asked_in_vain();

}  // namespace caller::kernel::interrupt
