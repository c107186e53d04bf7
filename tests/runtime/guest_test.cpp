// caller/host.hpp: a Caller as a guest, whatever the loop. The contract runs on every host; here is what only guests
// do.
#include "support/coro.hpp"
#include "support/cpu_time.hpp"

#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <thread>

#include <caller/host.hpp>
#if CALLER_TEST_ASIO
#include <caller/asio.hpp>
#endif

using namespace caller;
using namespace caller::test;

namespace {

bool readable(int descriptor) {
  pollfd p{descriptor, POLLIN, 0};
  return ::poll(&p, 1, 0) == 1;
}

/// A host that is turned by hand and notes what it was asked for.
class NotedHost final : public HostLoop {
public:
  int requests = 0;
  bool busy = false, gone = false;
  std::optional<TimePoint> deadline;

protected:
  void request_turn() noexcept override { ++requests; }
  void set_deadline(std::optional<TimePoint> when) noexcept override { deadline = when; }
  void set_busy(bool b) noexcept override { busy = b; }
  void detached() noexcept override { gone = true; }
};

}  // namespace

TEST_CASE("a guest asks for one turn however many calls are made between two turns") {
  auto host = std::make_shared<NotedHost>();
  Caller c(guest, {.name = "guest", .host = host});
  CHECK(Caller::current() == c);
  CHECK(host->requests == 0);
  CHECK_FALSE(host->busy);
  int ran = 0;
  for (int i = 0; i < 10; ++i) c.call_soon([&] { ++ran; });
  CHECK(host->requests == 1);
  CHECK(host->busy);
  CHECK(ran == 0);
  host->turn();
  CHECK(ran == 10);
  CHECK_FALSE(host->busy);
  std::thread([&] {
    for (int i = 0; i < 10; ++i) c.call_soon([&] { ++ran; });
  }).join();
  CHECK(host->requests == 2);
  host->turn();
  CHECK(ran == 20);
  host->turn();  // for nothing
  CHECK(host->requests == 2);
}

TEST_CASE("a turn has a budget, and what is left asks for the next one") {
  auto host = std::make_shared<NotedHost>();
  Caller c(guest, {.host = host});
  int ran = 0;
  constexpr int kCalls = 100'000;
  for (int i = 0; i < kCalls; ++i) c.post([&] { ++ran; });
  int turns = 0;
  while (ran < kCalls) {
    const int before = host->requests;
    host->turn();
    ++turns;
    if (ran < kCalls) CHECK(host->requests == before + 1);
  }
  CHECK(turns > 10);
}

TEST_CASE("the host is told the next deadline, and that there is none any more") {
  auto host = std::make_shared<NotedHost>();
  Caller c(guest, {.host = host});
  const auto start = std::chrono::steady_clock::now();
  auto later = c.call_later(1h, [] {});
  auto sooner = c.call_later(1min, [] {});
  host->turn();
  REQUIRE(host->deadline);
  CHECK(*host->deadline - start >= 1min);
  CHECK(*host->deadline - start < 1h);
  CHECK(host->busy);
  sooner.cancel();
  later.cancel();
  host->turn();
  CHECK_FALSE(host->deadline);
  CHECK_FALSE(host->busy);
}

TEST_CASE("a guest that has ended asks for nothing any more") {
  auto host = std::make_shared<NotedHost>();
  std::optional<Caller> c(std::in_place, guest, CallerOptions{.host = host});
  c->call_soon([] {});
  c.reset();
  CHECK(host->gone);
  CHECK_FALSE(host->busy);
  host->turn();  // one that was on its way
  Caller again(guest, {.host = host});
  bool ran = false;
  again.call_soon([&] { ran = true; });
  host->turn();
  CHECK(ran);
}

