// What a fault is called, and what is said of it. Runs in handlers of signals: no memory, no lock. Internal to this
// folder.
#pragma once

#include <signal.h>
#include <ucontext.h>

#include <cstddef>
#include <cstdint>

namespace caller::kernel::faults {

constexpr int kFrames = 128;

/// What is known of a fault, in memory that is there already.
struct Record {
  char name[32];
  char text[400];
  bool heap = false;    // the heap is broken
  bool done = false;    // an end that was asked for: nothing is broken
  bool broken = false;  // the stack could not be read to its end
  int n = 0;
  const void* frames[kFrames];
};

/// Adds to a text in memory that is there already; what does not fit is cut off.
void append(char* to, std::size_t size, const char* text) noexcept;
void append_hex(char* to, std::size_t size, std::uintptr_t value) noexcept;
template <std::size_t N>
void append(char (&to)[N], const char* text) noexcept {
  append(to, N, text);
}

/// Asks glibc where it notes why it aborts. Once, before the first fault.
void find_abort_message() noexcept;

/// Fills in what does not depend on the stack.
void describe(Record& r, int signal, const siginfo_t& info, const ucontext_t& context, bool wild_call,
              bool overflow) noexcept;

/// glibc says these before it takes the lock of the heap.
bool heap_is_unlocked(const Record& r) noexcept;

}  // namespace caller::kernel::faults
