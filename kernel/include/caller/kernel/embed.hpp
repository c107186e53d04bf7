// A kernel inside of a running program: someone attaches a console to the live process.
#pragma once

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <vector>

#include <caller/export.hpp>

namespace caller {

/// How a kernel is embedded. Every default leaves the program alone: no signal handler of it is replaced, but those of
/// SIGRTMIN+6 and SIGRTMIN+7, its standard streams stay its own, and no client can end it. By these two the kernel ends
/// blocked calls of cells: the handlers are its own, and the program must not use the two itself. All other signals but
/// those of faults are blocked in the kernel's threads, so that they reach the program's.
///
/// Thread-safety: distinct objects: safe.
/// Errors: none.
/// Source: ipykernel.embed.embed_kernel.
struct EmbedOptions {
  /// Where the connection file is written, readable by its owner only. Empty: `kernel-<pid>.json` in Jupyter's runtime
  /// folder, where `jupyter console --existing` finds it.
  std::filesystem::path connection_file;
  /// The address the kernel listens at, and no other; for ipc the path that the sockets' names begin with.
  std::string address = "127.0.0.1";
  bool ipc = false;  ///< sockets of the file system instead of TCP
  /// Further flags for the compiler of the cells (`-I…` for the program's own headers).
  std::vector<std::string> cxxflags;
  /// The precompiled prelude; empty: found beside the library.
  std::filesystem::path prelude_directory;
  /// Each cell is compiled in a copy of the process first, so that a wrong cell leaves no trace. A copy of a process
  /// that holds very much memory takes a while, during which the program's page faults wait; off, a wrong cell may
  /// leave some.
  bool isolate = true;
  /// Also `printf`, `write(1)` and what child processes write go to the console; it then gets the program's own output,
  /// too, as descriptors belong to the process. Off, cells' std::cout, std::cerr and std::clog do, and nothing else.
  bool capture_output = false;
  /// True: a client's shutdown_request ends the kernel (never the program). False: it is refused.
  bool clients_may_stop = false;
  std::string log_level = "warning";  ///< debug, info, warning, error, off
};

/// A kernel that runs in this process on threads of its own. Destroying it stops it.
///
/// Thread-safety: any thread; the destructor: one.
/// Errors: none of its own.
/// Source: none.
class CALLER_API EmbeddedKernel {
public:
  EmbeddedKernel(EmbeddedKernel&&) noexcept;
  EmbeddedKernel& operator=(EmbeddedKernel&&) noexcept;
  ~EmbeddedKernel();

  /// The file to give to a client: `jupyter console --existing FILE`.
  ///
  /// Thread-safety: any thread. Errors: none. Source: none.
  const std::filesystem::path& connection_file() const noexcept;

  /// Makes an object or a function of the program known to all cells under `name`, by reference.
  ///
  /// `declarations` is what a cell needs to know the type: usually `#include "its_header.hpp"`. That both sides mean
  /// the same type is checked by its name, size and alignment, and its functions by the linker: those that are not
  /// inline must be exported by the program (CMake: ENABLE_EXPORTS). The object must outlive the kernel, and whatever
  /// cells do to it while other threads use it is as it would be anywhere. `%reset` does not take it away.
  ///
  /// Waits for the compiler; the first call for its start, too (some hundred milliseconds).
  ///
  /// Thread-safety: any thread.
  /// Errors: std::invalid_argument for a name that is no identifier, or a type without a name; std::runtime_error with
  /// the compiler's text.
  /// Source: ipykernel.embed `local_ns`; differs: typed.
  template <class T>
  void expose(const std::string& name, T& object, const std::string& declarations = {}) {
    using U = std::remove_cv_t<T>;
    if constexpr (std::is_function_v<U>)
      expose_address(name, reinterpret_cast<const void*>(&object), typeid(U), false, 0, 0, declarations);
    else
      expose_address(name, static_cast<const volatile void*>(std::addressof(object)), typeid(U), std::is_const_v<T>,
                     sizeof(U), alignof(U), declarations);
  }

  /// Runs a cell before any client is there: includes, using directives, helpers for whoever attaches.
  ///
  /// Thread-safety: any thread. Errors: std::runtime_error with the compiler's text. Source: none.
  void declare(const std::string& code);

  /// Ends cells, sockets and threads of the kernel, and removes the connection file; returns when that is done. A cell
  /// that runs has 250 ms to end by itself (it may be the one that asked the program to end), then it is interrupted.
  /// Work that a cell started on Callers of the program goes on.
  ///
  /// Thread-safety: any thread but those of cells. Errors: none. Source: none.
  void stop();

  /// False once it was stopped, by stop(), a client that may, or a move from here. Thread-safety: any thread.
  bool running() const noexcept;

private:
  friend CALLER_API EmbeddedKernel embed_kernel(EmbedOptions options);
  struct State;
  explicit EmbeddedKernel(std::shared_ptr<State> state) noexcept;
  void expose_address(const std::string& name, const volatile void* address, const std::type_info& type, bool is_const,
                      std::size_t size, std::size_t alignment, const std::string& declarations);

  std::shared_ptr<State> state_;
};

/// Starts a kernel inside of this process and returns when clients can connect. One at a time.
///
/// Thread-safety: any thread.
/// Errors: std::logic_error when one runs already; std::exception for an address or file that cannot be used.
/// Source: ipykernel.embed.embed_kernel; differs: returns at once, on threads of its own.
[[nodiscard]] CALLER_API EmbeddedKernel embed_kernel(EmbedOptions options = {});

}  // namespace caller
