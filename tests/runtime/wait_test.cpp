// Caller::wait and Caller::as_completed
#include "support/coro.hpp"

#include <algorithm>

using namespace caller;
using namespace caller::test;

namespace {

Pending<int> after(Duration d, int value) {
  return Caller::current().call_later(d, [value] { return value; });
}
std::vector<Pending<int>> three() {
  std::vector<Pending<int>> items;
  items.push_back(after(3ms, 3));
  items.push_back(after(1ms, 1));
  items.push_back(after(2ms, 2));
  return items;
}
template <class Stream>
Coro<std::vector<int>> values_of(Stream& stream) {
  std::vector<int> values;
  while (auto p = co_await stream.next()) values.push_back(p->result());
  co_return values;
}

Generator<Pending<int>> produce(int n, int& produced) {
  for (int i = 0; i < n; ++i) {
    ++produced;
    co_yield after((n - i) * 1ms, i);
  }
}
Generator<Pending<int>> produce_and_fail() {
  co_yield after(1ms, 1);
  throw std::runtime_error("the generator's");
}
AsyncGenerator<Pending<int>> produce_slowly(int n) {
  for (int i = 0; i < n; ++i) {
    co_await sleep_for(1ms);
    co_yield after(1ms, i);
  }
}
AsyncGenerator<Coro<int>> produce_coros() {
  for (int i = 0; i < 3; ++i)
    co_yield [](int v) -> Coro<int> {
      co_await sleep_for(1ms);
      co_return v;
    }(i);
}

/// Awaitables of another library.
struct Doubled {
  int value;
  bool await_ready() const noexcept { return true; }
  void await_suspend(std::coroutine_handle<>) const noexcept {}
  int await_resume() const {
    if (value < 0) throw std::runtime_error("negative");
    return 2 * value;
  }
};
struct MovedOnly {
  std::unique_ptr<int> value;
  auto operator co_await() && {
    struct Awaiter : std::suspend_never {
      std::unique_ptr<int> value;
      std::unique_ptr<int> await_resume() noexcept { return std::move(value); }
    };
    return Awaiter{{}, std::move(value)};
  }
};
struct Shared {
  int* value;
  bool await_ready() const noexcept { return true; }
  void await_suspend(std::coroutine_handle<>) const noexcept {}
  int& await_resume() const noexcept { return *value; }
};
std::vector<Doubled> numbers(int a, int b) { return {{a}, {b}}; }
auto first_of(const Channel<int>& a, const Channel<int>& b) {
  return Caller::current().wait({a.receive(), b.receive()}, {.return_when = FIRST_COMPLETED});
}
Generator<Doubled> produce_awaitables(int n) {
  for (int i = 0; i < n; ++i) co_yield Doubled{i};
}

}  // namespace

ASYNC_TEST_CASE("wait ALL_COMPLETED returns when all are done, in the order given") {
  auto items = three();
  auto [done, pending] = co_await Caller::current().wait(items);
  CHECK(done == items);
  CHECK(pending.empty());
}

ASYNC_TEST_CASE("wait FIRST_COMPLETED returns at the first, and cancels nothing") {
  auto items = three();
  auto [done, pending] = co_await Caller::current().wait(items, {.return_when = FIRST_COMPLETED});
  REQUIRE(done.size() == 1);
  CHECK(done[0].result() == 1);
  CHECK(pending.size() == 2);
  for (auto& p : pending) CHECK_FALSE(p.cancelled());
}

ASYNC_TEST_CASE("wait FIRST_EXCEPTION returns at an error or a cancelled item, else when all are done") {
  for (const bool by_cancel : {false, true}) {
    CAPTURE(by_cancel);
    auto items = three();
    Pending<int> bad;
    items.push_back(bad);
    Caller::current().call_later(Duration(1500us), [bad, by_cancel] {
      if (by_cancel)
        bad.cancel();
      else
        bad.set_exception(std::runtime_error("x"));
    });
    auto [done, pending] = co_await Caller::current().wait(items, {.return_when = FIRST_EXCEPTION});
    CHECK(done.size() == 2);
    CHECK(pending.size() == 2);
    if (!by_cancel) CHECK(bad.exception() != nullptr);
  }
  auto items = three();
  auto [done, pending] = co_await Caller::current().wait(items, {.return_when = FIRST_EXCEPTION});
  CHECK(done.size() == 3);
}

