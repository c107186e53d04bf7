// libuv: the loop a Caller turns (UvLoop), and the loop a Caller is a guest of (UvHost).
#include <caller/uv.hpp>

#include <poll.h>
#include <uv.h>
#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <string>
#include <system_error>
#include <utility>

#include "core.hpp"

namespace caller {
namespace detail {
namespace {

void check(int result, const char* what) {
  if (result < 0) throw std::system_error(-result, std::generic_category(), std::string("libuv: ") + what);
}

/// The wake-up handle stays active and referenced, so libuv always takes its loop for alive, and works off
/// unreferenced handles, too.
class UvLoop final : public WatchedLoop {
public:
  UvLoop() {
    check(uv_loop_init(&loop_), "uv_loop_init");
    if (const int result = uv_async_init(&loop_, &wake_, [](uv_async_t*) {}); result < 0) {
      uv_loop_close(&loop_);
      check(result, "uv_async_init");
    }
  }
  ~UvLoop() override { close(); }

  void wake() noexcept override { uv_async_send(&wake_); }

  void wait(std::optional<std::int64_t> timeout_ns, int) override {
    // It never blocks in uv_run: that knows milliseconds only, and runs timers that are due before it sleeps, for ever
    // if these were the last, whatever they have queued here. Its descriptor is awaited instead.
    const std::optional<std::int64_t> own = this->timeout_ns();
    if (own) timeout_ns = std::min(timeout_ns.value_or(*own), *own);
    if (!timeout_ns || *timeout_ns > 0) {
      pollfd ready{uv_backend_fd(&loop_), POLLIN, 0};
      timespec time{};
      if (timeout_ns) {
        time.tv_sec = static_cast<time_t>(*timeout_ns / 1'000'000'000);
        time.tv_nsec = static_cast<long>(*timeout_ns % 1'000'000'000);
      }
      ::ppoll(&ready, 1, timeout_ns ? &time : nullptr, nullptr);
    }
    run(UV_RUN_NOWAIT);
  }
  void poll() override { run(UV_RUN_NOWAIT); }
  void* native() noexcept override { return &loop_; }

  int descriptor() const noexcept override { return uv_backend_fd(&loop_); }
  std::optional<std::int64_t> timeout_ns() noexcept override {
    uv_update_time(&loop_);
    const int ms = uv_backend_timeout(&loop_);
    if (ms < 0) return std::nullopt;
    return std::int64_t{ms} * 1'000'000;
  }
  bool busy() const noexcept override { return running_; }

  void close() noexcept override {
    if (std::exchange(closed_, true)) return;
    const auto close_handle = [](uv_handle_t* handle, void*) {
      if (!uv_is_closing(handle)) uv_close(handle, nullptr);
    };
    do {  // requests under way end first, and their callbacks may open new handles
      uv_walk(&loop_, close_handle, nullptr);
      run(UV_RUN_DEFAULT);
    } while (uv_loop_close(&loop_) == UV_EBUSY);
  }

private:
  void run(uv_run_mode mode) noexcept {
    running_ = true;
    uv_run(&loop_, mode);
    running_ = false;
  }

  uv_loop_t loop_{};
  uv_async_t wake_{};
  bool running_ = false, closed_ = false;
};

/// The handles outlive the host until libuv has closed them.
struct HostHandles {
  uv_async_t wake{};
  uv_timer_t timer{};
  HostLoop* host = nullptr;
  int open = 0;

  static HostHandles& of(uv_handle_t* handle) noexcept { return *static_cast<HostHandles*>(handle->data); }
  static void turn(uv_handle_t* handle) noexcept {
    HostHandles& self = of(handle);
    if (self.host) self.host->turn();
  }
  static void closed(uv_handle_t* handle) {
    HostHandles& self = of(handle);
    if (--self.open == 0) delete &self;
  }
};

class UvHost final : public HostLoop {
public:
  explicit UvHost(uv_loop_t* loop) : loop_(loop) { open(); }
  ~UvHost() override { give_back(); }

  Backend backend() const noexcept override { return Backend::uv; }
  void* native(Backend which) const noexcept override { return which == Backend::uv ? loop_ : nullptr; }

protected:
  void request_turn() noexcept override { uv_async_send(&handles_->wake); }
  void set_deadline(std::optional<TimePoint> when) noexcept override {
    if (!handles_) open();  // a second Caller begins
    if (!when) {
      uv_timer_stop(&handles_->timer);
      return;
    }
    uv_update_time(loop_);
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*when - std::chrono::steady_clock::now()).count();
    const auto due = static_cast<std::uint64_t>(std::max<std::int64_t>(0, left));
    uv_timer_start(
        &handles_->timer, [](uv_timer_t* h) { HostHandles::turn(reinterpret_cast<uv_handle_t*>(h)); }, due, 0);
  }
  void set_busy(bool busy) noexcept override {
    if (!handles_) return;
    auto* const h = reinterpret_cast<uv_handle_t*>(&handles_->wake);
    if (busy)
      uv_ref(h);
    else
      uv_unref(h);
  }
  void detached() noexcept override { give_back(); }

private:
  void open() {
    handles_ = new HostHandles;
    const auto turn = [](uv_async_t* h) { HostHandles::turn(reinterpret_cast<uv_handle_t*>(h)); };
    if (const int result = uv_async_init(loop_, &handles_->wake, turn); result < 0) {
      delete std::exchange(handles_, nullptr);
      check(result, "uv_async_init");
    }
    uv_timer_init(loop_, &handles_->timer);
    handles_->host = this;
    for (uv_handle_t* h : handles()) {
      h->data = handles_;
      ++handles_->open;
      uv_unref(h);
    }
  }
  std::array<uv_handle_t*, 2> handles() noexcept {
    return {reinterpret_cast<uv_handle_t*>(&handles_->wake), reinterpret_cast<uv_handle_t*>(&handles_->timer)};
  }
  void give_back() noexcept {
    if (!handles_) return;
    handles_->host = nullptr;
    for (uv_handle_t* h : handles()) uv_close(h, &HostHandles::closed);
    handles_ = nullptr;
  }

  uv_loop_t* loop_;
  HostHandles* handles_ = nullptr;  // null once they are given back; the other threads' last request came before
};

}  // namespace

bool uv_built_in() noexcept { return true; }

std::unique_ptr<EventLoop> make_uv_loop() { return std::make_unique<UvLoop>(); }

}  // namespace detail

uv_loop_s* uv_loop() {
  detail::Core& core = detail::require_core("uv_loop");
  return static_cast<uv_loop_t*>(detail::native_loop(core, Backend::uv, &detail::make_uv_loop));
}

std::shared_ptr<HostLoop> uv_host(uv_loop_s* loop) { return std::make_shared<detail::UvHost>(loop); }

}  // namespace caller
