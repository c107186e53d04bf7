// Whose an address is: code of a cell, of the kernel, of the heap or the loader. Runs in handlers of signals: no
// memory, no lock, but for what says so. Internal to this folder.
#pragma once

#include <dlfcn.h>
#include <unwind.h>

#include <cstdint>

#include "fault_record.hpp"

namespace caller::kernel::faults {

/// glibc's heap is in parts with a lock each, their first member. A block of a thread's own part leads to it: in the
/// part of the program by the list a freed block is put on, else by the header of its region. Null: it does not look
/// so.
/// Allocates.
int* lock_of_heap() noexcept;

/// Looks up the functions of the heap. False: that was done before. Not in a handler.
bool learn_heap();

/// The kernel is the module with this address in it.
void learn_kernel(const void* address) noexcept;

/// The module an address belongs to; null for code made at run time.
const dl_find_object* module_of(const void* address, dl_find_object& found) noexcept;

bool is_code(const void* address) noexcept;

/// What the frames of a fault are, from the innermost one on.
struct Walk {
  Record* record;
  std::uintptr_t end;  // of the guarded frames
  const void* first;   // the pc of the fault: frames above it are the handler's; null: all count
  bool started = false;
  bool cell = false;    // there is code of a cell
  bool kernel = false;  // … that has called the kernel
  bool heap = false;    // the fault is inside of malloc
  bool loader = false;
  bool touching = false;
  bool in_front = true;            // no frame outside of libc yet
  std::uintptr_t return_slot = 0;  // where the innermost function called by a cell finds its way back
  int seen = 0;
  bool first_in_kernel = false;
};

/// Takes in one frame: for _Unwind_Backtrace, with a Walk.
_Unwind_Reason_Code look_at(_Unwind_Context* context, void* data) noexcept;

}  // namespace caller::kernel::faults
