#include "count_new.hpp"

#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<std::int64_t> calls{0};
std::atomic<std::int64_t> requested{0};
std::atomic<std::int64_t> bytes{0};

std::int64_t size_of(void* block) noexcept { return static_cast<std::int64_t>(malloc_usable_size(block)); }

void* take(void* block, std::size_t size) {
  if (!block) throw std::bad_alloc();
  calls.fetch_add(1, std::memory_order_relaxed);
  requested.fetch_add(static_cast<std::int64_t>(size), std::memory_order_relaxed);
  bytes.fetch_add(size_of(block), std::memory_order_relaxed);
  return block;
}
void give_back(void* block) noexcept {
  if (!block) return;
  bytes.fetch_sub(size_of(block), std::memory_order_relaxed);
  std::free(block);
}

}  // namespace

namespace bench {
NewCount new_count() noexcept {
  return {calls.load(std::memory_order_relaxed), requested.load(std::memory_order_relaxed),
          bytes.load(std::memory_order_relaxed)};
}
}  // namespace bench

// The forms not replaced here (arrays, nothrow) call these.
void* operator new(std::size_t size) { return take(std::malloc(size), size); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  const auto a = static_cast<std::size_t>(alignment);
  return take(std::aligned_alloc(a, (size + a - 1) / a * a), size);
}
void operator delete(void* block) noexcept { give_back(block); }
void operator delete(void* block, std::size_t) noexcept { give_back(block); }
void operator delete(void* block, std::align_val_t) noexcept { give_back(block); }
void operator delete(void* block, std::size_t, std::align_val_t) noexcept { give_back(block); }
