// Blocks by size class from per-thread magazines with a shared depot behind them: a block that one thread allocates and
// another frees (the normal flow of a cross-thread call) travels back in whole magazines instead of through malloc.
#include <caller/detail/op.hpp>

#include <array>
#include <cstdint>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace caller::detail {

#if defined(CALLER_SANITIZED)

// The sanitizers must see each block's own life.
void* allocate(std::size_t size) { return ::operator new(size); }
void deallocate(void* block, std::size_t size) noexcept { ::operator delete(block, size); }

#else

namespace {

struct FreeBlock {
  FreeBlock* next;
};
struct Magazine {
  FreeBlock* head = nullptr;
  std::uint32_t count = 0;
};

constexpr std::array<std::size_t, 7> kClasses{64, 128, 192, 256, 384, 512, 1024};
constexpr std::uint32_t kMagazine = 64;
constexpr std::size_t kDepotLimit = 64;  // full magazines kept a class; the rest goes back to malloc

constexpr int class_of(std::size_t size) noexcept {
  if (size <= 256) return size == 0 ? 0 : static_cast<int>((size - 1) / 64);
  if (size <= 384) return 4;
  if (size <= 512) return 5;
  return size <= 1024 ? 6 : -1;
}

struct Depot {
  std::mutex mutex;
  std::vector<Magazine> full;
};
std::array<Depot, kClasses.size()>& depots() {
  static auto* d = new std::array<Depot, kClasses.size()>;  // never destroyed: threads may outlive static destruction
  return *d;
}

void free_magazine(Magazine m) noexcept {
  while (FreeBlock* b = m.head) {
    m.head = b->next;
    ::operator delete(b);
  }
}

void give_to_depot(int cls, Magazine m) noexcept {
  if (!m.head) return;
  try {
    Depot& depot = depots()[static_cast<std::size_t>(cls)];
    std::lock_guard lock(depot.mutex);
    if (depot.full.size() < kDepotLimit) {
      depot.full.push_back(m);
      return;
    }
  } catch (...) {  // no memory for the depot's list: fall through
  }
  free_magazine(m);
}

struct Cache {
  std::array<Magazine, kClasses.size()> current{};
  std::array<Magazine, kClasses.size()> spare{};
  bool dead = false;
};
thread_local constinit Cache cache __attribute__((tls_model("initial-exec"))){};

struct CacheOwner {
  void touch() const noexcept {}
  ~CacheOwner() {
    cache.dead = true;
    for (std::size_t i = 0; i < kClasses.size(); ++i) {
      give_to_depot(static_cast<int>(i), std::exchange(cache.current[i], {}));
      give_to_depot(static_cast<int>(i), std::exchange(cache.spare[i], {}));
    }
  }
};
thread_local CacheOwner owner;

void* allocate_slow(std::size_t c) {
  if (!cache.dead) {
    owner.touch();
    if (cache.spare[c].head) {
      std::swap(cache.current[c], cache.spare[c]);
    } else {
      Depot& depot = depots()[c];
      std::lock_guard lock(depot.mutex);
      if (depot.full.empty()) return ::operator new(kClasses[c]);
      cache.current[c] = depot.full.back();
      depot.full.pop_back();
    }
    Magazine& m = cache.current[c];
    FreeBlock* b = m.head;
    m.head = b->next;
    --m.count;
    return b;
  }
  return ::operator new(kClasses[c]);
}

}  // namespace

void* allocate(std::size_t size) {
  const int cls = class_of(size);
  if (cls < 0) [[unlikely]]
    return ::operator new(size);
  Magazine& m = cache.current[static_cast<std::size_t>(cls)];
  if (FreeBlock* b = m.head) [[likely]] {
    m.head = b->next;
    --m.count;
    return b;
  }
  return allocate_slow(static_cast<std::size_t>(cls));
}

void deallocate(void* block, std::size_t size) noexcept {
  const int cls = class_of(size);
  if (cls < 0 || cache.dead) [[unlikely]] {
    ::operator delete(block);
    return;
  }
  const auto c = static_cast<std::size_t>(cls);
  Magazine& m = cache.current[c];
  if (m.count >= kMagazine) [[unlikely]] {
    owner.touch();
    give_to_depot(cls, std::exchange(cache.spare[c], std::exchange(m, {})));
  }
  if (!m.head) [[unlikely]]
    owner.touch();  // a thread that only frees gives its blocks back, too
  auto* b = static_cast<FreeBlock*>(block);
  b->next = m.head;
  m.head = b;
  ++m.count;
}

#endif

}  // namespace caller::detail