ASYNC_TEST_CASE("wait with a time-out neither throws nor cancels") {
  auto items = three();
  auto [done, pending] = co_await Caller::current().wait(items, {.timeout = Duration(1500us)});
  CHECK(done.size() == 1);
  CHECK(pending.size() == 2);
  for (auto& p : pending) CHECK_FALSE(p.cancelled());
  co_await Caller::current().wait(items);
}

ASYNC_TEST_CASE("wait for nothing gives two empty sets, for done ones returns at once") {
  auto [done, pending] = co_await Caller::current().wait(std::vector<Pending<int>>{});
  CHECK(done.empty());
  CHECK(pending.empty());
  std::vector<Pending<int>> ready(2);
  for (auto& p : ready) p.set_result(1);
  auto all = co_await Caller::current().wait(ready);
  CHECK(all.done.size() == 2);
}

ASYNC_TEST_CASE("wait turns coroutines into calls, and takes Pendings of different types as PendingBase") {
  std::vector<Coro<int>> coros;
  for (int i = 0; i < 2; ++i)
    coros.push_back([](int v) -> Coro<int> {
      co_await sleep_for(1ms);
      co_return v;
    }(i));
  auto [done, pending] = co_await Caller::current().wait(std::move(coros));
  REQUIRE(done.size() == 2);
  CHECK(done[1].result() == 1);
  std::vector<PendingBase> mixed;
  mixed.push_back(after(1ms, 1));
  mixed.push_back(Caller::current().call_soon([] {}));
  auto both = co_await Caller::current().wait(mixed);
  CHECK(both.done.size() == 2);
}

ASYNC_TEST_CASE("wait and as_completed turn every awaitable into a call") {
  const auto c = Caller::current();
  const auto foreign = numbers(1, -1);
  auto [done, pending] = co_await c.wait(foreign);
  REQUIRE(done.size() == 2);
  CHECK(pending.empty());
  CHECK(done[0].result() == 2);
  CHECK_THROWS_AS(done[1].result(), std::runtime_error);

  const Channel<int> one, other;
  other.send(7);
  auto first = co_await first_of(one, other);
  REQUIRE(first.done.size() == 1);
  CHECK(first.done[0].result() == 7);
  REQUIRE(first.pending.size() == 1);
  co_await first.pending[0].cancel_wait();
  one.send(8);
  CHECK(one.try_receive() == 8);

  std::vector<MovedOnly> moved;
  moved.push_back({std::make_unique<int>(5)});
  auto taken = co_await c.wait(moved);
  CHECK(*taken.done.at(0).result() == 5);
  CHECK_FALSE(moved[0].value);

  int target = 0;
  auto reference = co_await c.wait(std::vector<Shared>(1, Shared{&target}));
  reference.done.at(0).result() = 3;
  CHECK(target == 3);

  auto stream = c.as_completed(produce_awaitables(20));
  auto values = co_await values_of(stream);
  std::ranges::sort(values);
  REQUIRE(values.size() == 20);
  CHECK(values.back() == 38);
}

ASYNC_TEST_CASE("a cancelled call around an awaitable ends where it waits") {
  auto result = co_await Caller::current().wait(std::vector<Sleep>(1, sleep_for(1h)), {.timeout = 1ms});
  REQUIRE(result.pending.size() == 1);
  co_await result.pending[0].cancel_wait();
  CHECK(result.pending[0].cancelled());
}

ASYNC_TEST_CASE("a cancelled wait leaves its items alone, with shield it ends when the condition is met") {
  for (const bool shield : {false, true}) {
    CAPTURE(shield);
    auto items = three();
    auto work = Caller::current().call_soon(
        [&items, shield]() -> Coro<void> { co_await Caller::current().wait(items, {.shield = shield}); });
    co_await yield_now();
    work.cancel();
    co_await work.async_wait_done({.protect = true});
    CHECK(std::ranges::all_of(items, [&](auto& p) { return p.done() == shield; }));
    CHECK(std::ranges::none_of(items, [](auto& p) { return p.cancelled(); }));
  }
}

