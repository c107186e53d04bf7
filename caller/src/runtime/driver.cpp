#include "driver.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include <caller/host.hpp>

#include "futex.hpp"

namespace caller::detail {
/// The host's loop as something to sleep in.
struct Driver::HostBed final : EventLoop {
  HostLoop& host;
  explicit HostBed(HostLoop& h) noexcept : host(h) {}
  void wake() noexcept override { host.request_turn(); }
  void wait(std::optional<std::int64_t>, int) override {}
  void poll() override {}
  void close() noexcept override {}
  void* native() noexcept override { return nullptr; }
};

Driver::Driver(HostLoop* host) noexcept : host_(host ? std::make_unique<HostBed>(*host) : nullptr) {}

Driver::~Driver() {
  close();
  for (EventLoop* loop : {asio_.load(), static_cast<EventLoop*>(uv_.load())}) {
    if (!loop) continue;
    unregister_loop(loop->native());
    delete loop;
  }
}

void Driver::wake() noexcept {
  switch (word_.exchange(kNotified, std::memory_order_acq_rel)) {
    case kInFutex:
      futex_wake(word_);
      break;
    case kInLoop:
      bed_.load(std::memory_order_relaxed)->wake();
      break;
    default:
      break;
  }
}

/// False: there was word before, so do not sleep.
bool Driver::lie_down(std::uint32_t how) noexcept {
  // A wait nested in a handler finds what the outer one left: that one has risen long since.
  if (word_.exchange(how, std::memory_order_acq_rel) != kNotified) return true;
  word_.exchange(kAwake, std::memory_order_acq_rel);
  return false;
}

void Driver::wait_in_futex(std::optional<std::int64_t> timeout_ns) noexcept {
  if (!lie_down(kInFutex)) return;
  futex_wait(word_, kInFutex, timeout_ns);
  word_.exchange(kAwake, std::memory_order_acq_rel);
}

void Driver::wait(std::optional<std::int64_t> timeout_ns) {
  if (host_) {  // a wait nested in a guest's turn
    bed_.store(host_.get(), std::memory_order_relaxed);
    if (!lie_down(kInLoop)) return;
    const bool turned = host_->host.run_nested(
        timeout_ns ? std::optional<Duration>(Duration(std::max<std::int64_t>(0, *timeout_ns))) : std::nullopt);
    // Word that came meanwhile went to the host, who did not run.
    const bool word = word_.exchange(kAwake, std::memory_order_acq_rel) == kNotified;
    if (!turned && !word) wait_in_futex(timeout_ns);
    return;
  }
  EventLoop* const asio = asio_.load(std::memory_order_acquire);
  WatchedLoop* uv = uv_.load(std::memory_order_acquire);
  if (uv && uv->busy()) uv = nullptr;  // a wait nested in one of its callbacks
  EventLoop* const bed = asio ? asio : uv;
  if (!bed) return wait_in_futex(timeout_ns);
  int descriptor = -1;
  if (asio && uv) {
    const std::optional<std::int64_t> due = uv->timeout_ns();
    if (due && *due <= 0) return poll();
    if (due) timeout_ns = std::min(timeout_ns.value_or(*due), *due);
    descriptor = uv->descriptor();
  }
  bed_.store(bed, std::memory_order_relaxed);
  if (!lie_down(kInLoop)) return poll();
  bed->wait(timeout_ns, descriptor);
  word_.exchange(kAwake, std::memory_order_acq_rel);
  if (asio && uv) uv->poll();
}

void Driver::poll() {
  if (EventLoop* asio = asio_.load(std::memory_order_acquire)) asio->poll();
  WatchedLoop* const uv = uv_.load(std::memory_order_acquire);
  if (uv && !uv->busy()) uv->poll();
}

void Driver::close() noexcept {
  {
    const std::lock_guard lock(making_);
    const std::lock_guard nobody_inside(gate_);
    if (std::exchange(closed_, true)) return;
  }
  if (EventLoop* asio = asio_.load(std::memory_order_acquire)) asio->close();
  if (EventLoop* uv = uv_.load(std::memory_order_acquire)) uv->close();
}

void Driver::rest() noexcept {
  bed_.store(host_.get(), std::memory_order_relaxed);
  if (!lie_down(kInLoop)) host_->host.request_turn();
}

void* Driver::native(Core& core, Backend which, MakeLoop make) {
  if (host_) return host_->host.native(which);
  const std::lock_guard lock(making_);
  EventLoop* loop = which == Backend::uv ? uv_.load() : asio_.load();
  if (loop) return closed_ ? nullptr : loop->native();
  if (closed_) return nullptr;
  std::unique_ptr<EventLoop> made = make();
  register_loop(made->native(), core);
  loop = made.release();
  if (which == Backend::uv)
    uv_.store(static_cast<WatchedLoop*>(loop), std::memory_order_release);
  else
    asio_.store(loop, std::memory_order_release);
  wake();  // the loop may sleep elsewhere
  return loop->native();
}

}  // namespace caller::detail
