// instructions.cpp for Boost.Asio, so that ratios of instructions can be given.
#include <optional>
#include <random>
#include <vector>

#include "measured.hpp"
#include "peer_asio.hpp"

namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using bench::Measured;

constexpr int kBatch = 1000;
constexpr int kTimers = 10'000;
int ran = 0;

template <class Executor>
void own_queue(const char* row, asio::io_context& loop, const Executor& executor) {
  for ([[maybe_unused]] auto round : Measured(row, kBatch)) {
    for (int i = 0; i < kBatch; ++i) asio::post(executor, [] { ++ran; });
    loop.poll();
    loop.restart();
  }
}
void queues() {
  asio::io_context loop(1);
  own_queue("post", loop, loop.get_executor());
  own_queue("queue_call", loop, asio::make_strand(loop));
}

[[gnu::noinline]] asio::awaitable<int> child(int n) { co_return n; }

asio::awaitable<void> calls() {
  const auto executor = co_await asio::this_coro::executor;
  for ([[maybe_unused]] auto round : Measured("call_soon_await", kBatch))
    for (int i = 0; i < kBatch; ++i) co_await asio::post(executor, asio::use_awaitable);
}

asio::awaitable<void> children() {
  int n = 0;
  for ([[maybe_unused]] auto round : Measured("child", kBatch))
    for (int i = 0; i < kBatch; ++i) n += co_await child(n);
  ran += n;
}

asio::awaitable<void> spawned() {
  const auto executor = co_await asio::this_coro::executor;
  int n = 0;
  for ([[maybe_unused]] auto round : Measured("spawn_await", kBatch))
    for (int i = 0; i < kBatch; ++i) n += co_await asio::co_spawn(executor, child(n), asio::use_awaitable);
  ran += n;
}

void guards() {
  asio::io_context loop(1);
  std::vector<asio::steady_timer> timers;
  for (int i = 0; i < 100; ++i) timers.emplace_back(loop);
  std::size_t next = 0;
  int n = 0;
  for ([[maybe_unused]] auto round : Measured("timeout_guard", kBatch)) {
    for (int i = 0; i < kBatch; ++i) {
      auto& timer = timers[next++ % timers.size()];
      timer.expires_after(30s);
      timer.async_wait([](const boost::system::error_code&) {});
      asio::post(loop, [&n] { ++n; });
      loop.poll();
    }
  }
}

void timers() {
  std::mt19937 random(20);
  std::vector<std::chrono::microseconds> delays(kTimers);
  for (auto& d : delays) d = std::chrono::microseconds(random() % 100'000);

  asio::io_context loop(1);
  std::vector<std::optional<asio::steady_timer>> list(kTimers);
  const auto add = [&](std::chrono::steady_clock::time_point base) {
    for (std::size_t i = 0; i < kTimers; ++i) {
      list[i].emplace(loop, base + delays[i]);
      list[i]->async_wait([](const boost::system::error_code&) {});
    }
  };
  for ([[maybe_unused]] auto round : Measured("timer_cancel", kTimers)) {
    add(std::chrono::steady_clock::now() + 1h);
    for (auto& t : list) t->cancel();
    loop.run();
    loop.restart();
  }
  for ([[maybe_unused]] auto round : Measured("timer_fire", kTimers)) {
    add(std::chrono::steady_clock::now() - 1s);  // all are due
    loop.run();
    loop.restart();
  }
}

}  // namespace

int main() {
  bench::print_compiler();
  queues();
  for (asio::awaitable<void> (*body)() : {&calls, &children, &spawned}) bench::on_asio(body);
  guards();
  timers();
}
