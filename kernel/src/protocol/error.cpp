#include "protocol/error.hpp"

namespace caller::kernel {
namespace {
class Category final : public std::error_category {
  const char* name() const noexcept override { return "caller.kernel"; }
  std::string message(int value) const override {
    switch (static_cast<KernelErrc>(value)) {
      case KernelErrc::connection_file:
        return "bad connection file";
      case KernelErrc::bind:
        return "a socket could not be bound";
      case KernelErrc::stdin_not_allowed:
        return "input is not allowed for this request";
      case KernelErrc::input_cancelled:
        return "the wait for input was cancelled";
      case KernelErrc::no_request:
        return "no cell is running in this context";
      case KernelErrc::magic:
        return "bad magic";
    }
    return "unknown error";
  }
};
}  // namespace

const std::error_category& kernel_category() noexcept {
  static const Category category;
  return category;
}

}  // namespace caller::kernel
