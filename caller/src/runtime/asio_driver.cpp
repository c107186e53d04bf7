#include "driver.hpp"

#include <chrono>
#include <utility>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

namespace caller::detail {
namespace {

namespace asio = boost::asio;

/// The io_context of one loop. A concurrency hint of 1 lets Asio skip waking a second thread that never exists; other
/// threads may still post.
class AsioDriver final : public Driver {
public:
  void wake() noexcept override {
    asio::post(context_, [] {});
  }
  void wait(std::optional<std::int64_t> timeout_ns) override {
    if (timeout_ns)
      context_.run_one_for(std::chrono::nanoseconds(*timeout_ns));
    else
      context_.run_one();
  }
  void poll() override { context_.poll(); }

private:
  asio::io_context context_{1};
  asio::executor_work_guard<asio::io_context::executor_type> guard_{context_.get_executor()};
};

}  // namespace

std::unique_ptr<Driver> make_asio_driver() { return std::make_unique<AsioDriver>(); }

}  // namespace caller::detail
