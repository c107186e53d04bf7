#include "stream_locks.hpp"

#include <pthread.h>

#include <cstdio>
#include <initializer_list>

namespace caller::kernel::faults {

void release_streams() noexcept {
  struct Lock {  // as glibc has it
    int lock;
    int count;
    void* owner;
  };
  for (std::FILE* const f : {stdin, stdout, stderr}) {
    const auto* const lock = f ? reinterpret_cast<const Lock*>(f->_lock) : nullptr;
    if (!lock) continue;
    while (__atomic_load_n(&lock->owner, __ATOMIC_RELAXED) == reinterpret_cast<void*>(pthread_self()) &&
           lock->count > 0)
      ::funlockfile(f);
  }
}

}  // namespace caller::kernel::faults
