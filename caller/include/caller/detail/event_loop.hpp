// The event loop of another library in a Caller's thread; for the bridges (caller/asio.hpp), not for users.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include <caller/export.hpp>
#include <caller/options.hpp>

namespace caller::detail {

class Core;

/// Made on demand; from then on the Caller sleeps in it. Destroyed with the Core.
///
/// Thread-safety: wake and native from any thread, the rest from the Caller's.
class CALLER_API EventLoop {
public:
  EventLoop() = default;
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;
  virtual ~EventLoop();

  /// Ends the wait() that is going on, or the next one.
  virtual void wake() noexcept = 0;
  /// Waits for wake(), for an event, until `descriptor` can be read (none: -1), or for `timeout_ns` (none: for ever).
  /// Handles a bounded number of events, so that the Caller's own queue gets its turn.
  virtual void wait(std::optional<std::int64_t> timeout_ns, int descriptor) = 0;
  /// Handles what is ready, a bounded number of events, without waiting.
  virtual void poll() = 0;
  /// The Caller ends: releases every handler. Objects made with the loop may be destroyed later, before the loop.
  virtual void close() noexcept = 0;
  /// What users know it by: its io_context, its uv_loop_t.
  virtual void* native() noexcept = 0;
};

using MakeLoop = std::unique_ptr<EventLoop> (*)();

/// The io_context or uv_loop_t of `core`, made by `make` when there is none.
/// Thread-safety: any thread. Errors: CallerStopped; Error(unsupported_backend): a guest has its host's loop only.
CALLER_API void* native_loop(Core& core, Backend which, MakeLoop make);

/// The Core that an io_context belongs to, null when it is no Caller's. Borrowed: it lives as long as the io_context.
CALLER_API Core* core_of_loop(const void* native) noexcept;

}  // namespace caller::detail
