// Functions sent to worker threads by a loop, 16 in flight, and their results back on it.
#include <cstdlib>
#include <functional>
#include <new>
#include <string>
#include <vector>

#include "support.hpp"

#if CALLER_BENCH_ASIO
#include "peer_asio.hpp"
#endif
#if CALLER_BENCH_TBB
#include <oneapi/tbb/concurrent_queue.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>
#endif
#if CALLER_BENCH_UV
#include <uv.h>
#endif

namespace bench {
namespace {

using caller::Caller;
using caller::Coro;
using caller::Pending;

constexpr int kOutstanding = 16;
constexpr int kRound = 4096;

int cores() { return static_cast<int>(std::max(1u, std::thread::hardware_concurrency())); }

void to_thread(benchmark::State& state, int workers) {
  const auto body = [&state]() -> Coro<void> {
    const Caller c;
    Median median(state, kRound);
    int started = 0, sum = 0;
    const auto one_after_the_other = [&]() -> Coro<void> {
      while (started < kRound) sum += co_await c.to_thread([n = started++] { return n; });
    };
    for (auto _ : state) {
      median.begin();
      started = 0;
      std::vector<Pending<void>> list;
      for (int i = 0; i < kOutstanding; ++i) list.push_back(c.call_soon(one_after_the_other));
      for (auto& p : list) co_await p;
      median.end();
    }
    benchmark::DoNotOptimize(sum);
  };
  on_caller(body, {.name = "bench",
                   .backend = caller::Backend::asio,
                   .max_idle_workers = static_cast<std::size_t>(workers),
                   .max_workers = static_cast<std::size_t>(workers)});
}
void caller_to_thread_one(benchmark::State& state) { to_thread(state, 1); }
void caller_to_thread_cores(benchmark::State& state) { to_thread(state, cores()); }
BENCH_ROW(caller, to_thread_one)->UseManualTime();
BENCH_ROW(caller, to_thread_cores)->UseManualTime();

#if CALLER_BENCH_ASIO
/// Callbacks: the cheapest it has.
class AsioWorkers {
public:
  explicit AsioWorkers(int workers) : pool_(static_cast<std::size_t>(workers)) {}
  void round() {
    started_ = ended_ = 0;
    for (int i = 0; i < kOutstanding; ++i) start();
    while (ended_ < kRound) loop_.run_one();
  }

private:
  void start() {
    asio::post(pool_, [this, n = started_++] {
      asio::post(loop_, [this, n] {
        sum_ += n;
        ++ended_;
        if (started_ < kRound) start();
      });
    });
  }
  asio::io_context loop_{1};
  asio::executor_work_guard<asio::io_context::executor_type> guard_{loop_.get_executor()};
  asio::thread_pool pool_;
  int started_ = 0, ended_ = 0, sum_ = 0;
};
void asio_to_thread(benchmark::State& state, int workers) {
  AsioWorkers asio_workers(workers);
  Median median(state, kRound);
  for (auto _ : state) median.time([&] { asio_workers.round(); });
}
void asio_to_thread_one(benchmark::State& state) { asio_to_thread(state, 1); }
void asio_to_thread_cores(benchmark::State& state) { asio_to_thread(state, cores()); }
BENCH_ROW(asio, to_thread_one)->UseManualTime();
BENCH_ROW(asio, to_thread_cores)->UseManualTime();
#endif

#if CALLER_BENCH_TBB
/// Its threads look at what the end of the program destroys, unless they are told to end before.
const struct TbbThreads {
  oneapi::tbb::task_scheduler_handle handle{oneapi::tbb::attach{}};
  ~TbbThreads() { (void)oneapi::tbb::finalize(handle, std::nothrow); }
} tbb_threads;

/// It has no loop to return to: results come back through its blocking queue.
void tbb_to_thread(benchmark::State& state, int workers) {
  using oneapi::tbb::global_control;
  const global_control threads(global_control::max_allowed_parallelism, static_cast<std::size_t>(workers) + 1);
  oneapi::tbb::concurrent_bounded_queue<int> results;
  oneapi::tbb::task_arena arena(workers, 0);
  int sum = 0;
  Median median(state, kRound);
  for (auto _ : state) {
    median.begin();
    int started = 0;
    const auto start = [&] { arena.enqueue([&results, n = started++] { results.push(n); }); };
    while (started < kOutstanding) start();
    for (int ended = 0; ended < kRound; ++ended) {
      int n = 0;
      results.pop(n);
      sum += n;
      if (started < kRound) start();
    }
    median.end();
  }
  benchmark::DoNotOptimize(sum);
}
void tbb_to_thread_one(benchmark::State& state) { tbb_to_thread(state, 1); }
void tbb_to_thread_cores(benchmark::State& state) { tbb_to_thread(state, cores()); }
BENCH_ROW(tbb, to_thread_one)->UseManualTime();
BENCH_ROW(tbb, to_thread_cores)->UseManualTime();
#endif

#if CALLER_BENCH_UV
/// Its pool is the process's, and of one size.
struct UvWorkers {
  uv_loop_t* loop;
  int started = 0, sum = 0;

  void start(uv_work_t& work) {
    ++started;
    uv_queue_work(
        loop, &work, [](uv_work_t*) {},
        [](uv_work_t* w, int) {
          auto& self = *static_cast<UvWorkers*>(w->data);
          ++self.sum;
          if (self.started < kRound) self.start(*w);
        });
  }
};
void uv_to_thread_cores(benchmark::State& state) {
  setenv("UV_THREADPOOL_SIZE", std::to_string(cores()).c_str(), 0);
  uv_loop_t loop;
  uv_loop_init(&loop);
  UvWorkers workers{&loop};
  std::vector<uv_work_t> work(kOutstanding);
  for (auto& w : work) w.data = &workers;
  {
    Median median(state, kRound);
    for (auto _ : state) {
      median.begin();
      workers.started = 0;
      for (auto& w : work) workers.start(w);
      uv_run(&loop, UV_RUN_DEFAULT);
      median.end();
    }
  }
  uv_loop_close(&loop);
}
BENCH_ROW(uv, to_thread_cores)->UseManualTime();
#endif

}  // namespace
}  // namespace bench
