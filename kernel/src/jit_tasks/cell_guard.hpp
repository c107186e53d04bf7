// Code of cells on the threads of runners.
#pragma once

namespace caller::kernel {

/// From now on tasks that are functions of cells run under a guard, in this process: a fault is an error of the
/// invocation, and one that is cancelled is interrupted where it computes.
/// Thread-safety: any thread. Errors: none. Source: none.
void guard_cell_tasks() noexcept;

}  // namespace caller::kernel
