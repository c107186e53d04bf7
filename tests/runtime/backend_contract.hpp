// What every backend promises. One suite, run by each of them (contract_test.cpp); tests/runtime/check_contract.py
// fails when one of them runs fewer cases.
//
// A backend of the suite has
//   kBackend              what Caller::backend() says
//   kGuest                its Caller is driven by a loop of somebody else's
//   kNestedEvents         a wait nested in the Caller's work turns the backend's own loop, too
//   caller                a Caller of this thread, made from CallerOptions; reset to destroy it
//   turn_until(pending)   turns the thread's loop until the Pending is done
//   event(fn)             lets fn be called once by the backend's own loop: a descriptor that can be read, where it has
//   any
#pragma once

#include "support/coro.hpp"

#include <algorithm>
#include <array>
#include <thread>

namespace caller::test {

/// Ends the loop that a test turns when everything was called.
struct Countdown {
  Pending<> zero;
  int left;
  explicit Countdown(int n) : left(n) {}
  void operator()() {
    if (--left == 0) zero.set_result();
  }
};

TEST_CASE_TEMPLATE_DEFINE("calls run in the order made, never inside the call", B, contract_order) {
  B loop;
  std::string order;
  loop.caller->call_soon([&] {
    loop.caller->call_soon([&] { order += "d"; });
    loop.caller->call_direct([&] { order += "e"; });
    order += "a";
  });
  loop.caller->post([&] { order += "b"; });
  loop.caller->call_soon([&] { order += "c"; });
  CHECK(order.empty());
  CHECK(loop.caller->state() == CallerState::initial);
  loop.turn_until(loop.caller->call_later(1ms, [] {}));
  CHECK(order == "abcde");
  CHECK(loop.caller->running());
}

TEST_CASE_TEMPLATE_DEFINE("calls of other threads wake a sleeping loop and run in each thread's order", B,
                          contract_threads) {
  B loop;
  constexpr int kThreads = 3, kCalls = 300;
  std::vector<int> last(kThreads, -1);
  bool in_order = true;
  Countdown all(kThreads * kCalls);
  const auto here = std::this_thread::get_id();
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t, c = *loop.caller] {
      for (int i = 0; i < kCalls; ++i) {
        auto p = c.call_soon([&, t, i] {
          in_order = in_order && last[static_cast<std::size_t>(t)] == i - 1 && std::this_thread::get_id() == here;
          last[static_cast<std::size_t>(t)] = i;
          all();
        });
        if (i % 50 == 0) p.wait();  // so that it sleeps now and then
      }
    });
  loop.turn_until(all.zero);
  for (auto& t : threads) t.join();
  CHECK(in_order);
}

TEST_CASE_TEMPLATE_DEFINE(
    "a delay is waited for, earlier times come first, also those set later, and threads may set some", B,
    contract_timers) {
  using Clock = std::chrono::steady_clock;
  struct Timed {
    Clock::time_point earliest, latest, fired;
    std::size_t place = 0;
  };
  B loop;
  std::array<Timed, 4> timers{};
  std::size_t places = 0;
  Countdown all(4);
  auto far = loop.caller->call_later(1h, [] {});  // whoever sleeps until then would never come back
  const auto fire = [&](std::size_t i) {
    timers[i].fired = Clock::now();
    timers[i].place = places++;
    all();
  };
  const auto set = [&](const Caller& c, std::size_t i, Duration delay) {
    timers[i].earliest = Clock::now() + delay;
    c.call_later(delay, fire, i);
    timers[i].latest = Clock::now() + delay;
  };
  set(*loop.caller, 0, 9ms);
  set(*loop.caller, 1, 6ms);
  auto sleeping = loop.caller->call_soon([&]() -> Coro<void> {
    timers[2].earliest = Clock::now() + 3ms;
    co_await sleep_for(3ms);
    timers[2].latest = Clock::now();
    fire(2);
  });
  std::thread other([&, c = *loop.caller] {
    c.started().wait();
    set(c, 3, 1ms);
  });
  loop.turn_until(all.zero);
  other.join();
  for (const Timed& t : timers) CHECK(t.fired >= t.earliest);
  // The loop may learn of the other thread's too late for its place.
  for (std::size_t t = 0; t < 3; ++t)
    for (std::size_t u = 0; u < 3; ++u)
      CHECK((timers[t].latest >= timers[u].earliest || timers[t].place < timers[u].place));
  CHECK_FALSE(far.done());
}

