// caller/asio.hpp: operations of Boost.Asio as Pendings.
#include <array>
#include <csignal>
#include <memory>
#include <thread>

#include <boost/asio/buffer.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/write.hpp>
#if BOOST_VERSION >= 108100
#include <boost/asio/as_tuple.hpp>
#endif

#include "asio_support.hpp"
#include "support/cpu_time.hpp"

using namespace caller;
using namespace caller::test;
using boost::system::error_code;
using boost::system::system_error;

namespace {

/// An operation that completes with whatever the test says.
template <class... Values, class Token, class... A>
auto complete_with(Token&& token, A... values) {
  return asio::async_initiate<Token, void(Values...)>([](auto handler, A... v) { std::move(handler)(std::move(v)...); },
                                                      token, std::move(values)...);
}

}  // namespace

ASYNC_THREADS_TEST_CASE("a connection is made and data goes both ways, with co_await on each operation") {
  Caller here;
  tcp::acceptor acceptor(here.executor(), kLoopback);
  tcp::socket client(here.executor());
  Pending<tcp::socket> accepted = acceptor.async_accept(use_pending);
  co_await client.async_connect(acceptor.local_endpoint(), use_pending);
  tcp::socket server = co_await std::move(accepted);
  const std::string text = "through the loop";
  CHECK(co_await asio::async_write(client, asio::buffer(text), use_pending) == text.size());
  std::string read(text.size(), '?');
  CHECK(co_await asio::async_read(server, asio::buffer(read), use_pending) == text.size());
  CHECK(read == text);
  client.close();
  bool ended = false;
  try {
    co_await server.async_read_some(asio::buffer(read), use_pending);
  } catch (const system_error& e) {
    ended = e.code() == asio::error::eof;
  }
  CHECK(ended);
}

ASYNC_THREADS_TEST_CASE("an operation in a group is waited for, and its error is left to its awaiter") {
  Caller here;
  const Pending<> handled;
  bool other = false;
  error_code ended;
  const auto body = [&](PendingGroup&) -> Coro<void> {
    Connection pair(here);
    pair.a.close();
    std::array<char, 8> buffer{};
    here.call_soon([&other, handled]() -> Coro<void> {
      co_await handled;
      other = true;
    });
    try {
      co_await pair.b.async_read_some(asio::buffer(buffer), use_pending);
    } catch (const system_error& e) {
      ended = e.code();
    }
    handled.set_result();
  };
  co_await with_pending_group(body);
  CHECK(ended == asio::error::eof);
  CHECK(other);
}

ASYNC_THREADS_TEST_CASE("what a plain handler sets is gone when the loop goes on") {
  const Caller here;
  ContextVar<std::shared_ptr<int>> var;
  const auto value = std::make_shared<int>(1);
  for (int i = 0; i < 3; ++i) {
    Pending<> ran, looked;
    bool seen = true;
    asio::post(here.executor(), [&] {
      var.set(value);
      here.post([&, looked] {
        seen = var.get_or(nullptr) != nullptr;
        looked.set_result();
      });
      ran.set_result();
    });
    co_await ran;
    co_await looked;
    CHECK_FALSE(seen);
    CHECK(value.use_count() == 1);
  }
}

ASYNC_THREADS_TEST_CASE("a conversation with time-outs and a worker; abandoned anywhere it leaves nothing behind") {
  Caller here;
  Connection pair(here);
  const auto answer = [&pair, here]() -> Coro<int> {
    std::array<char, 2> question{};
    int answered = 0;
    for (;;) {
      auto reading = asio::async_read(pair.b, asio::buffer(question), use_pending);
      const bool in_time = co_await reading.async_wait_done({.timeout = 20ms});
      if (!in_time) co_return answered;
      auto work = here.to_thread([text = std::string(question.begin(), question.end())] { return text + text; });
      const std::string reply = co_await work;
      co_await asio::async_write(pair.b, asio::buffer(reply), use_pending);
      ++answered;
    }
  };
  auto answering = here.call_soon(answer);
  for (int i = 0; i < 3; ++i) {
    co_await asio::async_write(pair.a, asio::buffer("ab", 2), use_pending);
    std::array<char, 4> reply{};
    co_await asio::async_read(pair.a, asio::buffer(reply), use_pending);
    CHECK(std::string(reply.begin(), reply.end()) == "abab");
  }
#if BOOST_VERSION >= 107700
  CHECK(co_await answering == 3);
#endif
}

TEST_CASE("an operation begins at once, before anybody awaits it") {
  Caller c(manual);
  Connection pair(c);
  char byte = 0;
  Pending<std::size_t> reading = pair.b.async_read_some(asio::buffer(&byte, 1), use_pending);
  CHECK_FALSE(reading.done());
  asio::write(pair.a, asio::buffer("x", 1));
  c.run_until(reading);
  CHECK(reading.result() == 1);
  CHECK(byte == 'x');
}

