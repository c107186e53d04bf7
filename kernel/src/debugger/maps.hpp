// The parts of this process's memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace caller::kernel::debugger {

/// A line of /proc/self/maps.
struct Region {
  std::uintptr_t begin = 0, end = 0;
  std::string permissions, name;
  unsigned long inode = 0;
};

std::vector<Region> regions();

}  // namespace caller::kernel::debugger
