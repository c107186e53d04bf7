// Operations of the runtime beside Boost.Asio's.
#include <utility>  // Boost 1.74's awaitable.hpp uses std::exchange without it

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include <benchmark/benchmark.h>

#include <caller/all.hpp>

namespace {

namespace asio = boost::asio;
using caller::Backend;
using caller::Caller;
using caller::Coro;
using caller::Pending;
constexpr int kBatch = 1000;

/// Runs a coroutine on a fresh loop to its end.
template <class F>
void on_loop(F body) {
  Caller loop(caller::manual, {.name = "bench", .backend = Backend::asio});
  loop.run_until(loop.call_soon(std::move(body)));
}

template <class F>
void asio_loop(F body) {
  asio::io_context loop(1);
  asio::co_spawn(loop, std::move(body), asio::detached);
  loop.run();
}

// ---- the own thread's queue ----

void post_own(benchmark::State& state) {
  Caller loop(caller::manual, {.name = "bench", .backend = Backend::asio});
  int n = 0;
  for (auto _ : state) {
    for (int i = 0; i < kBatch; ++i) loop.post([&n] { ++n; });
    loop.poll();
  }
  benchmark::DoNotOptimize(n);
  state.SetItemsProcessed(state.iterations() * kBatch);
}
void post_asio(benchmark::State& state) {
  asio::io_context loop(1);
  int n = 0;
  for (auto _ : state) {
    for (int i = 0; i < kBatch; ++i) asio::post(loop, [&n] { ++n; });
    loop.poll();
    loop.restart();
  }
  benchmark::DoNotOptimize(n);
  state.SetItemsProcessed(state.iterations() * kBatch);
}
void call_soon_dropped(benchmark::State& state) {
  Caller loop(caller::manual, {.name = "bench", .backend = Backend::asio});
  int n = 0;
  for (auto _ : state) {
    for (int i = 0; i < kBatch; ++i) loop.call_soon([&n] { ++n; });
    loop.poll();
  }
  benchmark::DoNotOptimize(n);
  state.SetItemsProcessed(state.iterations() * kBatch);
}
void queue_call(benchmark::State& state) {
  Caller loop(caller::manual, {.name = "bench", .backend = Backend::asio});
  static int n = 0;
  const auto work = [] { ++n; };
  for (auto _ : state) {
    for (int i = 0; i < kBatch; ++i) loop.queue_call(work);
    loop.poll();
  }
  state.SetItemsProcessed(state.iterations() * kBatch);
}
void strand_asio(benchmark::State& state) {
  asio::io_context loop(1);
  auto strand = asio::make_strand(loop);
  int n = 0;
  for (auto _ : state) {
    for (int i = 0; i < kBatch; ++i) asio::post(strand, [&n] { ++n; });
    loop.poll();
    loop.restart();
  }
  benchmark::DoNotOptimize(n);
  state.SetItemsProcessed(state.iterations() * kBatch);
}

// ---- awaiting ----

void call_soon_await(benchmark::State& state) {
  on_loop([&state]() -> Coro<void> {
    const Caller c;
    int n = 0;
    for (auto _ : state) n += co_await c.call_soon([] { return 1; });
    benchmark::DoNotOptimize(n);
  });
}
void pendings_1000(benchmark::State& state) {
  on_loop([&state]() -> Coro<void> {
    const Caller c;
    std::vector<Pending<int>> list;
    list.reserve(kBatch);
    int n = 0;
    for (auto _ : state) {
      for (int i = 0; i < kBatch; ++i) list.push_back(c.call_soon([i] { return i; }));
      for (auto& p : list) n += co_await p;
      list.clear();
    }
    benchmark::DoNotOptimize(n);
  });
  state.SetItemsProcessed(state.iterations() * kBatch);
}

Coro<int> child(int n) { co_return n; }
asio::awaitable<int> asio_child(int n) { co_return n; }

void child_coro(benchmark::State& state) {
  on_loop([&state]() -> Coro<void> {
    int n = 0;
    for (auto _ : state) n += co_await child(n);
    benchmark::DoNotOptimize(n);
  });
}
void child_asio(benchmark::State& state) {
  asio_loop([&state]() -> asio::awaitable<void> {
    int n = 0;
    for (auto _ : state) n += co_await asio_child(n);
    benchmark::DoNotOptimize(n);
  });
}
void spawn_await(benchmark::State& state) {
  on_loop([&state]() -> Coro<void> {
    const Caller c;
    int n = 0;
    for (auto _ : state) n += co_await c.call_soon(child, n);
    benchmark::DoNotOptimize(n);
  });
}
void spawn_asio(benchmark::State& state) {
  asio_loop([&state]() -> asio::awaitable<void> {
    auto ex = co_await asio::this_coro::executor;
    int n = 0;
    for (auto _ : state) n += co_await asio::co_spawn(ex, asio_child(n), asio::use_awaitable);
    benchmark::DoNotOptimize(n);
  });
}

// ---- other threads ----

void cross_thread(benchmark::State& state) {
  Caller other(caller::new_thread, {.name = "bench"});
  std::atomic<int> n{0};
  for (auto _ : state) {
    for (int i = 0; i < kBatch - 1; ++i) other.post([&n] { n.fetch_add(1, std::memory_order_relaxed); });
    other.call_soon([] {}).wait();
  }
  state.SetItemsProcessed(state.iterations() * kBatch);
}
void cross_thread_asio(benchmark::State& state) {
  asio::io_context loop(1);
  auto guard = asio::make_work_guard(loop);
  std::thread thread([&loop] { loop.run(); });
  std::atomic<int> n{0};
  for (auto _ : state) {
    for (int i = 0; i < kBatch - 1; ++i) asio::post(loop, [&n] { n.fetch_add(1, std::memory_order_relaxed); });
    std::atomic<bool> done{false};
    asio::post(loop, [&done] {
      done.store(true);
      done.notify_one();
    });
    done.wait(false);
  }
  guard.reset();
  thread.join();
  state.SetItemsProcessed(state.iterations() * kBatch);
}
void round_trip_idle(benchmark::State& state) {
  Caller other(caller::new_thread, {.name = "bench"});
  for (auto _ : state) other.call_soon([] {}).wait();
}
void new_thread_first_call(benchmark::State& state) {
  for (auto _ : state) {
    Caller other(caller::new_thread);
    other.call_soon([] {}).wait();
  }
}
void to_thread_one(benchmark::State& state) {
  on_loop([&state]() -> Coro<void> {
    const Caller c;
    for (auto _ : state) co_await c.to_thread([] {});
  });
}

// ---- timers ----

void call_later_fire_1000(benchmark::State& state) {
  caller::ManualClock clock;
  Caller loop(caller::manual, {.name = "bench", .backend = Backend::manual, .clock = &clock});
  int n = 0;
  for (auto _ : state) {
    for (int i = 0; i < kBatch; ++i) loop.call_later(std::chrono::microseconds(1 + i * 7919 % kBatch), [&n] { ++n; });
    clock.advance(std::chrono::seconds(1));
    loop.poll();
  }
  benchmark::DoNotOptimize(n);
  state.SetItemsProcessed(state.iterations() * kBatch);
}
void timer_fire_asio_1000(benchmark::State& state) {
  asio::io_context loop(1);
  int n = 0;
  std::vector<asio::steady_timer> timers;
  timers.reserve(kBatch);
  for (auto _ : state) {
    for (int i = 0; i < kBatch; ++i) {
      timers.emplace_back(loop, std::chrono::nanoseconds(i * 7919 % kBatch));
      timers.back().async_wait([&n](const boost::system::error_code&) { ++n; });
    }
    loop.run();
    loop.restart();
    timers.clear();
  }
  benchmark::DoNotOptimize(n);
  state.SetItemsProcessed(state.iterations() * kBatch);
}

BENCHMARK(post_own);
BENCHMARK(post_asio);
BENCHMARK(call_soon_dropped);
BENCHMARK(queue_call);
BENCHMARK(strand_asio);
BENCHMARK(call_soon_await);
BENCHMARK(pendings_1000);
BENCHMARK(child_coro);
BENCHMARK(child_asio);
BENCHMARK(spawn_await);
BENCHMARK(spawn_asio);
BENCHMARK(cross_thread)->UseRealTime();
BENCHMARK(cross_thread_asio)->UseRealTime();
BENCHMARK(round_trip_idle)->UseRealTime();
BENCHMARK(new_thread_first_call)->UseRealTime();
BENCHMARK(to_thread_one)->UseRealTime();
BENCHMARK(call_later_fire_1000);
BENCHMARK(timer_fire_asio_1000);

}  // namespace
