// A program that has a libuv loop of its own takes a Caller in as a guest: coroutines, timers and worker threads in the
// loop that is there already. uv_run returns when neither has anything left to do.
#include <caller/all.hpp>
#include <caller/uv.hpp>

#include <uv.h>
#include <chrono>
#include <cstdint>
#include <iostream>

using caller::Caller;
using caller::Coro;
using namespace std::chrono_literals;

std::uint64_t sum_of_squares(std::uint64_t n) {
  std::uint64_t sum = 0;
  for (std::uint64_t i = 1; i <= n; ++i) sum += i * i;
  return sum;
}

// What the program had before: something that ticks.
struct Ticker {
  uv_timer_t timer{};
  int ticks = 0;
  std::uint64_t result = 0;

  // Runs on the loop's thread, works in another, and continues on the loop's thread: no lock is needed.
  Coro<void> measure(std::uint64_t n) {
    Caller here;
    const std::uint64_t squares = co_await here.to_thread(sum_of_squares, n);
    co_await caller::sleep_for(5ms);
    result += squares;
    std::cout << "after " << ticks << " ticks: " << squares << '\n';
  }

  static void on_tick(uv_timer_t* handle) {
    auto& self = *static_cast<Ticker*>(handle->data);
    ++self.ticks;
    // A callback of the loop may call the guest at any time.
    Caller::current().call_soon(&Ticker::measure, &self, static_cast<std::uint64_t>(self.ticks) * 1000);
    if (self.ticks == 3) uv_close(reinterpret_cast<uv_handle_t*>(handle), nullptr);
  }
};

int main() {
  uv_loop_t loop;
  uv_loop_init(&loop);
  Ticker ticker;
  uv_timer_init(&loop, &ticker.timer);
  ticker.timer.data = &ticker;
  uv_timer_start(&ticker.timer, &Ticker::on_tick, 1, 1);
  {
    Caller guest(caller::guest, {.name = "guest", .host = caller::uv_host(&loop)});
    uv_run(&loop, UV_RUN_DEFAULT);
  }
  uv_run(&loop, UV_RUN_DEFAULT);  // the guest has gone: its handles are closed
  const bool closed = uv_loop_close(&loop) == 0;
  const bool right = ticker.result == sum_of_squares(1000) + sum_of_squares(2000) + sum_of_squares(3000);
  std::cout << (closed && right ? "all done\n" : "something is wrong\n");
  return closed && right ? 0 : 1;
}