TEST_CASE_TEMPLATE_DEFINE("cancelling works on queued, delayed, sleeping and awaiting work", B, contract_cancel) {
  B loop;
  Pending<> never;
  bool cleaned = false;
  auto queued = loop.caller->call_soon([] { FAIL("was cancelled"); });
  auto delayed = loop.caller->call_later(1h, [] { FAIL("was cancelled"); });
  auto sleeping = loop.caller->call_soon([&]() -> Coro<void> {
    CHECK_CORO_THROWS_AS(co_await sleep_for(1h), PendingCancelled);
    co_await sleep_for(1ms);
    cleaned = true;
  });
  auto awaiting = loop.caller->call_soon([&]() -> Coro<void> { co_await never; });
  queued.cancel();
  std::thread other;
  loop.turn_until(loop.caller->call_later(1ms, [&] {
    sleeping.cancel();
    other = std::thread([&] {
      delayed.cancel();
      awaiting.cancel();
    });
  }));
  loop.turn_until(sleeping);
  loop.turn_until(awaiting);
  other.join();
  CHECK(cleaned);
  for (const PendingBase& p :
       {PendingBase(queued), PendingBase(delayed), PendingBase(sleeping), PendingBase(awaiting), PendingBase(never)})
    CHECK(p.cancelled());
}

TEST_CASE_TEMPLATE_DEFINE("to_thread works off on a worker of the same backend and comes home", B, contract_workers) {
  B loop;
  const auto here = std::this_thread::get_id();
  auto work = loop.caller->call_soon([&, c = *loop.caller]() -> Coro<Backend> {
    auto pending = c.to_thread([here] {
      CHECK(std::this_thread::get_id() != here);
      return Caller::current().backend();
    });
    const Backend backend = co_await pending;
    CHECK(std::this_thread::get_id() == here);
    co_return backend;
  });
  loop.turn_until(work);
  CHECK(work.result() == B::kBackend);
}

TEST_CASE_TEMPLATE_DEFINE("a function may wait for calls, times and threads in its own loop's thread, to any depth", B,
                          contract_nested) {
  B loop;
  auto outer = loop.caller->call_soon([&, c = *loop.caller] {
    const int one = c.call_soon([] { return 1; }).wait();
    const int two = c.call_later(1ms, [] { return 2; }).wait();
    const int three = c.to_thread([] { return 3; }).wait();
    const int deep = call_async_from_sync([c]() -> Coro<int> {
      co_await sleep_for(1ms);
      co_return c.call_soon([c] { return c.call_later(1ms, [] { return 4; }).wait(); }).wait();
    });
    CHECK_FALSE(Pending<>().wait_done({.timeout = 1ms}));
    return one + two + three + deep;
  });
  loop.turn_until(outer);
  CHECK(outer.result() == 10);
  // Outside of any turn; what is left over runs later.
  std::string order;
  auto first = loop.caller->call_later(1ms, [&] {
    order += "a";
    loop.caller->call_soon([&] { order += "b"; });
  });
  first.wait();
  loop.turn_until(loop.caller->call_later(1ms, [] {}));
  CHECK(order == "ab");
}

TEST_CASE_TEMPLATE_DEFINE("events of the backend arrive while a function waits for them, where that is promised", B,
                          contract_nested_events) {
  if constexpr (B::kNestedEvents) {
    B loop;
    auto outer = loop.caller->call_soon([&] {
      Pending<> arrived;
      loop.event([arrived] { arrived.set_result(); });
      arrived.wait();
    });
    loop.turn_until(outer);
    outer.result();
  } else {  // else the wait must end by a time-out, and the event come later
    B loop;
    Pending<> arrived;
    auto outer = loop.caller->call_soon([&] {
      loop.event([arrived] { arrived.set_result(); });
      return arrived.wait_done({.timeout = 1ms, .protect = true});
    });
    loop.turn_until(outer);
    outer.result();
    loop.turn_until(arrived);
  }
}

TEST_CASE_TEMPLATE_DEFINE("the backend's own callbacks may call, delay, start coroutines and cancel", B,
                          contract_events) {
  B loop;
  Countdown all(4);
  auto delayed = loop.caller->call_later(1h, [] {});
  loop.event([&, c = *loop.caller] {
    CHECK(Caller::current() == c);
    CHECK(delayed.cancel());
    c.call_soon([&] { all(); });
    c.call_later(1ms, [&] { all(); });
    c.post([&] { all(); });
    c.call_soon([&]() -> Coro<void> {
      co_await sleep_for(1ms);
      all();
    });
  });
  loop.turn_until(all.zero);
  CHECK(delayed.done());
}

