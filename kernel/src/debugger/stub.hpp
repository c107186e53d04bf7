// A server of the gdb remote protocol inside of the process that is debugged. See docs/ARCHITECTURE.md, "The debugger".
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace caller::kernel::debugger {

/// Serves one debugger over one connection, in a thread of its own.
///
/// To the debugger the process is what stands still: the threads that met a breakpoint. The others are not listed, and
/// run. A stop that happens while the debugger shows another one is reported when that one is resumed. While nothing
/// stands, a thread of the stub's own is shown: a debugger wants at least one.
///
/// Thread-safety: any thread.
/// Errors: constructor: std::system_error.
/// Source: –
class Stub {
public:
  /// Takes the descriptor of a connected stream socket.
  explicit Stub(int socket);

  /// Ends the connection: breakpoints go, threads run on.
  ~Stub();
  Stub(const Stub&) = delete;
  Stub& operator=(const Stub&) = delete;

  /// Where debugging works at all (x86-64 Linux).
  static bool supported();

  /// Breakpoints outside of code made at run time would stop threads that serve the kernel: they are refused. What a
  /// debugger calls in the program returns to the program's entry point, so that one is allowed.
  static bool may_break_at(std::uintptr_t address);

  /// Threads that stand pass their breakpoints when they are resumed, until obey_breakpoints. Returns their number.
  std::size_t let_pass();

  /// Ends the connection as the debugger's own detaching does; threads run on at once.
  void release();

  /// Reports a stop of the stub's own thread, unless a thread stands or comes to stand; then that one's.
  void stop_quietly();

  /// The thread that stop_quietly shows.
  int quiet_thread() const;

  /// How many threads stand at a breakpoint or behind a step.
  std::size_t standing() const;

private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

/// For threads that serve the kernel: breakpoints do not stop them.
void exempt_this_thread();

/// A cell begins on this thread: breakpoints stop it (again).
void obey_breakpoints();

}  // namespace caller::kernel::debugger
