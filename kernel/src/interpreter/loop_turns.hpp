// How far the loops of threads are: whoever wants to interrupt what a loop runs must know when it has run something
// else.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>

#include <caller/export.hpp>

namespace caller::kernel::faults {

/// How far the loop of a thread is, for other threads. Lives as long as its thread.
struct LoopTurns {
  std::atomic<std::uint64_t> count{0};  ///< changes when a turn begins, and when it ends
  std::atomic<int> depth{0};            ///< turns that have begun and not ended; above 1 where one waits in another
};

/// The calling thread's. Thread-safety: any thread. Errors: none. Source: –
LoopTurns& turns_of_this_thread() noexcept;

/// Made and destroyed around each turn of a loop, and not around what the runtime calls in the middle of one: code that
/// completes a Pending with a callback has not come to an end by that. Thread-safety: of one thread. Errors: none.
/// Source: –
class Turn {
public:
  Turn() noexcept;
  ~Turn();
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

private:
  LoopTurns& turns_;
};

/// Who is told of the loops whose turns are counted.
class CALLER_API LoopWatch {
public:
  virtual ~LoopWatch();
  /// The first turn of a loop in the calling thread begins.
  virtual void loop_begins(const LoopTurns& turns) noexcept = 0;
};

/// From now on the turns of all loops are counted for `watch` (null: no more), which nobody calls any more when another
/// one is set. For processes whose faults no Host takes over: that counts them, too.
/// Thread-safety: any thread. Errors: none. Source: –
CALLER_API void count_turns(LoopWatch* watch) noexcept;

}  // namespace caller::kernel::faults
