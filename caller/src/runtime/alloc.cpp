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

/// Arrays of kMagazine pointers: to as many blocks, and those that have none at the moment.
struct Depot {
  std::mutex mutex;
  std::vector<void**> full, empty;
};
std::atomic<std::ptrdiff_t> kept{0};  // bytes in all depots
/// Never destroyed: threads may outlive static destruction.
union Depots {
  std::array<Depot, kBlockSizes.size()> all{};
  constexpr Depots() noexcept {}
  ~Depots() {}
};
constinit Depots depots;
Depot& depot_of(std::size_t cls) noexcept { return depots.all[cls]; }

void** take_last(std::vector<void**>& from) noexcept {
  if (from.empty()) return nullptr;
  void** const last = from.back();
  from.pop_back();
  return last;
}

void free_magazine(void** begin, void* const* end) noexcept {
  for (void* const* b = begin; b != end; ++b) ::operator delete(*b);
  delete[] begin;
}

/// Leaves `full`, if it is not null. Returns an array that is empty, null if there is none.
void** change_for_empty(std::size_t cls, void** full) noexcept {
  Depot& depot = depot_of(cls);
  {
    const std::lock_guard lock(depot.mutex);
    if (full && kept.load(std::memory_order_relaxed) < kDepotBytes) {
      try {
        depot.full.push_back(full);
        kept.fetch_add(bytes_of_magazine(cls), std::memory_order_relaxed);
        full = nullptr;
      } catch (...) {  // no memory for the depot's list: malloc gets the blocks
      }
    }
    if (!full) return take_last(depot.empty);
  }
  for (std::size_t i = 0; i < kMagazine; ++i) ::operator delete(full[i]);
  return full;
}

/// Leaves `empty`, if it is not null and a full one is there. Returns that, or null.
void** change_for_full(std::size_t cls, void**& empty) noexcept {
  Depot& depot = depot_of(cls);
  const std::lock_guard lock(depot.mutex);
  void** const full = take_last(depot.full);
  if (!full) return nullptr;
  kept.fetch_sub(bytes_of_magazine(cls), std::memory_order_relaxed);
  if (!empty) return full;
  try {
    depot.empty.push_back(empty);
  } catch (...) {
    delete[] empty;
  }
  empty = nullptr;
  return full;
}

/// The second magazine of each class, a full or an empty one or none, so that a thread at the edge of one does not
/// visit the depot each time.
struct Spares {
  std::array<void**, kBlockSizes.size()> full{}, empty{};
  bool dead = false;
};
thread_local constinit Spares spares{};

struct CacheOwner {
  void touch() const noexcept {}
  ~CacheOwner() {
    spares.dead = true;
    for (std::size_t c = 0; c < kBlockSizes.size(); ++c) {
      if (void** const full = std::exchange(spares.full[c], nullptr)) delete[] change_for_empty(c, full);
      delete[] std::exchange(spares.empty[c], nullptr);
      // No room from here on: each block is freed alone.
      const Magazine m = std::exchange(block_cache.current[c], {});
      free_magazine(m.begin, m.top);
    }
  }
};
thread_local CacheOwner owner;

}  // namespace

void trim_blocks() noexcept {
  for (std::size_t c = kBlockSizes.size(); c-- > 0;) {
    std::vector<void**> full, empty;
    {
      Depot& depot = depot_of(c);
      const std::lock_guard lock(depot.mutex);
      empty.swap(depot.empty);
      if (kept.load(std::memory_order_relaxed) > kDepotBytesAfterCaller) full.swap(depot.full);
      kept.fetch_sub(static_cast<std::ptrdiff_t>(full.size()) * bytes_of_magazine(c), std::memory_order_relaxed);
    }
    for (void** const f : full) free_magazine(f, f + kMagazine);
    for (void** const e : empty) delete[] e;
  }
}

void* allocate_slow(std::size_t size) {
  const int cls = block_class(size);
  if (cls < 0) return ::operator new(size);
  const auto c = static_cast<std::size_t>(cls);
  Magazine& m = block_cache.current[c];
  if (m.top != m.begin) return *--m.top;  // reached by those that do not inline
  if (spares.dead) return ::operator new(kBlockSizes[c]);
  owner.touch();
  void** full = std::exchange(spares.full[c], nullptr);
  if (!full) full = change_for_full(c, spares.empty[c]);
  if (!full) return ::operator new(kBlockSizes[c]);
  spares.empty[c] = m.begin;
  m = {full + kMagazine, full, full + kMagazine};
  return *--m.top;
}

void deallocate_slow(void* block, std::size_t size) noexcept {
  const int cls = block_class(size);
  if (cls < 0 || spares.dead) return ::operator delete(block);
  const auto c = static_cast<std::size_t>(cls);
  Magazine& m = block_cache.current[c];
  if (m.top == m.end) {
    owner.touch();  // a thread that only frees gives its blocks back, too
    void** empty = std::exchange(spares.empty[c], nullptr);
    if (!empty) empty = change_for_empty(c, std::exchange(spares.full[c], nullptr));
    if (!empty) empty = new (std::nothrow) void*[kMagazine];
    if (!empty) return ::operator delete(block);
    spares.full[c] = m.begin;
    m = {empty, empty, empty + kMagazine};
  }
  *m.top++ = block;
}

#endif

}  // namespace caller::detail
