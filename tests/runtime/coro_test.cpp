// caller/coro.hpp, caller/generator.hpp: coroutines, cancellation at each kind of suspension point, generators.
#include "support/coro.hpp"

#include <thread>

using namespace caller;
using namespace caller::test;

namespace {

Coro<int> depth(int n) {
  if (n == 0) co_return 0;
  co_return 1 + co_await depth(n - 1);
}

struct Size {
  int width = 1, height = 2;
};
Coro<Size> size_in_braces() { co_return {3, 4}; }
Coro<Size> default_size() { co_return {}; }
Coro<std::vector<std::string>> words() { co_return {"some", "words"}; }
Coro<std::unique_ptr<int>> no_number() { co_return {}; }

/// An awaitable of another library: resumes its coroutine on a thread of its own.
struct OnOtherThread {
  std::thread* thread;
  int value;
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> h) const {
    std::thread* const slot = thread;  // *this may be gone as soon as the thread runs
    *slot = std::thread([h] { h.resume(); });
  }
  int await_resume() const noexcept { return value; }
};
struct ForeignFailure {
  bool await_ready() const noexcept { return true; }
  void await_suspend(std::coroutine_handle<>) const noexcept {}
  void await_resume() const { throw std::runtime_error("foreign"); }
};
/// Resumed by hand.
struct ByHand {
  std::coroutine_handle<>* slot;
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> h) const noexcept { *slot = h; }
  void await_resume() const noexcept {}
};

/// A coroutine no Caller drives.
struct Runaway {
  struct promise_type : detail::CoroPromiseBase {
    std::exception_ptr* out;
    explicit promise_type(std::exception_ptr& o) : out(&o) {}
    Runaway get_return_object() const noexcept { return {}; }
    std::suspend_never initial_suspend() const noexcept { return {}; }
    std::suspend_never final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    void unhandled_exception() noexcept { *out = std::current_exception(); }
  };
};
Runaway run_away(std::exception_ptr&) { co_await sleep_for(1ms); }

/// Starts `body`, cancels it where it then waits, and tells whether that was where it ended.
template <class Body>
Coro<bool> ends_when_cancelled(Body body) {
  bool thrown = false, passed = false;
  auto work = Caller::current().call_soon([&]() -> Coro<void> {
    try {
      co_await body();
      passed = true;
    } catch (const PendingCancelled&) {
      thrown = true;
    }
    co_await yield_now();  // clean-up may wait
  });
  for (int i = 0; i < 4; ++i) co_await yield_now();
  work.cancel();
  co_await work.async_wait_done({.protect = true});
  co_return thrown && !passed && work.cancelled();
}

Generator<int> up_to(int n) {
  for (int i = 0; i < n; ++i) co_yield i;
}
Generator<int> fails_after(int n) {
  for (int i = 0; i < n; ++i) co_yield i;
  throw std::runtime_error("generator");
}
AsyncGenerator<int> slowly(int n) {
  for (int i = 0; i < n; ++i) {
    co_await sleep_for(1ms);
    co_yield i;
  }
}
AsyncGenerator<int> slowly_fails() {
  co_yield 1;
  co_await yield_now();
  throw std::runtime_error("async generator");
}

}  // namespace

ASYNC_TEST_CASE("a value may be returned in braces") {
  const Size given = co_await size_in_braces();
  CHECK(given.width == 3);
  CHECK(given.height == 4);
  const Size own = co_await default_size();
  CHECK(own.height == 2);
  CHECK((co_await words()).size() == 2);
  CHECK(co_await no_number() == nullptr);
}

ASYNC_TEST_CASE("a Coro starts when it is awaited, not when it is made") {
  bool began = false;
  auto make = [&]() -> Coro<int> {
    began = true;
    co_return 3;
  };
  auto coro = make();
  CHECK(static_cast<bool>(coro));
  CHECK_FALSE(began);
  const int three = co_await std::move(coro);
  CHECK(began);
  CHECK(three == 3);
  auto never = make();
}

ASYNC_TEST_CASE("an error passes through every co_await on its way out") {
  auto inner = []() -> Coro<int> {
    co_await yield_now();
    throw std::runtime_error("deep");
  };
  auto middle = [&]() -> Coro<int> { co_return co_await inner(); };
  CHECK_CORO_THROWS_AS(co_await middle(), std::runtime_error);
}

ASYNC_TEST_CASE("co_await nests deeply without using the stack") {
#if defined(__OPTIMIZE__) && !defined(CALLER_SANITIZED)
  constexpr int kDeep = 200'000;
#else
  constexpr int kDeep = 500;  // symmetric transfer is a tail call only when optimised
#endif
  const int got = co_await depth(kDeep);
  CHECK(got == kDeep);
}

