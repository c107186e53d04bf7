// Faults that were found in this runtime, each under a name of its own: they must not come back.
#include "support/coro.hpp"

#include <thread>

using namespace caller;
using namespace caller::test;

TEST_CASE("a delayed call that is cancelled on its own thread gives back at once what it holds") {
  ManualLoop loop;
  auto held = std::make_shared<int>(1);
  std::weak_ptr<int> watch = held;
  auto p = loop.caller.call_later(1h, [h = std::move(held)] { return *h; });
  p.cancel();
  CHECK(p.done());
  loop.settle();
  CHECK(watch.expired());
  CHECK(detail::next_timer(loop.caller.core()) == -1);
}

TEST_CASE("a delayed call that is cancelled by another thread gives back what it holds when its loop turns") {
  ManualLoop loop;
  auto held = std::make_shared<int>(1);
  std::weak_ptr<int> watch = held;
  auto p = loop.caller.call_later(1h, [h = std::move(held)] { return *h; });
  std::thread([&] { p.cancel(); }).join();
  loop.settle();
  CHECK(p.done());
  CHECK(watch.expired());
  CHECK(detail::next_timer(loop.caller.core()) == -1);
}

ASYNC_TEST_CASE("one cancel() from another thread interrupts once, not the clean-up too") {
  Pending<> never;
  bool interrupted = false, cleaned = false;
  auto work = Caller::current().call_soon([&]() -> Coro<void> {
    std::thread([p = current_pending()] { p.cancel(); }).join();
    CHECK_CORO_THROWS_AS(co_await never, PendingCancelled);
    interrupted = true;
    for (int i = 0; i < 3; ++i) co_await sleep_for(1ms);
    cleaned = true;
  });
  co_await work.async_wait_done({.protect = true});
  CHECK(interrupted);
  CHECK(cleaned);
}

TEST_CASE("a cancelled waiter whose loop ends before it resumes takes no other waiter with it") {
  Pending<int> shared;
  int called = 0;
  for (const bool by_timeout : {false, true}) {
    CAPTURE(by_timeout);
    called = 0;
    Pending<int> awaited;
    {
      ManualLoop loop;
      auto work = loop.caller.call_soon([awaited, by_timeout]() -> Coro<void> {
        WaitOptions options;
        if (by_timeout) options.timeout = 1ms;
        options.protect = true;
        co_await awaited.async_wait_done(options);
      });
      loop.settle();
      awaited.add_done_callback([&](const PendingBase&) { ++called; });
      awaited.add_done_callback([&](const PendingBase&) { ++called; });
      if (by_timeout) {
        loop.clock.advance(2ms);
        detail::step(loop.caller.core());
      } else {
        work.cancel();
      }
    }
    awaited.set_result(1);
    CHECK(called == 2);
  }
}

TEST_CASE("a call dropped with its loop may own a Caller of another thread") {
  Pending<> stopped;
  {
    ManualLoop loop;
    Caller other(new_thread);
    stopped = other.stopped();
    loop.caller.call_soon([o = std::move(other)] {});
  }
  CHECK(stopped.done());
}

TEST_CASE("a coroutine abandoned with its loop may own a Caller of another thread") {
  Pending<> stopped;
  {
    ManualLoop loop;
    loop.caller.call_soon([&]() -> Coro<void> {
      Caller other(new_thread);
      stopped = other.stopped();
      co_await sleep_for(1h);
    });
    loop.settle();
  }
  CHECK(stopped.done());
}

TEST_CASE("a destructor may stop the Caller that is being abandoned") {
  struct Stopper {
    Caller caller;
    ~Stopper() { caller.stop(true); }
  };
  ManualLoop loop;
  loop.caller.call_soon([s = std::unique_ptr<Stopper>(new Stopper{Caller::current()})] {});
  CHECK(loop.caller.state() != CallerState::stopped);
}

