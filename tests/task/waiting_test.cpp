// What every store promises to those who wait for the ends of many.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include <caller/all.hpp>
#include <caller/task/all.hpp>

#include "new_call.hpp"
#include "settings.hpp"

using namespace caller::task;

namespace {

template <class F>
void with_calls(const std::vector<std::string>& ids, F f) {
  for (const StoreKind& kind : kStores) {
    const std::string store_name = kind.name;
    CAPTURE(store_name);
    const auto store = kind.make();
    std::vector<NewInvocation> calls;
    for (const auto& id : ids) calls.push_back(call(id));
    store->add(std::move(calls)).wait();
    f(*store);
  }
}

void take_all(Store& store) {
  while (!store.take("runner", 10, {}, true).wait().empty()) {
  }
}
void succeed(Store& store, const std::string& id) {
  store.change({id, Status::success, "runner", "of " + id, {}, {}}).wait();
}

}  // namespace

TEST_CASE("who waits for all of some is told when the last has ended, of each once, in the order of the ends") {
  with_calls({"a", "b", "c", "d"}, [](Store& store) {
    take_all(store);
    succeed(store, "d");
    const std::vector<std::string_view> ids{"a", "b", "none", "c", "d", "a"};
    const auto all = store.all_ended(ids);
    store.change({"c", Status::failed, "runner", {}, "why", {}}).wait();
    store.ended("c").wait();
    succeed(store, "a");
    store.ended("a").wait();
    CHECK_FALSE(all.done());
    succeed(store, "b");
    const std::vector<Ended> ended = all.wait();
    REQUIRE(ended.size() == ids.size());
    const auto at = [&](std::size_t place) {
      const auto it = std::find_if(ended.begin(), ended.end(), [&](const Ended& e) { return e.place == place; });
      REQUIRE(it != ended.end());
      return it;
    };
    for (const std::size_t place : {0u, 1u, 4u, 5u}) {
      CHECK(at(place)->status == Status::success);
      CHECK(at(place)->result == "of " + std::string(ids[place]));
      CHECK_FALSE(at(place)->error);
    }
    CHECK(at(3)->status == Status::failed);
    CHECK(at(3)->exception == "why");
    CHECK(at(3)->task_id == "t.task");
    CHECK_THROWS_AS(std::rethrow_exception(at(2)->error), InvocationNotFoundError);
    CHECK(at(3) < at(0));
    CHECK(at(0) < at(1));
    CHECK(at(5) < at(1));
    CHECK(store.all_ended({}).wait().empty());
  });
}

TEST_CASE("who waits for some of which one is purged learns of that, and of the others' ends") {
  const auto store = make_memory_store();  // the others tell of what is purged when they are asked next
  store->add({call("a"), call("b")}).wait();
  take_all(*store);
  succeed(*store, "a");
  const std::vector<std::string_view> ids{"b", "a"};
  const auto all = store->all_ended(ids);
  const auto record = store->final_record("b");
  CHECK_FALSE(all.done());
  (void)store->purge(std::nullopt).wait();
  const std::vector<Ended> ended = all.wait();
  REQUIRE(ended.size() == 2);
  CHECK(ended[0].result == "of a");
  CHECK_THROWS_AS(std::rethrow_exception(ended[1].error), InvocationNotFoundError);
  CHECK_THROWS_AS((void)record.wait(), InvocationNotFoundError);
}

TEST_CASE("those who gave up waiting do not keep others from being told") {
  const auto store = make_memory_store();
  store->add({call("a"), call("b")}).wait();
  take_all(*store);
  const std::vector<std::string_view> ids{"a", "b"};
  for (int i = 0; i < 100; ++i) {
    const auto given_up = store->all_ended(ids);
    CHECK(given_up.cancel());
  }
  const auto all = store->all_ended(ids);
  const auto one = store->final_record("b");
  const auto again = store->all_ended(ids);
  CHECK(again.cancel());
  succeed(*store, "b");
  CHECK(one.wait().result == "of b");
  CHECK_FALSE(all.done());
  succeed(*store, "a");
  CHECK(all.wait().size() == 2);
}

TEST_CASE("a coroutine awaits calls made at once as one, and of those without results that all have ended") {
  on_every_setting([](const Setting& s) {
    Bench b(s, 2);
    std::atomic<int> ran{0};
    const auto twice = b.app.task("t.twice", [](int n) { return 2 * n; }, {"n"});
    const auto nothing = b.app.task("t.nothing",
                                    [&](int n) {
                                      ++ran;
                                      if (n == 2) throw std::out_of_range("two");
                                    },
                                    {"n"});
    const std::vector<std::tuple<int>> calls{{3}, {1}, {5}}, bad{{2}, {1}, {5}};
    const auto outer = b.app.task("t.outer", [&]() -> caller::Coro<std::vector<int>> {
      co_await nothing.parallelize(calls);
      co_return co_await twice.parallelize(calls);
    });
    b.start();
    CHECK(outer().result() == std::vector{6, 2, 10});
    CHECK(ran == 3);
    const auto here = [&]() -> caller::Coro<std::vector<int>> {
      const auto group = twice.parallelize(calls);
      co_return co_await group;
    };
    CHECK(caller::call_async_from_sync(here) == std::vector{6, 2, 10});
    const auto fails = [&]() -> caller::Coro<void> { co_await nothing.parallelize(bad); };
    CHECK_THROWS_AS(caller::call_async_from_sync(fails), std::out_of_range);
    CHECK(ran == 6);
  });
}
