// A memory barrier in every thread of the process at once, for the rare side of a protocol whose other side has none.
#pragma once

namespace caller::detail {

/// What the other threads of the process have stored before it is visible after it, and what this one has stored before
/// it is seen by whatever they load after it. Nothing, unless `loops_spare_barrier`.
void barrier_of_all_threads() noexcept;

}  // namespace caller::detail
