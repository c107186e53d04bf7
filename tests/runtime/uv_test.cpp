// caller/uv.hpp: libuv below, beside and around a Caller.
#include "support/coro.hpp"

#include <caller/host.hpp>
#include <caller/uv.hpp>

#if CALLER_TEST_ASIO
#include <caller/asio.hpp>
#endif

#if !CALLER_TEST_UV

using namespace caller;

TEST_CASE("without libuv everything that needs it is an error that says so") {
  const auto refused = [](auto f) {
    try {
      f();
    } catch (const Error& e) {
      return e.code() == Errc::unsupported_backend && std::string(e.what()).find("without libuv") != std::string::npos;
    }
    return false;
  };
  CHECK(refused([] { Caller c(new_thread, {.backend = Backend::uv}); }));
  Caller c(manual);
  CHECK(refused([&] { c.call_using_backend(Backend::uv, [] {}); }));
  CHECK(refused([&] { c.get({.name = "child", .backend = Backend::uv}); }));
  CHECK(refused([] { uv_loop(); }));
  CHECK(refused([] { uv_host(nullptr); }));
  CHECK(c.children().empty());
}

#else

#include <fcntl.h>
#include <unistd.h>
#include <uv.h>
#include <array>
#include <thread>

using namespace caller;
using namespace caller::test;

namespace {

/// A timer of libuv's as a Pending, the way a user would write it.
struct Timer {
  uv_timer_t handle{};
  Pending<> fired, closed;

  explicit Timer(std::uint64_t ms) {
    uv_timer_init(uv_loop(), &handle);
    handle.data = this;
    uv_timer_start(&handle, [](uv_timer_t* h) { static_cast<Timer*>(h->data)->fired.set_result(); }, ms, 0);
  }
  void close() {
    uv_close(reinterpret_cast<uv_handle_t*>(&handle),
             [](uv_handle_t* h) { static_cast<Timer*>(h->data)->closed.set_result(); });
  }
};

Coro<std::thread::id> sleep_by_uv(std::uint64_t ms) {
  Timer timer(ms);
  co_await timer.fired;
  const auto thread = std::this_thread::get_id();
  timer.close();
  co_await timer.closed;
  co_return thread;
}

/// A pair of connected libuv streams over loopback, written to at one end, read at the other.
struct Streams {
  uv_tcp_t server{}, client{}, peer{};
  uv_connect_t connecting{};
  uv_write_t writing{};
  std::array<char, 64> buffer{};
  std::string received;
  Pending<std::string> all;

  static Streams& of(void* data) { return *static_cast<Streams*>(data); }

  explicit Streams(uv_loop_t* loop) {
    for (uv_tcp_t* h : {&server, &client, &peer}) {
      uv_tcp_init(loop, h);
      h->data = this;
    }
    sockaddr_in address{};
    uv_ip4_addr("127.0.0.1", 0, &address);
    REQUIRE(uv_tcp_bind(&server, reinterpret_cast<sockaddr*>(&address), 0) == 0);
    REQUIRE(uv_listen(reinterpret_cast<uv_stream_t*>(&server), 1, [](uv_stream_t* s, int) {
              Streams& self = of(s->data);
              uv_accept(s, reinterpret_cast<uv_stream_t*>(&self.peer));
              uv_read_start(
                  reinterpret_cast<uv_stream_t*>(&self.peer),
                  [](uv_handle_t* h, std::size_t, uv_buf_t* b) {
                    *b = uv_buf_init(of(h->data).buffer.data(), static_cast<unsigned>(of(h->data).buffer.size()));
                  },
                  [](uv_stream_t* h, ssize_t n, const uv_buf_t* b) {
                    Streams& me = of(h->data);
                    if (n > 0) me.received.append(b->base, static_cast<std::size_t>(n));
                    if (n < 0) me.all.set_result(me.received);
                  });
            }) == 0);
    int size = sizeof address;
    uv_tcp_getsockname(&server, reinterpret_cast<sockaddr*>(&address), &size);
    connecting.data = this;
    uv_tcp_connect(&connecting, &client, reinterpret_cast<sockaddr*>(&address), [](uv_connect_t* c, int) {
      Streams& self = of(c->data);
      static char text[] = "over libuv";
      uv_buf_t b = uv_buf_init(text, sizeof text - 1);
      uv_write(&self.writing, reinterpret_cast<uv_stream_t*>(&self.client), &b, 1, [](uv_write_t* w, int) {
        uv_close(reinterpret_cast<uv_handle_t*>(w->handle), nullptr);  // the reader sees the end
      });
    });
  }
};

}  // namespace

