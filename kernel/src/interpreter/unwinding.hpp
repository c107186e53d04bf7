// Whether an exception thrown here would reach a handler, or end the process at a function that must not throw.
#pragma once

#include <cstdint>

namespace caller::kernel::interrupt {

/// What would become of an exception thrown here.
enum class Throwing {
  safe,       ///< it reaches a handler, or the end of the part looked at
  swallowed,  ///< a function of the standard library catches everything (a stream turns it into badbit)
  deadly,     ///< it would meet a function that must not throw
};

/// Looks at the frames from the caller's up to one that catches everything, or the one that holds `end` (an address on
/// the calling thread's stack; null: no such limit). Thread-safety: any thread. Errors: none. Units: takes some
/// microseconds. Source: –
/// `deadly_frame`: where the function that must not throw begins on the stack, if it is `deadly`.
Throwing would_throw(const void* end, std::uintptr_t& deadly_frame) noexcept;

/// Is this an address on the calling thread's stack? Thread-safety: any thread. Errors: none. Source: –
bool on_this_stack(const void* address) noexcept;

}  // namespace caller::kernel::interrupt