TEST_CASE("a guest may be destroyed when a thread has just asked for a turn that never came") {
  for (const bool stopped : {false, true}) {
    auto host = std::make_shared<NotedHost>();
    Caller c(guest, {.host = host});
    if (stopped) c.stop();
    PendingBase p;
    std::thread([&] { p = c.call_soon([] {}); }).join();
    CHECK(host->requests == 1);
    c = Caller(new_thread);
    CHECK(p.cancelled());
    CHECK(host->gone);
  }
}

TEST_CASE("a host has one guest, a guest has a host, and nobody else has one") {
  auto host = std::make_shared<NotedHost>();
  Caller c(guest, {.host = host});
  std::thread([&] {
    CHECK_THROWS_AS(Caller(guest, {.host = host}), Error);
    CHECK_THROWS_AS(Caller::current(), NoRunningCaller);
    CHECK_THROWS_AS(Caller(guest, {.name = "nowhere"}), Error);
    CHECK_THROWS_AS(Caller(manual, {.host = std::make_shared<NotedHost>()}), Error);
    CHECK_THROWS_AS(Caller(new_thread, {.host = std::make_shared<NotedHost>()}), Error);
  }).join();
  CHECK_THROWS_AS(Caller(guest, {.host = std::make_shared<NotedHost>()}), Error);  // the thread has one
  CHECK_THROWS_AS(c.get({.host = std::make_shared<NotedHost>()}), Error);
  bool ran = false;
  c.call_soon([&] { ran = true; });
  host->turn();
  CHECK(ran);
}

TEST_CASE("run and run_once are its host's business, poll and run_until are not") {
  auto host = std::make_shared<NotedHost>();
  Caller c(guest, {.host = host});
  CHECK_THROWS_AS(c.run(), Error);
  CHECK_THROWS_AS(c.run_once(), Error);
  c.call_soon([] {});
  CHECK(c.poll() == 1);
  c.run_until(c.call_later(1ms, [] {}));
  c.run_until(c.to_thread([] {}));
}

TEST_CASE("the backend of a guest is its host's, and only that can be had in its thread") {
  auto host = std::make_shared<NotedHost>();
  Caller c(guest, {.host = host});
  CHECK(c.backend() == Backend::manual);
  try {
    c.call_using_backend(Backend::asio, [] {});
    FAIL("not supported");
  } catch (const Error& e) {
    CHECK(e.code() == Errc::unsupported_backend);
  }
  c.call_using_backend(Backend::manual, [] {});
  CHECK(c.get({.name = "own thread", .backend = Backend::asio}).backend() == Backend::asio);
}

TEST_CASE("an FdHost is readable while a turn is due, and a loop of epoll(7) drives it") {
  auto host = std::make_shared<FdHost>();
  Caller c(guest, {.host = host});
  CHECK_FALSE(readable(host->descriptor()));
  CHECK(host->timeout_ms() == -1);
  c.call_soon([] {});
  CHECK(readable(host->descriptor()));
  host->turn();
  CHECK_FALSE(readable(host->descriptor()));

  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  epoll_event event{};
  event.events = EPOLLIN;
  REQUIRE(::epoll_ctl(epoll, EPOLL_CTL_ADD, host->descriptor(), &event) == 0);
  std::string order;
  auto work = c.call_soon([&]() -> Coro<void> {
    order += "a";
    co_await sleep_for(2ms);
    order += "b";
    co_await c.to_thread([] {});
    order += "c";
  });
  while (host->busy()) {
    epoll_event ready{};
    ::epoll_wait(epoll, &ready, 1, host->timeout_ms());
    host->turn();
  }
  ::close(epoll);
  CHECK(work.done());
  CHECK(order == "abc");
}

#if CALLER_TEST_ASIO

namespace asio = boost::asio;

TEST_CASE("a host of Asio serves another Caller when the first one has ended") {
  boost::asio::io_context io;
  const auto shared = asio_host(io);
  for (int round = 0; round < 2; ++round) {
    Caller c(guest, {.host = shared});
    bool ran = false;
    c.call_later(1ms, [&] {
      ran = true;
      c.stop();
    });
    io.restart();
    io.run();
    CHECK(ran);
    CHECK(c.stopped().done());
  }
}

