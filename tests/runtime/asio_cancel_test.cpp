// caller/asio.hpp: what cancels an operation of Boost.Asio, and when it has ended. Boost can do that since 1.77.
#include <array>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/compose.hpp>
#include <boost/asio/defer.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/write.hpp>

#include "asio_support.hpp"

using namespace caller;
using namespace caller::test;

TEST_CASE("a coroutine that a stop ends owns the buffers of an operation of several steps until the last") {
  Caller c(new_thread);
  Connection pair(c);
  bool ended = false;
  int steps = 0, too_late = 0;
  struct End {
    bool& ended;
    ~End() { ended = true; }
  };
  Pending<> begun;
  auto reads = c.call_soon(
      [&](tcp::socket socket) -> Coro<void> {
        const End end{ended};
        auto reading = asio::async_compose<const use_pending_t&, void(boost::system::error_code)>(
            [&, first = true](auto& self, boost::system::error_code failure = {}) mutable {
              ++steps;
              if (ended) ++too_late;
              if (!std::exchange(first, false)) return self.complete(failure);
              socket.async_wait(tcp::socket::wait_read, std::move(self));
            },
            use_pending, socket);
        begun.set_result();
        co_await reading;
      },
      std::move(pair.b));
  begun.wait();
  c.call_soon([]() -> Coro<void> {  // its clean-up keeps the io_context running
    CHECK_CORO_THROWS_AS(co_await sleep_for(1h), PendingCancelled);
    for (int i = 0; i < 10; ++i) co_await asio::post(Caller().executor(), use_pending);
  });
  c.call_soon([] {}).wait();
  c.stop();
  c.stopped().wait();
  CHECK(reads.cancelled());
  CHECK(ended);
  CHECK(steps >= 1);
  CHECK(too_late == 0);
}

#if BOOST_VERSION < 107700

TEST_CASE("with Boost before 1.77 a Caller that stops waits for the operations of other loops") {
  asio::thread_pool pool(1);
  Caller c(new_thread);
  asio::steady_timer timer(pool, 1h);
  Pending<> begun;
  auto waits = c.call_soon([&]() -> Coro<void> {
    auto waiting = timer.async_wait(use_pending);
    begun.set_result();
    co_await waiting;
  });
  begun.wait();
  c.stop();
  CHECK_FALSE(c.stopped().wait_done({.timeout = 20ms}));
  asio::post(pool, [&] { timer.cancel(); });
  c.stopped().wait();
  CHECK(waits.cancelled());
}

TEST_CASE("with Boost before 1.77 the steps of an operation run where its object's executor says") {
  asio::thread_pool pool(1);
  Caller c(new_thread);
  const auto work = [&]() -> Coro<int> {
    co_await asio::post(pool, use_pending);
    const auto own = Caller().executor();
    co_await asio::post(own, use_pending);
    co_await asio::dispatch(own, use_pending);
    co_await asio::defer(own, use_pending);
    asio::steady_timer timer(asio::make_strand(pool), 0ms);
    co_await timer.async_wait(use_pending);
    asio::steady_timer again(own);
    const asio::any_io_executor any(own);
    co_await asio::post(any, use_pending);
    int steps = 0;
    auto composed = asio::async_compose<const use_pending_t&, void(bool)>(
        [&](auto& self, const boost::system::error_code& = {}) {
          if (++steps > 2) return self.complete(c.is_current());
          again.expires_after(0ms);
          again.async_wait(std::move(self));
        },
        use_pending, again);
    CHECK(co_await composed);
    co_return steps;
  };
  CHECK(c.call_soon(work).wait() == 3);
}

