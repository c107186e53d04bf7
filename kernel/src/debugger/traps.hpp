// Breakpoints in the running process, and the threads that stand at them. Internal to this folder.
//
// A breakpoint is the instruction int3. The thread that meets it enters the handler of SIGTRAP, copies its registers
// into a Stop, leaves its own stack (a debugger that calls functions in this thread writes there) and waits on a futex.
// Resuming is a sigreturn from the copy, whatever the debugger has made of it. All other threads run on.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#if defined(__x86_64__) && defined(__linux__)
#define CALLER_DEBUGGER_SUPPORTED 1
#include <ucontext.h>
#else
#define CALLER_DEBUGGER_SUPPORTED 0
#endif

namespace caller::kernel::debugger {

#if CALLER_DEBUGGER_SUPPORTED

enum class StopReason : int { breakpoint, step, asked };

/// One thread that has stopped at least once. Written by its thread until `state` is stopped, then by the stub until it
/// is resumed.
struct Stop {
  enum State : std::uint32_t { kFree, kClaimed, kStopped, kRunning };
  static constexpr std::size_t kExtended = 16384;  // the processor's extended state; AMX needs 11 KB
  static constexpr std::size_t kStack = 65536;

  std::atomic<std::uint32_t> state{kFree};
  std::atomic<std::uint32_t> go{0};  // the futex; 1: resume
  std::atomic<pid_t> tid{0};
  std::atomic<bool> stepping{false};     // one instruction is to be executed
  std::atomic<bool> passing{false};      // breakpoints do not stop this thread
  std::atomic<std::uint64_t> number{0};  // of stops in the process: which came first
  StopReason reason = StopReason::breakpoint;
  int saved_errno = 0;
  std::uint64_t fs_base = 0, gs_base = 0;
  std::size_t extended_size = 0;
  ucontext_t context{};
  alignas(64) unsigned char extended[kExtended];
  alignas(64) unsigned char stack[kStack];
};

/// Installs the handler of SIGTRAP and prepares memory. False: not possible here.
///
/// Thread-safety: once a process, before any other function. Errors: none. Source: –
bool install_traps();

/// A descriptor that becomes readable when a thread has stopped. Thread-safety: any thread.
int stop_event();

/// The threads that stand still, in the order in which they stopped.
std::vector<Stop*> stopped_threads();

/// Lets it run on, with the registers that stand in it. Thread-safety: one thread, while it is stopped.
void resume(Stop& stop, bool single_step);

/// Asks a thread to stop where it is. Thread-safety: any thread.
void ask_to_stop(pid_t tid);

/// The calling thread serves the kernel: it passes breakpoints. Thread-safety: any thread.
void exempt_this_thread();

/// The threads that stand still now pass all breakpoints from here on, until `obey_breakpoints` is called by them.
void pass_breakpoints(Stop& stop);
void obey_breakpoints();

/// Writes or takes back a breakpoint. False: not possible. Thread-safety: one thread (the stub's).
bool insert_breakpoint(std::uintptr_t address);
bool remove_breakpoint(std::uintptr_t address);
void remove_all_breakpoints();

/// Memory as the program knows it, without breakpoints; fewer bytes where it ends. Never faults.
std::vector<unsigned char> read_memory(std::uintptr_t address, std::size_t size);
bool write_memory(std::uintptr_t address, const unsigned char* data, std::size_t size);

#endif

}  // namespace caller::kernel::debugger
