#include "code_pages.hpp"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstring>

namespace caller::kernel {

// A page that was written before its mapping became read-only (relocations) or by a debugger is the process's own and
// would be lost: mappings that have any are left alone. So are small ones, among them the program itself, where a
// debugger may be about to write.
void give_back_code_pages() noexcept {
  constexpr std::uintptr_t kWorthwhile = std::uintptr_t{4} << 20;
  std::FILE* const f = std::fopen("/proc/self/smaps", "re");
  if (!f) return;
  char line[512];
  std::uintptr_t begin = 0, end = 0;
  bool fits = false, whole = true;  // `whole`: the line before was read to its end
  while (std::fgets(line, sizeof line, f)) {
    const bool first = whole;
    whole = std::strchr(line, '\n') != nullptr;
    if (!first) continue;
    unsigned long b = 0, e = 0, own = 0;
    char rights[8], path[2];
    const int fields = std::sscanf(line, "%lx-%lx %4s %*s %*s %*s %1s", &b, &e, rights, path);
    if (fields >= 3) {
      begin = b;
      end = e;
      fits = fields == 4 && path[0] == '/' && rights[1] != 'w' && rights[3] == 'p' && end - begin >= kWorthwhile;
    } else if (fits && std::sscanf(line, "Anonymous: %lu", &own) == 1 && own == 0) {
      ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
    }
  }
  std::fclose(f);
}

}  // namespace caller::kernel
