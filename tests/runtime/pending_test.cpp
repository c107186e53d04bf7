// caller/pending.hpp
#include "support/coro.hpp"

#include <sstream>
#include <thread>

using namespace caller;
using namespace caller::test;

TEST_CASE("the first outcome wins and later ones say so") {
  Pending<int> p;
  CHECK_FALSE(p.done());
  CHECK(p.set_result(1));
  CHECK_FALSE(p.set_result(2));
  CHECK_FALSE(p.set_exception(std::runtime_error("late")));
  CHECK_FALSE(p.cancel());
  CHECK(p.done());
  CHECK_FALSE(p.cancelled());
  CHECK(p.result() == 1);

  Pending<> e;
  CHECK(e.set_exception(std::runtime_error("first")));
  CHECK_FALSE(e.set_result());
  CHECK_THROWS_AS(e.result(), std::runtime_error);
}

TEST_CASE("a cancelled Pending stays cancelled and keeps every message") {
  ManualLoop loop;
  Pending<> inside;
  auto work = loop.caller.call_soon([]() -> Coro<void> {
    for (int i = 0; i < 2; ++i) CHECK_CORO_THROWS_AS(co_await sleep_for(1h), PendingCancelled);
    CHECK_CORO_THROWS_AS(co_await sleep_for(1h), PendingCancelled);
  });
  loop.settle();
  for (const char* why : {"one", "two", "three"}) {
    CHECK(work.cancel(why));
    CHECK(work.cancelled());
    CHECK_FALSE(work.set_result());
    loop.settle();
  }
  REQUIRE(work.done());
  CHECK_FALSE(work.cancel("four"));
  CHECK_THROWS_WITH_AS(work.result(), doctest::Contains("one; two; three"), PendingCancelled);
}

TEST_CASE("looking too early is PendingNotDone") {
  Pending<int> p;
  CHECK_THROWS_AS(p.result(), PendingNotDone);
  CHECK_THROWS_AS(p.exception(), PendingNotDone);
  p.cancel();
  CHECK_THROWS_AS(p.result(), PendingCancelled);
  CHECK_THROWS_AS(p.exception(), PendingCancelled);
}

TEST_CASE("exception() is null beside a value, and the error beside an error") {
  Pending<int> good, bad;
  good.set_result(1);
  bad.set_exception(std::runtime_error("no"));
  CHECK(good.exception() == nullptr);
  CHECK(bad.exception() != nullptr);
}

TEST_CASE("callbacks run in the order added, once each, and at once when it is done") {
  Pending<int> p;
  std::string order;
  p.add_done_callback([&](const PendingBase& x) { order += x == p ? "a" : "?"; });
  const CallbackId second = p.add_done_callback([&](const PendingBase&) { order += "b"; });
  p.add_done_callback([&](const PendingBase&) { order += "c"; });
  CHECK(p.remove_done_callback(second));
  CHECK_FALSE(p.remove_done_callback(second));
  CHECK_FALSE(p.remove_done_callback(0));
  p.set_result(1);
  CHECK(order == "ac");
  const CallbackId late = p.add_done_callback([&](const PendingBase&) { order += "d"; });
  CHECK(order == "acd");
  CHECK(late != 0);
  CHECK_FALSE(p.remove_done_callback(late));
}

TEST_CASE("a callback that throws is reported and the others run") {
  ManualLoop loop;
  Pending<> p;
  int ran = 0;
  p.add_done_callback([](const PendingBase&) { throw std::runtime_error("in callback"); });
  p.add_done_callback([&](const PendingBase&) { ++ran; });
  p.set_result();
  CHECK(ran == 1);
  REQUIRE(loop.reports.size() == 1);
  CHECK(loop.reports.list()[0].find("in callback") != std::string::npos);
}

TEST_CASE("a callback may add and remove callbacks of the same Pending") {
  Pending<> p;
  int ran = 0;
  CallbackId second = 0;
  p.add_done_callback([&](const PendingBase& x) {
    CHECK_FALSE(x.remove_done_callback(second));
    x.add_done_callback([&](const PendingBase&) { ++ran; });
    ++ran;
  });
  second = p.add_done_callback([&](const PendingBase&) { ++ran; });
  p.set_result();
  CHECK(ran == 3);
}