TEST_CASE("libuv is reached from a Caller of any backend, in its own thread") {
  for (const Backend backend : {Backend::uv, Backend::asio, Backend::manual}) {
    Caller c(new_thread, {.backend = backend});
    auto here = c.call_using_backend(Backend::uv, sleep_by_uv, std::uint64_t{1});
    CHECK(here.wait() == c.thread());
    CHECK(c.backend() == backend);
    CHECK(c.call_using_backend(Backend::uv, [] { return uv_loop(); }).wait() ==
          c.call_soon([] { return uv_loop(); }).wait());
  }
}

TEST_CASE("a libuv timer that is due at once, and the only one, does not send the loop to sleep") {
  Caller c(manual, {.backend = Backend::uv});
  for (int i = 0; i < 3; ++i) c.run_until(c.call_soon(sleep_by_uv, std::uint64_t{0}));
}

TEST_CASE("its streams work, and what is open at the end is closed") {
  for (const Backend backend : {Backend::uv, Backend::asio, Backend::manual}) {
    std::unique_ptr<Streams> streams;
    Caller c(new_thread, {.backend = backend});
    auto all = c.call_using_backend(Backend::uv, [&] {
                  streams = std::make_unique<Streams>(uv_loop());
                  return streams->all;
                }).wait();
    CHECK(all.wait() == "over libuv");
    c.stop();
    c.stopped().wait();
    CHECK(uv_is_closing(reinterpret_cast<uv_handle_t*>(&streams->server)));
    CHECK(uv_is_closing(reinterpret_cast<uv_handle_t*>(&streams->peer)));
  }
}

TEST_CASE("its files work: requests run in libuv's threads and complete in the Caller's") {
  Caller c(new_thread);
  struct Stat {
    uv_fs_t request{};
    Pending<std::thread::id> done;
  } stat;
  c.call_using_backend(Backend::uv, [&] {
     stat.request.data = &stat;
     uv_fs_stat(uv_loop(), &stat.request, "/",
                [](uv_fs_t* r) { static_cast<Stat*>(r->data)->done.set_result(std::this_thread::get_id()); });
   }).wait();
  CHECK(stat.done.wait() == c.thread());
  CHECK(stat.request.result == 0);
  uv_fs_req_cleanup(&stat.request);
}

TEST_CASE("unreferenced handles progress, too, as the Caller keeps the loop alive") {
  Caller c(new_thread, {.backend = Backend::uv});
  Pending<> fired = c.call_soon([] {
                       auto* timer = new Timer(1);
                       uv_unref(reinterpret_cast<uv_handle_t*>(&timer->handle));
                       timer->closed.add_done_callback([timer](const PendingBase&) { delete timer; });
                       auto fired_ = timer->fired;
                       fired_.add_done_callback([timer](const PendingBase&) { timer->close(); });
                       return fired_;
                     }).wait();
  fired.wait();
  c.call_soon([]() -> Coro<void> { co_await sleep_for(1ms); }).wait();
}

TEST_CASE("times between libuv's milliseconds are kept") {
  Caller c(manual, {.backend = Backend::uv});
  uv_loop();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 20; ++i) c.run_until(c.call_later(100us, [] {}));
  CHECK(std::chrono::steady_clock::now() - start >= 2ms);
}

