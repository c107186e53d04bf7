// caller/caller.hpp: which Caller, its family, its states, its end.
#include "support/coro.hpp"

#include <pthread.h>
#include <algorithm>
#include <chrono>
#include <ctime>
#include <optional>
#include <sstream>
#include <thread>
#include <vector>

using namespace caller;
using namespace caller::test;

TEST_CASE("with no loop in the thread the error names the thread") {
  std::string text;
  std::thread([&] {
    pthread_setname_np(pthread_self(), "lonely");
    try {
      Caller c;
    } catch (const NoRunningCaller& e) {
      text = e.what();
    }
  }).join();
  CHECK(text.find("lonely") != std::string::npos);
  CHECK_THROWS_AS(Caller::current(), NoRunningCaller);
}

TEST_CASE("Caller() and current() are the calling thread's, main_thread() is found from anywhere") {
  ManualLoop loop({.name = "main one"});
  CHECK(Caller() == loop.caller);
  CHECK(Caller::current() == loop.caller);
  CHECK(loop.caller.is_current());
  CHECK(loop.caller.thread() == std::this_thread::get_id());
  CHECK(loop.caller.thread_name() == "MainThread");
  std::thread([&] {
    CHECK(Caller::main_thread() == loop.caller);
    CHECK(Caller(main_thread) == loop.caller);
    CHECK_FALSE(loop.caller.is_current());
    CHECK(Caller::find(loop.caller.thread()) == loop.caller);
    CHECK_FALSE(Caller::find(std::this_thread::get_id()).has_value());
  }).join();
}

TEST_CASE("main_thread() without one is an error") { CHECK_THROWS_AS(Caller::main_thread(), NoRunningCaller); }

TEST_CASE("a second manual Caller in a thread is an error") {
  ManualLoop loop({.name = "first"});
  try {
    Caller second(manual, {.name = "second"});
    FAIL("two Callers in one thread");
  } catch (const Error& e) {
    CHECK(e.code() == Errc::caller_exists);
    CHECK(std::string(e.what()).find("first") != std::string::npos);
  }
  CHECK(Caller::current() == loop.caller);
}

TEST_CASE("asking for the current one by another name or backend is a mismatch") {
  ManualLoop loop({.name = "right"});
  CHECK(Caller(current_thread, {.name = "right"}) == loop.caller);
  CHECK(Caller(current_thread, {.backend = Backend::manual}) == loop.caller);
  CHECK_THROWS_AS(Caller(current_thread, {.name = "wrong"}), Error);
  CHECK_THROWS_AS(Caller(current_thread, {.backend = Backend::asio}), Error);
}

TEST_CASE("a new thread's Caller is usable at once and has the name asked for") {
  Caller c(new_thread, {.name = "My caller1"});
  CHECK(c.name() == "My caller1");
  CHECK(c.call_soon([] { return Caller::current().name(); }).wait() == "My caller1");
  CHECK(c.call_soon([] { return std::this_thread::get_id(); }).wait() == c.thread());
  CHECK(c.thread() != std::this_thread::get_id());
  CHECK(c.running());
  Caller d(new_thread, {.name = "My caller1"});
  CHECK_FALSE(c == d);
  CHECK(c.id() < d.id());
}

TEST_CASE("get creates a child once per name, a new one without a name") {
  Caller c(new_thread, {.name = "parent", .backend = Backend::manual});
  Caller k = c.get({.name = "worker"});
  CHECK(c.get({.name = "worker"}) == k);
  CHECK(k.backend() == Backend::manual);
  CHECK(k.parent() == c);
  CHECK_FALSE(c.parent().has_value());
  Caller anonymous = c.get();
  CHECK_FALSE(anonymous == c.get());
  CHECK(c.children().size() == 3);
  CHECK(c.children()[0] == k);
  Caller other = c.get({.name = "asio", .backend = Backend::asio});
  CHECK(other.backend() == Backend::asio);
  try {
    c.get({.name = "asio", .backend = Backend::manual});
    FAIL("no mismatch");
  } catch (const Error& e) {
    CHECK(e.code() == Errc::mismatch);
    CHECK(std::string(e.what()).find("asio") != std::string::npos);
  }
}

TEST_CASE("threads that get one name at the same time get one child") {
  Caller c(new_thread);
  std::vector<std::uint64_t> ids(8);
  std::vector<std::thread> threads;
  for (auto& id : ids) threads.emplace_back([&] { id = c.get({.name = "same"}).id(); });
  for (auto& t : threads) t.join();
  CHECK(std::ranges::all_of(ids, [&](auto id) { return id == ids[0]; }));
}

