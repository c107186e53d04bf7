#include "fault_places.hpp"

#include <link.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "faults.hpp"

namespace caller::kernel::faults {

namespace {

const void* kernel_start = nullptr;  // of the module that holds the kernel
std::array<std::uintptr_t, 8> heap_functions{};

}  // namespace

int* lock_of_heap() noexcept {
  constexpr std::size_t kBlock = 2000, kRegion = std::size_t{64} << 20, kListInPart = 96;
  // So that the freed block is not joined with what is free beside it. Volatile: a block that is only freed again need
  // not be made at all.
  void* const volatile before_it = std::malloc(kBlock);
  void* const block = std::malloc(kBlock);
  void* const volatile behind = std::malloc(kBlock);
  auto at = reinterpret_cast<std::uintptr_t>(block);
  __asm__ volatile("" : "+r"(at));  // the compiler need not know what is read here
  const auto word = [](std::uintptr_t address) { return *reinterpret_cast<const volatile std::uintptr_t*>(address); };
  const bool own = block && (word(at - sizeof(void*)) & 4);
  std::free(block);
  const std::uintptr_t address = !block ? 0 : own ? word(at & ~(kRegion - 1)) : word(at + sizeof(void*)) - kListInPart;
  std::free(behind);
  std::free(before_it);
  auto* const part = reinterpret_cast<int*>(address);
  dl_find_object found;
  if (!block || (!own && ::_dl_find_object(part, &found) != 0))
    return nullptr;  // the program's part is a variable of libc
  return part;
}

bool learn_heap() {
  if (heap_functions[0]) return false;
  std::size_t n = 0;
  for (const char* name : {"malloc", "free", "calloc", "realloc", "memalign", "aligned_alloc", "posix_memalign"})
    heap_functions[n++] = reinterpret_cast<std::uintptr_t>(::dlsym(RTLD_DEFAULT, name));
  return true;
}

void learn_kernel(const void* address) noexcept {
  dl_find_object found;
  kernel_start = module_of(address, found) ? found.dlfo_map_start : nullptr;
}

const dl_find_object* module_of(const void* address, dl_find_object& found) noexcept {
  return ::_dl_find_object(const_cast<void*>(address), &found) == 0 ? &found : nullptr;
}

bool is_code(const void* address) noexcept {
  if (reinterpret_cast<std::uintptr_t>(address) < 4096) return false;
  dl_find_object found;
  if (module_of(address, found)) return true;
  // Memory of the JIT: it has unwind tables.
  return ::_Unwind_FindEnclosingFunction(const_cast<void*>(address)) != nullptr;
}

_Unwind_Reason_Code look_at(_Unwind_Context* context, void* data) noexcept {
  auto& walk = *static_cast<Walk*>(data);
  int before_instruction = 0;
  std::uintptr_t pc = _Unwind_GetIPInfo(context, &before_instruction);
  if (!pc) return _URC_END_OF_STACK;
  if (!walk.started) {
    if (walk.first && reinterpret_cast<const void*>(pc) != walk.first) return _URC_NO_REASON;
    walk.started = true;
  }
  const std::uintptr_t sp = _Unwind_GetCFA(context);
  if (sp > walk.end) {
    walk.record->broken = false;
    return _URC_END_OF_STACK;
  }
  if (++walk.seen > 4096) return _URC_END_OF_STACK;
  const std::uintptr_t slot = sp - sizeof(void*);
  const std::uintptr_t function = _Unwind_GetRegionStart(context);
  if (!before_instruction) --pc;
  const auto* address = reinterpret_cast<const void*>(pc);
  dl_find_object found;
  const dl_find_object* module = module_of(address, found);
  if (walk.record->n < kFrames) walk.record->frames[walk.record->n++] = address;
  if (!module) {
    if (!walk.cell && walk.seen > 1) walk.return_slot = slot;
    walk.cell = true;
    walk.in_front = false;
    return _URC_NO_REASON;
  }
  const char* name = module->dlfo_link_map ? module->dlfo_link_map->l_name : "";
  if (walk.in_front) {
    walk.in_front = std::strstr(name, "/libc.so") || std::strstr(name, "/ld-linux");
    if (std::find(heap_functions.begin(), heap_functions.end(), function) != heap_functions.end()) {
      walk.record->heap = true;
      walk.heap = walk.seen > 1;  // these functions themselves hold no lock, what they call may
    }
    if (std::strstr(name, "/ld-linux")) walk.loader = true;
  }
  if (walk.seen == 1) walk.touching = function == reinterpret_cast<std::uintptr_t>(&touch);
  if (!walk.cell && module->dlfo_map_start == kernel_start) {
    walk.kernel = !walk.touching;
    walk.first_in_kernel |= walk.seen == 1;
  }
  return _URC_NO_REASON;
}

}  // namespace caller::kernel::faults
