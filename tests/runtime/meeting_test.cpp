// Where cancelling, waiting and stopping meet: each ends, and leaves nothing behind.
#include "support/coro.hpp"

#include <atomic>
#include <semaphore>
#include <thread>

using namespace caller;
using namespace caller::test;

namespace {

Coro<void> forever() { co_await sleep_for(1h); }

}  // namespace

TEST_CASE("a cancellation that is due when a wait begins reaches what is awaited, unless that is protected") {
  ManualLoop loop;
  Pending<> awaited, timed, nested, kept;
  auto plain = loop.caller.call_soon([&]() -> Coro<void> {
    current_pending().cancel("now");
    co_await awaited;
  });
  auto with_time = loop.caller.call_soon([&]() -> Coro<void> {
    current_pending().cancel("now");
    (void)co_await timed.async_wait_done({.timeout = 1h});
  });
  auto function = loop.caller.call_soon([&] {
    current_pending().cancel("now");
    nested.wait();
  });
  auto protective = loop.caller.call_soon([&]() -> Coro<void> {
    current_pending().cancel("now");
    (void)co_await kept.async_wait_done({.protect = true});
  });
  loop.settle();
  for (const PendingBase& p :
       {PendingBase(plain), PendingBase(with_time), PendingBase(function), PendingBase(protective)})
    CHECK(p.cancelled());
  CHECK(awaited.cancelled());
  CHECK(timed.cancelled());
  CHECK(nested.cancelled());
  CHECK_FALSE(kept.cancelled());
}

TEST_CASE("a call that has not begun is done as soon as another thread cancels it, though its loop is busy") {
  const Caller c(new_thread);
  Pending<> inside;
  std::binary_semaphore gate(0);
  auto busy = c.call_soon([inside, &gate] {
    inside.set_result();
    gate.acquire();  // no wait of ours: that would turn the loop
  });
  inside.wait();
  bool ran = false;
  auto queued = c.call_soon([&ran] { ran = true; });
  CHECK(queued.cancel());
  CHECK(queued.done());
  CHECK(busy.cancel());
  CHECK_FALSE(busy.done());
  gate.release();
  busy.wait_done({.protect = true});
  c.call_soon([] {}).wait();
  CHECK_FALSE(ran);
}

TEST_CASE("a limit of no time cancels a call that was just made, which never runs") {
  ManualLoop loop;
  bool ran = false;
  auto work = [&ran]() -> Coro<void> { co_await Caller::current().call_soon([&ran] { ran = true; }); };
  auto all = loop.caller.call_soon([&]() -> Coro<void> {
    CHECK_CORO_THROWS_AS(co_await with_timeout(0ms, work()), TimedOut);
    co_await yield_now();
  });
  loop.settle();
  CHECK(all.done());
  CHECK_FALSE(ran);
}

TEST_CASE("limits around each other that end in one turn are each kept") {
  ManualLoop loop;
  int attempts = 0;
  auto retry = [&attempts]() -> Coro<void> {
    while (++attempts < 100) {
      bool over = false;
      try {
        co_await with_timeout(1s, forever());
      } catch (const TimedOut&) {
        over = true;
      }
      CHECK(over);
    }
  };
  bool outer_over = false;
  auto all = loop.caller.call_soon([&]() -> Coro<void> {
    try {
      co_await with_timeout(5s, retry());
    } catch (const TimedOut&) {
      outer_over = true;
    }
    co_await sleep_for(1s);  // and nothing of them is left
  });
  while (loop.step()) {
  }
  CHECK(all.done());
  CHECK(outer_over);
  CHECK(attempts > 3);
  CHECK(attempts <= 6);
  CHECK_FALSE(all.cancelled());
}

TEST_CASE("a coroutine whose outcome somebody else has decided is stopped with its Caller") {
  Caller c(new_thread);
  std::atomic<bool> cleaned{false};
  auto p = c.call_soon([&cleaned]() -> Coro<int> {
    CHECK_CORO_THROWS_AS(co_await Pending<>(), PendingCancelled);
    cleaned = true;
    co_return 1;
  });
  c.call_soon([] {}).wait();
  CHECK(p.set_result(2));
  c.stop();
  REQUIRE(c.stopped().wait_done({.timeout = 1min, .protect = true}));
  CHECK(cleaned);
  CHECK(p.result() == 2);
}

