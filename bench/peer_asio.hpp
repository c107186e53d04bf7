// Boost.Asio, as a server uses it: one thread a loop, a concurrency hint of 1.
#pragma once

#include <utility>  // Boost 1.74's awaitable.hpp uses std::exchange without it

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>

#include <exception>
#include <optional>
#include <thread>
#include <utility>

namespace bench {

namespace asio = boost::asio;

/// Runs a coroutine function on a fresh io_context of this thread to its end.
template <class F>
void on_asio(F body) {
  asio::io_context loop(1);
  std::exception_ptr error;
  asio::co_spawn(loop, std::move(body), [&error](std::exception_ptr e) { error = e; });
  loop.run();
  if (error) std::rethrow_exception(error);
}

/// A thread that turns an io_context. One with a reactor waits in epoll, as a loop with sockets does; one without
/// waits on a condition variable.
class AsioThread {
public:
  explicit AsioThread(bool reactor = true) {
    if (reactor) {
      far_.emplace(loop, std::chrono::hours(1));
      far_->async_wait([](const boost::system::error_code&) {});
    }
    thread_ = std::thread([this] { loop.run(); });
  }
  AsioThread(const AsioThread&) = delete;
  AsioThread& operator=(const AsioThread&) = delete;
  ~AsioThread() {
    asio::post(loop, [this] {
      guard_.reset();
      far_.reset();
    });
    thread_.join();
  }

  asio::io_context loop{1};

private:
  asio::executor_work_guard<asio::io_context::executor_type> guard_{loop.get_executor()};
  std::optional<asio::steady_timer> far_;
  std::thread thread_;
};

}  // namespace bench
