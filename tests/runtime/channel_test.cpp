// Channels: order, closing, cancelling, one receiver, what passes through.
#include "support/coro.hpp"

#include <array>
#include <atomic>
#include <memory>
#include <stdexcept>
#include <thread>

#include "channel_support.hpp"

using namespace caller;
using namespace caller::test;

// ---- order, and many senders ----

TEST_CASE("channel: values leave in the order in which they came, over many blocks") {
  const Channel<int> ch;
  CHECK_FALSE(ch.try_receive());
  for (int i = 0; i < 1000; ++i) CHECK(ch.send(i));
  for (int i = 0; i < 500; ++i) CHECK(ch.try_receive() == i);
  for (int i = 1000; i < 1500; ++i) CHECK(ch.send(i));
  for (int i = 500; i < 1500; ++i) CHECK(ch.try_receive() == i);
  CHECK_FALSE(ch.try_receive());
  CHECK(ch.capacity() == 0);
}

ASYNC_TEST_CASE("channel: a receiver waits for the value and is resumed with it") {
  const Channel<std::string> ch;
  const auto receiver = [](Channel<std::string> c) -> Coro<std::string> {
    const auto v = co_await c.receive();
    co_return v ? *v : "nothing";
  };
  auto got = Caller::current().call_soon(receiver, ch);
  co_await yield_now();
  CHECK_FALSE(got.done());
  CHECK(ch.send("value"));
  CHECK_FALSE(got.done());  // resumed by its loop, not by the sender
  CHECK(co_await got == "value");
}

ASYNC_TEST_CASE("channel: a receiver that finds values all the time lets the rest of its Caller run") {
  const Channel<int> ch;
  for (int i = 0; i < 2000; ++i) ch.send(i);
  ch.close();
  auto all = Caller::current().call_soon(receive_all, ch);
  int turns = 0;
  while (!all.done()) {
    ++turns;
    co_await yield_now();
  }
  CHECK(turns > 5);
  CHECK(co_await all == up_to(2000));
}

ASYNC_THREADS_TEST_CASE("channel: of what many threads send nothing is lost, and each one's order is kept") {
  constexpr int kSenders = 4, kEach = 3000;
  const Channel<std::pair<int, int>> ch;
  Threads senders;
  for (int s = 0; s < kSenders; ++s)
    senders.add([ch, s] {
      for (int i = 0; i < kEach; ++i) {
        ch.send({s, i});
        if (i % 100 == s) std::this_thread::yield();
      }
    });
  std::array<int, kSenders> next{};
  bool in_order = true;
  for (int n = 0; n < kSenders * kEach; ++n) {
    const auto v = co_await ch.receive();
    REQUIRE(v.has_value());
    in_order = in_order && v->second == next[static_cast<std::size_t>(v->first)]++;
  }
  CHECK(in_order);
  CHECK(next == std::array<int, kSenders>{kEach, kEach, kEach, kEach});
  CHECK_FALSE(ch.try_receive());
}

ASYNC_THREADS_TEST_CASE("channel: a receiver is woken each time it sleeps") {
  const Channel<int> there, back;
  Threads other;
  other.add([there, back] {
    while (const auto v = there.receive_wait()) back.send(*v + 1);
  });
  struct Close {
    Channel<int> ch;
    ~Close() { ch.close(); }
  } const close{there};  // also when the test is abandoned
  for (int i = 0; i < 300; ++i) {
    there.send(i);
    const auto v = co_await back.receive();
    CHECK(v == i + 1);
  }
}

// ---- closing ----

ASYNC_TEST_CASE("channel: what was sent before close is received, then nothing, for ever") {
  const Channel<int> ch;
  for (int i = 0; i < 3; ++i) CHECK(ch.send(i));
  CHECK_FALSE(ch.closed());
  CHECK(ch.close());
  CHECK(ch.closed());
  CHECK_FALSE(ch.close());
  CHECK_FALSE(ch.send(4));
  const bool sent = co_await ch.async_send(4);
  CHECK_FALSE(sent);
  for (int i = 0; i < 3; ++i) {
    const auto v = co_await ch.receive();
    CHECK(v == i);
  }
  for (int i = 0; i < 3; ++i) {
    const auto v = co_await ch.receive();
    CHECK_FALSE(v.has_value());
  }
  CHECK_FALSE(ch.try_receive());
  CHECK_FALSE(ch.receive_wait());
}