TEST_CASE("an Asio timer goes off in the Caller's thread, and the waiter resumes on its own Caller") {
  Caller has(new_thread, {.name = "has the timer"}), waits(new_thread, {.name = "waits"});
  auto resumed_on = waits.call_soon([&]() -> Coro<std::string> {
    asio::steady_timer timer(has.executor(), 1ms);
    co_await timer.async_wait(use_pending);
    co_return Caller::current().name();
  });
  CHECK(resumed_on.wait() == "waits");
  Pending<std::thread::id> thread;
  asio::post(has.executor(), [thread] { thread.set_result(std::this_thread::get_id()); });
  CHECK(thread.wait() == has.thread());
}

TEST_CASE("a signal is awaited like everything else") {
  Caller c(manual);
  asio::signal_set signals(c.executor(), SIGUSR1);
  Pending<int> signal = signals.async_wait(use_pending);
  std::raise(SIGUSR1);
  CHECK(signal.wait() == SIGUSR1);
}

TEST_CASE("several values become a tuple, one the value, none nothing; a leading error is the error") {
  Caller c(manual);
  c.call_soon([]() -> Coro<void> {
     auto none = complete_with<>(use_pending);
     static_assert(std::is_same_v<decltype(none), Pending<void>>);
     co_await none;
     auto one = complete_with<int>(use_pending, 1);
     CHECK(co_await one == 1);
     auto two = complete_with<int, std::string>(use_pending, 1, std::string("two"));
     CHECK(co_await two == std::tuple(1, std::string("two")));
     auto fine = complete_with<error_code, int, int>(use_pending, error_code(), 3, 4);
     CHECK(co_await fine == std::tuple(3, 4));
     auto only_moves = complete_with<std::exception_ptr, std::unique_ptr<int>>(use_pending, std::exception_ptr(),
                                                                               std::make_unique<int>(5));
     CHECK(*co_await std::move(only_moves) == 5);
     auto failed = complete_with<error_code, int>(use_pending, error_code(asio::error::host_not_found), 0);
     CHECK_CORO_THROWS_AS(co_await failed, system_error);
     auto thrown = complete_with<std::exception_ptr>(use_pending, std::make_exception_ptr(std::domain_error("no")));
     CHECK_CORO_THROWS_AS(co_await thrown, std::domain_error);
     auto by_post = asio::post(Caller().executor(), use_pending);
     co_await by_post;
   }).wait();
}

TEST_CASE("redirect_error and as_tuple take the place of the exception") {
  Caller c(manual);
  c.call_soon([]() -> Coro<void> {
     Connection pair(Caller::current());
     pair.a.close();
     char byte = 0;
     error_code code;
     CHECK(co_await pair.b.async_read_some(asio::buffer(&byte, 1), asio::redirect_error(use_pending, code)) == 0);
     CHECK(code == asio::error::eof);
#if BOOST_VERSION >= 108100
     auto [error, n] = co_await pair.b.async_read_some(asio::buffer(&byte, 1), asio::as_tuple(use_pending));
     CHECK(error == asio::error::eof);
     CHECK(n == 0);
#endif
   }).wait();
}

TEST_CASE("an error nobody looked at is reported; one of an object that was closed, too") {
  Reports reports;
  Caller c(manual, {.error_handler = reports.handler()});
  {
    FarTimer timer(c);
    auto wait = timer.async_wait(use_pending);
    timer.cancel();
    wait.wait_done();
    CHECK_FALSE(wait.cancelled());  // not by us
  }
  CHECK(reports.size() == 1);
}

TEST_CASE("what a plain Asio handler throws goes to the error handler, and the loop goes on") {
  Reports reports;
  Caller c(new_thread, {.error_handler = reports.handler()});
  asio::post(c.executor(), [] { throw std::runtime_error("thrown by a handler"); });
  asio::post(c.executor(), use_pending).wait();
  CHECK(reports.size() == 1);
}

TEST_CASE("an abandoned Caller drops its operations: done, cancelled, and nothing is left") {
  std::shared_ptr<int> held = std::make_shared<int>(1);
  PendingBase reading, awaited;
  {
    Caller c(manual);
    auto pair = std::make_shared<Connection>(c);
    auto buffer = std::make_shared<std::array<char, 4>>();
    reading = pair->b.async_read_some(asio::buffer(*buffer), use_pending);
    awaited = c.call_soon([pair, held]() -> Coro<void> {
      char byte = 0;
      co_await pair->a.async_read_some(asio::buffer(&byte, 1), use_pending);
    });
    // A handler of its own that holds the Caller.
    auto timer = std::make_shared<FarTimer>(c);
    timer->async_wait([timer, held, c = Caller::current()](const error_code&) {});
    c.poll();
    CHECK_FALSE(reading.done());
  }
  CHECK(reading.done());
  CHECK(reading.cancelled());
  CHECK(awaited.cancelled());
  awaited = {};
  CHECK(held.use_count() == 1);
}

