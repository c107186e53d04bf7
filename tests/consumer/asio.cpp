#include <boost/asio/steady_timer.hpp>
#include <caller/all.hpp>
#include <caller/asio.hpp>

int main() {
  caller::Caller worker(caller::new_thread, {.name = "worker"});
  auto timer = worker.call_soon([&]() -> caller::Coro<int> {
    boost::asio::steady_timer timer(worker.executor(), std::chrono::milliseconds(1));
    co_await timer.async_wait(caller::use_pending);
    co_return 3;
  });
  return timer.wait() == 3 ? 0 : 1;
}