ASYNC_TEST_CASE("channel: close wakes a receiver that waits") {
  const Channel<int> ch;
  auto all = Caller::current().call_soon(receive_all, ch);
  co_await yield_now();
  ch.send(7);
  co_await yield_now();
  co_await yield_now();
  CHECK_FALSE(all.done());
  ch.close();
  const auto got = co_await all;
  CHECK(got == std::vector<int>{7});
}

ASYNC_THREADS_TEST_CASE("channel: a send that says true before a close from elsewhere is received") {
  for (int round = 0; round < 30; ++round) {
    const Channel<int> ch;
    std::atomic<int> sent{0};
    std::vector<int> all;
    Threads senders;
    for (int s = 0; s < 2; ++s)
      senders.add([ch, &sent] {
        while (ch.send(1))
          if (++sent % 8 == 0) std::this_thread::yield();
      });
    senders.add([ch, round, &sent] {
      while (sent < round * 10) std::this_thread::yield();
      ch.close();
    });
    all = co_await receive_all(ch);
    senders.join();
    CHECK(static_cast<int>(all.size()) == sent);
  }
}

// ---- cancelling a receiver ----

ASYNC_TEST_CASE("channel: a cancelled receiver throws and takes nothing") {
  const Channel<int> ch;
  auto first = Caller::current().call_soon(receive_all, ch);
  co_await yield_now();
  first.cancel();
  co_await first.async_wait_done({.protect = true});
  CHECK(first.cancelled());
  ch.send(1);
  const auto v = co_await ch.receive();
  CHECK(v == 1);
}

ASYNC_TEST_CASE("channel: a receiver cancelled between the value and its resumption loses nothing") {
  for (const bool cancel_first : {false, true}) {
    const Channel<int> ch;
    std::vector<int> got;
    const auto receiver = [](Channel<int> c, std::vector<int>& out) -> Coro<void> {
      for (;;) {
        const auto v = co_await c.receive();
        if (!v) co_return;
        out.push_back(*v);
      }
    };
    auto p = Caller::current().call_soon(receiver, ch, std::ref(got));
    co_await yield_now();
    if (cancel_first) p.cancel();
    ch.send(1);
    ch.send(2);
    if (!cancel_first) p.cancel();
    co_await p.async_wait_done({.protect = true});
    CHECK(p.cancelled());
    while (const auto v = ch.try_receive()) got.push_back(*v);
    CHECK(got == std::vector<int>{1, 2});
  }
}

ASYNC_TEST_CASE("channel: a coroutine cancelled before it receives throws there, also when a value is ready") {
  const Channel<int> ch;
  ch.send(1);
  const auto receiver = [](Channel<int> c) -> Coro<void> {
    current_pending().cancel();
    co_await c.receive();
  };
  auto p = Caller::current().call_soon(receiver, ch);
  co_await p.async_wait_done({.protect = true});
  CHECK(p.cancelled());
  CHECK(ch.try_receive() == 1);
}

ASYNC_TEST_CASE("channel: a receiver that caught its cancellation may receive again") {
  const Channel<int> ch;
  const auto receiver = [](Channel<int> c) -> Coro<int> {
    bool cancelled = false;
    try {
      co_await c.receive();
    } catch (const PendingCancelled&) {
      cancelled = true;
    }
    CHECK(cancelled);
    const auto v = co_await c.receive();
    CHECK(v == 3);
    co_return 0;
  };
  auto p = Caller::current().call_soon(receiver, ch);
  co_await yield_now();
  p.cancel();
  co_await yield_now();
  co_await yield_now();
  ch.send(3);
  co_await p.async_wait_done({.protect = true});
  CHECK_FALSE(ch.try_receive());
}

// ---- one receiver at a time ----