TEST_CASE("abandoned coroutines leave the thread's context as it was") {
  static ContextVar<int> var;
  {
    ManualLoop loop;
    loop.caller.call_soon([]() -> Coro<void> {
      var.set(1);
      ContextVar<int>::Scope scope(var, 2);
      co_await sleep_for(1h);
    });
    loop.settle();
  }
  CHECK(var.find() == nullptr);
}

TEST_CASE("a group whose body never began is freed") {
  ContextVar<std::shared_ptr<int>> var;
  std::weak_ptr<int> watch;
  {
    ManualLoop loop;
    auto held = std::make_shared<int>(1);
    watch = held;
    loop.caller.call_soon([&var, h = std::move(held)]() mutable -> Coro<void> {
      var.set(std::move(h));
      co_await with_pending_group([](PendingGroup&) -> Coro<void> { co_await sleep_for(1h); });
    });
    detail::step(loop.caller.core());
  }
  CHECK(watch.expired());
}

TEST_CASE("a group whose body was abandoned is freed") {
  ContextVar<std::shared_ptr<int>> var;
  std::weak_ptr<int> watch;
  {
    ManualLoop loop;
    auto held = std::make_shared<int>(1);
    watch = held;
    loop.caller.call_soon([&var, h = std::move(held)]() mutable -> Coro<void> {
      var.set(std::move(h));
      co_await with_pending_group([](PendingGroup&) -> Coro<void> { co_await sleep_for(1h); });
    });
    loop.settle();
  }
  CHECK(watch.expired());
}

ASYNC_TEST_CASE("a cancellation held back by shield is not lost when the wait times out") {
  Pending<> never;
  bool reached = false;
  auto work = Caller::current().call_soon([&]() -> Coro<void> {
    co_await never.async_wait_done({.timeout = 5ms, .protect = true, .shield = true});
    reached = true;
  });
  co_await sleep_for(1ms);
  work.cancel();
  co_await work.async_wait_done({.protect = true});
  CHECK_FALSE(reached);
  CHECK_FALSE(never.done());
}

ASYNC_THREADS_TEST_CASE("a call that waits for a worker gets a new one when the last worker was let go") {
  Caller owner(new_thread, {.name = "owner", .max_idle_workers = 0, .max_workers = 1});
  for (int i = 0; i < 20; ++i) {
    auto p = owner.to_thread([i] { return i; });
    const int got = co_await p;
    CHECK(got == i);
  }
}

ASYNC_THREADS_TEST_CASE("a call that waits for a worker gets a new one when the busy worker was stopped") {
  Caller owner(new_thread, {.name = "owner", .max_workers = 1});
  Pending<> gate, inside;
  const OpenAtEnd opens(gate);
  auto first = owner.to_thread([gate, inside] {
    inside.set_result();
    gate.wait({.protect = true, .shield = true});
  });
  auto second = owner.to_thread([] { return 2; });
  co_await inside;
  owner.children().front().stop(true);
  gate.set_result();
  const int got = co_await second;
  CHECK(got == 2);
}

TEST_CASE("stop ends a plain function that waits on its own loop's thread") {
  Caller c(new_thread, {.name = "waits"});
  Pending<> inside;
  auto p = c.call_soon([inside] {
    inside.set_result();
    Pending<>().wait();
  });
  inside.wait();
  c.stop();
  c.stopped().wait();
  CHECK(p.cancelled());
}

TEST_CASE("stop ends a coroutine that waits on its own loop's thread before it was ever suspended") {
  Caller c(new_thread, {.name = "waits"});
  Pending<> inside;
  auto p = c.call_soon(
      [](Pending<> told) -> Coro<void> {
        told.set_result();
        Pending<>().wait();
        co_return;
      },
      inside);
  inside.wait();
  c.stop();
  c.stopped().wait();
  CHECK(p.cancelled());
}

namespace {
Generator<Pending<int>> counting(Caller c, int n, int& pulled) {
  for (int i = 0; i < n; ++i) {
    ++pulled;
    co_yield c.call_soon([i] { return i; });
  }
}
}  // namespace