TEST_CASE(
    "with Boost before 1.77 what gives up waiting for an operation waits for its end, so its buffer may be local") {
  Caller c(manual);
  Connection pair(c);
  const auto reads = [&]() -> Coro<void> {
    std::array<char, 8> local{};
    co_await pair.b.async_read_some(asio::buffer(local), use_pending);
  };
  auto limited = c.call_soon([&]() -> Coro<void> { co_await with_timeout(1ms, reads()); });
  auto cancelled = c.call_soon([&]() -> Coro<void> {
    std::array<char, 8> local{};
    co_await pair.a.async_read_some(asio::buffer(local), use_pending);
  });
  CHECK_FALSE(limited.wait_done({.timeout = 20ms, .protect = true}));
  cancelled.cancel();
  CHECK_FALSE(cancelled.wait_done({.timeout = 20ms, .protect = true}));
  asio::write(pair.a, asio::buffer("x", 1));
  CHECK_THROWS_AS(limited.wait(), TimedOut);
  pair.a.close();
  cancelled.wait_done();
  CHECK(cancelled.cancelled());
}

TEST_CASE("with Boost before 1.77 a Caller that stops does not wait for operations in its own io_context") {
  Caller c(new_thread);
  auto waiting = c.call_soon([]() -> Coro<void> {
    FarTimer timer{Caller()};
    co_await timer.async_wait(use_pending);
  });
  auto given_up = c.call_soon([]() -> Coro<void> {
    FarTimer timer{Caller()};
    co_await timer.async_wait(use_pending).async_wait_done({.timeout = 1ms});
  });
  CHECK_FALSE(given_up.wait_done({.timeout = 20ms, .protect = true}));
  c.stop();
  c.stopped().wait();
  CHECK(waiting.cancelled());
  CHECK(given_up.done());
}

#else

TEST_CASE("cancel ends the operation itself, and the Pending is done only then") {
  Caller c(manual);
  Connection pair(c);
  char byte = 0;
  auto reading = pair.b.async_read_some(asio::buffer(&byte, 1), use_pending);
  CHECK(reading.cancel("no longer"));
  CHECK(reading.cancelled());
  CHECK_FALSE(reading.done());  // its handler has yet to be called
  reading.wait_done();
  CHECK_THROWS_WITH_AS(reading.result(), doctest::Contains("no longer"), PendingCancelled);
  asio::write(pair.a, asio::buffer("x", 1));
  CHECK(pair.b.async_read_some(asio::buffer(&byte, 1), use_pending).wait() == 1);  // not taken by the other
}

TEST_CASE("cancel from another thread is passed on in the loop's thread") {
  Caller c(new_thread);
  for (int round = 0; round < 100; ++round) {
    auto timer = std::make_shared<FarTimer>(c);
    auto waiting = timer->async_wait(use_pending);
    if (round % 2)
      waiting.cancel();
    else
      std::thread([&] { waiting.cancel(); }).join();
    waiting.wait_done();
    CHECK_THROWS_AS(waiting.result(), PendingCancelled);
    c.call_soon([t = std::move(timer)] {}).wait();
  }
}

TEST_CASE("a wait that times out cancels the operation and returns after its end, so its buffer may be local") {
  Caller c(manual);
  Connection pair(c);
  const auto waits = [&]() -> Coro<bool> {
    std::array<char, 8> local{};
    auto reading = pair.b.async_read_some(asio::buffer(local), use_pending);
    const bool in_time = co_await reading.async_wait_done({.timeout = 1ms});
    CHECK(reading.done());
    CHECK(reading.cancelled());
    co_return in_time;
  };
  CHECK_FALSE(c.call_soon(waits).wait());
  auto plain = pair.b.async_wait(tcp::socket::wait_read, use_pending);
  CHECK_FALSE(plain.wait_done({.timeout = 1ms}));  // nested in the loop's thread
  CHECK(plain.done());
  auto left_alone = pair.b.async_wait(tcp::socket::wait_read, use_pending);
  CHECK_FALSE(left_alone.wait_done({.timeout = 1ms, .protect = true}));
  CHECK_FALSE(left_alone.cancelled());
  asio::write(pair.a, asio::buffer("x", 1));
  CHECK(left_alone.wait_done());
}

