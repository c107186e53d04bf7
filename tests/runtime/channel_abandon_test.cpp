// Channels whose senders and receivers go while they wait, among many threads. CALLER_STRESS and CALLER_SEED:
// support/stress.hpp.
#include "support/coro.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <random>
#include <thread>

#include "channel_support.hpp"
#include "support/stress.hpp"

using namespace caller;
using namespace caller::test;

TEST_CASE("channel: an abandoned receiver and an abandoned sender leave the channel in order") {
  const Channel<int> ch(ChannelOptions{.capacity = 1}), empty;
  {
    ManualLoop loop;
    const auto sender = [](Channel<int> c) -> Coro<void> {
      for (;;) co_await c.async_send(1);
    };
    for (int i = 0; i < 3; ++i) loop.caller.call_soon(sender, ch);
    loop.caller.call_soon(receive_all, empty);
    loop.settle();
  }
  CHECK(ch.try_receive() == 1);
  CHECK(ch.send(2));
  CHECK(ch.try_receive() == 2);
  CHECK(empty.send(3));
  CHECK(empty.try_receive() == 3);
}

TEST_CASE("channel: stress: receivers abandoned while others send; what they did not take stays") {
  MESSAGE("CALLER_SEED=" << seed());
  const std::size_t rounds = std::max<std::size_t>(20, steps() / 20);
  const auto spin = [](std::mt19937& random, unsigned most) {
    for (volatile unsigned n = static_cast<unsigned>(random() % most); n > 0;) n = n - 1;
  };
  std::mt19937 random(seed());
  const Channel<std::size_t> ch;
  std::atomic<std::size_t> begun{0}, sent{0};
  std::vector<std::size_t> got;
  Threads senders;
  for (unsigned s = 0; s < 2; ++s)
    senders.add([&, s] {
      std::mt19937 own(seed() + 1 + s);
      for (std::size_t round = 1; round <= rounds; ++round) {
        while (begun < round) std::this_thread::yield();
        spin(own, 3000);
        for (auto n = own() % 3; n > 0; --n) ch.send(++sent);
      }
    });
  const auto receiver = [](Channel<std::size_t> c, std::vector<std::size_t>& out) -> Coro<void> {
    while (const auto v = co_await c.receive()) out.push_back(*v);
  };
  for (std::size_t round = 0; round < rounds; ++round) {
    ManualLoop loop;
    loop.caller.call_soon(receiver, ch, std::ref(got));
    loop.caller.poll();
    ++begun;
    spin(random, 3000);
    if (round % 4 == 0) loop.caller.poll();
    if (round % 8 == 0) std::this_thread::yield();
  }
  senders.join();
  ch.close();
  while (const auto v = ch.try_receive()) got.push_back(*v);
  std::ranges::sort(got);
  bool all = got.size() == sent;
  for (std::size_t i = 0; all && i < got.size(); ++i) all = got[i] == i + 1;
  CHECK(all);
}

TEST_CASE("channel: stress: senders that wait are abandoned and cancelled while another thread receives") {
  MESSAGE("CALLER_SEED=" << seed());
  const std::size_t rounds = std::max<std::size_t>(20, steps() / 20);
  std::mt19937 random(seed());
  const auto alive = std::make_shared<std::atomic<int>>(0);
  struct Value {
    std::shared_ptr<std::atomic<int>> alive;
    explicit Value(std::shared_ptr<std::atomic<int>> n) : alive(std::move(n)) { ++*alive; }
    Value(Value&& o) noexcept : alive(o.alive) { ++*alive; }
    Value& operator=(Value&&) = delete;
    ~Value() { --*alive; }
  };
  std::atomic<int> said{0}, got{0};
  {
    const Channel<Value> ch(ChannelOptions{.capacity = 2});
    Threads receiver;
    receiver.add([&, ch] {
      while (ch.receive_wait()) {
        ++got;
        std::this_thread::yield();
      }
    });
    const auto sender = [&said](Channel<Value> c, std::shared_ptr<std::atomic<int>> n) -> Coro<void> {
      for (;;)
        if (co_await c.async_send(Value(n))) ++said;
    };
    for (std::size_t round = 0; round < rounds; ++round) {
      ManualLoop loop;
      std::vector<Pending<>> all;
      for (int i = 0; i < 3; ++i) all.push_back(loop.caller.call_soon(sender, ch, alive));
      for (auto turns = random() % 12; turns > 0; --turns) {
        loop.caller.poll();
        if (random() % 4 == 0) all[random() % 3].cancel();
      }
    }
    ch.close();
    receiver.join();
  }
  CHECK(*alive == 0);
  CHECK(got >= said);  // a sender may be abandoned after its value got in, and before it could say so
}

TEST_CASE("channel: stress: cancelled receivers on two Callers and senders on two threads lose no value") {
  MESSAGE("CALLER_SEED=" << seed());
  const std::size_t rounds = std::max<std::size_t>(20, steps() / 200);
  std::mt19937 random(seed());
  const Channel<int> ch;
  std::atomic<bool> end{false};
  std::atomic<int> sent{0}, got{0};
  Threads senders;
  for (int s = 0; s < 2; ++s)
    senders.add([&] {
      while (!end) {
        ch.send(1);
        ++sent;
        std::this_thread::yield();
      }
    });
  const std::array<Caller, 2> homes{Caller(new_thread), Caller(new_thread)};
  const auto receiver = [&got](Channel<int> c) -> Coro<void> {
    while (co_await c.receive()) ++got;
  };
  for (std::size_t round = 0; round < rounds; ++round) {
    auto p = homes[random() % 2].call_soon(receiver, ch);
    for (auto pause = random() % 32; pause > 0; --pause) std::this_thread::yield();
    p.cancel();
    p.wait_done();
    CHECK(p.cancelled());
  }
  end = true;
  senders.join();
  ch.close();
  homes[0].call_soon(receiver, ch).wait();
  CHECK(got == sent);
}