TEST_CASE("threads start operations on a Caller that stops: each Pending ends") {
  for (int round = 0; round < 30; ++round) {
    Caller c(new_thread);
    std::vector<std::thread> threads;
    std::atomic<int> ended{0};
    const auto executor = c.executor();
    for (int t = 0; t < 3; ++t)
      threads.emplace_back([&] {
        for (int i = 0; i < 20; ++i) {
          auto p = asio::post(executor, use_pending);
          p.wait_done();
          ++ended;
        }
      });
    if (round % 2) std::this_thread::yield();
    c.stop();
    for (auto& t : threads) t.join();
    CHECK(ended == 60);
    c.stopped().wait();
    CHECK_THROWS_AS(c.executor(), CallerStopped);
    CHECK(asio::post(executor, use_pending).cancelled());
  }
}

TEST_CASE("executor() is the same from every thread, whatever the backend, also while the loop sleeps") {
  for (const Backend backend : {Backend::asio, Backend::manual}) {
    for (int round = 0; round < 50; ++round) {
      Caller c(new_thread, {.backend = backend});
      c.call_soon([] {}).wait();
      std::vector<boost::asio::execution_context*> contexts(4);
      std::vector<std::thread> threads;
      for (auto& each : contexts)
        threads.emplace_back([&each, &c] {
          each = &c.executor().context();
          asio::post(c.executor(), use_pending).wait();
        });
      for (auto& t : threads) t.join();
      CHECK(std::ranges::count(contexts, contexts[0]) == 4);
      CHECK(c.backend() == backend);
      CHECK(c.call_later(1ms, [] { return 1; }).wait() == 1);  // timers go on in the new bed
    }
  }
}

TEST_CASE("a loop of Asio sleeps while it waits for what never comes") {
  Caller c(new_thread);
  const CpuTime loop = c.call_soon([] {
                          (void)Caller::current().executor();
                          return CpuTime();
                        }).wait();
  const auto sleeps = [&loop] {
    const auto before = loop.used();
    const Pending<> nobody;
    nobody.wait_done({.timeout = 200ms});  // that is how long it could compute
    return loop.used() - before < 50ms;
  };
  const auto later = c.call_later(Duration::max(), [] {});
  CHECK(sleeps());
  later.cancel();
  const auto limited = c.call_soon([]() -> Coro<void> {
    auto inner = []() -> Coro<void> { co_await Pending<>(); };
    co_await with_timeout(Duration::max(), inner());
  });
  CHECK(sleeps());
  limited.cancel();
  const auto nested = c.call_soon([] { Pending<>().wait_done({.timeout = Duration::max()}); });
  CHECK(sleeps());
  nested.cancel();
}

TEST_CASE("one that stops the io_context does not stop the Caller") {
  Caller c(new_thread);
  c.call_soon([&] { c.executor().context().stop(); }).wait();
  asio::post(c.executor(), use_pending).wait();
  CHECK(c.call_soon([] { return 1; }).wait() == 1);
}

TEST_CASE("a handler of Asio's may wait for operations, times and threads") {
  Caller c(new_thread);
  Pending<int> result;
  asio::post(c.executor(), [&, result] {
    asio::steady_timer timer(c.executor(), 1ms);
    timer.async_wait(use_pending).wait();
    result.set_result(c.call_later(1ms, [] { return 1; }).wait() + c.to_thread([] { return 10; }).wait());
  });
  CHECK(result.wait() == 11);
}

TEST_CASE("a function may wait for an operation in its own loop's thread") {
  Caller c(new_thread);
  CHECK(c.call_soon([&] {
           asio::steady_timer timer(c.executor(), 1ms);
           timer.async_wait(use_pending).wait();
           return call_async_from_sync([]() -> Coro<int> {
             asio::steady_timer inner(Caller().executor(), 1ms);
             co_await inner.async_wait(use_pending);
             co_return 5;
           });
         }).wait() == 5);
  CHECK(call_async_from_sync([]() -> Coro<int> {  // a thread without a Caller
          asio::steady_timer timer(Caller().executor(), 1ms);
          co_await timer.async_wait(use_pending);
          co_return 6;
        }) == 6);
}