TEST_CASE("a function may wait inside of a callback of libuv's: the Caller's own queue turns, libuv does not") {
  Caller c(manual, {.backend = Backend::uv});
  Timer outer(0), inner(0);
  Pending<int> result;
  struct Both {
    Timer& inner;
    Pending<int> result;
  } both{inner, result};
  outer.handle.data = &both;
  uv_timer_start(
      &outer.handle,
      [](uv_timer_t* h) {
        auto& b = *static_cast<Both*>(h->data);
        const int value = Caller().call_later(1ms, [] { return 1; }).wait();
        const int far = Caller().to_thread([] { return 10; }).wait();
        b.result.set_result(value + far);
      },
      0, 0);
  c.run_until(result);
  CHECK(result.result() == 11);
  c.run_until(inner.fired);
}

TEST_CASE("handles a coroutine left open are closed when its Caller is abandoned") {
  auto timer = std::unique_ptr<Timer>();
  {
    Caller c(manual);
    c.call_using_backend(Backend::uv, [&]() -> Coro<void> {
      timer = std::make_unique<Timer>(1'000'000);
      co_await timer->fired;
    });
    c.poll();
    CHECK_FALSE(uv_is_closing(reinterpret_cast<uv_handle_t*>(&timer->handle)));
  }
  CHECK(uv_is_closing(reinterpret_cast<uv_handle_t*>(&timer->handle)));
}

TEST_CASE("uv_loop() needs a running Caller, and is no guest's in another loop") {
  CHECK_THROWS_AS(uv_loop(), NoRunningCaller);
  Caller c(guest, {.host = std::make_shared<FdHost>()});
  CHECK_THROWS_AS(uv_loop(), Error);
  CHECK_THROWS_AS(c.call_using_backend(Backend::uv, [] {}), Error);
}

TEST_CASE("children and workers of a Caller on libuv are on libuv, and a mismatch names it") {
  Caller c(new_thread, {.backend = Backend::uv});
  CHECK(std::string(to_string(c.backend())) == "uv");
  CHECK(c.get({.name = "child"}).backend() == Backend::uv);
  CHECK(c.to_thread(sleep_by_uv, std::uint64_t{1}).wait() != c.thread());
  try {
    c.get({.name = "child", .backend = Backend::asio});
    FAIL("no mismatch");
  } catch (const Error& e) {
    CHECK(std::string(e.what()).find("uv") != std::string::npos);
  }
}

#if CALLER_TEST_ASIO

TEST_CASE("Asio and libuv live on one thread: each wakes it, none waits for the other") {
  for (const Backend backend : {Backend::uv, Backend::asio, Backend::manual}) {
    Caller c(new_thread, {.backend = backend});
    const auto asio_timer = [&c]() -> Coro<void> {
      boost::asio::steady_timer timer(c.executor(), 1ms);
      co_await timer.async_wait(use_pending);
    };
    c.call_soon(asio_timer).wait();
    c.call_using_backend(Backend::uv, sleep_by_uv, std::uint64_t{1}).wait();
    c.call_soon(asio_timer).wait();
    std::vector<PendingBase> all;
    for (int i = 0; i < 20; ++i) {
      all.push_back(c.call_using_backend(Backend::uv, sleep_by_uv, std::uint64_t{1}));
      all.push_back(c.call_soon(asio_timer));
      all.push_back(c.call_later(1ms, [] {}));
    }
    for (const PendingBase& p : all) CHECK(p.wait_done({.timeout = 10s}));
    boost::asio::post(c.executor(), use_pending).wait();
    std::unique_ptr<Streams> streams;
    auto received = c.call_soon([&] {
                       streams = std::make_unique<Streams>(uv_loop());
                       return streams->all;
                     }).wait();
    CHECK(received.wait() == "over libuv");
    c.stop();
    c.stopped().wait();
  }
}

