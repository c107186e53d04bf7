#include "fault_record.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cstring>

namespace caller::kernel::faults {
namespace {

const char* const* abort_message = nullptr;  // glibc's own note

void describe_memory(Record& r, const siginfo_t& info, const ucontext_t& context, bool wild_call) noexcept {
  const auto address = reinterpret_cast<std::uintptr_t>(info.si_addr);
  const auto error = context.uc_mcontext.gregs[REG_ERR];
  if (wild_call) {
    append(r.text, "call of a function at address ");
    append_hex(r.text, sizeof r.text, address);
  } else if (info.si_code == SI_KERNEL) {
    append(r.text, "access to an address that cannot exist");
    return;
  } else {
    append(r.text, error & 2 ? "write to address " : "read of address ");
    append_hex(r.text, sizeof r.text, address);
  }
  if (address < 4096) append(r.text, " (null pointer)");
}

/// clang's check of a divisor ends in `ud1 kind(%eax), %eax`; 3 is a division.
bool is_division(const ucontext_t& context) noexcept {
  const auto* code = reinterpret_cast<const unsigned char*>(context.uc_mcontext.gregs[REG_RIP]);
  return code[0] == 0x67 && code[1] == 0x0f && code[2] == 0xb9 && code[3] == 0x40 && code[4] == 3;
}

}  // namespace

void append(char* to, std::size_t size, const char* text) noexcept {
  const std::size_t at = std::strlen(to);
  if (at + 1 < size) {
    const std::size_t n = std::min(std::strlen(text), size - at - 1);
    std::memcpy(to + at, text, n);
    to[at + n] = 0;
  }
}
void append_hex(char* to, std::size_t size, std::uintptr_t value) noexcept {
  char digits[20];
  int at = 19;
  digits[at] = 0;
  do digits[--at] = "0123456789abcdef"[value & 15];
  while ((value >>= 4) != 0);
  digits[--at] = 'x';
  digits[--at] = '0';
  append(to, size, digits + at);
}

void find_abort_message() noexcept {
  abort_message = static_cast<const char* const*>(::dlvsym(RTLD_DEFAULT, "__abort_msg", "GLIBC_PRIVATE"));
}

void describe(Record& r, int signal, const siginfo_t& info, const ucontext_t& context, bool wild_call,
              bool overflow) noexcept {
  r.name[0] = r.text[0] = 0;
  r.heap = r.done = false;
  if (overflow) {
    append(r.name, "StackOverflow");
    append(r.text, "the stack is used up (a recursion without end, or variables too big for it)");
    return;
  }
  if (info.si_code == SI_TKILL || info.si_code == SI_USER) {
    if (signal != SIGABRT) append(r.text, "raised by the program");
  }
  switch (signal) {
    case SIGSEGV:
      append(r.name, "SegmentationFault");
      if (!*r.text) describe_memory(r, info, context, wild_call);
      break;
    case SIGBUS:
      append(r.name, "BusError");
      if (!*r.text) {
        append(r.text, "access to memory that is not there, at address ");
        append_hex(r.text, sizeof r.text, reinterpret_cast<std::uintptr_t>(info.si_addr));
      }
      break;
    case SIGFPE:
      append(r.name, "ArithmeticFault");
      if (!*r.text)
        append(r.text, info.si_code == FPE_INTDIV ? "division by zero, or a quotient that is too big" : "arithmetic");
      break;
    case SIGILL:
      if (!*r.text && is_division(context)) {
        append(r.name, "ArithmeticFault");
        append(r.text, "division by zero");
        break;
      }
      append(r.name, "IllegalInstruction");
      if (!*r.text)
        append(r.text, "an instruction that does not exist (__builtin_trap, or a place that must never be reached)");
      break;
    case SIGTRAP:
      append(r.name, "Trap");
      if (!*r.text) append(r.text, "a breakpoint instruction without a debugger");
      break;
    default:
      append(r.name, "AbortCalled");
      const char* message = abort_message ? *abort_message : nullptr;
      if (message) {
        message += sizeof(unsigned);  // its size comes first
        append(r.text, message);
        for (std::size_t n = std::strlen(r.text); n && r.text[n - 1] == '\n'; --n) r.text[n - 1] = 0;
        *const_cast<const char**>(abort_message) = nullptr;
        for (const char* of_heap : {"free()", "malloc()", "realloc()", "munmap_chunk", "double free", "corrupted",
                                    "malloc_consolidate", "mremap_chunk", "unaligned"})
          if (std::strstr(r.text, of_heap)) r.heap = true;
        if (r.heap) std::strcpy(r.name, "HeapCorruption");
      } else {
        append(r.text, "abort() was called");
      }
  }
}

bool heap_is_unlocked(const Record& r) noexcept {
  for (const char* text :
       {"free(): invalid pointer", "free(): invalid size", "free(): double free detected in tcache",
        "munmap_chunk(): invalid pointer", "double free or corruption (fasttop)", "realloc(): invalid pointer",
        "free(): unaligned chunk detected in tcache", "malloc(): unaligned tcache chunk", "free(): too many chunks",
        "realloc(): invalid old size", "mremap_chunk(): invalid pointer"})
    if (std::strstr(r.text, text)) return true;
  return false;
}

}  // namespace caller::kernel::faults
