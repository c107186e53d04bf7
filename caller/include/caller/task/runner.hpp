// Who executes invocations.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
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
  std::size_t min_slots = 0;          ///< of those at least so many, whatever `slots` says

  /// What `slots` and `min_slots` come to on this machine. Thread-safety: any thread. Errors: none. Source: –
  CALLER_API std::size_t count() const noexcept;
};

/// How Runner::run() ended.
enum class RunEnd : std::uint8_t {
  drained,      ///< what was at work has ended
  handed_back,  ///< what was at work was given up, for somebody else to do
  abandoned,    ///< something did not end when it was asked to: the process should end at once
};

/// Takes invocations and executes them, from start() to stop().
///
/// Thread-safety: any thread. Errors: RunnerError for a second start(). Source: pynenc BaseRunner.
class CALLER_API Runner {
public:
  virtual ~Runner();
  virtual const std::string& id() const noexcept = 0;
  virtual void start() = 0;
  /// Takes no more; done when what is at work has ended. `at_once`: what is at work is asked to end, and goes back to
  /// the queue.
  virtual Pending<void> stop(bool at_once = false) = 0;
  /// Starts, and blocks until the process is told to end. SIGINT or SIGTERM: takes no more, and what is at work ends. A
  /// second one: what is at work is asked to end, and has a second to do it. What the signals did before is restored.
  /// `started` is called once when it takes invocations.
  ///
  /// Thread-safety: one at a time in a process. Errors: as start(); RunnerError while another one runs. Source: pynenc
  /// BaseRunner.run.
  RunEnd run(const std::function<void()>& started = {});
  /// Invocations at work now; those that wait for others do not count.
  virtual std::size_t working() const noexcept = 0;
};

}  // namespace caller::task
