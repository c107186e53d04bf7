// %%task.
#pragma once

#include <caller/coro.hpp>

#include "magics/magics.hpp"

namespace caller::kernel::magics {

/// See the table in magics.cpp. Thread-safety: on the Caller of the cell. Cancel-safety: the task is cancelled and
/// waited for. Errors: KernelError(magic) for wrong use; what the code throws; those of caller::task. Source: none.
Coro<void> run_task(MagicContext& context, const MagicLine& line);

}  // namespace caller::kernel::magics
