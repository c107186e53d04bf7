// What the benchmarks of ours and of the peers share.
//
// A benchmark is named `who/operation[/number]`: `caller/post`, `asio/post`, `limit/exchange`, `caller/cross_thread/2`.
// bench/compare and bench/targets.toml know them by these names.
#pragma once

#include <benchmark/benchmark.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include <caller/all.hpp>

/// Registers the function `who_operation` as `who/operation`.
#define BENCH_ROW(who, operation) BENCHMARK(who##_##operation)->Name(#who "/" #operation)

namespace bench {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

inline constexpr int kBatch = 1000;

/// Shows the time of one operation, when an iteration of the benchmark is `per_iteration` of them.
inline void operations(benchmark::State& state, std::int64_t per_iteration = 1) {
  state.counters["each"] = benchmark::Counter(static_cast<double>(state.iterations() * per_iteration),
                                              benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

/// The time of one operation as the median over the iterations, each of which is `operations` of them: where several
/// threads take part, a neighbour stretches some iterations by milliseconds and must not move the figure.
/// For benchmarks with UseManualTime.
class Median {
public:
  explicit Median(benchmark::State& state, double operations = 1) : state_(state), operations_(operations) {}
  Median(const Median&) = delete;
  Median& operator=(const Median&) = delete;
  ~Median() {
    if (samples_.empty()) return;
    const auto middle = samples_.begin() + static_cast<std::ptrdiff_t>(samples_.size() / 2);
    std::nth_element(samples_.begin(), middle, samples_.end());
    state_.counters["each"] = benchmark::Counter(*middle / operations_);
  }
  void begin() { begin_ = Clock::now(); }
  void end() {
    const double seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
    state_.SetIterationTime(seconds);
    samples_.push_back(seconds);
  }
  template <class F>
  void time(F&& iteration) {
    begin();
    std::forward<F>(iteration)();
    end();
  }

private:
  benchmark::State& state_;
  double operations_;
  std::vector<double> samples_;
  Clock::time_point begin_;
};

/// What one thread tells another once; a thread that waits for it sleeps.
class Signal {
public:
  void clear() noexcept { set_.store(0, std::memory_order_relaxed); }
  void set() noexcept {
    set_.store(1, std::memory_order_release);
    set_.notify_one();
  }
  bool is_set() const noexcept { return set_.load(std::memory_order_acquire) != 0; }
  void wait() const noexcept { set_.wait(0, std::memory_order_acquire); }

private:
  std::atomic<std::uint32_t> set_{0};
};

/// What one thread counts, away from what others read: a line that both want would be all that is measured.
struct alignas(128) Tally {
  int seen = 0;
  alignas(128) Signal done;
};

/// Threads that do the same work, all at once, whenever told to.
class Team {
public:
  Team(int size, std::function<void(int)> work) : work_(std::move(work)) {
    for (int i = 0; i < size; ++i) threads_.emplace_back([this, i] { run(i); });
  }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;
  ~Team() {
    ended_.store(true, std::memory_order_relaxed);
    go();
    for (auto& t : threads_) t.join();
  }
  void go() noexcept {
    round_.fetch_add(1, std::memory_order_release);
    round_.notify_all();
  }

private:
  void run(int index) {
    for (std::uint32_t seen = 0;; ++seen) {
      round_.wait(seen, std::memory_order_acquire);
      if (ended_.load(std::memory_order_relaxed)) return;
      work_(index);
    }
  }

  std::function<void(int)> work_;
  std::atomic<std::uint32_t> round_{0};
  std::atomic<bool> ended_{false};
  std::vector<std::thread> threads_;
};

/// Keeps the calling thread on one processor. Where there is only one, nothing can be kept apart.
inline void pin_this_thread(unsigned processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor % std::max(1u, std::thread::hardware_concurrency()), &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

/// Pins the calling thread for the life of the scope.
class Pinned {
public:
  explicit Pinned(unsigned processor) {
    pthread_getaffinity_np(pthread_self(), sizeof before_, &before_);
    pin_this_thread(processor);
  }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  ~Pinned() { pthread_setaffinity_np(pthread_self(), sizeof before_, &before_); }

private:
  cpu_set_t before_;
};

inline void pause() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

/// Runs a coroutine function on a fresh Caller of this thread to its end.
template <class F>
void on_caller(F body, caller::CallerOptions options = {.name = "bench", .backend = caller::Backend::asio}) {
  caller::Caller loop(caller::manual, options);
  const auto outcome = loop.call_soon(std::move(body));
  loop.run_until(outcome);
  outcome.result();
}

}  // namespace bench
