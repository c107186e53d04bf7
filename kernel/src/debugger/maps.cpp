#include "maps.hpp"

#include <cstdio>
#include <fstream>
#include <utility>

namespace caller::kernel::debugger {

std::vector<Region> regions() {
  std::vector<Region> out;
  std::ifstream in("/proc/self/maps");
  for (std::string line; std::getline(in, line);) {
    Region r;
    char permissions[8] = "";
    int name = 0;
    unsigned long begin = 0, end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx %7s %*x %*s %lu %n", &begin, &end, permissions, &r.inode, &name) < 4)
      continue;
    r.begin = begin;
    r.end = end;
    r.permissions = permissions;
    if (name > 0 && static_cast<std::size_t>(name) < line.size()) r.name = line.substr(static_cast<std::size_t>(name));
    out.push_back(std::move(r));
  }
  return out;
}

}  // namespace caller::kernel::debugger
