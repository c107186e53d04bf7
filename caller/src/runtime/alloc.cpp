// Blocks by size class from per-thread magazines with a shared depot behind them: a block that one thread allocates and
// another frees (the normal flow of a cross-thread call) travels back in whole magazines instead of through malloc.
#include <caller/detail/memory.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace caller::detail {

#if !CALLER_POOLED_INLINE

void trim_blocks() noexcept {}
// The sanitizers must see each block's own life.
void* allocate_slow(std::size_t size) { return ::operator new(size); }
void deallocate_slow(void* block, std::size_t) noexcept { ::operator delete(block); }

#else

thread_local constinit BlockCache block_cache{};

namespace {

/// Kept over all classes; the rest goes back to malloc. As much as half a million calls that wait: blocks that went
/// through malloc come back in an order that no cache foresees, and cost twice as much. When a Caller has ended, less.
constexpr std::ptrdiff_t kDepotBytes = 32 << 20, kDepotBytesAfterCaller = 2 << 20;
constexpr std::ptrdiff_t bytes_of_magazine(std::size_t cls) noexcept {
  return static_cast<std::ptrdiff_t>(kMagazine * kBlockSizes[cls]);
}

struct Depot {
  std::mutex mutex;
  std::vector<FreeBlock*> full;  // of kMagazine blocks each
};
std::atomic<std::ptrdiff_t> kept{0};  // bytes in all depots
std::array<Depot, kBlockSizes.size()>& depots() {
  static auto* d =
      new std::array<Depot, kBlockSizes.size()>;  // never destroyed: threads may outlive static destruction
  return *d;
}

void free_blocks(FreeBlock* b) noexcept {
  while (b) ::operator delete(std::exchange(b, b->next));
}

void give_to_depot(std::size_t cls, FreeBlock* full) noexcept {
  try {
    Depot& depot = depots()[cls];
    const std::lock_guard lock(depot.mutex);
    if (kept.load(std::memory_order_relaxed) < kDepotBytes) {
      depot.full.push_back(full);
      kept.fetch_add(bytes_of_magazine(cls), std::memory_order_relaxed);
      return;
    }
  } catch (...) {  // no memory for the depot's list: fall through
  }
  free_blocks(full);
}

/// The second, full magazine of each class, so that a thread at the edge of one does not visit the depot each time.
struct Spares {
  std::array<FreeBlock*, kBlockSizes.size()> full{};
  bool dead = false;
};
thread_local constinit Spares spares{};

struct CacheOwner {
  void touch() const noexcept {}
  ~CacheOwner() {
    spares.dead = true;
    for (std::size_t c = 0; c < kBlockSizes.size(); ++c) {
      if (FreeBlock* full = std::exchange(spares.full[c], nullptr)) give_to_depot(c, full);
      free_blocks(std::exchange(block_cache.current[c], {}).head);  // no room from here on: each block is freed alone
    }
  }
};
thread_local CacheOwner owner;

}  // namespace

void trim_blocks() noexcept {
  for (std::size_t c = kBlockSizes.size(); c-- > 0 && kept.load(std::memory_order_relaxed) > kDepotBytesAfterCaller;) {
    std::vector<FreeBlock*> taken;
    {
      Depot& depot = depots()[c];
      const std::lock_guard lock(depot.mutex);
      taken.swap(depot.full);
      kept.fetch_sub(static_cast<std::ptrdiff_t>(taken.size()) * bytes_of_magazine(c), std::memory_order_relaxed);
    }
    for (FreeBlock* const full : taken) free_blocks(full);
  }
}

void* allocate_slow(std::size_t size) {
  const int cls = block_class(size);
  if (cls < 0) return ::operator new(size);
  const auto c = static_cast<std::size_t>(cls);
  Magazine& m = block_cache.current[c];
  if (FreeBlock* b = m.head) {  // reached by those that do not inline
    m.head = b->next;
    ++m.room;
    return b;
  }
  if (spares.dead) return ::operator new(kBlockSizes[c]);
  owner.touch();
  FreeBlock* full = std::exchange(spares.full[c], nullptr);
  if (!full) {
    Depot& depot = depots()[c];
    const std::lock_guard lock(depot.mutex);
    if (!depot.full.empty()) {
      full = depot.full.back();
      depot.full.pop_back();
      kept.fetch_sub(bytes_of_magazine(c), std::memory_order_relaxed);
    }
  }
  m.room = kMagazine;
  if (!full) return ::operator new(kBlockSizes[c]);
  m.head = full->next;
  m.room = 1;
  return full;
}

void deallocate_slow(void* block, std::size_t size) noexcept {
  const int cls = block_class(size);
  if (cls < 0 || spares.dead) return ::operator delete(block);
  const auto c = static_cast<std::size_t>(cls);
  Magazine& m = block_cache.current[c];
  if (m.room == 0) {
    owner.touch();  // a thread that only frees gives its blocks back, too
    if (m.head) {
      if (spares.full[c]) give_to_depot(c, spares.full[c]);
      spares.full[c] = m.head;
    }
    m = {nullptr, kMagazine};
  }
  auto* b = static_cast<FreeBlock*>(block);
  b->next = m.head;
  m.head = b;
  --m.room;
}

#endif

}  // namespace caller::detail