TEST_CASE("a callback runs in the thread that completes") {
  Pending<> p;
  std::thread::id where;
  p.add_done_callback([&](const PendingBase&) { where = std::this_thread::get_id(); });
  std::thread t([&] { p.set_result(); });
  const auto id = t.get_id();
  t.join();
  CHECK(where == id);
}

TEST_CASE("metadata, callbacks and value are freed with the last handle") {
  auto held = std::make_shared<int>(1);
  std::weak_ptr<int> watch = held;
  {
    Pending<std::shared_ptr<int>> p, other;
    p.metadata()["key"] = held;
    p.add_done_callback([held](const PendingBase&) {});
    other.set_result(held);
    held.reset();
    CHECK(std::any_cast<std::shared_ptr<int>>(p.metadata().at("key")) == watch.lock());
  }
  CHECK(watch.expired());
}

TEST_CASE("schedule_call attaches metadata") {
  ManualLoop loop;
  ScheduleOptions options;
  options.metadata["n"] = 3;
  auto p =
      loop.caller.schedule_call(options, [] { CHECK(std::any_cast<int>(current_pending().metadata().at("n")) == 3); });
  loop.settle();
  p.result();
}

TEST_CASE("an error nobody looked at is reported once, when the last handle goes") {
  ManualLoop loop;
  {
    auto p = loop.caller.call_soon([] { throw std::runtime_error("unseen"); });
    auto copy = p;
    loop.settle();
    CHECK(loop.reports.size() == 0);
  }
  REQUIRE(loop.reports.size() == 1);
  CHECK(loop.reports.list()[0].find("unseen") != std::string::npos);
}

TEST_CASE("an error that was looked at, and a cancellation, are not reported") {
  ManualLoop loop;
  {
    auto seen = loop.caller.call_soon([] { throw std::runtime_error("seen"); });
    auto asked = loop.caller.call_soon([] { throw std::runtime_error("asked"); });
    auto cancelled = loop.caller.call_soon([]() -> Coro<void> { co_await sleep_for(1h); });
    loop.settle();
    cancelled.cancel();
    loop.settle();
    CHECK_THROWS(seen.result());
    CHECK(asked.exception() != nullptr);
  }
  CHECK(loop.reports.size() == 0);
}

TEST_CASE("without a handler of its own an error goes to the process's") {
  Reports reports;
  set_error_handler(reports.handler());
  {
    Pending<> p;
    p.set_exception(std::runtime_error("x"));
  }
  set_error_handler({});
  CHECK(reports.size() == 1);
}

TEST_CASE("an exception_ptr without an exception is refused, and the Pending is still to be decided") {
  const Pending<int> p;
  CHECK_THROWS_WITH_AS(p.set_exception(std::exception_ptr()), doctest::Contains("Pending::set_exception"), Error);
  CHECK_THROWS_AS(p.set_exception(nullptr), Error);
  CHECK_FALSE(p.done());
  CHECK(p.set_result(1));
  CHECK(p.result() == 1);
}

TEST_CASE("a handler of errors that throws hurts nobody") {
  Caller c(manual, {.backend = Backend::manual, .error_handler = [](const std::string&, const std::exception_ptr&) {
                      throw std::runtime_error("handler");
                    }});
  c.call_soon([] { throw std::runtime_error("x"); });
  c.call_direct([] { throw std::runtime_error("y"); });
  CHECK(c.poll() == 2);
}

TEST_CASE("move-only, reference and void results") {
  ManualLoop loop;
  int target = 1;
  auto owned = loop.caller.call_soon([] { return std::make_unique<int>(7); });
  auto ref = loop.caller.call_soon([&target]() -> int& { return target; });
  auto none = loop.caller.call_soon([] {});
  auto coro_ref = loop.caller.call_soon([&target]() -> Coro<int&> { co_return target; });
  auto reader = loop.caller.call_soon([&]() -> Coro<int> {
    std::unique_ptr<int>& in_place = co_await owned;
    const int seven = *in_place;
    auto taken = co_await std::move(owned);
    int& r = co_await ref;
    r = 5;
    int& r2 = co_await coro_ref;
    CHECK(&r2 == &target);
    co_await none;
    co_return seven + *taken;
  });
  loop.settle();
  CHECK(reader.result() == 14);
  CHECK(target == 5);
  static_assert(std::is_same_v<decltype(ref.result()), int&>);
}

