// What the machine itself takes: no runtime can be faster than these.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <coroutine>
#include <cstdlib>
#include <queue>
#include <random>
#include <vector>

#include "support.hpp"

namespace bench {
namespace {

void limit_exchange(benchmark::State& state) {
  std::atomic<std::uint64_t> word{0};
  std::uint64_t n = 0;
  for (auto _ : state) word.exchange(++n, std::memory_order_acq_rel);
  operations(state);
}
void limit_clock(benchmark::State& state) {
  for (auto _ : state) {
    auto now = Clock::now();
    benchmark::DoNotOptimize(now);
  }
  operations(state);
}
BENCH_ROW(limit, exchange);
BENCH_ROW(limit, clock);

void limit_malloc(benchmark::State& state) {  // a block as large as a Pending may be
  for (auto _ : state) {
    void* block = std::malloc(192);
    benchmark::DoNotOptimize(block);
    std::free(block);
  }
  operations(state);
}
BENCH_ROW(limit, malloc);

// ---- the least coroutine that can be awaited, with a frame from malloc ----

struct Least {
  struct promise_type {
    std::coroutine_handle<> awaiting;
    int value = 0;

    Least get_return_object() { return Least(std::coroutine_handle<promise_type>::from_promise(*this)); }
    std::suspend_always initial_suspend() noexcept { return {}; }
    auto final_suspend() noexcept {
      struct Transfer {
        bool await_ready() noexcept { return false; }
        std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> h) noexcept {
          return h.promise().awaiting;
        }
        void await_resume() noexcept {}
      };
      return Transfer{};
    }
    void return_value(int v) noexcept { value = v; }
    void unhandled_exception() { std::abort(); }
    static void* operator new(std::size_t size) { return std::malloc(size); }
    static void operator delete(void* frame) { std::free(frame); }
  };

  explicit Least(std::coroutine_handle<promise_type> h) : frame(h) {}
  Least(const Least&) = delete;
  Least& operator=(const Least&) = delete;
  ~Least() { frame.destroy(); }
  bool await_ready() const noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> h) const noexcept {
    frame.promise().awaiting = h;
    return frame;
  }
  int await_resume() const noexcept { return frame.promise().value; }

  std::coroutine_handle<promise_type> frame;
};

[[gnu::noinline]] Least least_child(int n) { co_return n; }
Least await_children(benchmark::State& state) {
  int n = 0;
  for (auto _ : state) n += co_await least_child(n);
  co_return n;
}
void limit_frame(benchmark::State& state) {
  const Least outer = await_children(state);
  outer.frame.promise().awaiting = std::noop_coroutine();
  outer.frame.resume();
  operations(state);
}
BENCH_ROW(limit, frame);

// ---- containers ----

void limit_heap(benchmark::State& state) {  // 100 000 pushed, then popped
  constexpr int kEntries = 100'000;
  struct Later {
    bool operator()(const std::pair<std::int64_t, void*>& a, const std::pair<std::int64_t, void*>& b) const noexcept {
      return a.first > b.first;
    }
  };
  std::mt19937_64 random(8);
  std::vector<std::int64_t> deadlines(kEntries);
  for (auto& d : deadlines) d = static_cast<std::int64_t>(random() >> 1);
  for (auto _ : state) {
    std::priority_queue<std::pair<std::int64_t, void*>, std::vector<std::pair<std::int64_t, void*>>, Later> heap;
    for (const auto d : deadlines) heap.emplace(d, nullptr);
    while (!heap.empty()) heap.pop();
  }
  operations(state, kEntries);
}
void limit_stack(benchmark::State& state) {  // pushed by compare-and-swap, taken whole, walked
  struct Node {
    Node* next = nullptr;
    int value = 1;
  };
  std::vector<Node> nodes(kBatch);
  std::atomic<Node*> top{nullptr};
  int n = 0;
  for (auto _ : state) {
    for (auto& node : nodes) {
      node.next = top.load(std::memory_order_relaxed);
      while (!top.compare_exchange_weak(node.next, &node, std::memory_order_release, std::memory_order_relaxed)) {
      }
    }
    for (Node* p = top.exchange(nullptr, std::memory_order_acquire); p; p = p->next) n += p->value;
  }
  benchmark::DoNotOptimize(n);
  operations(state, kBatch);
}
BENCH_ROW(limit, heap);
BENCH_ROW(limit, stack);

