// Who executes invocations.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include <caller/export.hpp>
#include <caller/pending.hpp>

namespace caller::task {

/// What a runner is made with.
struct RunnerOptions {
  std::size_t slots = 0;              ///< invocations at work at once; 0: as many as the machine has cores
  std::vector<std::string> queues{};  ///< which it serves; empty: all
  std::string description{};          ///< for people; empty: its kind and process
};

/// Takes invocations and executes them, from start() to stop().
///
/// Thread-safety: any thread. Errors: RunnerError for a second start(). Source: pynenc BaseRunner.
class CALLER_API Runner {
public:
  virtual ~Runner();
  /// As its records in the store name it.
  virtual const std::string& id() const noexcept = 0;
  /// Begins to take invocations. Errors: RunnerError when it was started already.
  virtual void start() = 0;
  /// Takes no more; done when what is at work has ended. `at_once`: what is at work is asked to end, and goes back to
  /// the queue.
  virtual Pending<void> stop(bool at_once = false) = 0;
  /// Invocations at work now; those that wait for others do not count.
  virtual std::size_t working() const noexcept = 0;
};

}  // namespace caller::task
