// In place of uv_driver.cpp where libuv is not installed.
#include <caller/error.hpp>
#include <caller/host.hpp>
#include <caller/uv.hpp>

#include "driver.hpp"

namespace caller {
namespace detail {

bool uv_built_in() noexcept { return false; }

std::unique_ptr<EventLoop> make_uv_loop() {
  check_backend(Backend::uv, nullptr);
  return nullptr;
}

}  // namespace detail

uv_loop_s* uv_loop() {
  detail::check_backend(Backend::uv, nullptr);
  return nullptr;
}

std::shared_ptr<HostLoop> uv_host(uv_loop_s*) {
  detail::check_backend(Backend::uv, nullptr);
  return nullptr;
}

}  // namespace caller