TEST_CASE("io_context::run drives a guest, and returns when neither has anything to do") {
  asio::io_context io;
  Caller c(guest, {.host = asio_host(io)});
  CHECK(c.backend() == Backend::asio);
  io.run();  // returns at once
  io.restart();
  std::string order;
  c.call_soon([&]() -> Coro<void> {
    order += "a";
    co_await sleep_for(2ms);
    order += "b";
    co_await c.to_thread([] {});
    order += "c";
  });
  asio::steady_timer timer(io, 1ms);
  timer.async_wait([&](auto) {
    order += "1";
    c.call_soon([&] { order += "2"; });
  });
  io.run();
  CHECK(order == "a12bc");
}

TEST_CASE("the executor of a guest is its io_context's, and operations on it are the guest's work") {
  asio::io_context io;
  Caller c(guest, {.host = asio_host(io)});
  CHECK(&c.executor().context() == &io);
  auto work = c.call_soon([&]() -> Coro<int> {
    asio::steady_timer timer(io, 1ms);
    co_await timer.async_wait(use_pending);
    co_return 3;
  });
  io.run();
  CHECK(work.result() == 3);
#if BOOST_VERSION >= 107700
  asio::steady_timer far(io, 1h);
  auto waiting = far.async_wait(use_pending);
  c.stop();
  io.restart();
  io.run();
  CHECK(waiting.cancelled());
  CHECK(waiting.done());
  CHECK(c.stopped().done());
#endif
}

TEST_CASE("a wait nested in a guest runs the io_context; after a stop of the io_context only the Caller's own queue") {
  asio::io_context io;
  Caller c(guest, {.host = asio_host(io)});
  asio::steady_timer timer(io, 1ms);
  timer.async_wait(use_pending).wait();  // before run()
  auto inside = c.call_soon([&] {
    asio::steady_timer inner(io, 1ms);
    inner.async_wait(use_pending).wait();
    io.stop();
    return c.call_later(1ms, [] { return 4; }).wait();
  });
  io.run();
  CHECK(inside.result() == 4);
  CHECK(io.stopped());
}

TEST_CASE("a guest of Asio sleeps while a nested wait waits for what never comes") {
  boost::asio::io_context io;
  Caller c(guest, {.host = asio_host(io)});
  Caller other(new_thread);
  const CpuTime thread;
  const auto before = thread.used();
  const Pending<> woken;
  const auto call = other.call_later(200ms, [woken] { woken.set_result(); });
  CHECK(woken.wait_done({.timeout = Duration::max()}));
  CHECK(thread.used() - before < 50ms);
}

TEST_CASE("a guest that is abandoned while its io_context runs takes its operations along") {
  asio::io_context io;
  auto socket = std::make_shared<asio::steady_timer>(io, 1ms);
  PendingBase waiting;
  {
    Caller c(guest, {.host = asio_host(io)});
    waiting = socket->async_wait(use_pending);
    c.call_soon([&]() -> Coro<void> { co_await socket->async_wait(use_pending); });
    c.poll();
  }
  CHECK(waiting.done());
  CHECK(waiting.cancelled());
  io.run();  // their handlers come now, to nobody
}

TEST_CASE("calls of threads and handlers of the io_context share the thread fairly") {
  asio::io_context io;
  Caller c(guest, {.host = asio_host(io)});
  Pending<> enough;
  int calls = 0, handlers = 0;
  const auto check = [&] {
    if (calls > 5000 && handlers > 50) enough.set_result();
  };
  std::function<void()> again = [&] {
    ++calls;
    check();
    if (!enough.done()) c.post(again);
  };
  std::function<void()> handler = [&] {
    ++handlers;
    check();
    if (!enough.done()) asio::post(io, handler);
  };
  c.post(again);
  asio::post(io, handler);
  io.run();
  CHECK(enough.done());
}

#endif
