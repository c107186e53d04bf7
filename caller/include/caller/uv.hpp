// libuv beside, below or around a Caller. Include <uv.h> yourself to use its functions.
#pragma once

#include <memory>

#include <caller/export.hpp>
#include <caller/host.hpp>

struct uv_loop_s;  // uv_loop_t

namespace caller {

/// The running Caller's libuv loop, made on first use: handles opened on it progress while the Caller runs.
///
/// For code that runs in a Caller's thread, with any backend (`call_using_backend(Backend::uv, …)` says that it is
/// needed). The Caller turns the loop: never call uv_run on it. Its callbacks run outside of any task and its context.
/// When the Caller ends, handles still open are closed, and their memory must last until then.
///
/// Thread-safety: a Caller's own thread. Errors: NoRunningCaller; CallerStopped; Error(unsupported_backend) when libuv
/// is not built in, or for a guest whose host is another loop. Source: async-kernel Caller.call_using_backend.
CALLER_API uv_loop_s* uv_loop();

/// A host for a Caller that is a guest in the given loop, which is run by uv_run on the thread that makes the Caller.
///
/// Handles: one uv_async_t and one uv_timer_t. They keep the loop alive only while the Caller has something to do (a
/// queued call, a timer, a suspended coroutine, a stop under way): uv_run returns when the Caller, too, has nothing
/// more to do. A call from another thread to a Caller that has nothing to do is run when the loop runs. When the Caller
/// has ended, the handles are closed; let the loop run once more before uv_loop_close. Deadlines have the loop's
/// resolution of a millisecond, rounded up. uv_run cannot be entered again: a nested wait turns only the Caller's own
/// queue and timers.
///
/// Thread-safety: the loop's thread. Errors: Error(unsupported_backend); std::system_error of uv_async_init.
/// Source: async-kernel Caller(host=…).
CALLER_API std::shared_ptr<HostLoop> uv_host(uv_loop_s* loop);

}  // namespace caller
