// Where the blocks of the runtime come from: per-thread magazines with a shared depot behind them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include <caller/export.hpp>

// What touches thread-local data of the library is inlined, except where that cannot link (cells of the interpreter) or
// would hide the life of a block from a sanitizer.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(CALLER_SANITIZED)
#define CALLER_POOLED_INLINE 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define CALLER_POOLED_INLINE 0
#endif
#endif
#if defined(CALLER_IN_CELL)
#undef CALLER_POOLED_INLINE
#define CALLER_POOLED_INLINE 0
#elif !defined(CALLER_POOLED_INLINE)
#define CALLER_POOLED_INLINE 1
#endif

namespace caller::detail {

/// A stack of free blocks of one size: an array of pointers, not a list through the blocks, since to look for the next
/// one in a block that has left the cache is what the thread would wait for. One nobody has touched has no array.
struct Magazine {
  void **top = nullptr, **begin = nullptr, **end = nullptr;
};

inline constexpr std::array<std::size_t, 7> kBlockSizes{64, 128, 192, 256, 384, 512, 1024};
inline constexpr std::size_t kMagazine = 64;
constexpr int block_class(std::size_t size) noexcept {
  if (size <= 256) return size == 0 ? 0 : static_cast<int>((size - 1) / 64);
  if (size <= 384) return 4;
  if (size <= 512) return 5;
  return size <= 1024 ? 6 : -1;
}

/// The last magazine is for blocks of no class: it never has any, nor room for one.
struct BlockCache {
  std::array<Magazine, kBlockSizes.size() + 1> current{};
};
/// Where in a BlockCache the magazine for blocks of `size` bytes is.
constexpr std::uint8_t magazine_of(std::size_t size) noexcept {
  const int c = block_class(size);
  return static_cast<std::uint8_t>(sizeof(Magazine) * (c < 0 ? kBlockSizes.size() : static_cast<std::size_t>(c)));
}
inline constexpr std::uint8_t kNoMagazine = sizeof(Magazine) * kBlockSizes.size();

[[nodiscard]] CALLER_API void* allocate_slow(std::size_t size);
CALLER_API void deallocate_slow(void* block, std::size_t size) noexcept;
/// Gives most of the free blocks that no thread has at hand back to malloc.
CALLER_API void trim_blocks() noexcept;

#if CALLER_POOLED_INLINE
extern CALLER_API thread_local constinit BlockCache block_cache __attribute__((tls_model("initial-exec")));
#endif

/// A block of at least `size` bytes; it may be freed on another thread than the one that allocated it.
/// Thread-safety: any thread. Errors: std::bad_alloc.
[[nodiscard]] inline void* allocate(std::size_t size) {
#if CALLER_POOLED_INLINE
  const int c = block_class(size);
  if (c >= 0) [[likely]] {
    Magazine& m = block_cache.current[static_cast<std::size_t>(c)];
    if (m.top != m.begin) [[likely]]
      return *--m.top;
  }
#endif
  return allocate_slow(size);
}

inline void deallocate(void* block, std::size_t size) noexcept {
#if CALLER_POOLED_INLINE
  const int c = block_class(size);
  if (c >= 0) [[likely]] {
    Magazine& m = block_cache.current[static_cast<std::size_t>(c)];
    if (m.top != m.end) [[likely]] {
      *m.top++ = block;
      return;
    }
  }
#endif
  deallocate_slow(block, size);
}

/// The same, as far as that is little work, of a block whose magazine_of() is known. False: it is not, nothing is done.
inline bool deallocate_quickly(void* block, std::uint8_t magazine) noexcept {
#if CALLER_POOLED_INLINE
  Magazine& m = *reinterpret_cast<Magazine*>(reinterpret_cast<unsigned char*>(&block_cache) + magazine);
  if (m.top != m.end) [[likely]] {
    *m.top++ = block;
    return true;
  }
#else
  static_cast<void>(block), static_cast<void>(magazine);
#endif
  return false;
}

}  // namespace caller::detail
