// Pending::set_canceller, of caller/pending.hpp
#include "support/coro.hpp"

#include <thread>

using namespace caller;
using namespace caller::test;

TEST_CASE("a Pending with a canceller is cancelled at once and done when its owner says so") {
  Pending<int> p;
  std::vector<std::string> told;
  CHECK(p.set_canceller([&](const std::string& message) { told.push_back(message); }));
  CHECK(p.cancel("enough"));
  CHECK(p.cancelled());
  CHECK_FALSE(p.done());
  CHECK(told == std::vector<std::string>{"enough"});
  CHECK_FALSE(p.set_result(1));  // the work has ended; that it was cancelled stays
  CHECK(p.done());
  CHECK_THROWS_WITH_AS(p.result(), doctest::Contains("enough"), PendingCancelled);
  CHECK_FALSE(p.cancel("late"));
  CHECK_FALSE(p.set_canceller([&](const std::string& message) { told.push_back(message); }));
  CHECK(told.size() == 1);
}

TEST_CASE("an error that ends cancelled foreign work is not the outcome") {
  Pending<int> p;
  p.set_canceller([](const std::string&) {});
  p.cancel();
  CHECK_FALSE(p.set_exception(std::runtime_error("aborted")));
  CHECK_THROWS_AS(p.result(), PendingCancelled);
}

TEST_CASE("a canceller is called once; further messages are kept") {
  Pending<> p;
  int called = 0;
  p.set_canceller([&](const std::string&) { ++called; });
  CHECK(p.cancel("message 1"));
  CHECK(p.cancel("message 2"));
  CHECK(called == 1);
  p.set_result();
  CHECK_THROWS_WITH_AS(p.result(), doctest::Contains("message 1; message 2"), PendingCancelled);
}

TEST_CASE("a canceller that comes after cancel is called where it is set") {
  Pending<> cancelled_alone, cancelled_before;
  std::vector<std::string> told;
  const auto canceller = [&](const std::string& message) { told.push_back(message); };
  cancelled_alone.cancel("first");
  CHECK(cancelled_alone.done());
  CHECK(cancelled_alone.set_canceller(canceller));
  cancelled_before.set_canceller(canceller);
  cancelled_before.cancel("second");
  CHECK(cancelled_before.set_canceller(canceller));  // the owner started something else for it
  CHECK(told == std::vector<std::string>{"first", "second", "second"});
}

TEST_CASE("a canceller may complete its Pending") {
  Pending<> p;
  bool seen = false;
  p.add_done_callback([&](const PendingBase& done) { seen = done.cancelled(); });
  p.set_canceller([&](const std::string&) { p.set_result(); });
  p.cancel();
  CHECK(p.done());
  CHECK(seen);
}

TEST_CASE("a second canceller replaces one that was not called") {
  Pending<> p;
  int first = 0, second = 0;
  p.set_canceller([&](const std::string&) { ++first; });
  p.set_canceller([&](const std::string&) { ++second; });
  p.cancel();
  CHECK(first == 0);
  CHECK(second == 1);
}

TEST_CASE("a canceller is dropped, not called, when the work is completed") {
  Pending<int> p;
  auto held = std::make_shared<int>(0);
  std::weak_ptr<int> watch = held;
  // It owns its own Pending, as a canceller may: nothing but the completion lets go.
  p.set_canceller([p, h = std::move(held)](const std::string&) { ++*h; });
  CHECK_FALSE(watch.expired());
  CHECK(p.set_result(3));
  CHECK(watch.expired());
  CHECK(p.result() == 3);
  CHECK_FALSE(p.set_canceller([](const std::string&) { FAIL("not cancelled"); }));
}

TEST_CASE("a call has no use for a canceller, and says so") {
  ManualLoop loop;
  auto p = loop.caller.call_soon([] {});
  CHECK_FALSE(p.set_canceller([](const std::string&) { FAIL("it is a call"); }));
  p.cancel();
  CHECK(p.done());
  CHECK_FALSE(p.set_canceller([](const std::string&) { FAIL("it is a call"); }));
}

TEST_CASE("a protected Pending does not reach its canceller") {
  Pending<> p;
  p.set_canceller([](const std::string&) { FAIL("protected"); });
  p.protect();
  CHECK_FALSE(p.cancel());
  CHECK(p.set_result());
}

TEST_CASE("what a canceller throws is reported, and the cancellation stands") {
  ManualLoop loop;
  Pending<> p;
  p.set_canceller([](const std::string&) { throw std::runtime_error("cannot"); });
  CHECK(p.cancel());
  CHECK(p.cancelled());
  CHECK(loop.reports.list() == std::vector<std::string>{"canceller: cannot"});
  p.set_result();
}

ASYNC_TEST_CASE("a waiter that is cancelled ends the foreign work it waits for; a time-out does, too") {
  int ended = 0;
  for (const bool by_timeout : {false, true}) {
    Pending<int> foreign;
    foreign.set_canceller([&](const std::string&) { ++ended; });
    auto waiter = Caller::current().call_soon([=]() -> Coro<void> {
      WaitOptions options;
      if (by_timeout) options.timeout = 1ms;
      co_await foreign.async_wait(options);
    });
    co_await yield_now();
    if (!by_timeout) waiter.cancel();
    co_await waiter.async_wait_done({.protect = true});
    CHECK(foreign.cancelled());
    CHECK_FALSE(foreign.done());
    foreign.set_result(1);
    if (!waiter.cancelled()) CHECK_CORO_THROWS_AS(co_await waiter, TimedOut);
  }
  CHECK(ended == 2);
}

TEST_CASE("a canceller runs in the thread that cancels; who waits for the end sees it come from the owner") {
  Pending<> p, asked;
  std::thread::id called_in, cancelled_in;
  p.set_canceller([&](const std::string&) {
    called_in = std::this_thread::get_id();
    asked.set_result();
  });
  std::thread owner([&] {
    asked.wait_done();
    p.set_result();
  });
  std::thread other([&] {
    cancelled_in = std::this_thread::get_id();
    p.cancel();
  });
  p.wait_done();
  CHECK(p.cancelled());
  other.join();
  owner.join();
  CHECK(called_in == cancelled_in);
}
