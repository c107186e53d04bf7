// Calls from other threads: throughput, round trips, new threads.
#include <future>
#include <string>
#include <vector>

#include "support.hpp"

#if CALLER_BENCH_ASIO
#include "peer_asio.hpp"
#endif
#if CALLER_BENCH_TBB
#include <oneapi/tbb/task_arena.h>
#endif
#if CALLER_BENCH_UV
#include "peer_uv.hpp"
#endif

namespace bench {
namespace {

using caller::Caller;
using caller::CallerOptions;

constexpr int kCalls = 100'000;  // a round, over all producers: waking the producers does not count then

// ---- N producers, each posting its part of a round; the round ends when the loop has run the last call ----

template <class Post>
void cross_thread(benchmark::State& state, Post post) {
  const int producers = static_cast<int>(state.range(0));
  const int part = kCalls / producers;
  Tally tally;
  {
    Team team(producers, [&seen = tally.seen, &done = tally.done, part, producers, post](int) {
      for (int i = 0; i < part; ++i) {
        post([&seen, &done, all = part * producers] {
          if (++seen == all) {
            seen = 0;
            done.set();
          }
        });
      }
    });
    Median median(state, part * producers);
    for (auto _ : state) {
      tally.done.clear();
      median.time([&] {
        team.go();
        tally.done.wait();
      });
    }
  }
}
#define BENCH_CROSS_THREAD(who) BENCH_ROW(who, cross_thread)->Arg(1)->Arg(2)->Arg(4)->UseManualTime()

void caller_cross_thread(benchmark::State& state) {
  const Caller loop(caller::new_thread, {.name = "bench"});
  cross_thread(state, [&loop](auto fn) { loop.post(fn); });
}
void caller_cross_thread_pending(benchmark::State& state) {
  const Caller loop(caller::new_thread, {.name = "bench"});
  cross_thread(state, [&loop](auto fn) { loop.call_soon(fn); });
}
BENCH_CROSS_THREAD(caller);
BENCH_ROW(caller, cross_thread_pending)->Arg(1)->UseManualTime();

// ---- submit a round, then get every result ----

template <class Submit>
void submit_and_get(benchmark::State& state, Submit submit) {
  constexpr int kRound = 20'000;
  std::vector<decltype(submit(0))> list;
  list.reserve(kRound);
  long sum = 0;
  Median median(state, kRound);
  for (auto _ : state) {
    median.begin();
    for (int i = 0; i < kRound; ++i) list.push_back(submit(i));
    for (auto& result : list) {
      if constexpr (requires { result.wait_done(); })
        sum += result.wait();
      else
        sum += result.get();
    }
    list.clear();
    median.end();
  }
  benchmark::DoNotOptimize(sum);
}

void caller_submit_get(benchmark::State& state) {
  const Caller loop(caller::new_thread, {.name = "bench"});
  submit_and_get(state, [&loop](int i) { return loop.call_soon([i] { return i; }); });
}
BENCH_ROW(caller, submit_get)->UseManualTime();

// ---- a call to a loop that sleeps, and the news of it back to a thread that sleeps; both pinned ----

template <class Call>
void round_trip_idle(benchmark::State& state, Call call) {
  const Pinned here(0);
  call([] { pin_this_thread(1); });
  Median median(state);
  for (auto _ : state) {
    std::this_thread::sleep_for(200us);  // until the other side sleeps, and its processor with it
    median.time([&call] { call([] {}); });
  }
}
#define BENCH_LATENCY(who, operation) BENCH_ROW(who, operation)->UseManualTime()->Iterations(1000)

/// Posts a function and sleeps until it has run.
template <class Post>
auto post_and_wait(Post post) {
  return [post](auto fn) {
    static Signal done;  // a late notification may still touch it
    done.clear();
    post([fn] {
      fn();
      done.set();
    });
    done.wait();
  };
}

void caller_round_trip(benchmark::State& state) {
  const Caller loop(caller::new_thread, {.name = "bench"});
  round_trip_idle(state, [&loop](auto fn) { loop.call_soon(fn).wait(); });
}
BENCH_LATENCY(caller, round_trip);

// ---- the same with a loop that spins before it sleeps, and a caller that spins ----

/// `call()` again and again.
template <class Call>
void round_trips_spinning(benchmark::State& state, Call call) {
  constexpr int kTrips = 100;
  Median median(state, kTrips);
  for (auto _ : state) {
    median.time([&call] {
      for (int i = 0; i < kTrips; ++i) call();
    });
  }
}

template <class Options>
void caller_round_trip_spin(benchmark::State& state) {
  Options options{.name = "bench"};
  if constexpr (requires { options.spin = 1ms; }) options.spin = 1ms;
  const Caller loop(caller::new_thread, options);
  round_trips_spinning(state, [&loop] {
    const auto pending = loop.call_soon([] {});
    while (!pending.done()) pause();
  });
}
template <class Options>
bool register_spin() {
  if constexpr (requires(Options options) { options.spin = 1ms; })
    benchmark::RegisterBenchmark("caller/round_trip_spin", &caller_round_trip_spin<Options>)->UseManualTime();
  return true;
}
[[maybe_unused]] const bool spin_registered = register_spin<CallerOptions>();

// ---- a thread with a loop, its first call, its end ----

void caller_new_thread(benchmark::State& state) {
  Median median(state);
  for (auto _ : state) {
    median.time([] {
      const Caller loop(caller::new_thread);
      loop.call_soon([] {}).wait();
    });
  }
}
BENCH_ROW(caller, new_thread)->UseManualTime();

#if CALLER_BENCH_ASIO
void asio_cross_thread(benchmark::State& state) {
  AsioThread thread;
  cross_thread(state, [&thread](auto fn) { asio::post(thread.loop, fn); });
}
void asio_submit_get(benchmark::State& state) {
  AsioThread thread;
  submit_and_get(
      state, [&thread](int i) { return asio::post(thread.loop.get_executor(), asio::use_future([i] { return i; })); });
}
void asio_round_trip(benchmark::State& state) {
  AsioThread thread;
  round_trip_idle(state, post_and_wait([&thread](auto fn) { asio::post(thread.loop, fn); }));
}
void asio_round_trip_condition(benchmark::State& state) {
  AsioThread thread(false);
  round_trip_idle(state, post_and_wait([&thread](auto fn) { asio::post(thread.loop, fn); }));
}
void asio_round_trip_spin(benchmark::State& state) {  // it has no such option: a thread that polls for ever
  asio::io_context loop(1);
  const auto guard = asio::make_work_guard(loop);
  std::atomic<bool> ended{false};
  std::thread thread([&] {
    while (!ended.load(std::memory_order_relaxed)) loop.poll();
  });
  Signal done;
  round_trips_spinning(state, [&] {
    done.clear();
    asio::post(loop, [&done] { done.set(); });
    while (!done.is_set()) pause();
  });
  ended.store(true);
  thread.join();
}
void asio_new_thread(benchmark::State& state) {
  Median median(state);
  for (auto _ : state) {
    median.time([] {
      AsioThread thread(false);
      post_and_wait([&thread](auto fn) { asio::post(thread.loop, fn); })([] {});
    });
  }
}
BENCH_CROSS_THREAD(asio);
BENCH_ROW(asio, submit_get)->UseManualTime();
BENCH_LATENCY(asio, round_trip);
BENCH_LATENCY(asio, round_trip_condition);
BENCH_ROW(asio, round_trip_spin)->UseManualTime();
BENCH_ROW(asio, new_thread)->UseManualTime();
#endif

#if CALLER_BENCH_TBB
void tbb_cross_thread(benchmark::State& state) {  // an arena of one worker
  oneapi::tbb::task_arena arena(1, 0);
  cross_thread(state, [&arena](auto fn) { arena.enqueue(fn); });
}
void tbb_round_trip(benchmark::State& state) {
  oneapi::tbb::task_arena arena(1, 0);
  round_trip_idle(state, post_and_wait([&arena](auto fn) { arena.enqueue(fn); }));
}
BENCH_CROSS_THREAD(tbb);
BENCH_LATENCY(tbb, round_trip);
#endif

#if CALLER_BENCH_UV
void uv_cross_thread(benchmark::State& state) {
  UvThread thread;
  cross_thread(state, [&thread](auto fn) { thread.post(fn); });
}
void uv_round_trip(benchmark::State& state) {
  UvThread thread;
  round_trip_idle(state, post_and_wait([&thread](auto fn) { thread.post(fn); }));
}
BENCH_CROSS_THREAD(uv);
BENCH_LATENCY(uv, round_trip);
#endif

}  // namespace
}  // namespace bench