ASYNC_TEST_CASE("co_await of the last handle moves the value, of a shared one copies it") {
  struct Counted {
    int copies = 0;
    Counted() = default;
    Counted(const Counted& o) : copies(o.copies + 1) {}
    Counted(Counted&& o) noexcept : copies(o.copies) {}
    Counted& operator=(const Counted&) = default;
  };
  Caller c = Caller::current();
  auto only = c.call_soon([] { return Counted(); });
  co_await yield_now();
  const Counted moved = co_await std::move(only);
  CHECK(moved.copies == 0);
  auto shared = c.call_soon([] { return Counted(); });
  auto other = shared;
  const Counted copied = co_await std::move(shared);
  CHECK(copied.copies == 1);
  CHECK(other.result().copies == 0);
}

ASYNC_TEST_CASE("a Pending returned by a function is handed over as it is") {
  Pending<int> inner;
  auto p = Caller::current().call_soon([inner] { return inner; });
  const Pending<int> got = co_await p;
  CHECK(got == inner);
}

TEST_CASE("any number of waiters on any Callers resume once, each on its own") {
  Caller a(new_thread, {.name = "a"}), b(new_thread, {.name = "b"});
  Pending<int> p;
  std::atomic<int> sum{0};
  std::vector<Pending<>> waiters;
  for (int i = 0; i < 20; ++i)
    for (Caller* c : {&a, &b})
      waiters.push_back(c->call_soon([p, &sum, c]() -> Coro<void> {
        const int v = co_await p;
        CHECK(Caller::current() == *c);
        sum += v;
      }));
  a.call_soon([p] { p.set_result(1); });
  for (auto& w : waiters) w.wait();
  CHECK(sum == 40);
}

TEST_CASE("wait blocks a plain thread, and times out with TimedOut") {
  Pending<int> p;
  CHECK_THROWS_WITH_AS(p.wait({.timeout = 1ms, .protect = true}), "Pending::wait, after 1 ms: timed out", TimedOut);
  CHECK_FALSE(p.done());
  CHECK_FALSE(p.wait_done({.timeout = 0ms, .protect = true}));
  std::thread t([&] { p.set_result(3); });
  CHECK(p.wait() == 3);
  t.join();
}

TEST_CASE("a wait that times out cancels, unless it protects or the Pending is protected") {
  Pending<> plain, kept, safe;
  safe.protect();
  CHECK_FALSE(plain.wait_done({.timeout = 1ms}));
  CHECK_FALSE(kept.wait_done({.timeout = 1ms, .protect = true}));
  CHECK_FALSE(safe.wait_done({.timeout = 1ms}));
  CHECK(plain.cancelled());
  CHECK_FALSE(kept.cancelled());
  CHECK_FALSE(safe.cancelled());
  CHECK(safe.is_protected());
  CHECK_FALSE(safe.cancel());
}

ASYNC_TEST_CASE("async_wait times out with TimedOut and cancels by the same rules") {
  Pending<int> plain, kept, safe, soon;
  safe.protect();
  CHECK_CORO_THROWS_AS(co_await plain.async_wait({.timeout = 1ms}), TimedOut);
  CHECK_CORO_THROWS_AS(co_await kept.async_wait({.timeout = 1ms, .protect = true}), TimedOut);
  CHECK_CORO_THROWS_AS(co_await safe.async_wait({.timeout = 1ms}), TimedOut);
  CHECK(plain.cancelled());
  CHECK_FALSE(kept.cancelled());
  CHECK_FALSE(safe.cancelled());
  const bool looked = co_await kept.async_wait_done({.timeout = 0ms, .protect = true});
  CHECK_FALSE(looked);
  Caller::current().call_later(1ms, [soon] { soon.set_result(4); });
  const int four = co_await soon.async_wait({.timeout = 1h});
  CHECK(four == 4);
}

ASYNC_TEST_CASE("timed-out protected waits leave nothing behind in the Pending") {
  Pending<> p;
  for (int i = 0; i < 100; ++i) {
    const bool done = co_await p.async_wait_done({.timeout = 1ms, .protect = true});
    CHECK_FALSE(done);
    std::vector<Pending<>> items;
    items.push_back(p);
    const auto result = co_await Caller::current().wait(items, {.timeout = 1ms});
    CHECK(result.pending.size() == 1);
  }
  CHECK((p.state()->word.load() & detail::PendingState::kList) == 0);  // no waiter, no callback
}