ASYNC_TEST_CASE("waiting for oneself is an error, in wait and in as_completed") {
  std::vector<PendingBase> items;
  items.push_back(current_pending());
  CHECK_CORO_THROWS_AS(co_await Caller::current().wait(items), Error);
  items.insert(items.begin(), after(1ms, 1));
  auto stream = Caller::current().as_completed(items);
  bool thrown = false;
  int got = 0;
  try {
    while (auto p = co_await stream.next()) ++got;
  } catch (const Error& e) {
    thrown = e.code() == Errc::deadlock;
  }
  CHECK(thrown);
  CHECK(got == 0);  // at once: it would never end
}

ASYNC_TEST_CASE("who leaves a stream in which it would wait for itself goes on") {
  bool thrown = false;
  {
    auto stream = Caller::current().as_completed(std::vector<PendingBase>{current_pending()});
    try {
      co_await stream.next();
    } catch (const Error& e) {
      thrown = e.code() == Errc::deadlock;
    }
  }
  CHECK(thrown);
  CHECK_FALSE(current_pending().cancelled());
  co_await yield_now();  // and would be told here
}

ASYNC_TEST_CASE("the task that made a stream may be one of its items, for another one to wait for") {
  std::optional<CompletionStream<PendingBase>> stream;
  const auto maker = Caller::current().call_soon(
      [&] { stream.emplace(Caller::current().as_completed(std::vector<PendingBase>{current_pending()})); });
  co_await maker;
  const auto first = co_await stream->next();
  CHECK((first && *first == maker));
  CHECK_FALSE((co_await stream->next()).has_value());
}

ASYNC_TEST_CASE("as_completed gives a container's items in the order they are done") {
  auto stream = Caller::current().as_completed(three());
  const auto values = co_await values_of(stream);
  CHECK(values == std::vector<int>{1, 2, 3});
  auto end = co_await stream.next();
  CHECK_FALSE(end.has_value());
}

ASYNC_TEST_CASE("as_completed of nothing ends at once") {
  auto stream = Caller::current().as_completed(std::vector<Pending<int>>{});
  auto end = co_await stream.next();
  CHECK_FALSE(end.has_value());
}

ASYNC_TEST_CASE("as_completed gives an item twice that was given twice") {
  auto p = after(1ms, 1);
  std::vector<Pending<int>> twice{p, p};
  auto stream = Caller::current().as_completed(twice);
  const auto values = co_await values_of(stream);
  CHECK(values == std::vector<int>{1, 1});
}

ASYNC_TEST_CASE("as_completed pulls a generator with at most max_concurrent unconsumed, none lost") {
  for (const std::size_t limit : {std::size_t{1}, std::size_t{3}, std::size_t{10}}) {
    int produced = 0;
    auto stream = Caller::current().as_completed(produce(20, produced), {.max_concurrent = limit});
    int consumed = 0;
    while (auto p = co_await stream.next()) {
      ++consumed;
      co_await sleep_for(30ms);
      CHECK(produced <= consumed + static_cast<int>(limit));
    }
    CHECK(consumed == 20);
  }
}

ASYNC_TEST_CASE("max_concurrent 0 pulls without limit") {
  int produced = 0;
  auto stream = Caller::current().as_completed(produce(50, produced), {.max_concurrent = 0});
  co_await stream.next();
  CHECK(produced == 50);
}

ASYNC_TEST_CASE("as_completed takes async generators, also of coroutines") {
  auto slow = Caller::current().as_completed(produce_slowly(4));
  auto values = co_await values_of(slow);
  CHECK(values.size() == 4);
  auto coros = Caller::current().as_completed(produce_coros());
  values = co_await values_of(coros);
  std::ranges::sort(values);
  CHECK(values == std::vector<int>{0, 1, 2});
}

ASYNC_TEST_CASE("an error of the generator surfaces at the end, after its items") {
  auto stream = Caller::current().as_completed(produce_and_fail());
  auto first = co_await stream.next();
  REQUIRE(first.has_value());
  CHECK(first->result() == 1);
  CHECK_CORO_THROWS_AS(co_await stream.next(), std::runtime_error);
  auto end = co_await stream.next();
  CHECK_FALSE(end.has_value());
}

