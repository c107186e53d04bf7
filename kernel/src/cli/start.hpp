// `caller kernel start`: from the command line to a running kernel.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace caller::kernel::cli {

struct StartOptions {
  std::filesystem::path connection_file;
  std::string cxxflags;  ///< one string, split as a shell would split it
};

/// Splits a string into words: blanks separate, single and double quotes and a backslash protect.
///
/// Thread-safety: any thread. Errors: std::invalid_argument for a quote that is never closed.
/// Source: POSIX shell, quoting only.
std::vector<std::string> split_words(const std::string& text);

/// Runs a kernel until it is shut down and returns the exit code of the process.
///
/// Thread-safety: the main thread, once. Errors: std::runtime_error for a connection file that cannot be used.
int start(const StartOptions& options);

}  // namespace caller::kernel::cli
