// `!command`: a child shell with live output.
#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <string_view>

namespace caller::kernel {

/// Runs `command` by /bin/sh in a process group of its own and hands over its output as it comes.
///
/// Returns the exit code; 128 + n when a signal n ended it. A stop request sends SIGINT to the group, a second later
/// SIGTERM, then SIGKILL. Processes that the command leaves in the background do not keep this waiting once the shell
/// has ended.
///
/// Thread-safety: any thread; blocks until the command ends.
/// Units: –
/// Errors: std::system_error when no process can be made.
/// Source: IPython `!cmd`; differs: no terminal, whole groups are interrupted.
int run_command(const std::string& command, const std::function<void(int fd, std::string_view bytes)>& output,
                std::stop_token stop);

}  // namespace caller::kernel
