// What an interrupt of a running cell throws.
#pragma once

#include <caller/export.hpp>

namespace caller::kernel {

/// Thrown in a cell that the user interrupts, from a turn of a loop, a sleep or a blocked system call.
///
/// Not a std::exception, so that `catch (const std::exception&)` in a cell does not swallow it. What catches it may
/// finish in its handler; what goes on after that is interrupted again, and ends in the end.
///
/// Thread-safety: distinct objects: safe; shared objects: safe. Errors: none. Source: Python's KeyboardInterrupt.
class CALLER_API Interrupted {
public:
  virtual ~Interrupted();
  /// a fixed text
  const char* what() const noexcept { return "interrupted"; }
};

}  // namespace caller::kernel