TEST_CASE("a stopping child is never returned") {
  Caller c(new_thread);
  Caller k = c.get({.name = "k"});
  Pending<> gate;
  auto busy = k.call_soon([gate] { gate.wait({.protect = true, .shield = true}); });
  k.stop();
  CHECK(k.state() == CallerState::stopping);
  Caller again = c.get({.name = "k"});
  CHECK_FALSE(again == k);
  again.started().wait();
  CHECK(again.running());
  CHECK(c.children().size() == 1);
  gate.set_result();
  k.stopped().wait();
}

TEST_CASE("all_callers lists every one that has not stopped, oldest first") {
  const auto count = [](const Caller& c) { return std::ranges::count(Caller::all_callers(), c); };
  Caller a(new_thread), b(new_thread);
  Caller k = a.get({.name = "k"});
  auto all = Caller::all_callers();
  CHECK(std::ranges::find(all, a) < std::ranges::find(all, b));
  CHECK(std::ranges::find(all, b) < std::ranges::find(all, k));
  k.stop();
  k.stopped().wait();
  CHECK(count(k) == 0);
  CHECK(count(a) == 1);
}

TEST_CASE("states only move forward, and each can be awaited") {
  ManualLoop loop;
  Caller& c = loop.caller;
  CHECK(c.state() == CallerState::initial);
  CHECK_FALSE(c.started().done());
  bool ran = false;
  c.call_soon([&] {
    ran = true;
    CHECK(c.state() == CallerState::running);
  });
  CHECK_FALSE(ran);
  c.poll();
  CHECK(ran);
  CHECK(c.started().done());
  CHECK_FALSE(c.stopping().done());
  CHECK(c.stop() == CallerState::stopped);
  CHECK(c.stopping().done());
  CHECK(c.stopped().done());
  CHECK(c.stop() == CallerState::stopped);
  CHECK_THROWS_AS(c.poll(), CallerStopped);
  CHECK_THROWS_AS(Caller::current(), NoRunningCaller);
  CHECK(std::string(to_string(CallerState::stopped)) == "stopped");
}

TEST_CASE("waiting for a state does not end it when the waiter gives up") {
  Caller c(new_thread);
  c.started().wait();
  CHECK_FALSE(c.stopped().wait_done({.timeout = 1ms}));
  c.stopped().cancel();
  CHECK(c.running());
  CHECK_FALSE(c.stopped().cancelled());
}

TEST_CASE("stop is ignored when protected, unless forced") {
  Caller c(new_thread, {.protect = true});
  CHECK(c.is_protected());
  c.started().wait();
  CHECK(c.stop() == CallerState::running);
  CHECK(c.call_soon([] { return 1; }).wait() == 1);
  c.stop(true);
  c.stopped().wait();
  Caller d(new_thread);
  CHECK_FALSE(d.is_protected());
  d.protect();
  d.stop();
  CHECK_FALSE(d.stopping().done());
}

TEST_CASE("stop cancels queued calls with the reason, cancels and awaits coroutines, waits for a plain function") {
  Caller c(new_thread, {.name = "stops"});
  Pending<> inside, gate;
  bool cleaned = false;
  auto coroutine = c.call_soon([&]() -> Coro<void> {
    CHECK_CORO_THROWS_AS(co_await sleep_for(1h), PendingCancelled);
    co_await sleep_for(1ms);
    cleaned = true;
  });
  auto later = c.call_later(1h, [] {});
  auto plain = c.call_soon([inside, gate] {
    inside.set_result();
    while (!gate.done()) std::this_thread::yield();
    return 6;
  });
  auto queued = c.call_soon([] { FAIL("never runs"); });
  inside.wait();
  c.stop();
  CHECK(c.state() == CallerState::stopping);
  auto after = c.call_soon([] {});
  CHECK(after.done());
  CHECK(after.cancelled());
  CHECK_THROWS_AS(c.get(), CallerStopped);
  CHECK_THROWS_AS(c.to_thread([] {}), CallerStopped);
  CHECK_FALSE(c.call_direct([] {}));
  CHECK_FALSE(c.queue_call("k", [] {}));
  CHECK_FALSE(c.post([] {}));
  CHECK_FALSE(c.stopped().done());
  gate.set_result();
  c.stopped().wait();
  CHECK(plain.result() == 6);
  CHECK(cleaned);
  CHECK(coroutine.cancelled());
  CHECK(later.cancelled());
  REQUIRE(queued.cancelled());
  CHECK_THROWS_WITH_AS(queued.result(), doctest::Contains("stopped"), PendingCancelled);
}

TEST_CASE("stop stops children first") {
  Caller c(new_thread);
  Caller k = c.get({.name = "k", .protect = true});
  Caller grandchild = k.get({.name = "g"});
  c.stop();
  c.stopped().wait();
  CHECK(k.stopped().done());
  CHECK(grandchild.stopped().done());
}

