// Channels that have a capacity.
#include "support/coro.hpp"

#include <algorithm>
#include <atomic>
#include <memory>

#include "channel_support.hpp"

using namespace caller;
using namespace caller::test;

ASYNC_TEST_CASE("channel: with a capacity, send refuses what does not fit") {
  const Channel<int> ch(ChannelOptions{.capacity = 2});
  CHECK(ch.capacity() == 2);
  CHECK(ch.send(0));
  CHECK(ch.send(1));
  CHECK_FALSE(ch.send(9));
  CHECK(ch.try_receive() == 0);
  CHECK(ch.send(2));
  CHECK_FALSE(ch.send(9));
  ch.close();
  const auto rest = co_await receive_all(ch);
  CHECK(rest == std::vector<int>{1, 2});
}

ASYNC_TEST_CASE("channel: async_send waits for room; senders are let in as they came, and nobody overtakes them") {
  const Channel<int> ch(ChannelOptions{.capacity = 1});
  std::vector<int> sent;
  const auto sender = [](Channel<int> c, int v, std::vector<int>& done) -> Coro<void> {
    const bool ok = co_await c.async_send(v);
    CHECK(ok);
    done.push_back(v);
  };
  std::vector<Pending<>> all;
  for (int i = 0; i < 4; ++i) all.push_back(Caller::current().call_soon(sender, ch, i, std::ref(sent)));
  co_await sleep_for(1ms);
  CHECK(sent == std::vector<int>{0});
  for (int i = 0; i < 4; ++i) {
    CHECK(ch.try_receive() == i);
    if (i < 3) CHECK_FALSE(ch.send(9));
    co_await sleep_for(1ms);
    CHECK(sent == up_to(std::min(i + 2, 4)));
  }
  CHECK(ch.send(4));
  const auto v = co_await ch.receive();
  CHECK(v == 4);
}

ASYNC_TEST_CASE("channel: never more values than its capacity are in it") {
  const auto alive = std::make_shared<int>(0);
  {
    const Channel<Counted> ch(ChannelOptions{.capacity = 3});
    const auto sender = [](Channel<Counted> c, std::shared_ptr<int> n, int& in) -> Coro<void> {
      for (int i = 0; i < 20; ++i) {
        const bool ok = co_await c.async_send(Counted(n));
        CHECK(ok);
        ++in;
      }
    };
    int in = 0;
    std::vector<Pending<>> senders;
    for (int i = 0; i < 3; ++i) senders.push_back(Caller::current().call_soon(sender, ch, alive, std::ref(in)));
    for (int out = 0; out < 60; ++out) {
      if (out % 3) co_await sleep_for(1ms);
      CHECK(in <= out + 3);
      const auto v = co_await ch.receive();
      CHECK(v.has_value());
    }
    for (auto& s : senders) co_await s;
    CHECK(in == 60);
  }
  CHECK(*alive == 0);
}

ASYNC_TEST_CASE("channel: a sender cancelled while it waits has sent nothing, and the others go on") {
  const auto alive = std::make_shared<int>(0);
  {
    const Channel<std::pair<int, Counted>> ch(ChannelOptions{.capacity = 1});
    const auto sender = [](Channel<std::pair<int, Counted>> c, int v, std::shared_ptr<int> n) -> Coro<void> {
      const bool ok = co_await c.async_send({v, Counted(n)});
      CHECK(ok);
    };
    std::vector<Pending<>> all;
    for (int i = 0; i < 5; ++i) all.push_back(Caller::current().call_soon(sender, ch, i, alive));
    co_await sleep_for(1ms);
    for (const std::size_t i : {std::size_t{1}, std::size_t{3}, std::size_t{4}}) {  // first, inside and last of those
      all[i].cancel();
      co_await all[i].async_wait_done({.protect = true});
      CHECK(all[i].cancelled());
    }
    CHECK(*alive == 2);
    for (const int i : {0, 2}) {
      const auto v = co_await ch.receive();
      CHECK((v && v->first == i));
    }
    co_await all[2];
    CHECK_FALSE(ch.try_receive());
    CHECK(ch.send({5, Counted(alive)}));
  }
  CHECK(*alive == 0);
}

ASYNC_TEST_CASE("channel: a sender cancelled after its value got in has sent it") {
  const Channel<int> ch(ChannelOptions{.capacity = 1});
  ch.send(0);
  bool said = false;
  const auto sender = [](Channel<int> c, bool& ok) -> Coro<void> { ok = co_await c.async_send(1); };
  auto p = Caller::current().call_soon(sender, ch, std::ref(said));
  co_await yield_now();
  CHECK(ch.try_receive() == 0);  // lets it in
  p.cancel();
  co_await p.async_wait_done({.protect = true});
  CHECK(said);
  CHECK(ch.try_receive() == 1);
}

ASYNC_TEST_CASE("channel: close tells senders that wait") {
  const Channel<int> ch(ChannelOptions{.capacity = 1});
  ch.send(0);
  const auto sender = [](Channel<int> c) -> Coro<bool> {
    const bool ok = co_await c.async_send(1);
    co_return ok;
  };
  std::vector<Pending<bool>> all;
  for (int i = 0; i < 3; ++i) all.push_back(Caller::current().call_soon(sender, ch));
  co_await yield_now();
  co_await yield_now();
  ch.close();
  for (auto& p : all) CHECK_FALSE(co_await p);
  const auto rest = co_await receive_all(ch);
  CHECK(rest == std::vector<int>{0});
}

TEST_CASE("channel: back-pressure holds between Callers, in both directions of sleep") {
  constexpr int kEach = 2000;
  for (const std::size_t capacity : {1, 2, 64}) {
    const Channel<int> ch(ChannelOptions{.capacity = capacity});
    const Caller a(new_thread), b(new_thread), home(new_thread);
    std::atomic<int> in{0}, out{0};
    std::atomic<bool> kept{true};
    const auto sender = [&](int from) -> Coro<void> {
      for (int i = 0; i < kEach; ++i) {
        const bool ok = co_await ch.async_send(from + i);
        CHECK(ok);
        // `out` is counted after the value has left: it may lag by one.
        if (++in > out + static_cast<int>(capacity) + 3) kept = false;
      }
    };
    const auto receiver = [&]() -> Coro<long> {
      long sum = 0;
      while (const auto v = co_await ch.receive()) {
        ++out;
        sum += *v;
      }
      co_return sum;
    };
    auto sum = home.call_soon(receiver);
    auto s1 = a.call_soon(sender, 0), s2 = b.call_soon(sender, kEach);
    s1.wait();
    s2.wait();
    ch.close();
    CHECK(sum.wait() == long{kEach} * (2 * kEach - 1));
    CHECK(kept);
  }
}