ASYNC_TEST_CASE("a coroutine lambda's captures live as long as it runs") {
  auto text = std::make_shared<std::string>("kept");
  std::weak_ptr<std::string> watch = text;
  auto p = Caller::current().call_soon([t = std::move(text)]() -> Coro<std::string> {
    co_await sleep_for(1ms);
    co_return *t;
  });
  co_await yield_now();
  CHECK_FALSE(watch.expired());
  const std::string got = co_await p;
  CHECK(got == "kept");
  CHECK(watch.expired());
}

ASYNC_TEST_CASE("arguments live as long as the coroutine that takes them by reference") {
  auto p = Caller::current().call_soon(
      [](const std::string& s) -> Coro<std::size_t> {
        co_await sleep_for(1ms);
        co_return s.size();
      },
      std::string(100, 'x'));
  const std::size_t n = co_await p;
  CHECK(n == 100);
}

ASYNC_THREADS_TEST_CASE("after an awaitable of another library the coroutine continues on its own Caller") {
  std::thread other;
  struct Join {
    std::thread& t;
    ~Join() {
      if (t.joinable()) t.join();
    }
  } join{other};
  const auto home = std::this_thread::get_id();
  const int value = co_await OnOtherThread{&other, 9};
  CHECK(value == 9);
  CHECK(std::this_thread::get_id() == home);
  CHECK(static_cast<bool>(current_pending()));
}

ASYNC_TEST_CASE("an error of another library's awaitable arrives") {
  CHECK_CORO_THROWS_AS(co_await ForeignFailure{}, std::runtime_error);
}

TEST_CASE("a cancelled wait for another library's awaitable ends at once, what comes later is dropped") {
  ManualLoop loop;
  std::coroutine_handle<> handle;
  bool thrown = false;
  auto p = loop.caller.call_soon([&]() -> Coro<void> {
    CHECK_CORO_THROWS_AS(co_await ByHand{&handle}, PendingCancelled);
    thrown = true;
  });
  loop.settle();
  p.cancel();
  loop.settle();
  CHECK(thrown);
  CHECK(p.done());
  handle.resume();
}

TEST_CASE("an awaitable of another library may complete after the loop is gone") {
  std::coroutine_handle<> handle;
  {
    ManualLoop loop;
    loop.caller.call_soon([&]() -> Coro<void> { co_await ByHand{&handle}; });
    loop.settle();
  }
  handle.resume();
}

ASYNC_TEST_CASE("cancelled at a Pending") {
  const bool ok = co_await ends_when_cancelled([]() -> Coro<void> { co_await Pending<>(); });
  CHECK(ok);
}
ASYNC_TEST_CASE("cancelled at a wait with a time-out") {
  const bool ok =
      co_await ends_when_cancelled([]() -> Coro<void> { co_await Pending<>().async_wait({.timeout = 1h}); });
  CHECK(ok);
}
ASYNC_TEST_CASE("cancelled at a sleep") {
  const bool ok = co_await ends_when_cancelled([]() -> Coro<void> { co_await sleep_for(1h); });
  CHECK(ok);
}
ASYNC_TEST_CASE("cancelled at a call of another function") {
  const bool ok = co_await ends_when_cancelled(
      []() -> Coro<void> { co_await Caller::current().call_soon([]() -> Coro<void> { co_await sleep_for(1h); }); });
  CHECK(ok);
}
ASYNC_TEST_CASE("cancelled at the next item of a stream") {
  const bool ok = co_await ends_when_cancelled([]() -> Coro<void> {
    auto stream = Caller::current().as_completed(std::vector<Pending<>>(1));
    co_await stream.next();
  });
  CHECK(ok);
}
ASYNC_TEST_CASE("cancelled at a wait for several") {
  const bool ok =
      co_await ends_when_cancelled([]() -> Coro<void> { co_await Caller::current().wait(std::vector<Pending<>>(2)); });
  CHECK(ok);
}
ASYNC_TEST_CASE("cancelled in a group") {
  const bool ok = co_await ends_when_cancelled(
      []() -> Coro<void> { co_await with_pending_group([](PendingGroup&) -> Coro<void> { co_await sleep_for(1h); }); });
  CHECK(ok);
}
ASYNC_TEST_CASE("cancelled at the end of a group") {
  const bool ok = co_await ends_when_cancelled([]() -> Coro<void> {
    PendingGroup group;
    group.add(Pending<>());
    co_await group.join();
  });
  CHECK(ok);
}
ASYNC_TEST_CASE("cancelled in a wait that turns the loop") {
  const bool ok = co_await ends_when_cancelled([]() -> Coro<void> {
    // Called by our own loop, so the one who cancels runs inside.
    Caller::current().call_soon([p = current_pending()] { p.cancel(); });
    Pending<>().wait();
    co_return;
  });
  CHECK(ok);
}
ASYNC_TEST_CASE("cancelled in an async generator") {
  const bool ok = co_await ends_when_cancelled([]() -> Coro<void> {
    auto g = [](int) -> AsyncGenerator<int> {
      co_await sleep_for(1h);
      co_yield 1;
    }(0);
    co_await g.next();
  });
  CHECK(ok);
}

