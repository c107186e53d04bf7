// Whoever counts how often loops turn must not count what the runtime calls in the middle of a turn.
#pragma once

#include <caller/detail/op.hpp>
#include <caller/export.hpp>

namespace caller::detail {

/// From now on each turn of a loop is run by `guard` (null: by nobody), and no longer by the guard of set_fault_guard:
/// that one, which has to be set before, keeps what the runtime calls from the middle of its own work, as the callbacks
/// of a Pending. set_fault_guard sets both.
/// Thread-safety: any thread. Errors: none. Source: none.
CALLER_API void set_turn_guard(FaultGuard guard) noexcept;

}  // namespace caller::detail
