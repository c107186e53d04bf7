// Whether an exception thrown here would reach a handler, or end the process at a function that must not throw.
#pragma once

namespace caller::kernel::interrupt {

/// Looks at the frames from the caller's up to the one that holds `end` (an address on the calling thread's stack).
/// Thread-safety: any thread. Errors: none. Units: takes some microseconds.
bool may_throw_up_to(const void* end) noexcept;

}  // namespace caller::kernel::interrupt
