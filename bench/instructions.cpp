// Every operation of one thread, measured in instructions: they do not depend on a neighbour. See README.md.
#include <caller/all.hpp>

#include <chrono>
#include <random>
#include <utility>
#include <vector>

#include "measured.hpp"

namespace {

using namespace std::chrono_literals;
using bench::Allocations;
using bench::Measured;
using caller::Backend;
using caller::Caller;
using caller::Coro;
using caller::Pending;

constexpr int kBatch = 1000;
constexpr int kTimers = 10'000;
int ran = 0;

template <class Queue>
void own_queue(const char* row, Allocations allocations, Queue queue) {
  Caller loop(caller::manual, {.backend = Backend::asio});
  for ([[maybe_unused]] auto round : Measured(row, kBatch, allocations)) {
    for (int i = 0; i < kBatch; ++i) queue(loop);
    loop.poll();
  }
}

void queues() {
  own_queue("post", Allocations::none, [](Caller& loop) { loop.post([] { ++ran; }); });
  own_queue("call_direct", Allocations::none, [](Caller& loop) { loop.call_direct([] { ++ran; }); });
  own_queue("call_soon_dropped", Allocations::none, [](Caller& loop) { loop.call_soon([] { ++ran; }); });
  own_queue("queue_call", Allocations::allowed, [work = [] { ++ran; }](Caller& loop) { loop.queue_call(work); });
}

[[gnu::noinline]] Coro<int> child(int n) { co_return n; }

// A coroutine a row: how much each entry of a coroutine restores depends on all that is in it.

Coro<void> calls() {
  const Caller c;
  int n = 0;
  for ([[maybe_unused]] auto round : Measured("call_soon_await", kBatch))
    for (int i = 0; i < kBatch; ++i) n += co_await c.call_soon([] { return 1; });
  ran += n;
}

Coro<void> children() {
  int n = 0;
  for ([[maybe_unused]] auto round : Measured("child", kBatch))
    for (int i = 0; i < kBatch; ++i) n += co_await child(n);
  ran += n;
}

Coro<void> spawned() {
  const Caller c;
  int n = 0;
  for ([[maybe_unused]] auto round : Measured("spawn_await", kBatch))
    for (int i = 0; i < kBatch; ++i) n += co_await c.call_soon(child, n);
  ran += n;
}

Coro<void> many() {
  const Caller c;
  int n = 0;
  std::vector<Pending<int>> list;
  list.reserve(kBatch);
  for ([[maybe_unused]] auto round : Measured("pendings_1000", kBatch, Allocations::none)) {
    for (int i = 0; i < kBatch; ++i) list.push_back(c.call_soon([i] { return i; }));
    for (auto& p : list) n += co_await p;
    list.clear();
  }
  ran += n;
}

/// Each sent and received, by coroutines of one thread.
Coro<void> channels() {
  const caller::Channel<int> channel;
  for ([[maybe_unused]] auto round : Measured("channel", kBatch, Allocations::none)) {
    for (int i = 0; i < kBatch; ++i) channel.send(i);
    for (int i = 0; i < kBatch; ++i) ran += (co_await channel.receive()).value_or(0);
  }
}

Coro<void> guards() {
  const Caller c;
  for (int i = 0; i < 100; ++i) c.call_later(30s, [] {});
  int n = 0;
  for ([[maybe_unused]] auto round : Measured("timeout_guard", kBatch))
    for (int i = 0; i < kBatch; ++i) n += co_await with_timeout(30s, child(n));
}

void run(Coro<void> (*body)()) {
  caller::ManualClock clock;
  Caller loop(caller::manual, {.backend = Backend::manual, .clock = &clock});
  const auto outcome = loop.call_soon(body);
  loop.run_until(outcome);
  outcome.result();
}

void timers() {
  std::mt19937 random(20);
  std::vector<std::chrono::microseconds> delays(kTimers);
  for (auto& d : delays) d = std::chrono::microseconds(random() % 100'000);

  caller::ManualClock clock;
  Caller loop(caller::manual, {.backend = Backend::manual, .clock = &clock});
  std::vector<Pending<void>> pending(kTimers);
  for ([[maybe_unused]] auto round : Measured("timer_cancel", kTimers)) {
    for (std::size_t i = 0; i < kTimers; ++i) pending[i] = loop.call_later(delays[i], [] {});
    for (auto& p : pending) p.cancel();
    while (loop.poll() > 0) {
    }
  }
  pending.clear();
  int fired = 0;
  for ([[maybe_unused]] auto round : Measured("timer_fire", kTimers)) {
    for (const auto d : delays) loop.call_later(d, [&fired] { ++fired; });
    clock.advance(1s);
    while (loop.poll() > 0) {
    }
  }
}

}  // namespace

int main() {
  bench::print_compiler();
  queues();
  for (Coro<void> (*body)() : {&calls, &children, &spawned, &many, &channels, &guards}) run(body);
  timers();
}
