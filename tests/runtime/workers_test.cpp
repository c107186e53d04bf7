// to_thread and the pool of workers.
#include "support/coro.hpp"

#include <algorithm>
#include <set>
#include <thread>

using namespace caller;
using namespace caller::test;

namespace {

/// A call on a worker that ends when told.
struct Busy {
  Pending<> inside, gate;
  Pending<std::thread::id> call;
  explicit Busy(Caller& c) {
    call = c.to_thread([in = inside, g = gate] {
      in.set_result();
      g.wait({.protect = true, .shield = true});
      return std::this_thread::get_id();
    });
    inside.wait();
  }
  ~Busy() { gate.set_result(); }
  std::thread::id end() {
    gate.set_result();
    return call.wait();
  }
};

std::thread::id thread_of_next(Caller& c) {
  return c.to_thread([] { return std::this_thread::get_id(); }).wait();
}

}  // namespace

TEST_CASE("to_thread runs on another thread, a child with the same backend, and reuses it") {
  Caller c(new_thread, {.name = "pool", .backend = Backend::manual});
  const auto first = c.to_thread([] { return Caller::current(); }).wait();
  CHECK(first.thread() != c.thread());
  CHECK(first.parent() == c);
  CHECK(first.backend() == Backend::manual);
  CHECK(thread_of_next(c) == first.thread());
  CHECK(c.children().size() == 1);
}

TEST_CASE("the worker that became idle last is taken: it may still be awake, and the others may retire") {
  Caller c(new_thread);
  std::thread::id a, b;
  {
    Busy first(c), second(c);
    a = first.end();
    b = second.end();
  }
  CHECK(a != b);
  Busy again(c), other(c);
  CHECK(again.end() == b);
  CHECK(other.end() == a);
}

TEST_CASE("cancelling a running plain function does not give its busy worker away") {
  Caller c(new_thread);
  Busy busy(c);
  CHECK(busy.call.cancel());
  CHECK_FALSE(busy.call.done());
  for (int i = 0; i < 3; ++i) {
    Pending<> other = c.to_thread([] {});
    other.wait();  // would never end behind the busy one
  }
  CHECK(c.children().size() == 2);
  busy.gate.set_result();
  busy.call.wait_done();
  // Its function has ended: now it is free.
  Busy one(c), two(c);
  CHECK(one.end() != two.end());
  CHECK(c.children().size() == 2);
}

TEST_CASE("a cancelled call that never began leaves its worker free") {
  Caller c(new_thread, {.max_workers = 1});
  {
    Busy busy(c);
    auto queued = c.to_thread([] { FAIL("never runs"); });
    CHECK(queued.cancel());
    CHECK(queued.done());
    busy.end();
  }
  thread_of_next(c);
  CHECK(c.children().size() == 1);
}

TEST_CASE("a coroutine function on a worker keeps it until it ends") {
  Caller c(new_thread);
  Pending<> gate;
  auto slow = c.to_thread([gate]() -> Coro<std::thread::id> {
    co_await gate;
    co_return std::this_thread::get_id();
  });
  const auto other = thread_of_next(c);
  gate.set_result();
  CHECK(slow.wait() != other);
}

TEST_CASE("an idle worker stops after its time, and so do all later ones") {
  Caller c(new_thread, {.worker_idle_timeout = 1ms});
  for (int i = 0; i < 3; ++i) {  // the pool is empty in between: the sweep must arm again
    Pending<> gone = c.to_thread([] { return Caller::current().stopped(); }).wait();
    gone.wait();
  }
}

TEST_CASE("a worker that is used in time is not stopped by an earlier deadline") {
  ManualLoop loop({.worker_idle_timeout = 1h});
  Caller worker = loop.caller.to_thread([] { return Caller::current(); }).wait();
  for (int i = 0; i < 5; ++i) thread_of_next(loop.caller);
  CHECK(worker.running());
}

TEST_CASE("at most max_idle_workers are kept") {
  Caller c(new_thread, {.max_idle_workers = 1});
  std::vector<Pending<>> stopped;
  {
    Busy a(c), b(c), d(c);
    for (auto& child : c.children()) stopped.push_back(child.stopped());
    CHECK(stopped.size() == 3);
    a.end();
    b.end();
    d.end();
  }
  // The first to end stays idle, the other two are let go.
  int gone = 0;
  stopped[1].wait();
  stopped[2].wait();
  for (auto& s : stopped) gone += s.done();
  CHECK(gone == 2);
}

TEST_CASE("max_workers queues what is above it, first come first served") {
  Caller c(new_thread, {.max_workers = 2});
  std::atomic<int> running{0}, most{0};
  std::vector<int> order;
  std::mutex mutex;
  std::vector<Pending<>> calls;
  {
    Busy a(c), b(c);
    for (int i = 0; i < 10; ++i)
      calls.push_back(c.to_thread([&, i] {
        const int now = ++running;
        for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
        }
        {
          std::lock_guard lock(mutex);
          order.push_back(i);
        }
        --running;
      }));
    CHECK(c.children().size() == 2);
    a.end();
  }
  for (auto& p : calls) p.wait();
  CHECK(most <= 2);
  CHECK(order.size() == 10);
  CHECK(c.children().size() <= 2);
}

