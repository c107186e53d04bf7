// Reads the tables that the personality routine of C++ reads. A frame lets an exception pass, or catches it, unless its
// table has no entry for the call (g++: a function that must not throw) or the entry's action is an exception
// specification (clang's functions that must not throw: Jit marks them so).
#include "unwinding.hpp"

#include <dlfcn.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <unwind.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

namespace caller::kernel::interrupt {
namespace {

std::uint64_t read_uleb(const unsigned char*& p) {
  std::uint64_t v = 0;
  unsigned shift = 0;
  unsigned char b;
  do {
    b = *p++;
    v |= static_cast<std::uint64_t>(b & 0x7fu) << shift;
    shift += 7;
  } while (b & 0x80u);
  return v;
}

std::int64_t read_sleb(const unsigned char*& p) {
  std::int64_t v = 0;
  unsigned shift = 0;
  unsigned char b;
  do {
    b = *p++;
    v |= static_cast<std::int64_t>(b & 0x7fu) << shift;
    shift += 7;
  } while (b & 0x80u);
  if (shift < 64 && (b & 0x40u)) v |= -(std::int64_t{1} << shift);
  return v;
}

template <class T>
std::uintptr_t fixed(const unsigned char*& p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  p += sizeof v;
  return static_cast<std::uintptr_t>(v);
}

// Encoded as DW_EH_PE; the bases do not matter for call sites, which are offsets.
std::uintptr_t read_encoded(const unsigned char*& p, unsigned char encoding) {
  switch (encoding & 0x0fu) {
    case 0x01:
      return read_uleb(p);
    case 0x02:
      return fixed<std::uint16_t>(p);
    case 0x03:
      return fixed<std::uint32_t>(p);
    case 0x09:
      return static_cast<std::uintptr_t>(read_sleb(p));
    case 0x0a:
      return fixed<std::int16_t>(p);
    case 0x0b:
      return fixed<std::int32_t>(p);
    default:
      return fixed<std::uintptr_t>(p);
  }
}

/// `catch (...)` has an empty entry in the table of types.
bool catches_all(const unsigned char* types, unsigned char encoding, std::int64_t filter) {
  if (!types) return false;
  std::size_t size = sizeof(void*);
  switch (encoding & 0x07u) {
    case 0x02:
      size = 2;
      break;
    case 0x03:
      size = 4;
      break;
    default:
      break;
  }
  const unsigned char* entry = types - static_cast<std::size_t>(filter) * size;
  return std::all_of(entry, entry + size, [](unsigned char c) { return c == 0; });
}

enum class Passage { free, caught, blocked };

Passage passage(_Unwind_Context* context) {
  const auto* p = static_cast<const unsigned char*>(_Unwind_GetLanguageSpecificData(context));
  if (!p) return Passage::free;
  int before = 0;
  std::uintptr_t ip = _Unwind_GetIPInfo(context, &before);
  if (!before) --ip;
  const std::uintptr_t start = _Unwind_GetRegionStart(context);
  const unsigned char landing_encoding = *p++;
  if (landing_encoding != 0xff) read_encoded(p, landing_encoding);
  const unsigned char type_encoding = *p++;
  const unsigned char* types = nullptr;  // the entry of filter f stands f entries before this
  if (type_encoding != 0xff) {
    const std::uint64_t offset = read_uleb(p);
    types = p + offset;
  }
  const unsigned char site_encoding = *p++;
  const std::uint64_t length = read_uleb(p);
  const unsigned char* actions = p + length;
  while (p < actions) {
    const std::uintptr_t begin = read_encoded(p, site_encoding);
    const std::uintptr_t size = read_encoded(p, site_encoding);
    const std::uintptr_t pad = read_encoded(p, site_encoding);
    std::uint64_t action = read_uleb(p);
    if (ip < start + begin) return Passage::blocked;  // a gap: std::terminate
    if (ip >= start + begin + size) continue;
    if (!pad || !action) return Passage::free;
    const unsigned char* a = actions + action - 1;
    for (;;) {
      const std::int64_t filter = read_sleb(a);
      const unsigned char* here = a;
      const std::int64_t next = read_sleb(a);
      if (filter < 0) return Passage::blocked;
      if (filter > 0 && catches_all(types, type_encoding, filter)) return Passage::caught;
      if (next == 0) return Passage::free;
      a = here + next;
    }
  }
  return Passage::blocked;
}

struct Walk {
  std::uintptr_t end = UINTPTR_MAX;
  std::uintptr_t frame = 0;  // looked at last
  Throwing result = Throwing::safe;
  bool stopped = false;  // at a frame that ends the search
  bool caught = false;   // the frame before catches everything
};

/// Where the program itself is loaded. Its `catch (...)` are the ends of what cells do; elsewhere (containers) they
/// often clean up and throw on.
const void* program() {
  static const void* const base = [] {
    Dl_info info{};
    return dladdr(reinterpret_cast<void*>(getauxval(AT_ENTRY)), &info) != 0 ? info.dli_fbase : nullptr;
  }();
  return base;
}

_Unwind_Reason_Code step(_Unwind_Context* context, void* data) {
  auto& walk = *static_cast<Walk*>(data);
  walk.frame = _Unwind_GetCFA(context);
  walk.stopped = walk.frame > walk.end;
  if (walk.stopped) return _URC_END_OF_STACK;
  Dl_info info{};
  const auto ip = reinterpret_cast<void*>(_Unwind_GetIP(context));
  const bool known = dladdr(ip, &info) != 0 && info.dli_fname;
  const auto in = [&](const char* library) { return known && std::strstr(info.dli_fname, library) != nullptr; };
  // Code compiled in advance has unmarked terminate handlers; of what it holds only destructors call back into cells.
  if (in("caller_prelude") && info.dli_sname &&
      (std::strstr(info.dli_sname, "D0Ev") || std::strstr(info.dli_sname, "D1Ev") ||
       std::strstr(info.dli_sname, "D2Ev"))) {
    walk.result = Throwing::deadly;
    return _URC_END_OF_STACK;
  }
  if (in("caller_display")) return _URC_NO_REASON;
  const Passage p = passage(context);
  const bool caught_below = std::exchange(walk.caught, p == Passage::caught);
  if (p == Passage::blocked) {
    // The runtime, of which the program has inlined parts, resumes coroutines, and the body of a coroutine keeps what
    // it throws.
    walk.stopped = caught_below && (in("caller_runtime") || (known && info.dli_fbase == program()));
    if (!walk.stopped) walk.result = Throwing::deadly;
    return _URC_END_OF_STACK;
  }
  if (p == Passage::caught && in("libstdc++")) walk.result = Throwing::swallowed;
  walk.stopped = p == Passage::caught && known && info.dli_fbase == program();
  return walk.stopped ? _URC_END_OF_STACK : _URC_NO_REASON;
}

}  // namespace

Throwing would_throw(const void* end, std::uintptr_t& deadly_frame) noexcept {
  Walk walk;
  walk.end = end ? reinterpret_cast<std::uintptr_t>(end) : UINTPTR_MAX;
  _Unwind_Backtrace(&step, &walk);
  deadly_frame = walk.frame;
  // The end of the stack without a handler is the end of the process.
  return walk.stopped ? walk.result : Throwing::deadly;
}

bool on_this_stack(const void* address) noexcept {
  struct Bounds {
    const char* low = nullptr;
    const char* high = nullptr;
    Bounds() noexcept {
      pthread_attr_t attributes;
      if (pthread_getattr_np(pthread_self(), &attributes) != 0) return;
      void* base = nullptr;
      std::size_t size = 0;
      if (pthread_attr_getstack(&attributes, &base, &size) == 0) {
        low = static_cast<const char*>(base);
        high = low + size;
      }
      pthread_attr_destroy(&attributes);
    }
  };
  thread_local const Bounds bounds;
  const auto* a = static_cast<const char*>(address);
  return a >= bounds.low && a < bounds.high;
}

}  // namespace caller::kernel::interrupt
