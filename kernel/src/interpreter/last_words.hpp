// What a process says before a fault ends it. Internal to this folder.
#pragma once

#include <signal.h>

#include <array>

#include "faults.hpp"

namespace caller::kernel::faults {

constexpr std::array kSignals{SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT};

/// Takes the fault signals for `handler`, and remembers who had them. `host` (null: nobody) tells the clients, `log` is
/// the descriptor for everybody else. Errors: std::system_error.
void open_last_words(Host* host, int log, void (*handler)(int, siginfo_t*, void*));

/// Gives the fault signals back to whoever had them before.
void give_signals_back() noexcept;

/// Whom open_last_words() was given; and takes it away.
Host* host_of_faults() noexcept;
Host* take_host_of_faults() noexcept;

/// In a copy of the process that took the signals; and the process itself.
bool in_child() noexcept;
pid_t home_process() noexcept;

/// Says why, and gives the signals back. Returns within some seconds.
void die(const char* reason) noexcept;

/// Nothing is wrong with the code that a signal of another process meets, and it may hold the very locks that telling
/// the clients needs: so it goes on until they know. False: nobody can tell them.
bool die_later(const char* reason, int signal) noexcept;

}  // namespace caller::kernel::faults
