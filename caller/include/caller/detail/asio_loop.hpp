// Boost.Asio's io_context as a loop of a Caller, and as the host of one. Included by caller/asio.hpp.
//
// All of Asio is compiled in the program that uses it, none in the library: an io_context must be made, run and used by
// one copy of Asio's code, and copies in different shared objects (or in a cell of the kernel) are different ones.
#pragma once

#include <algorithm>
#include <chrono>
#include <exception>
#include <memory>
#include <optional>
#include <utility>

#include <boost/asio/execution_context.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include <caller/caller.hpp>
#include <caller/detail/event_loop.hpp>
#include <caller/host.hpp>

namespace caller::detail {

/// Calls `f`; what a handler throws goes to the Caller's error handler.
template <class F>
void guarded(F&& f) noexcept {
  try {
    f();
  } catch (...) {
    report_error(nullptr, "an Asio handler", std::current_exception());
  }
}

/// An io_context is known by the address of its base class, which is what executors tell.
inline void* native_of(boost::asio::io_context& context) noexcept {
  return static_cast<boost::asio::execution_context*>(&context);
}
inline boost::asio::io_context& context_of(void* native) noexcept {
  return *static_cast<boost::asio::io_context*>(static_cast<boost::asio::execution_context*>(native));
}

/// Asio adds the time to wait to the present one, and does not look whether that overflows. Who has waited for less
/// than was asked for is asked again.
inline std::chrono::nanoseconds at_most_an_hour(std::chrono::nanoseconds wait) noexcept {
  return std::min<std::chrono::nanoseconds>(wait, std::chrono::hours(1));
}

class AsioLoop final : public EventLoop {
public:
  void wake() noexcept override {
    boost::asio::post(context_, [] {});
  }
  void wait(std::optional<std::int64_t> timeout_ns, int descriptor) override {
    watch(descriptor);
    guarded([&] {
      if (context_.stopped()) context_.restart();  // somebody stopped it, but this loop ends with its Caller
      if (timeout_ns)
        context_.run_one_for(at_most_an_hour(std::chrono::nanoseconds(*timeout_ns)));
      else
        context_.run_one();
    });
    poll();
  }
  void poll() override {
    guarded([&] {
      for (int n = 0; n < kBudget && context_.poll_one(); ++n) {
      }
    });
  }
  void close() noexcept override {
    if (watched_) watched_->release();  // it is libuv's
    guarded([&] { context_.close(); });
  }
  void* native() noexcept override { return native_of(context_); }

private:
  static constexpr int kBudget = 64;

  struct Context : boost::asio::io_context {
    using io_context::io_context;
    /// Destroys all handlers; objects made with the context may go later.
    void close() { shutdown(); }
  };

  void watch(int descriptor) {
    if (descriptor < 0 || watching_) return;
    if (!watched_) watched_.emplace(context_, descriptor);
    watching_ = true;
    watched_->async_wait(boost::asio::posix::stream_descriptor::wait_read,
                         [this](const boost::system::error_code&) { watching_ = false; });
  }

  // With a concurrency hint of 1 Asio does not try to wake a second thread; other threads may still post.
  Context context_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard_{context_.get_executor()};
  std::optional<boost::asio::posix::stream_descriptor> watched_;
  bool watching_ = false;
};

inline std::unique_ptr<EventLoop> make_asio_loop() { return std::make_unique<AsioLoop>(); }

inline boost::asio::io_context::executor_type asio_executor(const Caller& caller, AsioTag) {
  return context_of(native_loop(caller.core(), Backend::asio, &make_asio_loop)).get_executor();
}

class AsioHost final : public HostLoop, public std::enable_shared_from_this<AsioHost> {
public:
  explicit AsioHost(boost::asio::io_context& context) : context_(context), timer_(std::in_place, context) {}

  Backend backend() const noexcept override { return Backend::asio; }
  void* native(Backend which) const noexcept override { return which == Backend::asio ? native_of(context_) : nullptr; }

protected:
  void request_turn() noexcept override {
    boost::asio::post(context_, [self = shared_from_this()] { self->turn(); });
  }
  void set_deadline(std::optional<TimePoint> when) noexcept override {
    if (when == armed_) return;
    armed_ = when;
    if (!when) {
      if (timer_) timer_->cancel();
      return;
    }
    if (!timer_) timer_.emplace(context_);  // of a second Caller
    timer_->expires_at(*when);
    timer_->async_wait([self = shared_from_this()](const boost::system::error_code& aborted) {
      if (aborted) return;
      self->armed_.reset();
      self->turn();
    });
  }
  void set_busy(bool busy) noexcept override {
    if (busy)
      guard_.emplace(context_.get_executor());
    else
      release(guard_);
  }
  bool run_nested(std::optional<Duration> limit) noexcept override {
    if (context_.stopped()) {
      if (context_.get_executor().running_in_this_thread()) return false;  // its run() is to return
      context_.restart();
    }
    Guard guard(std::in_place, context_.get_executor());
    guarded([&] {
      if (limit)
        context_.run_one_for(at_most_an_hour(*limit));
      else
        context_.run_one();
    });
    release(guard);
    return true;
  }
  void detached() noexcept override {
    timer_.reset();
    armed_.reset();
  }

private:
  using Guard = std::optional<boost::asio::executor_work_guard<boost::asio::io_context::executor_type>>;

  /// An io_context that runs out of work is stopped, also while nobody runs it, and the host's run() would return at
  /// once.
  void release(Guard& guard) noexcept {
    const bool stopped_by_host = context_.stopped();
    guard.reset();
    if (!stopped_by_host && context_.stopped() && !context_.get_executor().running_in_this_thread()) context_.restart();
  }

  boost::asio::io_context& context_;
  std::optional<boost::asio::steady_timer> timer_;
  std::optional<TimePoint> armed_;
  Guard guard_;
};

}  // namespace caller::detail