ASYNC_TEST_CASE("channel: a second receiver gets a clear error, and the first is not disturbed") {
  const Channel<int> ch;
  auto first = Caller::current().call_soon(receive_all, ch);
  co_await yield_now();
  for (int i = 0; i < 3; ++i) {
    Errc code{};
    try {
      if (i == 0) co_await ch.receive();
      if (i == 1) (void)ch.try_receive();
      if (i == 2) (void)ch.receive_wait();
    } catch (const Error& e) {
      code = static_cast<Errc>(e.code().value());
      CHECK(std::string(e.what()).find("one receiver at a time") != std::string::npos);
    }
    CHECK(code == Errc::receiver_exists);
  }
  ch.send(1);
  ch.close();
  const auto got = co_await first;
  CHECK(got == std::vector<int>{1});
  const auto v = co_await ch.receive();
  CHECK_FALSE(v.has_value());
}

TEST_CASE("channel: its receiver may move from Caller to Caller and to a plain thread") {
  const Channel<int> ch;
  std::vector<int> got;
  const auto take = [](Channel<int> c, int n, std::vector<int>& out, std::uint64_t home) -> Coro<void> {
    for (int i = 0; i < n; ++i) {
      const auto v = co_await c.receive();
      CHECK(Caller::current().id() == home);
      out.push_back(*v);
    }
  };
  const Caller a(new_thread), b(new_thread);
  Threads sender;
  sender.add([ch] {
    for (int i = 0; i < 400; ++i) {
      ch.send(i);
      if (i % 7 == 0) std::this_thread::yield();
    }
  });
  a.call_soon(take, ch, 150, std::ref(got), a.id()).wait();
  b.call_soon(take, ch, 100, std::ref(got), b.id()).wait();
  for (int i = 0; i < 50; ++i) got.push_back(*ch.receive_wait());
  a.call_soon(take, ch, 100, std::ref(got), a.id()).wait();
  CHECK(got == up_to(400));
}

TEST_CASE("channel: when its receiver's Caller stops, the values stay for the next receiver") {
  const Channel<int> ch;
  std::vector<int> got;
  Pending<> begun;
  const auto take = [](Channel<int> c, std::vector<int>& out, Pending<> seen) -> Coro<void> {
    while (const auto v = co_await c.receive()) {
      out.push_back(*v);
      seen.set_result();
    }
  };
  Caller a(new_thread);
  auto p = a.call_soon(take, ch, std::ref(got), begun);
  ch.send(0);
  begun.wait();
  a.stop();
  a.stopped().wait();
  CHECK(p.cancelled());
  for (int i = 1; i < 10; ++i) CHECK(ch.send(i));
  ch.close();
  const Caller b(new_thread);
  b.call_soon(take, ch, std::ref(got), begun).wait();
  CHECK(got == up_to(10));
}

// ---- values ----

TEST_CASE("channel: what is in it goes with its last handle") {
  const auto alive = std::make_shared<int>(0);
  Channel<Counted> other;
  {
    const Channel<Counted> ch;
    for (int i = 0; i < 300; ++i) ch.send(Counted(alive));
    for (int i = 0; i < 100; ++i) CHECK(ch.try_receive().has_value());
    other = ch;
    CHECK(other == ch);
  }
  CHECK(*alive == 200);
  Channel<Counted> third = std::move(other);
  CHECK_FALSE(static_cast<bool>(other));
  CHECK(static_cast<bool>(third));
  CHECK(third.try_receive().has_value());
  third = Channel<Counted>();
  CHECK(*alive == 0);
}

ASYNC_TEST_CASE("channel: values that can only be moved, and large ones, pass") {
  const Channel<std::unique_ptr<int>> ch;
  ch.send(std::make_unique<int>(4));
  const auto v = co_await ch.receive();
  CHECK((v && **v == 4));
  struct Large {
    std::array<int, 500> numbers{};
    std::vector<int> more;
  };
  const Channel<Large> big(ChannelOptions{.capacity = 2});
  for (int i = 0; i < 2; ++i) {
    Large large;
    large.numbers[499] = i;
    large.more = up_to(45);
    big.send(std::move(large));
  }
  CHECK_FALSE(big.send(Large{}));
  for (int i = 0; i < 2; ++i) {
    const auto l = co_await big.receive();
    CHECK((l && l->numbers[499] == i && l->more.size() == 45));
  }
}

