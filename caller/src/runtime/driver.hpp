// What a loop waits with: a futex, until somebody needs the event loop of another library.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>

#include <caller/detail/event_loop.hpp>

namespace caller {
class HostLoop;
}

namespace caller::detail {

/// libuv's loop, which can be watched by another: by its descriptor and its next timer.
class WatchedLoop : public EventLoop {
public:
  virtual int descriptor() const noexcept = 0;
  virtual std::optional<std::int64_t> timeout_ns() noexcept = 0;  // none: for ever; 0: poll() is due
  virtual bool busy() const noexcept = 0;                         // inside of its own callbacks: it cannot be entered
};

/// One word says how the loop sleeps, so that whoever wakes it knows what to do, also while it changes its bed:
///   awake     nothing to do but to leave word
///   notified  the next wait() returns at once
///   futex     FUTEX_WAKE
///   loop      the event loop of `bed_` is told
///
/// Event loops are only added, never taken away before the end, so a wake-up on its way to one is always welcome.
///
/// Thread-safety: wake and native from any thread, the rest from the loop's.
class Driver final {
public:
  explicit Driver(HostLoop* host) noexcept;
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;
  ~Driver();

  /// Ends the wait() that is going on, or the next one.
  void wake() noexcept;
  /// Waits for wake(), for an event of a backend, or until `timeout_ns` passed (none: for ever).
  void wait(std::optional<std::int64_t> timeout_ns);
  /// Lets the backends handle what is ready, without waiting.
  void poll();
  /// The loop has ended: the backends release what they hold. They themselves live until the Driver is destroyed.
  void close() noexcept;
  /// The backend's loop, made by `make` when there is none; null after close().
  void* native(Core& core, Backend which, MakeLoop make);
  /// Is it the io_context that this thread sleeps in?
  bool has(const void* io_context) const noexcept {
    EventLoop* const asio = asio_.load(std::memory_order_acquire);
    return asio && asio->native() == io_context;
  }

  /// Around the start of an operation by another thread: the io_context is not closed meanwhile. False: it is closed.
  bool enter() {
    gate_.lock_shared();
    if (!closed_) return true;
    gate_.unlock_shared();
    return false;
  }
  void leave() noexcept { gate_.unlock_shared(); }

  /// A guest goes back to its host: until resume(), wake() asks the host for a turn.
  void rest() noexcept;
  void resume() noexcept { word_.exchange(kAwake, std::memory_order_acq_rel); }

private:
  enum : std::uint32_t { kAwake, kNotified, kInFutex, kInLoop };
  struct HostBed;

  void wait_in_futex(std::optional<std::int64_t> timeout_ns) noexcept;
  bool lie_down(std::uint32_t how) noexcept;

  std::atomic<std::uint32_t> word_{kAwake};
  std::atomic<EventLoop*> bed_{nullptr};  // where it sleeps while the word is kInLoop
  std::atomic<EventLoop*> asio_{nullptr};
  std::atomic<WatchedLoop*> uv_{nullptr};
  std::unique_ptr<HostBed> host_;
  std::mutex making_;       // guards the making of asio_ and uv_
  std::shared_mutex gate_;  // guards closed_
  bool closed_ = false;
};

/// Which Core an event loop belongs to: see core_of_loop.
void register_loop(const void* native, Core& core);
void unregister_loop(const void* native) noexcept;

/// Errors: Error(unsupported_backend) when libuv is not built in.
std::unique_ptr<EventLoop> make_uv_loop();
bool uv_built_in() noexcept;
/// Error(unsupported_backend) when the backend is not built in, or the host's loop cannot give it.
void check_backend(Backend backend, const HostLoop* host);

}  // namespace caller::detail
