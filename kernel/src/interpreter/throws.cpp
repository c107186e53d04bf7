// Where exceptions are thrown, for the tracebacks of cells: the function that throws them, seen first by everything in
// the process. Only while a cell or a loop that serves cells runs; the walk costs about what throwing itself does.

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>
#include <typeinfo>

#include "faults_of_threads.hpp"
#include "next.hpp"

namespace caller::kernel::faults {
namespace {

constexpr int kFrames = 24;

struct Throw {
  const void* object = nullptr;
  int n = 0;
  const void* frames[kFrames];
};

// The newest ones; an exception that is described was thrown a moment ago.
struct Throws {
  std::mutex mutex;
  std::array<Throw, 256> newest;
  std::size_t next = 0;
};
Throws& throws() {
  static auto* const t = new Throws;  // outlives every thread
  return *t;
}

void note(const void* object) noexcept {
  Throw made;
  made.object = object;
  made.n = cell_frames(made.frames, kFrames);
  Throws& t = throws();
  const std::lock_guard lock(t.mutex);
  for (Throw& old : t.newest)
    if (old.object == object) old.object = nullptr;  // of an exception whose memory this one has
  if (made.n == 0) return;
  t.newest[t.next] = made;
  t.next = (t.next + 1) % t.newest.size();
}

}  // namespace

std::vector<const void*> thrown_at(const std::exception_ptr& exception) {
  const void* object = nullptr;
  static_assert(sizeof exception == sizeof object);  // libstdc++: a pointer to what was thrown
  std::memcpy(&object, &exception, sizeof object);
  Throws& t = throws();
  const std::lock_guard lock(t.mutex);
  const auto it = std::find_if(t.newest.begin(), t.newest.end(), [&](const Throw& x) { return x.object == object; });
  if (!object || it == t.newest.end()) return {};
  return std::vector<const void*>(it->frames, it->frames + it->n);
}

}  // namespace caller::kernel::faults

// Under another name, as the compiler knows this one with types of its own.
extern "C" [[noreturn]] CALLER_API void caller_throw(void* object, std::type_info* type,
                                                     void (*destroy)(void*)) __asm__("__cxa_throw");
extern "C" [[noreturn]] void caller_throw(void* object, std::type_info* type, void (*destroy)(void*)) {
  if (caller::kernel::faults::in_cell()) caller::kernel::faults::note(object);
  static constinit caller::kernel::Next<void(void*, std::type_info*, void (*)(void*))> next("__cxa_throw");
  auto* const real = *next;
  real(object, type, destroy);
  __builtin_unreachable();
}