ASYNC_TEST_CASE("leaving early cancels the rest, unless told not to") {
  for (const bool cancel : {true, false}) {
    CAPTURE(cancel);
    auto items = three();
    {
      auto stream = Caller::current().as_completed(items, {.cancel_unfinished = cancel});
      co_await stream.next();
    }
    int cancelled = 0;
    for (auto& p : items) cancelled += p.cancelled();
    CHECK(cancelled == (cancel ? 2 : 0));
    for (auto& p : items)
      if (!p.done()) CHECK((p.state()->word.load() & detail::PendingState::kList) == 0);  // no callback left
    co_await sleep_for(10ms);
  }
}

TEST_CASE("an error of a generator whose stream was left is reported, once") {
  for (const bool while_left : {false, true}) {
    CAPTURE(while_left);
    ManualLoop loop;
    const auto fails = [while_left](Pending<int> first) -> AsyncGenerator<Pending<int>> {
      co_yield first;
      if (!while_left) throw std::runtime_error("before it was left");
      try {
        co_await sleep_for(1h);
      } catch (const PendingCancelled&) {
        throw std::runtime_error("as it was left");
      }
    };
    auto work = loop.caller.call_soon([&fails]() -> Coro<void> {
      Pending<int> first;
      auto stream = Caller::current().as_completed(fails(first));
      co_await sleep_for(1ms);
    });
    while (loop.step()) {
    }
    REQUIRE(work.done());
    REQUIRE(loop.reports.size() == 1);
    CHECK(loop.reports.list()[0].ends_with(while_left ? "as it was left" : "before it was left"));
  }
}

ASYNC_TEST_CASE("leaving early ends the generator, too") {
  int produced = 0;
  bool destroyed = false;
  struct Mark {
    bool& flag;
    ~Mark() { flag = true; }
  };
  auto gen = [](int& n, bool& gone) -> AsyncGenerator<Pending<int>> {
    const Mark mark{gone};
    for (;;) {
      ++n;
      co_await sleep_for(1ms);
      co_yield after(1ms, n);
    }
  };
  {
    auto stream = Caller::current().as_completed(gen(produced, destroyed));
    co_await stream.next();
  }
  for (int i = 0; i < 5; ++i) co_await yield_now();
  CHECK(destroyed);
}

ASYNC_TEST_CASE("a cancelled next() may be awaited again, and no item is lost") {
  auto stream = Caller::current().as_completed(three());
  auto impatient = Caller::current().call_soon([&]() -> Coro<void> { co_await stream.next(); });
  co_await yield_now();
  co_await impatient.cancel_wait();
  const auto values = co_await values_of(stream);
  CHECK(values == std::vector<int>{1, 2, 3});
}

ASYNC_THREADS_TEST_CASE("as_completed and wait work across threads") {
  Caller c = Caller::current();
  std::vector<Pending<int>> items;
  for (int i = 0; i < 20; ++i) items.push_back(c.to_thread([i] { return i; }));
  auto stream = c.as_completed(items);
  auto values = co_await values_of(stream);
  std::ranges::sort(values);
  REQUIRE(values.size() == 20);
  for (int i = 0; i < 20; ++i) CHECK(values[static_cast<std::size_t>(i)] == i);
  items.clear();
  for (int i = 0; i < 20; ++i) items.push_back(c.to_thread([i] { return i; }));
  auto [done, pending] = co_await c.wait(items);
  CHECK(done.size() == 20);
}

ASYNC_THREADS_TEST_CASE("a generator is pulled on the Caller it was given to") {
  Caller other(new_thread, {.name = "pulls"});
  auto gen = [](Caller where) -> AsyncGenerator<Pending<int>> {
    for (int i = 0; i < 5; ++i) {
      CHECK(Caller::current() == where);
      co_yield where.call_soon([i] { return i; });
    }
  };
  auto stream = other.as_completed(gen(Caller(other.get({.name = "unused"}).parent().value())), {.max_concurrent = 2});
  const auto values = co_await values_of(stream);
  CHECK(values.size() == 5);
}