ASYNC_TEST_CASE("as_completed on a stopped Caller ends instead of waiting for a feeder that never began") {
  Caller other(new_thread);
  other.stop();
  other.stopped().wait();
  int pulled = 0;
  auto stream = other.as_completed(counting(Caller::current(), 3, pulled));
  CHECK_CORO_THROWS_AS(co_await stream.next(), PendingCancelled);
  CHECK(pulled == 0);
}

ASYNC_TEST_CASE("a generator is not pulled ahead of the limit") {
  int pulled = 0, consumed = 0;
  auto stream = Caller::current().as_completed(counting(Caller::current(), 8, pulled), {.max_concurrent = 2});
  for (;;) {
    for (int i = 0; i < 20; ++i) co_await yield_now();
    CHECK(pulled <= consumed + 2);
    auto next = co_await stream.next();
    if (!next) break;
    ++consumed;
  }
  CHECK(consumed == 8);
}

ASYNC_TEST_CASE("a cancellation that the body of a group throws by itself leaves the group") {
  for (const int mode : {0, 2}) {
    bool left = false;
    try {
      PendingGroupOptions options;
      options.mode = mode;
      co_await with_pending_group(options, [](PendingGroup&) -> Coro<void> {
        Pending<int> p;
        p.cancel("of its own");
        co_await p;
      });
    } catch (const PendingCancelled&) {
      left = true;
    }
    CHECK(left);
  }
}

TEST_CASE("an error nobody looked at goes to the Caller's handler, wherever the last handle is dropped") {
  Reports reports;
  Caller c(new_thread, {.name = "fails", .error_handler = reports.handler()});
  {
    auto p = c.call_soon([] { throw std::runtime_error("lost"); });
    p.wait_done();
    Pending<> behind = c.call_soon([] {});
    behind.wait();
  }
  REQUIRE(reports.size() == 1);
  CHECK(reports.list()[0].find("lost") != std::string::npos);
}

TEST_CASE("the last handle of a manual Caller may go inside its own loop") {
  auto owned = std::make_unique<Caller>(Modifier::manual, CallerOptions{.name = "own", .backend = Backend::manual});
  Caller& c = *owned;
  Pending<> stopped = c.stopped();
  bool after = false;
  c.call_soon([&]() -> Coro<void> {
    co_await yield_now();
    owned.reset();
    co_await sleep_for(1h);
    after = true;
  });
  Caller(current_thread).run();
  CHECK(stopped.done());
  CHECK_FALSE(after);
  CHECK_THROWS_AS(Caller::current(), NoRunningCaller);
}

TEST_CASE("the last handle of a manual Caller may go on another thread") {
  auto c = std::make_unique<Caller>(Modifier::manual, CallerOptions{.name = "moved"});
  bool ran = false;
  c->call_soon([&] { ran = true; });
  std::thread([&] { c.reset(); }).join();
  Caller mine = Caller::current();
  CHECK(mine.name() == "moved");
  mine.run();
  CHECK_FALSE(ran);
  CHECK(mine.state() == CallerState::stopped);
}

TEST_CASE("abandoning a loop ends its workers before the coroutines whose variables they use") {
  Pending<> inside, gate;
  bool alive_at_end = false;
  {
    Caller loop(Modifier::manual);
    loop.call_soon([&]() -> Coro<void> {
      auto value = std::make_unique<int>(7);
      std::weak_ptr<int> watch;
      auto keep = std::make_shared<int>(1);
      watch = keep;
      auto use = [&, watch] {  // g++ 12 destroys a closure twice that is made inside a co_await
        inside.set_result();
        gate.wait({.protect = true, .shield = true});
        alive_at_end = !watch.expired();
      };
      co_await loop.to_thread(use);
    });
    loop.run_until(inside);
    loop.stopping().add_done_callback([&](const PendingBase&) { gate.set_result(); });
  }
  CHECK(alive_at_end);
}

