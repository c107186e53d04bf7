// What the interposed functions of libc (process_ends.cpp) and interrupts need of faults.cpp. Internal to this folder.
#pragma once

#include "faults.hpp"

namespace caller::kernel::faults {

/// Something of a cell, or of a loop that serves cells, runs in this thread.
bool in_cell() noexcept;

/// The running cell ends here, if there is one; else they return.
void exit_called(const char* function, int status);
void assertion_failed(const char* text);
void interrupted(const char* how);

Host* host() noexcept;

}  // namespace caller::kernel::faults