ASYNC_TEST_CASE("cancelling a waiter cancels what it awaits, unless it protects or the Pending is protected") {
  Caller c = Caller::current();
  Pending<> plain, kept, safe;
  safe.protect();
  auto w1 = c.call_soon([plain]() -> Coro<void> { co_await plain; });
  auto w2 = c.call_soon([kept]() -> Coro<void> { co_await kept.async_wait({.protect = true}); });
  auto w3 = c.call_soon([safe]() -> Coro<void> { co_await safe; });
  co_await yield_now();
  w1.cancel();
  w2.cancel();
  w3.cancel();
  co_await w1.async_wait_done({.protect = true});
  co_await w2.async_wait_done({.protect = true});
  co_await w3.async_wait_done({.protect = true});
  CHECK(plain.cancelled());
  CHECK_FALSE(kept.cancelled());
  CHECK_FALSE(safe.cancelled());
}

ASYNC_TEST_CASE("shield holds a cancellation of the waiter back until the Pending is done") {
  Caller c = Caller::current();
  Pending<> p;
  bool after = false;
  auto w = c.call_soon([&, p]() -> Coro<void> {
    co_await p.async_wait({.shield = true});
    after = true;
  });
  co_await yield_now();
  w.cancel();
  for (int i = 0; i < 5; ++i) co_await yield_now();
  CHECK_FALSE(w.done());
  CHECK_FALSE(p.cancelled());
  p.set_result();
  co_await w.async_wait_done({.protect = true});
  CHECK_FALSE(after);
  CHECK(w.cancelled());
}

ASYNC_TEST_CASE("cancel_wait waits for the end of the work and never throws what it threw") {
  bool cleaned = false;
  auto w = Caller::current().call_soon([&]() -> Coro<void> {
    CHECK_CORO_THROWS_AS(co_await sleep_for(1h), PendingCancelled);
    co_await sleep_for(10ms);
    cleaned = true;
    throw std::runtime_error("dropped");
  });
  co_await yield_now();
  co_await w.cancel_wait("enough");
  CHECK(cleaned);
  CHECK(w.done());
  CHECK(w.cancelled());
}

ASYNC_TEST_CASE("work cannot wait for its own Pending") {
  CHECK_CORO_THROWS_AS(co_await Pending<>::share(current_pending().state()), Error);
  CHECK_CORO_THROWS_AS(co_await current_pending().async_wait_done(), Error);
  auto plain = Caller::current().call_soon([] { current_pending().wait_done(); });
  CHECK_CORO_THROWS_AS(co_await plain, Error);
}

TEST_CASE("current_pending is the running work's, and empty outside") {
  ManualLoop loop;
  CHECK_FALSE(current_pending());
  PendingBase inside;
  auto p = loop.caller.call_soon([&] { inside = current_pending(); });
  loop.caller.call_direct([] { CHECK_FALSE(current_pending()); });
  loop.settle();
  CHECK(inside == p);
  CHECK_FALSE(current_pending());
}

TEST_CASE("set_result on a queued call decides it, and its function never runs") {
  ManualLoop loop;
  bool ran = false;
  auto p = loop.caller.call_soon([&] {
    ran = true;
    return 1;
  });
  CHECK(p.set_result(2));
  loop.settle();
  CHECK_FALSE(ran);
  CHECK(p.result() == 2);
}

TEST_CASE("a value whose copy throws becomes the error") {
  struct Throws {
    Throws() = default;
    Throws(const Throws&) { throw std::runtime_error("copy"); }
  };
  Pending<Throws> p;
  const Throws t;
  CHECK(p.set_result(t));
  CHECK_THROWS_AS(p.result(), std::runtime_error);
}

TEST_CASE("Pendings print, compare and hash by identity") {
  Pending<int> a, b;
  const PendingBase base = a;
  CHECK(base == a);
  CHECK_FALSE(a == b);
  CHECK(std::hash<PendingBase>{}(base) == std::hash<Pending<int>>{}(a));
  CHECK_FALSE(PendingBase());
  std::ostringstream out;
  out << a << PendingBase();
  CHECK(out.str().find("<Pending pending") == 0);
  CHECK(out.str().find("<Pending empty>") != std::string::npos);
}
