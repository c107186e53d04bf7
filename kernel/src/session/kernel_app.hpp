// From options to a running kernel process.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace caller::kernel {

class Interpreter;
enum class LogLevel;

/// The level of that name; warning for any other text. Thread-safety: any thread. Errors: none. Source: none.
LogLevel level_of(const std::string& name);

struct KernelOptions {
  std::filesystem::path connection_file;
  std::vector<std::string> cxxflags;        ///< further flags for the compiler of the cells
  std::filesystem::path prelude_dir;        ///< empty: beside the program
  std::string log_level = "warning";        ///< debug, info, warning, error, off
  std::optional<std::string> history_file;  ///< none: in the Jupyter data folder; empty: in memory
  // In a program of somebody else's (embed.cpp): no signal handlers, no descriptors, and nothing ends the process.
  bool embedded = false;
  bool capture_output = true;    ///< descriptors 1 and 2, C's streams, std::cin; off: std::cout … of cells only
  bool clients_may_stop = true;  ///< shutdown_request ends the kernel
  bool test_comms = false;       ///< a comm target `echo`, for tests of the protocol
  /// Makes the language of the cells, in the compile thread. Empty: C++ (run_kernel only).
  std::function<std::unique_ptr<Interpreter>()> interpreter;
};

/// Runs a kernel in the calling thread, which becomes its main shell, until it is shut down.
///
/// Also honours the environment: `JPY_PARENT_PID` (the process whose end ends the kernel), `CALLER_KERNEL_TEST_COMMS`.
/// Returns the exit code of the process.
///
/// Thread-safety: the main thread, once.
/// Errors: KernelError for a connection file or address that cannot be used.
/// Source: ipykernel IPKernelApp.
int run_kernel(const KernelOptions& options);

/// The same with the interpreter that `options.interpreter` makes; it must be given.
int serve_kernel(const KernelOptions& options);

}  // namespace caller::kernel