TEST_CASE("a thread without a Caller that gives up waiting has cancelled the operation and seen its end") {
  Caller c(new_thread);
  FarTimer timer(c);
  auto waiting = timer.async_wait(use_pending);
  CHECK_FALSE(waiting.wait_done({.timeout = 1ms}));
  CHECK(waiting.done());
  CHECK(waiting.cancelled());
}

TEST_CASE("a cancelled waiter passes its cancellation on, sees the end, and may clean up with new operations") {
  Caller c(new_thread), other(new_thread);
  for (Caller* where : {&c, &other}) {  // the operation is in its own thread, or in another
    Connection pair(*where);
    Pending<> begun;
    PendingBase reading;
    bool cleaned = false;
    auto work = c.call_soon([&]() -> Coro<void> {
      char byte = 0;
      auto read = pair.b.async_read_some(asio::buffer(&byte, 1), use_pending);
      reading = read;
      begun.set_result();
      bool cancelled = false;
      try {
        co_await read;
      } catch (const PendingCancelled& e) {
        cancelled = std::string(e.what()).find("by the test") != std::string::npos;
      }
      CHECK(cancelled);
      CHECK(read.done());
      asio::steady_timer timer(where->executor(), 1ms);
      co_await timer.async_wait(use_pending);
      cleaned = true;
    });
    begun.wait();
    work.cancel("by the test");
    work.wait_done();
    CHECK(work.cancelled());
    CHECK(reading.cancelled());
    CHECK(cleaned);
    where->call_soon([p = std::move(pair)] {}).wait();
  }
}

TEST_CASE("an operation awaited with a cancellation due has ended before its waiter unwinds") {
  Caller c(manual);
  Connection pair(c);
  bool ended = false;
  struct Look {
    PendingBase& operation;
    bool& ended;
    ~Look() { ended = operation.done(); }
  };
  const auto read = [&](bool at_once) -> Coro<void> {
    PendingBase operation;
    char byte = 0;
    const Look look{operation, ended};
    auto reading = pair.b.async_read_some(asio::buffer(&byte, 1), use_pending);
    operation = reading;
    if (at_once) current_pending().cancel("now");
    co_await reading;
  };
  auto cancelled = c.call_soon(read, true);
  cancelled.wait_done({.protect = true});
  CHECK(cancelled.cancelled());
  CHECK(ended);
  ended = false;
  auto no_time =
      c.call_soon([&]() -> Coro<void> { CHECK_CORO_THROWS_AS(co_await with_timeout(0ms, read(false)), TimedOut); });
  no_time.wait();
  CHECK(ended);
}

TEST_CASE("a limit interrupts the wait for an operation once, and the clean-up may wait") {
  Caller c(manual);
  Connection pair(c);
  bool cleaned = false;
  const auto read = [&]() -> Coro<void> {
    char byte = 0;
    auto reading = pair.b.async_read_some(asio::buffer(&byte, 1), use_pending);
    CHECK_CORO_THROWS_AS(co_await reading, PendingCancelled);
    co_await sleep_for(1ms);
    cleaned = true;
    throw PendingCancelled("as it was told");
  };
  auto all = c.call_soon([&]() -> Coro<void> { CHECK_CORO_THROWS_AS(co_await with_timeout(1ms, read()), TimedOut); });
  all.wait();
  CHECK(cleaned);
}

TEST_CASE("a group cancels the operations begun in it") {
  Caller c(manual);
  FarTimer timer(c);
  PendingBase far;
  auto work = c.call_soon([&]() -> Coro<void> {
    co_await with_pending_group({.mode = 0, .timeout = 1ms}, [&](PendingGroup&) -> Coro<void> {
      far = timer.async_wait(use_pending);
      co_return;
    });
  });
  work.wait_done();
  REQUIRE(far);
  CHECK(far.done());
  CHECK(far.cancelled());
}

