#include "thread_locals.hpp"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

extern "C" void* __tls_get_addr(void* place);  // of the loader

namespace caller::kernel {

struct EmulatedTls {
  std::size_t size;
  std::size_t align;
  std::uintptr_t index;  // the runtime's; 0 until first used
  void* initial;
};

namespace {

constexpr std::uintptr_t kOfLibrary = UINTPTR_MAX;  // the index of a variable whose `initial` is its PlaceOfLibrary

/// Where the loader keeps a variable: the block of a library, of which each thread has its own, and the place in it.
struct PlaceOfLibrary {  // as __tls_get_addr takes it
  unsigned long module;
  unsigned long offset;
  auto operator<=>(const PlaceOfLibrary&) const = default;
};

struct Blocks {
  std::vector<void*> blocks;
  ~Blocks() {
    for (void* b : blocks) std::free(b);
  }
};
thread_local Blocks of_cells;

/// An address is that of a thread-local variable exactly if it lies in a block of the calling thread.
bool find_in_thread(const void* address, PlaceOfLibrary& place) {
  struct Search {
    std::uintptr_t address;
    PlaceOfLibrary& place;
  } search{reinterpret_cast<std::uintptr_t>(address), place};
  return ::dl_iterate_phdr(
             [](dl_phdr_info* info, std::size_t size, void* data) {
               auto& s = *static_cast<Search*>(data);
               constexpr std::size_t kNeeded = offsetof(dl_phdr_info, dlpi_tls_data) + sizeof(void*);
               if (size < kNeeded || !info->dlpi_tls_data) return 0;
               const std::uintptr_t offset = s.address - reinterpret_cast<std::uintptr_t>(info->dlpi_tls_data);
               for (std::size_t i = 0; i < info->dlpi_phnum; ++i) {
                 if (info->dlpi_phdr[i].p_type != PT_TLS || offset >= info->dlpi_phdr[i].p_memsz) continue;
                 s.place = {info->dlpi_tls_modid, offset};
                 return 1;
               }
               return 0;
             },
             &search) != 0;
}

}  // namespace

void* thread_local_address(EmulatedTls* control) {
  static std::mutex mutex;
  static std::uintptr_t next = 0;
  std::uintptr_t index = __atomic_load_n(&control->index, __ATOMIC_ACQUIRE);
  if (index == kOfLibrary) return __tls_get_addr(control->initial);
  if (!index) {
    const std::lock_guard lock(mutex);
    if (!control->index) __atomic_store_n(&control->index, ++next, __ATOMIC_RELEASE);
    index = control->index;
  }
  auto& blocks = of_cells.blocks;
  if (blocks.size() < index) blocks.resize(index);
  void*& block = blocks[index - 1];
  if (!block) {
    const std::size_t align = std::max(control->align, sizeof(void*));
    block = std::aligned_alloc(align, (control->size + align - 1) / align * align);
    if (control->initial)
      std::memcpy(block, control->initial, control->size);
    else
      std::memset(block, 0, control->size);
  }
  return block;
}

EmulatedTls* thread_local_of_library(const std::string& name) {
  struct Known {
    PlaceOfLibrary place;
    EmulatedTls control{0, 0, kOfLibrary, &place};
    explicit Known(const PlaceOfLibrary& p) : place(p) {}
  };
  static std::mutex mutex;
  static auto* const all = new std::map<PlaceOfLibrary, std::unique_ptr<Known>>;  // code of cells has their addresses

  // The look-up makes the calling thread's copy, if there was none.
  const void* const here = ::dlsym(RTLD_DEFAULT, name.c_str());
  PlaceOfLibrary place{};
  if (!here || !find_in_thread(here, place)) return nullptr;
  const std::lock_guard lock(mutex);
  auto& known = (*all)[place];
  if (!known) known = std::make_unique<Known>(place);
  return &known->control;
}

}  // namespace caller::kernel
