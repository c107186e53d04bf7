// The bridge to Boost.Asio: the one public header that includes it, for those who use sockets, timers and signals.
//
//   tcp::socket socket(caller.executor());
//   std::size_t n = co_await socket.async_read_some(buffer, caller::use_pending);
//
// Link caller::asio (find_package(caller COMPONENTS asio)). With Boost before 1.77 an operation cannot be cancelled by
// itself. What gives up waiting for one waits for its end, which only its object brings about: close that, or cancel
// it. When a Caller with an io_context of its own stops, it leaves its operations there behind and drops their further
// steps: objects and buffers must end together, as those of one coroutine do. What an operation runs besides (co_spawn)
// must own what it uses.
#pragma once

#include <utility>  // Boost 1.74's awaitable.hpp uses std::exchange without it

#include <memory>

#include <caller/caller.hpp>
#include <caller/detail/asio_loop.hpp>
#include <caller/detail/asio_operation.hpp>
#include <caller/host.hpp>

namespace caller {

/// A completion token: the operation begins at once, and what starts it returns a Pending.
///
/// The Pending has the operation's value: void, one value, or a std::tuple of several. A leading error_code or
/// exception_ptr becomes the Pending's error (boost::system::system_error for an error_code). Waiters resume on their
/// own Callers. asio::as_tuple and asio::redirect_error may be put around it.
///
/// The operation is work of the Caller whose executor its object has, else of the Caller that starts it: stop() cancels
/// it and waits for its end. Operations begun inside a PendingGroup join it: they are cancelled with it, and it waits
/// for them; but their errors are their awaiters', and do not fail the group.
///
/// Thread-safety: any thread may start an operation, as far as Asio's object allows it. An object is destroyed on the
/// thread of its executor, or when none of its operations may be cancelled any more.
/// Cancel-safety: Pending::cancel (a cancelled or timed-out waiter, a group, a stopping Caller) is passed on to the
/// operation through its cancellation slot (terminal), on the thread of its executor; the Pending is done when the
/// operation has really ended. A waiter that gives up waits for that, too, so buffers may live in the waiting
/// coroutine. With Boost before 1.77 nothing is passed on, see above. Errors: what the operation ends with;
/// PendingCancelled; a Caller that has stopped gives a cancelled Pending. Source: asio::use_future,
/// asio::use_awaitable; async-kernel: awaiting anything of the backend.
struct use_pending_t {
  constexpr use_pending_t() = default;
};
/// The token itself: `co_await socket.async_read_some(buffer, caller::use_pending)`.
inline constexpr use_pending_t use_pending{};

/// A host for a Caller that is a guest in the given io_context, which one thread runs: the one that makes the Caller.
///
/// Nested waits run the io_context (run_one). The io_context is kept from running out of work only while the Caller has
/// something to do: a queued call, a timer, a suspended coroutine, a stop under way. It must outlive the Caller's end.
///
/// Thread-safety: the thread that runs the io_context. Errors: std::bad_alloc.
/// Source: async-kernel Caller(host=…).
inline std::shared_ptr<HostLoop> asio_host(boost::asio::io_context& context) {
  return std::make_shared<detail::AsioHost>(context);
}

}  // namespace caller

template <class R, class... Values>
class boost::asio::async_result<caller::use_pending_t, R(Values...)> {
public:
  using return_type = caller::Pending<typename caller::detail::AsioResult<Values...>::type>;

  template <class Initiation, class Token, class... A>
  static return_type initiate(Initiation&& initiation, Token&&, A&&... args) {
    return caller::detail::start_asio<Values...>(std::forward<Initiation>(initiation), std::forward<A>(args)...);
  }
};
