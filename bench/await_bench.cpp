// Awaiting on one thread: calls, many calls, children, coroutines as tasks of their own.
#include <vector>

#include "support.hpp"

#if CALLER_BENCH_ASIO
#include "peer_asio.hpp"
#if __has_include(<boost/asio/experimental/use_promise.hpp>)
#define CALLER_BENCH_ASIO_PROMISE 1
#include <boost/asio/experimental/promise.hpp>
#include <boost/asio/experimental/use_promise.hpp>
#endif
#endif

namespace bench {
namespace {

using caller::Caller;
using caller::Coro;
using caller::Pending;

[[gnu::noinline]] Coro<int> child(int n) { co_return n; }

void caller_call_soon_await(benchmark::State& state) {
  on_caller([&state]() -> Coro<void> {
    const Caller c;
    int n = 0;
    for (auto _ : state) n += co_await c.call_soon([] { return 1; });
    benchmark::DoNotOptimize(n);
  });
  operations(state);
}
void caller_pendings_1000(benchmark::State& state) {
  on_caller([&state]() -> Coro<void> {
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
  operations(state, kBatch);
}
void caller_child(benchmark::State& state) {
  on_caller([&state]() -> Coro<void> {
    int n = 0;
    for (auto _ : state) n += co_await child(n);
    benchmark::DoNotOptimize(n);
  });
  operations(state);
}
void caller_spawn_await(benchmark::State& state) {
  on_caller([&state]() -> Coro<void> {
    const Caller c;
    int n = 0;
    for (auto _ : state) n += co_await c.call_soon(child, n);
    benchmark::DoNotOptimize(n);
  });
  operations(state);
}
BENCH_ROW(caller, call_soon_await);
BENCH_ROW(caller, pendings_1000);
BENCH_ROW(caller, child);
BENCH_ROW(caller, spawn_await);

#if CALLER_BENCH_ASIO
[[gnu::noinline]] asio::awaitable<int> asio_child_of(int n) { co_return n; }

void asio_call_soon_await(benchmark::State& state) {
  on_asio([&state]() -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    for (auto _ : state) co_await asio::post(executor, asio::use_awaitable);
  });
  operations(state);
}
#if CALLER_BENCH_ASIO_PROMISE
void asio_pendings_1000(benchmark::State& state) {
  on_asio([&state]() -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    const auto start = [&executor](int i) {
      return asio::co_spawn(executor, asio_child_of(i), asio::experimental::use_promise);
    };
    std::vector<decltype(start(0))> list;
    list.reserve(kBatch);
    int n = 0;
    for (auto _ : state) {
      for (int i = 0; i < kBatch; ++i) list.push_back(start(i));
      for (auto& p : list) n += co_await std::move(p)(asio::use_awaitable);
      list.clear();
    }
    benchmark::DoNotOptimize(n);
  });
  operations(state, kBatch);
}
BENCH_ROW(asio, pendings_1000);
#endif
void asio_child(benchmark::State& state) {
  on_asio([&state]() -> asio::awaitable<void> {
    int n = 0;
    for (auto _ : state) n += co_await asio_child_of(n);
    benchmark::DoNotOptimize(n);
  });
  operations(state);
}
void asio_spawn_await(benchmark::State& state) {
  on_asio([&state]() -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    int n = 0;
    for (auto _ : state) n += co_await asio::co_spawn(executor, asio_child_of(n), asio::use_awaitable);
    benchmark::DoNotOptimize(n);
  });
  operations(state);
}
BENCH_ROW(asio, call_soon_await);
BENCH_ROW(asio, child);
BENCH_ROW(asio, spawn_await);
#endif

}  // namespace
}  // namespace bench
