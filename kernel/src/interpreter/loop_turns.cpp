#include "loop_turns.hpp"

#include <mutex>

#include <caller/detail/turn_guard.hpp>

#include "interrupt.hpp"

namespace caller::kernel::faults {
namespace {

thread_local constinit LoopTurns turns_here;

std::mutex watch_mutex;  // held while it is told
LoopWatch* loop_watch = nullptr;

std::exception_ptr count_turn(void (*body)(void*), void* argument) {
  thread_local constinit bool known = false;
  if (!known && !interrupt::innermost_scope()) {  // a scope that is there may end before this loop does
    known = true;
    const std::lock_guard lock(watch_mutex);
    if (loop_watch) loop_watch->loop_begins(turns_here);
  }
  const Turn turn;
  body(argument);
  return nullptr;
}

}  // namespace

LoopWatch::~LoopWatch() = default;

LoopTurns& turns_of_this_thread() noexcept { return turns_here; }

Turn::Turn() noexcept : turns_(turns_here) {
  interrupt::loop_turned();
  turns_.depth.fetch_add(1, std::memory_order_relaxed);
  turns_.count.fetch_add(1);
}

Turn::~Turn() {
  turns_.depth.fetch_sub(1, std::memory_order_relaxed);
  turns_.count.fetch_add(1);
  interrupt::loop_turned();
}

void count_turns(LoopWatch* watch) noexcept {
  const std::lock_guard lock(watch_mutex);
  loop_watch = watch;
  caller::detail::set_turn_guard(watch ? &count_turn : nullptr);
}

}  // namespace caller::kernel::faults