TEST_CASE("a child does not keep its parent going") {
  std::optional<Caller> parent(std::in_place, new_thread);
  const Pending<> stopped = parent->stopped();
  Caller child = parent->get({.name = "child"});
  const Caller seen = child.parent().value();
  parent.reset();
  CHECK(stopped.done());
  CHECK(child.stopped().done());
  const Pending<> refused = seen.call_soon([] {});
  CHECK(refused.cancelled());
  CHECK_THROWS_WITH_AS(refused.result(), doctest::Contains(seen.name().c_str()), PendingCancelled);
}

TEST_CASE("destroying the last handle of a new thread's Caller stops it and joins its thread") {
  Pending<> stopped;
  std::atomic<bool> cleaned{false};
  {
    Caller c(new_thread, {.protect = true});
    stopped = c.stopped();
    Pending<> inside;
    c.call_soon([&cleaned, inside]() -> Coro<void> {
      inside.set_result();
      CHECK_CORO_THROWS_AS(co_await sleep_for(1h), PendingCancelled);
      cleaned = true;
    });
    inside.wait();
    Caller copy = c;
    {
      Caller moved = std::move(c);
    }
    CHECK_FALSE(stopped.done());
    CHECK(copy.running());
  }
  CHECK(stopped.done());
  CHECK(cleaned);
}

TEST_CASE("handles that do not own do not keep a Caller alive, and are safe when it has gone") {
  std::optional<Caller> loose;
  Pending<int> p;
  {
    Caller c(new_thread, {.name = "gone"});
    loose = c.call_soon([] { return Caller::current(); }).wait();
    p = c.call_later(1h, [] { return 1; });
  }
  CHECK(loose->state() == CallerState::stopped);
  CHECK(loose->name() == "gone");
  CHECK(loose->call_soon([] {}).cancelled());
  CHECK(p.cancelled());
  CHECK_FALSE(p.cancel());
}

TEST_CASE("the last handle may go on the Caller's own thread") {
  Pending<> stopped;
  {
    auto c = std::make_shared<Caller>(new_thread);
    stopped = c->stopped();
    c->call_soon([c]() mutable {}).wait();
    Pending<> inside;
    c->call_soon([keep = c, inside]() mutable {
      inside.set_result();
      keep.reset();
    });
    inside.wait();
  }
  stopped.wait();
}

TEST_CASE("threads may call a Caller while it stops and is destroyed") {
  for (int round = 0; round < 20; ++round) {
    auto c = std::make_unique<Caller>(new_thread);
    Caller loose = c->get({.name = "child"});
    std::vector<std::thread> threads;
    std::atomic<int> outcomes{0};
    for (int t = 0; t < 3; ++t)
      threads.emplace_back([loose, &outcomes] {
        for (int i = 0; i < 100; ++i) {
          auto p = loose.call_soon([] { return 1; });
          loose.call_direct([] {});
          loose.queue_call("k", [] {});
          if (i % 3) p.cancel();
          p.wait_done();
          ++outcomes;
        }
      });
    c.reset();
    for (auto& t : threads) t.join();
    CHECK(outcomes == 300);
  }
}

TEST_CASE("pumping belongs to the Caller's own thread, and run does not nest") {
  ManualLoop loop;
  std::thread([&] {
    CHECK_THROWS_AS(loop.caller.poll(), Error);
    CHECK_THROWS_AS(loop.caller.run(), Error);
  }).join();
  auto nested = loop.caller.call_soon([&] { loop.caller.run(); });
  loop.settle();
  CHECK_THROWS_AS(nested.result(), Error);
}

TEST_CASE("run ends when stopped from inside or from another thread") {
  for (const bool inside : {true, false}) {
    Caller c(manual);
    std::thread t;
    if (inside)
      c.call_later(1ms, [&] { c.stop(); });
    else
      t = std::thread([&] {
        c.started().wait();
        c.stop();
      });
    c.run();
    CHECK(c.state() == CallerState::stopped);
    if (t.joinable()) t.join();
  }
}

TEST_CASE("run_once waits for something to do, run_until for a Pending, of any Caller") {
  Caller c(manual);
  Caller other(new_thread);
  int ran = 0;
  c.call_soon([&] { ++ran; });
  CHECK(c.run_once() == 1);
  std::thread t([&] { c.call_soon([&] { ++ran; }); });
  CHECK(c.run_once() == 1);
  t.join();
  CHECK(ran == 2);
  c.run_until(other.call_soon([] {}));
  CHECK(c.poll() == 0);
}

