// `caller kernel start`: from the command line to a running kernel.
#pragma once

#include <filesystem>
#include <string>

namespace caller::kernel::cli {

struct StartOptions {
  std::filesystem::path connection_file;
  std::string cxxflags;  ///< one string, split as a shell would split it
};

/// Runs a kernel until it is shut down and returns the exit code of the process.
///
/// Thread-safety: the main thread, once. Errors: std::runtime_error for a connection file that cannot be used.
int start(const StartOptions& options);

}  // namespace caller::kernel::cli
