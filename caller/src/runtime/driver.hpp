// What makes a loop wait: the backend of a Caller.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

namespace caller::detail {

/// Thread-safety: wake from any thread, the rest from the loop's.
class Driver {
public:
  virtual ~Driver() = default;
  /// Ends the wait() that is going on, or the next one.
  virtual void wake() noexcept = 0;
  /// Waits for wake(), for one event of the backend, or until `timeout_ns` passed (none: for ever).
  virtual void wait(std::optional<std::int64_t> timeout_ns) = 0;
  /// Lets the backend handle what is ready, without waiting.
  virtual void poll() = 0;
};

/// Nothing but a condition variable.
class ManualDriver final : public Driver {
public:
  void wake() noexcept override {
    {
      std::lock_guard lock(mutex_);
      woken_ = true;
    }
    condition_.notify_one();
  }
  void wait(std::optional<std::int64_t> timeout_ns) override {
    std::unique_lock lock(mutex_);
    if (timeout_ns)
      condition_.wait_for(lock, std::chrono::nanoseconds(*timeout_ns), [this] { return woken_; });
    else
      condition_.wait(lock, [this] { return woken_; });
    woken_ = false;
  }
  void poll() override {}

private:
  std::mutex mutex_;
  std::condition_variable condition_;
  bool woken_ = false;
};

std::unique_ptr<Driver> make_asio_driver();

}  // namespace caller::detail
