// A shell in a process group of its own, so that all it runs can be signalled.
#pragma once

#include <sys/types.h>

#include <initializer_list>

#include <caller/export.hpp>

namespace caller::kernel {

/// What becomes descriptor `to` of a program.
struct Given {
  int from;
  int to;
};

/// Starts /bin/sh with `command`, in a process group of its own, without blocked or ignored signals. Returns its
/// number, or -1 and errno.
///
/// Thread-safety: any thread.
/// Errors: none.
/// Source: system(3); differs: the group.
CALLER_API pid_t start_shell(const char* command, std::initializer_list<Given> descriptors) noexcept;

namespace interrupt {

/// Ends what the calling thread waits for by system() or pclose(), whose frames are gone without their destructors.
/// Thread-safety: any thread. Errors: none. Units: takes up to 0.6 s. Source: –
void end_program() noexcept;

}  // namespace interrupt
}  // namespace caller::kernel