TEST_CASE("an error of a call that was cancelled, or decided by somebody else, is reported") {
  ManualLoop loop;
  const auto clean_up = []() -> Coro<void> {
    CHECK_CORO_THROWS_AS(co_await sleep_for(1h), PendingCancelled);
    throw std::runtime_error("of the clean-up");
  };
  auto cancelled = loop.caller.call_soon(clean_up);
  auto quiet = loop.caller.call_soon(forever);
  auto decided = loop.caller.call_soon([]() -> Coro<int> {
    co_await yield_now();
    throw std::runtime_error("too late");
  });
  detail::step(loop.caller.core());
  detail::step(loop.caller.core());
  detail::step(loop.caller.core());
  cancelled.cancel();
  quiet.cancel();
  CHECK(decided.set_result(1));
  loop.settle();
  CHECK(cancelled.cancelled());
  CHECK(decided.result() == 1);
  std::string all;
  for (const auto& text : loop.reports.list()) all += text + ";";
  CHECK(loop.reports.size() == 2);
  CHECK(all.find("of the clean-up") != std::string::npos);
  CHECK(all.find("too late") != std::string::npos);
}

TEST_CASE("the last handle may go on a worker of its Caller, for whose end that waits") {
  for (int round = 0; round < 20; ++round) {
    Pending<> stopped, gate;
    {
      Caller c(new_thread);
      stopped = c.stopped();
      (void)c.to_thread([c, gate] { gate.wait(); });
    }
    gate.set_result();
    REQUIRE(stopped.wait_done({.timeout = 1min, .protect = true}));
  }
}

TEST_CASE("destroying the last handle waits for the end of the thread, its thread-local objects included") {
  static std::atomic<bool> gone{false};
  struct Slow {
    bool used = false;
    ~Slow() {
      std::this_thread::sleep_for(20ms);  // longer than it takes to be told that the Caller has stopped
      gone = true;
    }
  };
  {
    const Caller c(new_thread);
    c.call_soon([] {
       static thread_local Slow slow;
       slow.used = true;
     }).wait();
  }
  CHECK(gone);
}

TEST_CASE("a wait that was ended as its loop was left leaves nothing in the queue") {
  int ended = 0;
  Pending<> gate, inside;
  {
    Caller loop(manual);
    loop.call_soon([&]() -> Coro<void> {
      const OpenAtEnd opens(gate);
      auto work = Caller::current().to_thread([&ended, gate, inside] {
        for (int i = 0; i < 3; ++i) {
          if (i == 0) inside.set_result();
          try {
            gate.wait({.protect = true});
          } catch (const PendingCancelled&) {
            ++ended;
          } catch (const CallerStopped&) {
            ++ended;
          }
        }
      });
      co_await work;
    });
    loop.run_until(inside);
  }
  CHECK(ended == 3);
}

TEST_CASE("a stop and the end of what is waited for may come in the same moment") {
  for (int round = 0; round < 500; ++round) {
    Caller c(manual);
    Pending<int> p;
    std::thread other([&, stop = c]() mutable {
      if (round % 2) {
        p.set_result(1);
        stop.stop();
      } else {
        stop.stop();
        p.set_result(1);
      }
    });
    try {
      const int value = p.wait();
      CHECK(value == 1);
    } catch (const CallerStopped&) {
    }
    other.join();
    c.stop();
    CHECK(c.stopped().done());
  }
}

TEST_CASE("a manual Caller runs while a wait turns it, and a stop ends it there") {
  Caller c(manual);
  CHECK(c.started().wait_done({.timeout = 1min, .protect = true}));
  bool running = false;
  c.call_soon([&] { running = c.running(); }).wait();
  CHECK(running);
  c.call_soon([&] { c.stop(); });
  CHECK_THROWS_AS(Pending<>().wait(), CallerStopped);
  CHECK(c.stopped().done());
}

TEST_CASE("whoever consumes a stream cannot wait for itself, also when somebody else made it") {
  ManualLoop loop;
  using Stream = decltype(loop.caller.as_completed(std::vector<PendingBase>()));
  std::optional<Stream> stream;
  auto task = loop.caller.call_soon([&]() -> Coro<void> {
    co_await yield_now();
    (void)co_await stream->next();
  });
  stream.emplace(loop.caller.as_completed(std::vector<PendingBase>{task}));
  loop.settle();
  REQUIRE(task.done());
  CHECK_THROWS_WITH_AS(task.result(), doctest::Contains("itself"), Error);
}

TEST_CASE("as_completed begins all of a container at once, and ten of a generator") {
  ManualLoop loop;
  int begun = 0;
  Pending<> gate;
  auto work = [&]() -> Coro<void> {
    ++begun;
    co_await gate;
  };
  std::vector<Coro<void>> list;
  for (int i = 0; i < 30; ++i) list.push_back(work());
  auto all = loop.caller.as_completed(std::move(list));
  loop.settle();
  CHECK(begun == 30);
  begun = 0;
  auto many = [](auto w) -> Generator<Coro<void>> {
    for (int i = 0; i < 30; ++i) co_yield w();
  };
  auto pulled = loop.caller.as_completed(many(work));
  loop.settle();
  CHECK(begun == 10);
  gate.set_result();
  loop.settle();
}

TEST_CASE("the defaults are those documented: ten idle workers, a minute") {
  const CallerOptions options;
  CHECK(options.max_idle_workers == 10);
  CHECK(options.worker_idle_timeout == 60s);
}
