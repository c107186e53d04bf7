// Channels. CALLER_STRESS=N in the environment sets the number of steps (default 20000), CALLER_SEED=N repeats a run.
#include "support/coro.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <random>
#include <stdexcept>
#include <thread>

using namespace caller;
using namespace caller::test;

namespace {

std::size_t number_from(const char* variable, std::size_t otherwise) {
  const char* s = std::getenv(variable);
  return s && *s ? std::strtoul(s, nullptr, 10) : otherwise;
}
std::size_t steps() { return number_from("CALLER_STRESS", 20'000); }
unsigned seed() {
  static const unsigned s = static_cast<unsigned>(number_from("CALLER_SEED", std::random_device{}()));
  return s;
}

/// Threads that are joined before what was declared earlier goes, also when the test is abandoned.
struct Threads {
  std::vector<std::thread> list;
  template <class F>
  void add(F f) {
    list.emplace_back(std::move(f));
  }
  void join() {
    for (auto& t : list)
      if (t.joinable()) t.join();
  }
  Threads() = default;
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  ~Threads() { join(); }
};

/// Counts how many there are, without those that were moved from.
struct Counted {
  std::shared_ptr<int> alive;
  explicit Counted(std::shared_ptr<int> n) : alive(std::move(n)) { ++*alive; }
  Counted(Counted&& o) noexcept : alive(std::move(o.alive)) {}
  Counted& operator=(Counted&&) = delete;
  ~Counted() {
    if (alive) --*alive;
  }
};

/// Its move may throw, once.
struct Fragile {
  int value;
  int* fuse;  // so many moves from now one throws; negative: none
  Fragile(int v, int* f) : value(v), fuse(f) {}
  Fragile(Fragile&& o) : value(o.value), fuse(o.fuse) {
    if (*fuse >= 0 && (*fuse)-- == 0) throw std::runtime_error("fragile");
  }
  Fragile& operator=(Fragile&&) = delete;
};

Coro<std::vector<int>> receive_all(Channel<int> ch) {
  std::vector<int> all;
  while (const auto v = co_await ch.receive()) all.push_back(*v);
  co_return all;
}

std::vector<int> up_to(int n) {
  std::vector<int> all;
  for (int i = 0; i < n; ++i) all.push_back(i);
  return all;
}

}  // namespace

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

// ---- with a capacity ----

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

// ---- frames that die while they wait ----

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