TEST_CASE("stop cancels operations and waits for their end, also those nobody awaits") {
  Caller c(new_thread);
  FarTimer timer(c), awaited(c), from_here(c);
  Pending<> begun;
  PendingBase loose;
  auto work = c.call_soon([&]() -> Coro<void> {
    loose = timer.async_wait(use_pending);
    begun.set_result();
    co_await awaited.async_wait(use_pending);
  });
  begun.wait();
  auto outside = from_here.async_wait(use_pending);
  c.stop();
  c.stopped().wait();
  CHECK(loose.cancelled());
  CHECK(loose.done());
  CHECK(work.cancelled());
  CHECK(outside.cancelled());
  CHECK(outside.done());
}

TEST_CASE("a coroutine that a stop cancels may still use operations in its clean-up") {
  Caller c(new_thread);
  Pending<> begun;
  bool said_goodbye = false;
  Connection pair(c);
  c.call_soon([&]() -> Coro<void> {
    try {
      begun.set_result();
      co_await sleep_for(1h);
    } catch (const PendingCancelled&) {
    }
    co_await asio::async_write(pair.a, asio::buffer("bye", 3), use_pending);
    said_goodbye = true;
  });
  begun.wait();
  c.stop();
  c.stopped().wait();
  CHECK(said_goodbye);
  std::string text(3, '?');
  asio::read(pair.b, asio::buffer(text));
  CHECK(text == "bye");
}

TEST_CASE("operations of a thread pool are cancelled there and come home") {
  asio::thread_pool pool(2);
  Caller c(new_thread);
  for (int round = 0; round < 100; ++round) {
    auto work = c.call_soon([&]() -> Coro<void> {
      asio::steady_timer timer(pool, 1h);
      auto waiting = timer.async_wait(use_pending);
      if (round % 2)
        waiting.cancel();
      else
        std::thread([&] { waiting.cancel(); }).detach();
      co_await waiting;
    });
    work.wait_done();
    CHECK(work.cancelled());
  }
  CHECK(c.call_soon([&]() -> Coro<int> {
           co_await asio::post(pool, use_pending);
           asio::steady_timer timer(asio::make_strand(pool), 1ms);
           co_await timer.async_wait(use_pending);
           co_return 7;
         }).wait() == 7);
  asio::steady_timer nobodys(pool, 1h);
  auto waiting = nobodys.async_wait(use_pending);  // no Caller in this thread
  CHECK(waiting.cancel());
  waiting.wait_done();
  CHECK_THROWS_AS(waiting.result(), PendingCancelled);
  {
    asio::steady_timer far(pool, 1h);
    auto stops = c.call_soon([&] { return far.async_wait(use_pending); }).wait();
    c.stop();
    c.stopped().wait();
    CHECK(stops.done());
    CHECK(stops.cancelled());
  }
}

TEST_CASE("an operation of somebody else's may end in the call that cancels it") {
  using Token = decltype(use_pending);
  const auto operation = [] {  // without an executor: nobody can tell where it ends
    return asio::async_initiate<const Token, void(boost::system::error_code)>(
        [](auto handler) {
          auto kept = std::make_shared<decltype(handler)>(std::move(handler));
          kept->get_cancellation_slot().assign(
              [kept](asio::cancellation_type) { (*kept)(make_error_code(asio::error::operation_aborted)); });
        },
        use_pending);
  };
  Caller c(new_thread);
  auto work = c.call_soon([&]() -> Coro<void> {
    auto ends = operation();
    CHECK(ends.cancel());
    (void)co_await ends.async_wait_done();
    auto waits = operation();
    c.call_soon([waits] { (void)waits.cancel(); });
    (void)co_await waits.async_wait_done();
  });
  work.wait();
  auto far = operation();  // no Caller in this thread
  CHECK(far.cancel());
  far.wait_done();
}

#endif