// ---- two threads ----

struct alignas(128) Line {
  std::atomic<std::uint32_t> turn{0};
};
constexpr std::uint32_t kEnd = ~0u;

/// Two threads hand a number to and fro, each looking at a line that the other writes.
class PingPong {
public:
  template <class Reply>
  explicit PingPong(Reply reply) : thread_(reply, std::ref(to_), std::ref(fro_)) {}
  PingPong(const PingPong&) = delete;
  PingPong& operator=(const PingPong&) = delete;
  ~PingPong() { thread_.join(); }
  Line& to() noexcept { return to_; }
  Line& fro() noexcept { return fro_; }

private:
  Line to_, fro_;
  std::thread thread_;
};
void spin_until(const Line& line, std::uint32_t turn) noexcept {
  while (line.turn.load(std::memory_order_acquire) != turn) {
  }
}

void spin(benchmark::State& state, double transfers) {
  const Pinned here(0);
  PingPong game([](Line& to, Line& fro) {
    pin_this_thread(1);
    for (std::uint32_t turn = 0; turn != kEnd;) {
      const std::uint32_t next = to.turn.load(std::memory_order_acquire);
      if (next == turn) continue;
      turn = next;
      fro.turn.store(turn, std::memory_order_release);
    }
  });
  constexpr int kTrips = 100;
  {
    Median median(state, kTrips * transfers);
    std::uint32_t turn = 0;
    for (auto _ : state) {
      median.time([&] {
        for (int i = 0; i < kTrips; ++i) {
          game.to().turn.store(++turn, std::memory_order_release);
          spin_until(game.fro(), turn);
        }
      });
    }
  }
  game.to().turn.store(kEnd, std::memory_order_release);
}
void limit_spin_round_trip(benchmark::State& state) { spin(state, 1); }
void limit_cache_line(benchmark::State& state) { spin(state, 2); }  // a round trip moves a line each way
BENCH_ROW(limit, spin_round_trip)->UseManualTime();
BENCH_ROW(limit, cache_line)->UseManualTime();

long futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value) noexcept {
  return syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), operation | FUTEX_PRIVATE_FLAG, value, nullptr,
                 nullptr, 0);
}
void tell(Line& line, std::uint32_t turn) noexcept {
  line.turn.store(turn, std::memory_order_release);
  futex(line.turn, FUTEX_WAKE, 1);
}
std::uint32_t sleep_while(Line& line, std::uint32_t turn) noexcept {
  std::uint32_t next = turn;
  while ((next = line.turn.load(std::memory_order_acquire)) == turn) futex(line.turn, FUTEX_WAIT, turn);
  return next;
}
void limit_futex_round_trip(benchmark::State& state) {
  const Pinned here(0);
  PingPong game([](Line& to, Line& fro) {
    pin_this_thread(1);
    for (std::uint32_t turn = 0; turn != kEnd;) tell(fro, turn = sleep_while(to, turn));
  });
  std::uint32_t turn = 0;
  {
    Median median(state);
    for (auto _ : state) {
      std::this_thread::sleep_for(200us);  // as in the round trips of threads_bench.cpp
      median.time([&] {
        tell(game.to(), turn + 1);
        turn = sleep_while(game.fro(), turn);
      });
    }
  }
  tell(game.to(), kEnd);
}
BENCH_ROW(limit, futex_round_trip)->UseManualTime()->Iterations(1000);

void limit_thread(benchmark::State& state) {
  Median median(state);
  for (auto _ : state) median.time([] { std::thread([] {}).join(); });
}
BENCH_ROW(limit, thread)->UseManualTime();

}  // namespace
}  // namespace bench
