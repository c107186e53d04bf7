// Is there a debugger on this machine?
#pragma once

#include <optional>
#include <string>

namespace caller::kernel::debugger {

/// The path of lldb-dap, found in PATH; none when it is not installed.
///
/// Thread-safety: any thread that does not race with setenv. Errors: none. Source: ipykernel `_is_debugpy_available`.
std::optional<std::string> find_adapter();

}  // namespace caller::kernel::debugger
