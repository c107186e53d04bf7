// A loop that somebody else owns, and a Caller that is a guest in it.
//
//   auto host = caller::asio_host(io);                      // or uv_host(loop), FdHost, or a HostLoop of your own
//   caller::Caller c(caller::guest, {.host = host});        // on the thread that runs the loop
//   io.run();                                               // drives the Caller, too
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>

#include <caller/export.hpp>
#include <caller/options.hpp>

namespace caller {

namespace detail {
class Core;
class Driver;
}  // namespace detail

/// What a guest Caller needs of the loop it lives in. Derive from it to embed a Caller in any loop.
///
/// The Caller asks for turns; the loop calls turn() for it. A turn runs what is ready, a bounded number of calls, and
/// never waits; what is left asks for the next one, so the loop's own events get theirs in between. One host serves one
/// Caller. The loop outlives the Caller, or is not run any more.
///
/// Thread-safety: said at each function; "own thread" is the one that made the Caller and runs the loop.
/// Errors: none of the functions may throw.
/// Source: async-kernel Caller(host=…).
class CALLER_API HostLoop {
public:
  using TimePoint = std::chrono::steady_clock::time_point;  ///< of the steady clock

  HostLoop() = default;
  HostLoop(const HostLoop&) = delete;
  HostLoop& operator=(const HostLoop&) = delete;
  virtual ~HostLoop();

  /// Gives the Caller a turn; nothing when there is no Caller (any more), or inside of a nested wait of it.
  /// Thread-safety: own thread. Errors: none.
  void turn() noexcept;

  /// The backend that Callers made by this one get, and what Caller::backend() says. Errors: none.
  virtual Backend backend() const noexcept { return Backend::manual; }
  /// The loop itself, for Caller::executor() and uv_loop(): its io_context or uv_loop_t; null: it is neither.
  virtual void* native(Backend which) const noexcept {
    (void)which;
    return nullptr;
  }

protected:
  friend class detail::Core;
  friend class detail::Driver;

  /// Let turn() be called soon, from the loop, not from here. Several requests may become one turn.
  /// Thread-safety: any thread.
  virtual void request_turn() noexcept = 0;
  /// Let turn() be called at that time (or later); none: no time is awaited. Replaces the one before.
  /// Thread-safety: own thread.
  virtual void set_deadline(std::optional<TimePoint> when) noexcept = 0;
  /// Whether the Caller has anything to do: queued calls, timers, suspended coroutines, or a stop under way. A loop
  /// that ends when it is out of work goes on while it has. Thread-safety: own thread.
  virtual void set_busy(bool busy) noexcept = 0;
  /// For a wait nested inside of the Caller's work: handles events of the loop, the first one awaited for `limit`
  /// (none: for ever), and returns; request_turn ends it. False: this loop cannot be entered again, or not now; then
  /// only the Caller's own queue and timers turn meanwhile. Thread-safety: own thread. Units: any std::chrono duration.
  virtual bool run_nested(std::optional<Duration> limit) noexcept {
    (void)limit;
    return false;
  }
  /// The Caller has ended, turn() does nothing any more: gives back what the loop was asked for.
  /// Thread-safety: own thread.
  virtual void detached() noexcept = 0;

private:
  detail::Core* core_ = nullptr;
};

/// A host for every loop that can watch a file descriptor and a time: call turn() when descriptor() can be read and
/// when deadline() has come.
///
/// Nested waits turn only the Caller's own queue and timers.
///
/// Thread-safety: own thread, but for descriptor(). Errors: the constructor throws std::system_error.
/// Source: async-kernel Caller(host=…).
class CALLER_API FdHost final : public HostLoop {
public:
  FdHost();
  ~FdHost() override;

  /// Readable (POLLIN) while a turn is due; turn() makes it unreadable again. Do not read from it.
  int descriptor() const noexcept { return descriptor_; }
  /// When turn() is due, whatever the descriptor says; none: at no time.
  std::optional<TimePoint> deadline() const noexcept { return deadline_; }
  /// How long the loop may sleep. Units: milliseconds, rounded up, as poll(2) takes them: -1 for ever.
  int timeout_ms() const noexcept;
  /// Whether the Caller has anything to do; a loop with nothing of its own to do may end when it has not.
  bool busy() const noexcept { return busy_; }
  /// Hides HostLoop::turn. Thread-safety: own thread. Errors: none.
  void turn() noexcept;

private:
  void request_turn() noexcept override;
  void set_deadline(std::optional<TimePoint> when) noexcept override { deadline_ = when; }
  void set_busy(bool busy) noexcept override { busy_ = busy; }
  void detached() noexcept override;

  int descriptor_;
  std::optional<TimePoint> deadline_;
  bool busy_ = false;
};

}  // namespace caller
