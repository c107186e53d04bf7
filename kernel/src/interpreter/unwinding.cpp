// Reads the tables that the personality routine of C++ reads. A frame lets an exception pass, or catches it, unless its
// table has no entry for the call (g++: a function that must not throw) or the entry's action is an exception
// specification (clang's functions that must not throw: Jit marks them so).
#include "unwinding.hpp"

#include <dlfcn.h>
#include <unwind.h>

#include <cstdint>
#include <cstring>

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

enum class Passage { free, blocked };

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
  if (type_encoding != 0xff) read_uleb(p);
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
      if (filter > 0) return Passage::free;  // a handler, of some type
      if (next == 0) return Passage::free;
      a = here + next;
    }
  }
  return Passage::blocked;
}

struct Walk {
  std::uintptr_t end;
  bool blocked = false;
};

_Unwind_Reason_Code step(_Unwind_Context* context, void* data) {
  auto& walk = *static_cast<Walk*>(data);
  if (_Unwind_GetCFA(context) > walk.end) return _URC_END_OF_STACK;
  Dl_info info{};
  const auto ip = reinterpret_cast<void*>(_Unwind_GetIP(context));
  const bool known = dladdr(ip, &info) != 0 && info.dli_fname;
  const bool own = known && std::strstr(info.dli_fname, "caller_display");
  // Code compiled in advance has unmarked terminate handlers; of what it holds only destructors call back into cells.
  if (known && info.dli_sname && std::strstr(info.dli_fname, "caller_prelude") &&
      (std::strstr(info.dli_sname, "D0Ev") || std::strstr(info.dli_sname, "D1Ev") ||
       std::strstr(info.dli_sname, "D2Ev")))
    walk.blocked = true;
  if (!own && passage(context) == Passage::blocked) walk.blocked = true;
  return walk.blocked ? _URC_END_OF_STACK : _URC_NO_REASON;
}

}  // namespace

bool may_throw_up_to(const void* end) noexcept {
  Walk walk{reinterpret_cast<std::uintptr_t>(end)};
  _Unwind_Backtrace(&step, &walk);
  return !walk.blocked;
}

}  // namespace caller::kernel::interrupt
