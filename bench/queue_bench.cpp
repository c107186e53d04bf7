// The own thread's queue: a call made and run on one thread.
#include "support.hpp"

#if CALLER_BENCH_ASIO
#include "peer_asio.hpp"
#endif
#if CALLER_BENCH_TBB
#include <oneapi/tbb/task_arena.h>
#include <oneapi/tbb/task_group.h>
#endif

namespace bench {
namespace {

using caller::Backend;
using caller::Caller;

/// A batch of calls, then a turn of the loop.
template <class Queue>
void on_own_queue(benchmark::State& state, Queue queue) {
  Caller loop(caller::manual, {.name = "bench", .backend = Backend::asio});
  for (auto _ : state) {
    for (int i = 0; i < kBatch; ++i) queue(loop);
    loop.poll();
  }
  operations(state, kBatch);
}

void caller_post(benchmark::State& state) {
  int n = 0;
  on_own_queue(state, [&n](Caller& loop) { loop.post([&n] { ++n; }); });
  benchmark::DoNotOptimize(n);
}
void caller_call_direct(benchmark::State& state) {
  int n = 0;
  on_own_queue(state, [&n](Caller& loop) { loop.call_direct([&n] { ++n; }); });
  benchmark::DoNotOptimize(n);
}
void caller_call_soon_dropped(benchmark::State& state) {
  int n = 0;
  on_own_queue(state, [&n](Caller& loop) { loop.call_soon([&n] { ++n; }); });
  benchmark::DoNotOptimize(n);
}
void caller_queue_call(benchmark::State& state) {
  int n = 0;
  on_own_queue(state, [work = [&n] { ++n; }](Caller& loop) { loop.queue_call(work); });
  benchmark::DoNotOptimize(n);
}
BENCH_ROW(caller, post);
BENCH_ROW(caller, call_direct);
BENCH_ROW(caller, call_soon_dropped);
BENCH_ROW(caller, queue_call);

#if CALLER_BENCH_ASIO
template <class Executor>
void on_asio_queue(benchmark::State& state, asio::io_context& loop, const Executor& executor) {
  int n = 0;
  for (auto _ : state) {
    for (int i = 0; i < kBatch; ++i) asio::post(executor, [&n] { ++n; });
    loop.poll();
    loop.restart();
  }
  benchmark::DoNotOptimize(n);
  operations(state, kBatch);
}

void asio_post(benchmark::State& state) {
  asio::io_context loop(1);
  on_asio_queue(state, loop, loop.get_executor());
}
void asio_queue_call(benchmark::State& state) {  // a strand is its lane
  asio::io_context loop(1);
  on_asio_queue(state, loop, asio::make_strand(loop));
}
BENCH_ROW(asio, post);
BENCH_ROW(asio, queue_call);
#endif

#if CALLER_BENCH_TBB
void tbb_post(benchmark::State& state) {  // last in, first out: it has no ordered queue of one thread
  oneapi::tbb::task_arena arena(1);
  int n = 0;
  arena.execute([&] {
    oneapi::tbb::task_group group;
    for (auto _ : state) {
      for (int i = 0; i < kBatch; ++i) group.run([&n] { ++n; });
      group.wait();
    }
  });
  benchmark::DoNotOptimize(n);
  operations(state, kBatch);
}
BENCH_ROW(tbb, post);
#endif

}  // namespace
}  // namespace bench
