// What a loop queues, and where its blocks of memory come from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>

#include <caller/export.hpp>

namespace caller::detail {

class Core;

/// Why an Op is taken out of its queue.
enum class OpAct : unsigned char {
  run,   ///< on the loop's thread, in its turn
  drop,  ///< the loop ends: release everything, run no user code but destructors
};

/// One entry of a loop's queue, embedded in what it runs. An Op is in at most one queue.
struct Op {
  Op* next = nullptr;
  void (*act)(Op*, OpAct) = nullptr;
};

/// Queues `op` on `core`. Returns false when the loop has ended; the op is then still the caller's.
/// Thread-safety: any thread; the core must be alive (a handle, or an unfinished Pending of it).
CALLER_API bool submit(Core& core, Op* op) noexcept;

/// For tests: one entry of the queue, and the time of the next timer on the loop's clock (-1: none). Own thread only.
CALLER_API std::size_t step(Core& core) noexcept;
CALLER_API std::int64_t next_timer(Core& core) noexcept;

/// Blocks from per-thread magazines; a block may be freed on another thread than the one that allocated it.
/// Thread-safety: any thread. Errors: std::bad_alloc.
[[nodiscard]] CALLER_API void* allocate(std::size_t size);
CALLER_API void deallocate(void* block, std::size_t size) noexcept;

/// Tells the error handler of `core` (null: the thread's, else the process's) of an error nobody can observe.
CALLER_API void report_error(Core* core, const char* where, const std::exception_ptr& error) noexcept;

}  // namespace caller::detail