TEST_CASE_TEMPLATE_DEFINE("a queue that refills itself does not starve the backend's events", B, contract_fair_events) {
  B loop;
  Pending<> arrived;
  std::function<void()> again = [&] {
    if (!arrived.done()) loop.caller->post(again);
  };
  loop.caller->post(again);
  loop.event([&] { arrived.set_result(); });
  loop.turn_until(arrived);
  CHECK(arrived.done());
}

TEST_CASE_TEMPLATE_DEFINE("events that never end do not starve the queue and the timers", B, contract_fair_queue) {
  B loop;
  Pending<> ran;
  std::function<void()> again = [&] {
    if (!ran.done()) loop.event(again);
  };
  for (int i = 0; i < 5; ++i) loop.event(again);
  std::thread other;
  loop.caller->call_later(
      1ms, [&, c = *loop.caller] { other = std::thread([&ran, c] { c.call_soon([&] { ran.set_result(); }); }); });
  loop.turn_until(ran);
  other.join();
  CHECK(ran.done());
}

TEST_CASE_TEMPLATE_DEFINE("stop from inside cancels and awaits what runs, and stopped() is reached by turning", B,
                          contract_stop) {
  B loop;
  bool cleaned = false;
  auto far = loop.caller->call_later(1h, [] {});
  auto running = loop.caller->call_soon([&]() -> Coro<void> {
    CHECK_CORO_THROWS_AS(co_await sleep_for(1h), PendingCancelled);
    co_await sleep_for(1ms);
    cleaned = true;
  });
  Caller child = loop.caller->get({.name = "child"});
  auto queued = Pending<>();
  loop.caller->call_later(1ms, [&] {
    loop.caller->stop();
    queued = loop.caller->call_soon([] {});
  });
  const auto stopped = loop.caller->stopped();
  loop.turn_until(stopped);
  CHECK(cleaned);
  CHECK(far.cancelled());
  CHECK(running.cancelled());
  CHECK(queued.cancelled());
  CHECK(child.stopped().done());
  CHECK(loop.caller->state() == CallerState::stopped);
  CHECK_FALSE(loop.caller->post([] {}));
  CHECK_THROWS_AS(Caller::current(), NoRunningCaller);
}

TEST_CASE_TEMPLATE_DEFINE("stop from another thread wakes the loop and ends it", B, contract_stop_elsewhere) {
  B loop;
  auto running = loop.caller->call_soon([&]() -> Coro<void> { co_await sleep_for(1h); });
  std::thread other([c = *loop.caller] {
    c.started().wait();
    Caller copy = c;
    copy.stop();
  });
  loop.turn_until(loop.caller->stopped());
  other.join();
  CHECK(running.cancelled());
}

TEST_CASE_TEMPLATE_DEFINE("stop from outside of the loop", B, contract_stop_outside) {
  B loop;
  auto queued = loop.caller->call_soon([] { FAIL("never begins"); });
  loop.caller->stop();
  if (B::kGuest) CHECK_FALSE(loop.caller->stopped().done());  // nobody's loop was blocked
  loop.turn_until(loop.caller->stopped());
  CHECK(queued.cancelled());
  B again;  // the thread is free for another one
  CHECK(Caller::current() == *again.caller);
}

TEST_CASE_TEMPLATE_DEFINE("destroyed with work of all kinds, it drops it and runs nothing but destructors", B,
                          contract_destruction) {
  for (const bool before : {true, false}) {
    auto held = std::make_shared<int>(0);
    std::vector<PendingBase> all;
    B loop;
    bool begun = false;
    all.emplace_back(loop.caller->call_later(1h, [held] { FAIL("dropped"); }));
    all.emplace_back(loop.caller->call_soon([held, &begun]() -> Coro<void> {
      begun = true;
      co_await sleep_for(1h);
      FAIL("dropped");
    }));
    Pending<> never;
    all.emplace_back(loop.caller->call_soon([held, never]() -> Coro<void> {
      co_await never;
      FAIL("dropped");
    }));
    loop.caller->queue_call("lane", [held] {});
    if (!before) {
      loop.turn_until(loop.caller->call_soon([] {}));
      loop.caller->get({.name = "child"}).call_soon([held] {}).wait();
      all.emplace_back(loop.caller->call_soon([held] { FAIL("dropped"); }));
    }
    loop.event([held] {});
    loop.caller.reset();
    CHECK(begun != before);
    for (const PendingBase& p : all) CHECK(p.cancelled());
    CHECK_THROWS_AS(Caller::current(), NoRunningCaller);
    all.clear();
    loop.finish();
    CHECK(held.use_count() == 1);
  }
}

