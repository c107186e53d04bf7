// Whether this program can be a worker itself.
#pragma once

namespace caller::tube::detail {
/// Whether cluster_main() was called: started again, the program runs nodes.
bool program_is_worker() noexcept;
}  // namespace caller::tube::detail