TEST_CASE("a coroutine may await a call while a worker that becomes free takes it") {
  Caller c(new_thread, {.max_workers = 2});
  const auto rounds = [](int n) -> Coro<int> {
    int sum = 0;
    for (int i = 0; i < n; ++i) sum += co_await Caller().to_thread([] { return 1; });
    co_return sum;
  };
  std::vector<Pending<int>> all;
  for (int i = 0; i < 8; ++i) all.push_back(c.call_soon(rounds, 50));
  int sum = 0;
  for (auto& p : all) sum += p.wait();
  CHECK(sum == 400);
}

TEST_CASE("what waits for the only worker begins in the order in which it was given") {
  Caller c(new_thread, {.max_workers = 1});
  std::vector<int> order;  // of one thread at a time
  std::vector<Pending<>> calls;
  {
    Busy only(c);
    for (int i = 0; i < 50; ++i) calls.push_back(c.to_thread([&order, i] { order.push_back(i); }));
    only.end();
  }
  for (auto& p : calls) p.wait();
  CHECK(order.size() == 50);
  CHECK(std::ranges::is_sorted(order));
}

TEST_CASE("a result given to a call of to_thread from outside gives its worker back once, when its function ends") {
  Caller c(new_thread, {.max_workers = 1});
  Busy busy(c);
  CHECK(busy.call.set_result(std::thread::id{}));
  Pending<> waiting = c.to_thread([] {});
  CHECK(waiting.set_result());
  Pending<std::thread::id> next = c.to_thread([] { return std::this_thread::get_id(); });
  CHECK_FALSE(next.wait_done({.timeout = 20ms, .protect = true}));
  CHECK(busy.end() == std::thread::id{});
  CHECK(next.wait() == thread_of_next(c));
  CHECK(c.children().size() == 1);
}

TEST_CASE("errors and arguments travel, move-only ones too") {
  Caller c(new_thread);
  auto p = c.to_thread([](std::unique_ptr<int> v) { return std::make_unique<int>(*v + 1); }, std::make_unique<int>(1));
  CHECK(*p.wait() == 2);
  auto bad = c.to_thread([]() -> int { throw std::runtime_error("worker"); });
  CHECK_THROWS_AS(bad.wait(), std::runtime_error);
}

TEST_CASE("workers may have workers") {
  Caller c(new_thread);
  const int n = c.to_thread([] { return Caller::current().to_thread([] { return 5; }).wait(); }).wait();
  CHECK(n == 5);
}

TEST_CASE("to_thread throws after stop, and stop cancels what waits for a worker") {
  Caller c(new_thread, {.max_workers = 1});
  Busy busy(c);
  auto queued = c.to_thread([] {});
  c.stop();
  CHECK(queued.wait_done());
  CHECK(queued.cancelled());
  CHECK_THROWS_AS(c.to_thread([] {}), CallerStopped);
  CHECK_FALSE(c.stopped().done());  // the running plain function is waited for
  busy.gate.set_result();
  c.stopped().wait();
  CHECK(busy.call.done());
}

TEST_CASE("many threads share one pool") {
  Caller c(new_thread, {.max_idle_workers = 2, .max_workers = 4});
  std::atomic<int> ran{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) c.to_thread([&ran] { ++ran; }).wait();
    });
  for (auto& t : threads) t.join();
  CHECK(ran == 200);
}

TEST_CASE("a Caller that ends between a first to_thread's look at it and its call cancels that call") {
  struct EndsIt {
    Caller* caller;
    explicit EndsIt(Caller& c) : caller(&c) {}
    EndsIt(const EndsIt& other) : caller(other.caller) {
      caller->stop();
      caller->stopped().wait();
    }
    int operator()() const { return 1; }
  };
  Caller loop(new_thread);
  const EndsIt function(loop);
  const auto call = loop.to_thread(function);
  REQUIRE(call.wait_done({.timeout = 20s}));
  CHECK(call.cancelled());
}

TEST_CASE("calls that were cancelled before they had a worker do not pile up behind a busy one") {
  const Caller c(new_thread, {.max_workers = 1});
  std::atomic<bool> go{false};
  const auto busy = c.to_thread([&] { go.wait(false); });
  const auto held = std::make_shared<int>(1);
  long most = 0;
  auto wanted = c.to_thread([held] { return *held; });
  for (int i = 0; i < 20'000; ++i) {
    c.to_thread([held] { return *held; }).cancel();
    most = std::max(most, held.use_count());
  }
  CHECK(most < 5'000);
  auto last = c.to_thread([held] { return *held + 1; });
  go = true;
  go.notify_all();
  CHECK(wanted.wait() == 1);
  CHECK(last.wait() == 2);
  busy.wait();
}
