// Counts what the program takes from operator new, which count_new.cpp replaces.
#pragma once

#include <cstdint>

namespace bench {

struct NewCount {
  std::int64_t calls = 0;      // of operator new, since the program began
  std::int64_t requested = 0;  // bytes asked for in those calls
  std::int64_t bytes = 0;      // in use now, as large as the allocator made them
};
/// Thread-safety: any thread.
NewCount new_count() noexcept;

}  // namespace bench
