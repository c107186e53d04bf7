// Faults of cells: a wild pointer, abort(), a stack that is used up, … end the cell, not the process.
//
// What may fault runs under a guard. A fault of the guarded code leaves its frames behind as they are (their
// destructors do not run) and comes back from the guard. Faults of the kernel's own code are not survived: its state
// could be anything. Then the process says why, and dies.
#pragma once

#include <cstddef>
#include <exception>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <caller/export.hpp>

#include "loop_turns.hpp"

namespace caller::kernel::faults {

/// What ended a piece of a cell. Thread-safety: immutable. Errors: none. Source: –
struct Fault {
  std::string name;                 ///< as the `ename` of an error: `SegmentationFault`
  std::string text;                 ///< what happened, in one line
  std::string damage;               ///< what may be broken from now on; empty: nothing
  std::vector<const void*> frames;  ///< where; innermost first, each inside of its instruction
};

/// A Fault as an exception, thrown only where it has been survived already.
class CALLER_API CellFault : public std::exception {
public:
  explicit CellFault(std::shared_ptr<const Fault> fault) noexcept : fault_(std::move(fault)) {}
  ~CellFault() override;
  const char* what() const noexcept override { return fault_->text.c_str(); }
  const Fault& fault() const noexcept { return *fault_; }

private:
  std::shared_ptr<const Fault> fault_;
};

/// Whom faults concern beyond the code that failed. All functions may be called in any thread.
class CALLER_API Host {
public:
  virtual ~Host();
  /// What the calling thread works for; kept for each thread that a cell starts.
  virtual std::shared_ptr<void> origin() = 0;
  /// A thread that a cell started (`origin` as it was then) has ended by `error`.
  virtual void thread_failed(const std::shared_ptr<void>& origin, const std::exception_ptr& error) noexcept = 0;
  /// The first turn of a loop in the calling thread begins.
  virtual void loop_begins(const LoopTurns& turns) noexcept;
  /// The process is about to die; there are two seconds left to say so.
  virtual void dying(const std::string& reason) noexcept = 0;
};

/// Takes over the fault signals, std::terminate and the ends of the process that code asks for, for `host` (null: gives
/// them back). `log` is the descriptor that reasons of death are written to.
/// Thread-safety: one thread. Errors: std::system_error. Source: –
CALLER_API void install(Host* host, int log);

/// Runs `body(argument)` under a guard. Returns the fault that ended it, or null. What it throws passes.
///
/// For what a cell is made of: everything `body` calls counts as the cell's, but not the kernel's functions.
/// Thread-safety: any thread. Errors: what `body` throws. Source: –
CALLER_API std::shared_ptr<const Fault> guard(void (*body)(void*), void* argument);

/// The same for the runtime's loops, and for what these call in the middle of a turn (detail::FaultGuard).
CALLER_API std::exception_ptr guard_turn(void (*body)(void*), void* argument);
CALLER_API std::exception_ptr guard_call(void (*body)(void*), void* argument);

/// Calls `f` under a guard. Errors: CellFault, and what `f` throws.
template <class F>
void guarded(F&& f) {
  if (auto fault = guard([](void* p) { (*static_cast<std::remove_reference_t<F>*>(p))(); },
                         const_cast<void*>(static_cast<const void*>(&f))))
    throw CellFault(std::move(fault));
}

/// Reads what a cell gave to the kernel, before any lock is taken: a wild pointer faults here, as the cell's own fault.
/// Thread-safety: any thread. Errors: none. Source: –
CALLER_API void touch(const void* data, std::size_t size) noexcept;

/// Where an exception was thrown while code of cells ran; empty when that is not known (any more).
/// Thread-safety: any thread. Errors: none. Source: –
CALLER_API std::vector<const void*> thrown_at(const std::exception_ptr& exception);

/// The calls on this thread's stack, innermost first, that belong to code compiled at run time, up to `most`. Fit for
/// every place an exception is thrown from. Thread-safety: any thread. Errors: none. Units: some microseconds. Source:
/// –
CALLER_API int cell_frames(const void** frames, int most) noexcept;

}  // namespace caller::kernel::faults
