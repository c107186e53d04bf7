// The errors of the kernel's protocol and session.
#pragma once

#include <string>
#include <system_error>

namespace caller::kernel {

enum class KernelErrc {
  connection_file = 1,  ///< the connection file is missing, malformed or names something unsupported
  bind,                 ///< a socket could not be bound
  stdin_not_allowed,    ///< the request did not allow input
  input_cancelled,      ///< the wait for input was interrupted or the kernel stops
  no_request,           ///< a call that needs a running cell was made outside any
  magic,                ///< a magic is unknown or was used wrongly
};

const std::error_category& kernel_category() noexcept;

inline std::error_code make_error_code(KernelErrc e) noexcept { return {static_cast<int>(e), kernel_category()}; }

/// A failure of the kernel itself. The message names the operation, what was concerned and what was found.
///
/// Thread-safety: distinct objects: safe.
/// Errors: none.
/// Source: none.
class KernelError : public std::system_error {
public:
  KernelError(KernelErrc code, const std::string& what) : std::system_error(make_error_code(code), what), text_(what) {}
  /// The message without the category's suffix.
  const char* what() const noexcept override { return text_.c_str(); }

private:
  std::string text_;
};

}  // namespace caller::kernel

template <>
struct std::is_error_code_enum<caller::kernel::KernelErrc> : std::true_type {};