#endif

// ---- a guest in a libuv loop of the program's own ----

namespace {
struct HostOfGuests {
  uv_loop_t loop{};
  HostOfGuests() { REQUIRE(uv_loop_init(&loop) == 0); }
  ~HostOfGuests() {
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&loop) == 0);
  }
};
}  // namespace

TEST_CASE("a guest with nothing to do does not keep uv_run from returning; one with work does") {
  HostOfGuests host;
  Caller c(guest, {.host = uv_host(&host.loop)});
  CHECK(c.backend() == Backend::uv);
  uv_run(&host.loop, UV_RUN_DEFAULT);  // returns at once
  std::string order;
  c.call_soon([&]() -> Coro<void> {
    order += "a";
    co_await sleep_for(2ms);
    order += "b";
    co_await c.to_thread([] {});
    order += "c";
  });
  c.call_later(1ms, [&] { order += "1"; });
  uv_run(&host.loop, UV_RUN_DEFAULT);
  CHECK(order == "a1bc");
  CHECK_FALSE(uv_loop_alive(&host.loop));
}

TEST_CASE("a host of libuv serves another Caller when the first one has ended") {
  HostOfGuests host;
  const auto shared = uv_host(&host.loop);
  for (int round = 0; round < 2; ++round) {
    Caller c(guest, {.host = shared});
    bool ran = false;
    c.call_later(1ms, [&] {
      ran = true;
      c.stop();
    });
    uv_run(&host.loop, UV_RUN_DEFAULT);
    CHECK(ran);
    CHECK(c.stopped().done());
  }
}

TEST_CASE("uv_run returns when its guest has stopped, and its loop can be closed") {
  HostOfGuests host;
  Caller c(guest, {.host = uv_host(&host.loop)});
  Caller child = c.get({.name = "child"});
  auto far = c.call_soon([]() -> Coro<void> { co_await sleep_for(1h); });
  c.call_later(1ms, [&] { c.stop(); });
  uv_run(&host.loop, UV_RUN_DEFAULT);
  CHECK(c.state() == CallerState::stopped);
  CHECK(far.cancelled());
  CHECK(child.stopped().done());
}

TEST_CASE("a guest may be destroyed before its host has ever run, inside of a callback, and after") {
  {
    HostOfGuests host;
    Caller c(guest, {.host = uv_host(&host.loop)});
    c.call_soon([] { FAIL("never begins"); });
  }
  {
    HostOfGuests host;
    auto c = std::make_unique<Caller>(guest, CallerOptions{.host = uv_host(&host.loop)});
    c->call_later(1h, [] {});
    uv_timer_t timer{};
    uv_timer_init(&host.loop, &timer);
    timer.data = &c;
    uv_timer_start(
        &timer,
        [](uv_timer_t* h) {
          static_cast<std::unique_ptr<Caller>*>(h->data)->reset();
          uv_close(reinterpret_cast<uv_handle_t*>(h), nullptr);
        },
        1, 0);
    uv_run(&host.loop, UV_RUN_DEFAULT);
    CHECK_FALSE(c);
  }
  {
    HostOfGuests host;
    Caller c(guest, {.host = uv_host(&host.loop)});
    bool ran = false;
    c.call_soon([&] { ran = true; });
    uv_run(&host.loop, UV_RUN_DEFAULT);
    CHECK(ran);
    c.call_later(1h, [] {});
  }
}

TEST_CASE("uv_loop() of a guest is its host's") {
  HostOfGuests host;
  Caller c(guest, {.host = uv_host(&host.loop)});
  CHECK(uv_loop() == &host.loop);
  auto by_uv = c.call_using_backend(Backend::uv, sleep_by_uv, std::uint64_t{1});
  uv_run(&host.loop, UV_RUN_DEFAULT);
  CHECK(by_uv.done());
}

#endif