TEST_CASE_TEMPLATE_DEFINE("the last handle may go inside of a call, and its work ends", B, contract_orphan) {
  B loop;
  const Pending<> stopped = loop.caller->stopped();
  auto far = loop.caller->call_later(1h, [] {});
  loop.caller->call_soon([&] { loop.caller.reset(); });
  loop.turn_until(stopped);
  CHECK(far.cancelled());
  CHECK_THROWS_AS(Caller::current(), NoRunningCaller);
}

TEST_CASE_TEMPLATE_DEFINE("threads may call a Caller while it is destroyed", B, contract_threads_at_end) {
  for (int round = 0; round < 20; ++round) {
    B loop;
    const Caller loose = Caller::current();
    std::atomic<int> outcomes{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t)
      threads.emplace_back([&outcomes, loose] {
        for (int i = 0; i < 50; ++i) {
          auto p = loose.call_soon([] { return 1; });
          loose.post([] {});
          if (i % 3) p.cancel();
          p.wait_done();
          ++outcomes;
        }
      });
    loop.turn_until(loop.caller->call_later(Duration(round * 20us), [] {}));
    loop.caller.reset();
    for (auto& t : threads) t.join();
    CHECK(outcomes == 150);
  }
}

TEST_CASE_TEMPLATE_DEFINE("errors go to the Pending or to the error handler, and the next call runs", B,
                          contract_errors) {
  Reports reports;
  {
    B loop(CallerOptions{.error_handler = reports.handler()});
    loop.caller->call_direct([] { throw std::runtime_error("direct"); });
    loop.caller->post([] { throw std::runtime_error("posted"); });
    auto failed = loop.caller->call_soon([]() -> Coro<int> {
      co_await sleep_for(1ms);
      throw std::domain_error("wrong");
    });
    loop.turn_until(failed);
    CHECK_THROWS_AS(failed.result(), std::domain_error);
    loop.turn_until(loop.caller->call_soon([] {}));
  }
  CHECK(reports.size() == 2);
}

TEST_CASE_TEMPLATE_DEFINE("it says which backend it is, its children inherit it, and another one is a mismatch", B,
                          contract_backend) {
  B loop;
  CHECK(loop.caller->backend() == B::kBackend);
  CHECK(loop.caller->get({.name = "child"}).backend() == B::kBackend);
  CHECK(Caller(current_thread, {.backend = B::kBackend}) == *loop.caller);
  const Backend other = B::kBackend == Backend::asio ? Backend::manual : Backend::asio;
  CHECK_THROWS_AS(Caller(current_thread, {.backend = other}), Error);
  try {
    loop.caller->get({.name = "child", .backend = other});
    FAIL("no mismatch");
  } catch (const Error& e) {
    CHECK(e.code() == Errc::mismatch);
    CHECK(std::string(e.what()).find(to_string(B::kBackend)) != std::string::npos);
  }
  auto own = loop.caller->call_using_backend(B::kBackend, [] { return 1; });
  loop.turn_until(own);
  CHECK(own.result() == 1);
  CHECK_THROWS_AS(Caller second(manual), Error);
}

}  // namespace caller::test

#define CALLER_BACKEND_CONTRACT(B)                       \
  TEST_CASE_TEMPLATE_INVOKE(contract_order, B);          \
  TEST_CASE_TEMPLATE_INVOKE(contract_threads, B);        \
  TEST_CASE_TEMPLATE_INVOKE(contract_timers, B);         \
  TEST_CASE_TEMPLATE_INVOKE(contract_cancel, B);         \
  TEST_CASE_TEMPLATE_INVOKE(contract_workers, B);        \
  TEST_CASE_TEMPLATE_INVOKE(contract_nested, B);         \
  TEST_CASE_TEMPLATE_INVOKE(contract_nested_events, B);  \
  TEST_CASE_TEMPLATE_INVOKE(contract_events, B);         \
  TEST_CASE_TEMPLATE_INVOKE(contract_fair_events, B);    \
  TEST_CASE_TEMPLATE_INVOKE(contract_fair_queue, B);     \
  TEST_CASE_TEMPLATE_INVOKE(contract_stop, B);           \
  TEST_CASE_TEMPLATE_INVOKE(contract_stop_elsewhere, B); \
  TEST_CASE_TEMPLATE_INVOKE(contract_stop_outside, B);   \
  TEST_CASE_TEMPLATE_INVOKE(contract_destruction, B);    \
  TEST_CASE_TEMPLATE_INVOKE(contract_orphan, B);         \
  TEST_CASE_TEMPLATE_INVOKE(contract_threads_at_end, B); \
  TEST_CASE_TEMPLATE_INVOKE(contract_errors, B);         \
  TEST_CASE_TEMPLATE_INVOKE(contract_backend, B);        \
  TYPE_TO_STRING(B)
