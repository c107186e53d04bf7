// Waiting in a destructor. Internal.
#pragma once

#include <thread>

#include <caller/caller.hpp>

namespace caller::detail {

/// Returns once it is done. A cancellation of the work that waits stays due, and the end of the loop that turns
/// meanwhile is not the end of the wait: neither may leave a destructor.
///
/// Thread-safety: any thread but the one that completes it. Cancel-safety: shielded. Errors: none.
inline void wait_to_the_end(const PendingBase& pending) noexcept {
  while (!pending.done()) {
    try {
      (void)pending.wait_done({.timeout = {}, .protect = true, .shield = true});
    } catch (const CallerStopped&) {
      std::this_thread::yield();
    }
  }
}

/// Stops a Caller that has a thread of its own, and waits for its end. The same holds.
inline void end_loop(Caller& loop) noexcept {
  loop.stop(true);
  wait_to_the_end(loop.stopped());
}

}  // namespace caller::detail
