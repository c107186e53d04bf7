// Timers: 100 000 pending that fire, or are cancelled; a time-out guard that does not fire.
//
// The deadlines are random, over 100 ms when they fire: adding takes a fraction of that, so that the order of adding
// says nothing about the order of firing. What is timed is adding and firing, not the waiting in between.
#include <optional>
#include <random>
#include <vector>

#include "support.hpp"

#if CALLER_BENCH_ASIO
#include "peer_asio.hpp"
#endif
#if CALLER_BENCH_UV
#include <uv.h>
#endif

namespace bench {
namespace {

using caller::Backend;
using caller::Caller;
using caller::Coro;
using caller::Pending;

constexpr int kTimers = 100'000;
constexpr auto kSpread = 100ms;

std::vector<std::chrono::microseconds> random_delays() {
  std::mt19937 random(20);
  std::uniform_int_distribution<int> distribution(0, static_cast<int>(std::chrono::microseconds(kSpread).count()));
  std::vector<std::chrono::microseconds> delays(kTimers);
  for (auto& d : delays) d = std::chrono::microseconds(distribution(random));
  return delays;
}

/// `add(i, delay)` for each, a pause until all are due, then `turn()` until as many as there are have fired.
template <class Add, class Turn>
void fire(benchmark::State& state, const int& fired, Add add, Turn turn) {
  const auto delays = random_delays();
  for (auto _ : state) {
    const int all = fired + kTimers;
    const auto begin = Clock::now();
    for (std::size_t i = 0; i < kTimers; ++i) add(i, delays[i]);
    const auto added = Clock::now();
    std::this_thread::sleep_until(added + kSpread + 2ms);
    const auto due = Clock::now();
    while (fired < all) turn();
    state.SetIterationTime(std::chrono::duration<double>(Clock::now() - due + (added - begin)).count());
  }
  operations(state, kTimers);
}

/// `add(i, delay)` for each, none of which fires, then `cancel(i)` for each, then `turn()`.
template <class Add, class Cancel, class Turn>
void cancel_all(benchmark::State& state, Add add, Cancel cancel, Turn turn) {
  auto delays = random_delays();
  for (auto& d : delays) d += 1h;
  for (auto _ : state) {
    for (std::size_t i = 0; i < kTimers; ++i) add(i, delays[i]);
    for (std::size_t i = 0; i < kTimers; ++i) cancel(i);
    turn();
  }
  operations(state, kTimers);
}
#define BENCH_FIRE(who) BENCH_ROW(who, timer_fire)->UseManualTime()
#define BENCH_CANCEL(who) BENCH_ROW(who, timer_cancel)

void caller_timer_fire(benchmark::State& state) {
  Caller loop(caller::manual, {.name = "bench", .backend = Backend::asio});
  int fired = 0;
  fire(
      state, fired, [&](std::size_t, auto delay) { loop.call_later(delay, [&fired] { ++fired; }); },
      [&] { loop.poll(); });
}
void caller_timer_cancel(benchmark::State& state) {
  Caller loop(caller::manual, {.name = "bench", .backend = Backend::asio});
  std::vector<Pending<void>> pending;
  pending.reserve(kTimers);
  cancel_all(
      state, [&](std::size_t, auto delay) { pending.push_back(loop.call_later(delay, [] {})); },
      [&](std::size_t i) { pending[i].cancel(); },
      [&] {
        pending.clear();
        while (loop.poll() > 0) {
        }
      });
}
BENCH_FIRE(caller);
BENCH_CANCEL(caller);

// ---- a guard that does not fire, with 100 timers pending beside it ----

[[gnu::noinline]] Coro<int> child(int n) { co_return n; }

void caller_timeout_guard(benchmark::State& state) {
  on_caller([&state]() -> Coro<void> {
    const Caller c;
    for (int i = 0; i < 100; ++i) c.call_later(30s, [] {});
    int n = 0;
    for (auto _ : state) n += co_await with_timeout(30s, child(n));
    benchmark::DoNotOptimize(n);
  });
  operations(state);
}
BENCH_ROW(caller, timeout_guard);

#if CALLER_BENCH_ASIO
void asio_timer_fire(benchmark::State& state) {
  asio::io_context loop(1);
  std::vector<std::optional<asio::steady_timer>> timers(kTimers);
  int fired = 0;
  fire(
      state, fired,
      [&](std::size_t i, auto delay) {
        timers[i].emplace(loop, delay);
        timers[i]->async_wait([&fired](const boost::system::error_code&) { ++fired; });
      },
      [&] {
        loop.poll();
        loop.restart();
      });
}
void asio_timer_cancel(benchmark::State& state) {
  asio::io_context loop(1);
  std::vector<std::optional<asio::steady_timer>> timers(kTimers);
  cancel_all(
      state,
      [&](std::size_t i, auto delay) {
        timers[i].emplace(loop, delay);
        timers[i]->async_wait([](const boost::system::error_code&) {});
      },
      [&](std::size_t i) { timers[i]->cancel(); },
      [&] {
        loop.run();
        loop.restart();
      });
}
/// Callbacks: the cheapest guard it has. Re-arming a timer cancels its last wait.
void asio_timeout_guard(benchmark::State& state) {
  asio::io_context loop(1);
  std::vector<asio::steady_timer> timers;
  for (int i = 0; i < 100; ++i) timers.emplace_back(loop);
  int n = 0;
  std::size_t next = 0;
  for (auto _ : state) {
    auto& timer = timers[next++ % timers.size()];
    timer.expires_after(30s);
    timer.async_wait([](const boost::system::error_code&) {});
    asio::post(loop, [&n] { ++n; });
    loop.poll();
  }
  benchmark::DoNotOptimize(n);
  operations(state);
}
BENCH_FIRE(asio);
BENCH_CANCEL(asio);
BENCH_ROW(asio, timeout_guard);
#endif

#if CALLER_BENCH_UV
/// Its timers have milliseconds.
std::uint64_t milliseconds(std::chrono::microseconds d) { return static_cast<std::uint64_t>(d.count() / 1000); }

struct UvTimers {
  UvTimers() : timers(kTimers) {
    uv_loop_init(&loop);
    for (auto& t : timers) {
      uv_timer_init(&loop, &t);
      t.data = this;
    }
  }
  ~UvTimers() {
    for (auto& t : timers) uv_close(reinterpret_cast<uv_handle_t*>(&t), nullptr);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
  }
  void start(std::size_t i, std::chrono::microseconds delay) {
    uv_update_time(&loop);
    uv_timer_start(&timers[i], [](uv_timer_t* t) { ++static_cast<UvTimers*>(t->data)->fired; }, milliseconds(delay), 0);
  }
  uv_loop_t loop;
  std::vector<uv_timer_t> timers;
  int fired = 0;
};

void uv_timer_fire(benchmark::State& state) {
  UvTimers uv;
  fire(
      state, uv.fired, [&uv](std::size_t i, auto delay) { uv.start(i, delay); },
      [&uv] { uv_run(&uv.loop, UV_RUN_NOWAIT); });
}
void uv_timer_cancel(benchmark::State& state) {
  UvTimers uv;
  cancel_all(
      state, [&uv](std::size_t i, auto delay) { uv.start(i, delay); },
      [&uv](std::size_t i) { uv_timer_stop(&uv.timers[i]); }, [&uv] { uv_run(&uv.loop, UV_RUN_NOWAIT); });
}
BENCH_FIRE(uv);
BENCH_CANCEL(uv);
#endif

}  // namespace
}  // namespace bench