TEST_CASE("channel: a value whose move throws is either not sent, or stays where it is") {
  int fuse = -1;
  const Channel<Fragile> ch;
  fuse = 1;  // into the parameter it goes; into the channel not
  Fragile f(1, &fuse);
  CHECK_THROWS_AS(ch.send(std::move(f)), std::runtime_error);
  CHECK_FALSE(ch.try_receive());
  CHECK(ch.send(Fragile(2, &fuse)));
  CHECK(ch.send(Fragile(3, &fuse)));
  fuse = 0;
  CHECK_THROWS_AS((void)ch.try_receive(), std::runtime_error);
  fuse = 1;  // one move takes it out
  auto v = ch.try_receive();
  CHECK((v && v->value == 2));
  CHECK(fuse == 0);
  fuse = -1;
  v.reset();
}

ASYNC_TEST_CASE("channel: a move that throws in receive and async_send arrives there, and nothing is lost") {
  int fuse = -1;
  const Channel<Fragile> ch(ChannelOptions{.capacity = 1});
  const bool sent = co_await ch.async_send(Fragile(1, &fuse));
  CHECK(sent);
  fuse = 0;
  CHECK_CORO_THROWS_AS(co_await ch.receive(), std::runtime_error);
  {
    const auto v = co_await ch.receive();
    CHECK((v && v->value == 1));
  }
  for (const int n : {0, 1}) {
    fuse = n;
    CHECK_CORO_THROWS_AS(co_await ch.async_send(Fragile(2, &fuse)), std::runtime_error);
  }
  fuse = -1;
  CHECK(ch.send(Fragile(3, &fuse)));
  const auto v = co_await ch.receive();
  CHECK((v && v->value == 3));
}

// ---- receiving in plain functions ----

TEST_CASE("channel: receive_wait gives up after its time, and loses nothing") {
  const Channel<int> ch;
  CHECK_THROWS_AS((void)ch.receive_wait(0ms), TimedOut);
  CHECK_THROWS_AS((void)ch.receive_wait(1ms), TimedOut);
  ch.send(5);
  CHECK(ch.receive_wait(0ms) == 5);
  Threads sender;
  sender.add([ch] { ch.send(6); });
  CHECK(ch.receive_wait() == 6);
  sender.add([ch] { ch.close(); });
  CHECK_FALSE(ch.receive_wait());
}

ASYNC_THREADS_TEST_CASE("channel: receive_wait on a Caller's own thread lets its loop turn") {
  const Channel<int> ch;
  Caller::current().call_later(1ms, [ch] { ch.send(1); });
  CHECK(ch.receive_wait() == 1);
  CHECK_THROWS_AS((void)ch.receive_wait(2ms), TimedOut);
  Caller::current().call_soon([ch] { ch.close(); });
  CHECK_FALSE(ch.receive_wait());
  co_return;
}

TEST_CASE("channel: a receiver that is cancelled when its value has come leaves it to the next one") {
  ManualLoop loop;
  const Channel<int> ch;
  auto by_itself = loop.caller.call_soon([ch]() -> Coro<int> { co_return (co_await ch.receive()).value_or(0); });
  loop.settle();
  CHECK(ch.send(1));  // it is to be resumed with that
  CHECK(by_itself.cancel());
  loop.settle();
  CHECK(by_itself.cancelled());
  CHECK(ch.try_receive() == 1);

  // As the items of a wait that has chosen another one.
  const Channel<int> other;
  auto selecting = loop.caller.call_soon([ch, other]() -> Coro<int> {
    std::vector<ChannelReceive<int>> items{ch.receive(), other.receive()};
    auto chosen = co_await Caller::current().wait(items, {.return_when = FIRST_COMPLETED});
    for (auto& p : chosen.pending) co_await p.cancel_wait();
    int sum = 0;
    for (auto& p : chosen.done) sum += p.result().value_or(0);
    co_return sum;
  });
  loop.settle();
  CHECK(ch.send(2));
  loop.step();  // the first one has it
  CHECK(other.send(4));
  loop.settle();
  CHECK(selecting.result() + ch.try_receive().value_or(0) + other.try_receive().value_or(0) == 6);
}