TEST_CASE("poll runs all that is ready, however much, and comes back from work that begins anew for ever") {
  ManualLoop loop;
  std::size_t ran = 0;
  for (int i = 0; i < 3000; ++i) loop.caller.call_soon([&] { ++ran; });
  for (int i = 0; i < 3000; ++i) loop.caller.call_later(1ms, [&] { ++ran; });
  loop.clock.advance(1ms);
  CHECK(loop.caller.poll() == 6000);
  CHECK(ran == 6000);
  CHECK(loop.caller.poll() == 0);
  const auto restless = []() -> Coro<void> {
    for (;;) co_await yield_now();
  };
  const auto forever = loop.caller.call_soon(restless);
  for (int i = 0; i < 3000; ++i) loop.caller.call_soon([&] { ++ran; });
  CHECK(loop.caller.poll() >= 3000);
  CHECK(ran == 9000);
  forever.cancel();
  loop.settle();
}

TEST_CASE("a manual Caller takes Asio as a guest for a call that needs it") {
  Caller c(manual, {.backend = Backend::manual});
  CHECK(c.call_using_backend(Backend::asio, [] { return 1; }).wait() == 1);
  CHECK(c.call_using_backend(Backend::manual, [] { return 2; }).wait() == 2);
  CHECK(c.call_later(1ms, [] { return 3; }).wait() == 3);
  Caller t(new_thread, {.backend = Backend::manual});
  CHECK(t.call_using_backend(Backend::asio, [] { return Caller::current().thread(); }).wait() == t.thread());
  CHECK(t.call_soon([] { return 4; }).wait() == 4);
}

TEST_CASE("run_once returns after a call that comes in the moment in which it looks for one") {
  constexpr int kRounds = 20'000;
  const Caller handle(manual, {.backend = Backend::manual});
  Caller loop = handle;
  std::atomic<int> waits{0}, came_back{0};
  std::atomic<bool> missed{false};
  std::thread other([&] {
    for (int round = 1; round <= kRounds && !missed; ++round) {
      while (waits.load() < round) std::this_thread::yield();
      for (int n = round * 7919 % 300; n > 0; --n) std::atomic_signal_fence(std::memory_order_seq_cst);
      handle.post([] {});
      for (const auto until = std::chrono::steady_clock::now() + 20s; came_back.load() < round;) {
        std::this_thread::yield();
        if (std::chrono::steady_clock::now() < until) continue;
        missed = true;
        handle.post([] {});  // for the one that was run and not told of
        break;
      }
    }
  });
  std::size_t ran = 0;
  for (int round = 1; round <= kRounds && !missed; ++round) {
    waits = round;
    for (int n = round * 104'729 % 1500; n > 0; --n) std::atomic_signal_fence(std::memory_order_seq_cst);
    ran += loop.run_once();
    came_back = round;
  }
  other.join();
  CHECK_FALSE(missed);
  CHECK(ran == kRounds);
}

TEST_CASE("who has made threads and waits long for something else sleeps") {
  const auto processor_time = [] {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
  };
  std::vector<Caller> made;
  for (int i = 0; i < 4; ++i) made.emplace_back(new_thread);
  for (int i = 0; i < 5; ++i) {
    const Pending<> never;
    const auto before = processor_time();
    CHECK_FALSE(never.wait_done({.timeout = 100ms}));
    CHECK(processor_time() - before < 20ms);
  }
  CHECK(made.front().call_soon([] { return 1; }).wait() == 1);
}

TEST_CASE("a Caller prints its state, name and backend") {
  ManualLoop loop({.name = "printed"});
  std::ostringstream out;
  out << loop.caller;
  CHECK(out.str() == "<Caller initial current name=\"printed\" backend=manual>");
}

TEST_CASE("every error has a code, a category and a text of its own") {
  CHECK(std::string(error_category().name()) == "caller");
  std::vector<std::string> texts;
  for (int i = 1; i <= static_cast<int>(Errc::group_failed); ++i)
    texts.push_back(make_error_code(static_cast<Errc>(i)).message());
  std::ranges::sort(texts);
  CHECK(std::ranges::adjacent_find(texts) == texts.end());
  CHECK(error_category().message(999).find("999") != std::string::npos);
  const std::error_code code = Errc::cancelled;
  CHECK(PendingCancelled("x").code() == code);
  CHECK(TimedOut("x").code() == Errc::timed_out);
  CHECK(CallerStopped("x").code() == Errc::caller_stopped);
  CHECK(PendingNotDone("x").code() == Errc::not_done);
  CHECK(NoRunningCaller("x").code() == Errc::no_running_caller);
  CHECK(NotRegularFunction("x").code() == Errc::not_regular_function);
}