ASYNC_TEST_CASE("cancelled while it runs, a coroutine hears of it at its next wait, even one that is ready") {
  Pending<> ready;
  ready.set_result();
  bool thrown = false;
  auto p = Caller::current().call_soon([&]() -> Coro<void> {
    current_pending().cancel();
    CHECK_CORO_THROWS_AS(co_await ready, PendingCancelled);
    thrown = true;
    co_await ready;
  });
  co_await p.async_wait_done({.protect = true});
  CHECK(thrown);
  CHECK(p.cancelled());
}

ASYNC_TEST_CASE("cancelled before it starts, neither a function nor a coroutine runs") {
  bool ran = false;
  auto f = Caller::current().call_soon([&] { ran = true; });
  auto g = Caller::current().call_soon([&]() -> Coro<void> {
    ran = true;
    co_return;
  });
  CHECK(f.cancel());
  CHECK(g.cancel());
  CHECK(f.done());
  CHECK(g.done());
  co_await yield_now();
  CHECK_FALSE(ran);
}

ASYNC_THREADS_TEST_CASE("a running plain function sees its stop token, its result is dropped") {
  Pending<> inside;
  auto p = Caller::current().to_thread([inside](std::stop_token stop) {
    Pending<> stopped;
    std::stop_callback tell(stop, [stopped] { stopped.set_result(); });
    inside.set_result();
    stopped.wait({.protect = true, .shield = true});
    return 5;
  });
  co_await inside;
  CHECK(p.cancel());
  CHECK(p.cancelled());
  co_await p.async_wait_done({.protect = true});
  CHECK_CORO_THROWS_AS(p.result(), PendingCancelled);
}

ASYNC_THREADS_TEST_CASE("a running plain function without a stop token is cancelled at once and done when it ends") {
  Pending<> inside, gate;
  const OpenAtEnd opens(gate);
  auto p = Caller::current().to_thread([inside, gate] {
    inside.set_result();
    gate.wait({.protect = true, .shield = true});
    return 5;
  });
  co_await inside;
  p.cancel();
  CHECK(p.cancelled());
  CHECK_FALSE(p.done());
  gate.set_result();
  co_await p.async_wait_done({.protect = true});
  CHECK_CORO_THROWS_AS(p.result(), PendingCancelled);
}

ASYNC_TEST_CASE("a stop token asked for after the cancellation is stopped already") {
  auto p = Caller::current().call_soon([](std::stop_token stop) -> Coro<void> {
    CHECK_FALSE(stop.stop_requested());
    CHECK_CORO_THROWS_AS(co_await sleep_for(1h), PendingCancelled);
    CHECK(stop.stop_requested());
  });
  co_await yield_now();
  co_await p.cancel_wait();
}

TEST_CASE("a coroutine away from any Caller says so") {
  std::exception_ptr error;
  run_away(error);
  REQUIRE(error);
  CHECK_THROWS_AS(std::rethrow_exception(error), NoRunningCaller);
}

TEST_CASE("a generator is an input range, gives its error where it happens, and is destroyed unfinished") {
  int sum = 0;
  for (int v : up_to(5)) sum += v;
  CHECK(sum == 10);
  auto g = fails_after(1);
  CHECK(g.next() == 0);
  CHECK_THROWS_AS(g.next(), std::runtime_error);
  CHECK(g.next() == std::nullopt);
  auto unfinished = up_to(3);
  CHECK(unfinished.next() == 0);
}

ASYNC_TEST_CASE("an async generator may wait between its values, and ends") {
  int sum = 0;
  auto g = slowly(4);
  while (auto v = co_await g.next()) sum += *v;
  CHECK(sum == 6);
  auto end = co_await g.next();
  CHECK_FALSE(end.has_value());
  auto unfinished = slowly(4);
  co_await unfinished.next();
}

ASYNC_TEST_CASE("an async generator's error leaves through next, once") {
  auto g = slowly_fails();
  auto first = co_await g.next();
  CHECK(first == 1);
  CHECK_CORO_THROWS_AS(co_await g.next(), std::runtime_error);
  auto end = co_await g.next();
  CHECK_FALSE(end.has_value());
}
