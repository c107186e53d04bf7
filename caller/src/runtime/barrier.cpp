#include "barrier.hpp"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <caller/detail/state.hpp>

namespace caller::detail {

namespace {

bool membarrier(int command) noexcept { return ::syscall(SYS_membarrier, command, 0, 0) == 0; }
// A process that has not said that it will use it is refused; saying it twice costs nothing.
bool say_it_is_used() noexcept { return membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED); }

}  // namespace

std::atomic<bool> loops_spare_barrier{say_it_is_used()};

void barrier_of_all_threads() noexcept {
  if (!loops_spare_barrier.load(std::memory_order_relaxed)) return;
  if (!membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) && say_it_is_used())  // a fork of the one that said it
    membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
}

}  // namespace caller::detail