ASYNC_THREADS_TEST_CASE("clean-up that shields a call waiting for a worker ends when its Caller is stopped") {
  Caller owner(new_thread, {.name = "owner", .max_workers = 1});
  Pending<> inside, gate;
  const OpenAtEnd opens(gate);
  auto work = owner.call_soon([owner = &owner.core(), inside, gate]() -> Coro<void> {
    Caller self = Caller::current();
    auto busy = self.to_thread([gate] { gate.wait({.protect = true, .shield = true}); });
    auto queued = self.to_thread([] {});
    inside.set_result();
    co_await queued.async_wait_done({.protect = true, .shield = true});
  });
  co_await inside;
  owner.stop();
  co_await work.async_wait_done({.protect = true});
  gate.set_result();
  co_await owner.stopped();
}

TEST_CASE("a context variable set in a plain thread is freed with the thread") {
  ContextVar<std::shared_ptr<int>> var;
  std::weak_ptr<int> watch;
  std::thread([&] {
    auto held = std::make_shared<int>(1);
    watch = held;
    var.set(std::move(held));
  }).join();
  CHECK(watch.expired());
}

TEST_CASE("cancelling says once what it was told, however many calls it passes") {
  ManualLoop loop;
  Pending<int> origin;
  origin.cancel("why");
  auto inner = loop.caller.call_soon([origin]() -> Coro<int> { co_return co_await origin; });
  auto outer = loop.caller.call_soon([inner]() -> Coro<int> { co_return co_await inner; });
  loop.settle();
  std::string text;
  try {
    outer.result();
  } catch (const PendingCancelled& e) {
    text = e.what();
  }
  const std::string once = "cancelled";
  const auto at = text.find(once);
  CHECK(text.find("why") != std::string::npos);
  REQUIRE(at != std::string::npos);
  CHECK(text.find(once, at + 1) == std::string::npos);
}

TEST_CASE("work in the memory of the one that made a stream is not taken for that one") {
  ManualLoop loop;
  auto p = loop.caller.call_soon([]() -> Coro<int> {
    const auto jobs = [](int n) -> AsyncGenerator<Pending<int>> {
      for (int i = 0; i < n; ++i) {
        co_await yield_now();
        co_yield Caller::current().call_soon([i] { return i; });
      }
    };
    int sum = 0;
    for (int round = 0; round < 10; ++round) {
      const auto stream = co_await Caller::current().call_soon(
          [&] { return std::make_shared<CompletionStream<int>>(Caller::current().as_completed(jobs(5))); });
      while (auto next = co_await stream->next()) sum += next->result();
    }
    co_return sum;
  });
  while (!p.done() && loop.step()) {
  }
  CHECK(p.result() == 100);
}

TEST_CASE("an awaitable of another library that cannot be moved is an error where it is awaited, and nothing is left") {
  struct Stuck {
    int moves_left;
    explicit Stuck(int moves) : moves_left(moves) {}
    Stuck(Stuck&& o) : moves_left(o.moves_left - 1) {
      if (moves_left < 0) throw std::runtime_error("stuck");
    }
    bool await_ready() const { return true; }
    void await_suspend(std::coroutine_handle<>) const {}
    int await_resume() const { return 1; }
  };
  int failed = 0;
  for (int moves = 0; moves < 6; ++moves) {
    ManualLoop loop;
    auto p = loop.caller.call_soon([&]() -> Coro<int> {
      try {
        co_return co_await Stuck(moves);
      } catch (const std::runtime_error&) {
        ++failed;
      }
      std::thread([me = current_pending()] { me.cancel(); }).join();  // while it runs: what it waited in is gone
      co_await sleep_for(1h);
      co_return 2;
    });
    while (!p.done() && loop.step()) {
    }
    CHECK((p.cancelled() || p.result() == 1));
  }
  CHECK(failed > 0);
}
