// A channel of values from 1, 2 or 4 producers to a coroutine on another thread.
#include "support.hpp"

#if __has_include(<caller/channel.hpp>)
#include <caller/channel.hpp>
#endif
#if CALLER_BENCH_ASIO && __has_include(<boost/asio/experimental/concurrent_channel.hpp>)
#define CALLER_BENCH_ASIO_CHANNEL 1
#include <boost/asio/experimental/concurrent_channel.hpp>
#include "peer_asio.hpp"
#endif
#if CALLER_BENCH_TBB
#include <oneapi/tbb/concurrent_queue.h>
#endif

namespace bench {
namespace {

constexpr int kValues = 100'000;  // a round, over all producers

/// Rounds of values; whoever receives calls `received` for each, on one thread.
class Rounds {
public:
  explicit Rounds(int producers) : producers_(producers), part_(kValues / producers) {}
  void received() noexcept {
    if (++tally_.seen < part_ * producers_) return;
    tally_.seen = 0;
    tally_.done.set();
  }
  template <class Send>
  void run(benchmark::State& state, Send send) {
    Team team(producers_, [part = part_, send](int) {
      for (int i = 0; i < part; ++i) send(i);
    });
    Median median(state, part_ * producers_);
    for (auto _ : state) {
      tally_.done.clear();
      median.time([&] {
        team.go();
        tally_.done.wait();
      });
    }
  }

private:
  const int producers_, part_;
  Tally tally_;
};
#define BENCH_CHANNEL(who) BENCH_ROW(who, channel)->Arg(1)->Arg(2)->Arg(4)->UseManualTime()

#if __has_include(<caller/channel.hpp>)
void caller_channel(benchmark::State& state) {
  Rounds rounds(static_cast<int>(state.range(0)));
  const caller::Caller loop(caller::new_thread, {.name = "bench"});
  caller::Channel<int> channel;
  const auto consumer = loop.call_soon([&]() -> caller::Coro<void> {
    while (co_await channel.receive()) rounds.received();
  });
  rounds.run(state, [&channel](int i) { channel.send(i); });
  channel.close();
  consumer.wait();
}
BENCH_CHANNEL(caller);
#endif

#if CALLER_BENCH_ASIO_CHANNEL
void asio_channel(benchmark::State& state) {
  using boost::system::error_code;
  Rounds rounds(static_cast<int>(state.range(0)));
  AsioThread thread;
  asio::experimental::concurrent_channel<void(error_code, int)> channel(thread.loop, 2 * kValues);
  Signal ended;
  const auto consume = [&]() -> asio::awaitable<void> {
    while (co_await channel.async_receive(asio::use_awaitable) >= 0) rounds.received();
    ended.set();
  };
  asio::co_spawn(thread.loop, consume, asio::detached);
  rounds.run(state, [&channel](int i) { channel.try_send(error_code(), i); });
  channel.try_send(error_code(), -1);
  ended.wait();
}
BENCH_CHANNEL(asio);
#endif

#if CALLER_BENCH_TBB
void tbb_channel(benchmark::State& state) {  // a queue whose consumer blocks its thread
  Rounds rounds(static_cast<int>(state.range(0)));
  oneapi::tbb::concurrent_bounded_queue<int> queue;
  std::thread consumer([&] {
    for (int value = 0; queue.pop(value), value >= 0;) rounds.received();
  });
  rounds.run(state, [&queue](int i) { queue.push(i); });
  queue.push(-1);
  consumer.join();
}
BENCH_CHANNEL(tbb);
#endif

}  // namespace
}  // namespace bench
