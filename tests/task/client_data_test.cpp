// Large arguments and results, whatever the store and the serializer.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "faulty_store.hpp"
#include "settings.hpp"

using namespace caller::task;
using caller::Coro;

namespace {

void small_parts(AppOptions& o) { o.client_data.min_size = 1000; }
const std::string kLong(5000, 'x');

}  // namespace

TEST_CASE("large arguments and results are kept once by their content, and tasks see none of it") {
  on_every_setting([](const Setting& s) {
    Bench bench(s, 2, small_parts);
    const auto join =
        bench.app.task("data.join", [](std::string a, int n, std::string b) { return a + std::to_string(n) + b; },
                       {"a", "n", {"b", kLong}});
    const auto first = join(kLong, 1);
    const auto second = join(kLong, 2);
    const auto small = join("a", 3, "b");
    Store& store = bench.app.store();
    const auto stored = store.get(first.id()).wait();
    CHECK(ClientDataStore::is_reference(stored.args));
    CHECK(stored.args.size() < 500);
    REQUIRE(stored.data.size() >= 1);
    CHECK(std::all_of(stored.data.begin(), stored.data.end(), [&](const auto& h) { return h == stored.data.front(); }));
    CHECK(store.get(second.id()).wait().data.front() == stored.data.front());
    CHECK_FALSE(ClientDataStore::is_reference(store.get(small.id()).wait().args));
    bench.start();
    CHECK(first.result() == kLong + "1" + kLong);
    CHECK(second.result() == kLong + "2" + kLong);
    CHECK(small.result() == "a3b");
    const auto ended = store.get(first.id()).wait();
    CHECK(ClientDataStore::is_reference(ended.result));
    CHECK(bench.app.client_data_store().resolve(ended.result) == to_bytes(s.format, first.result()));
    CHECK(from_bytes<std::string>(s.format, bench.app.client_data_store().resolve(ended.result)).size() == 10'001);
    CHECK(bench.app.client_data_store().resolve(stored.args).size() > 10'000);
  });
}

TEST_CASE("coroutines are given whole arguments, and who awaits them whole results") {
  on_every_setting([](const Setting& s) {
    Bench bench(s, 1, small_parts);
    const auto twice = bench.app.task("data.twice", [](std::string a) -> Coro<std::string> { co_return a + a; }, {"a"});
    const auto outer = bench.app.task("data.outer",
                                      [twice](int n) -> Coro<std::size_t> {
                                        const std::string a(static_cast<std::size_t>(n), 'y');
                                        const auto called = twice(a);
                                        const std::string r = co_await called;
                                        co_return r.size();
                                      },
                                      {"n"});
    bench.start();
    CHECK(outer(4000).result() == 8000);
    CHECK(outer(3).result() == 6);
  });
}

TEST_CASE("a text of a user's that looks like a reference is a text") {
  on_every_setting([](const Setting& s) {
    Bench bench(s, 2, small_parts);
    const auto echo = bench.app.task("data.echo", [](std::string a) { return a; }, {"a"});
    bench.start();
    const auto real = echo(kLong);
    (void)real.result();
    for (const std::string& text :
         {std::string("\xff[[0,\"x\"]]\n"), bench.app.store().get(real.id()).wait().args, std::string(1, '\xff')})
      CHECK(echo(text).result() == text);
  });
}

TEST_CASE("disable_cache_args keeps arguments with the invocation; min_size 0 keeps all") {
  on_every_setting([](const Setting& s) {
    Bench bench(s, 2, small_parts);
    const auto f = [](std::string a, std::string b) { return a.size() + b.size(); };
    const auto one = bench.app.task("data.one", f, {"a", "b"}, {.disable_cache_args = {"a"}});
    const auto all = bench.app.task("data.all", f, {"a", "b"}, {.disable_cache_args = {"*"}});
    Store& store = bench.app.store();
    const auto i = one(kLong, kLong + "2");
    const auto j = all(kLong, kLong);
    CHECK(store.get(i.id()).wait().data.size() == 1);
    CHECK(store.get(i.id()).wait().args.size() > 5000);
    CHECK(store.get(j.id()).wait().data.empty());
    bench.start();
    CHECK(i.result() == 10'001);
    CHECK(j.result() == 10'000);
  });
  Bench off({"memory", &make_memory_store, Format::json}, 1, [](AppOptions& o) { o.client_data.min_size = 0; });
  const auto size = off.app.task("data.size", [](std::string a) { return a.size(); }, {"a"});
  const auto big = size(std::string(100'000, 'z'));
  CHECK_FALSE(ClientDataStore::is_reference(off.app.store().get(big.id()).wait().args));
  CHECK_THROWS_AS((void)off.app.task("data.no", [](int n) { return n; }, {"n"}, {.disable_cache_args = {"m"}}),
                  InvalidTaskOptionsError);
}

TEST_CASE("an invocation whose data is gone fails with an error that says so, and the others run") {
  on_every_setting([](const Setting& s) {
    Bench bench(s, 2, small_parts);
    const auto size = bench.app.task("data.size", [](std::string a) { return a.size(); }, {"a"});
    NewInvocation lost;
    lost.id = "lost";
    lost.task_id = "data.size";
    lost.call_id = "data.size#lost";
    lost.args = "\xff[[0,\"nowhere\"]]\n";
    lost.queue = "default";
    NewInvocation damaged = lost;
    damaged.id = "damaged";
    damaged.args = "\xff[[7,\"nowhere\"]";
    (void)bench.app.store().add({lost, damaged}).wait();
    bench.start();
    CHECK(size(kLong).result() == 5000);
    for (const auto& [id, text] :
         {std::pair("lost", "nowhere is not in the store"), std::pair("damaged", "cannot be read")}) {
      bench.app.store().ended(id).wait();
      const auto r = bench.app.store().get(id).wait();
      CHECK(r.status == Status::failed);
      CHECK(r.exception.find(text) != std::string::npos);
    }
  });
}

TEST_CASE("a call whose result is kept gives the invocation that has it or is under way") {
  on_every_setting([](const Setting& s) {
    Bench bench(s, 2, small_parts);
    const auto runs = std::make_shared<std::atomic<int>>(0);
    const auto square = bench.app.task("data.square",
                                       [runs](int n) {
                                         ++*runs;
                                         if (n < 0) throw std::runtime_error("negative");
                                         return n * n;
                                       },
                                       {"n"}, {.call_result_cache = true});
    const auto first = square(3);
    const auto meanwhile = square(3);
    CHECK(meanwhile.id() == first.id());
    CHECK(meanwhile.kind() == InvocationKind::reused);
    CHECK(meanwhile.diff_arg().empty());
    bench.start();
    CHECK(first.result() == 9);
    const auto later = square(3);
    CHECK(later.id() == first.id());
    CHECK(later.result() == 9);
    CHECK(square(4).result() == 16);
    CHECK(*runs == 2);
    const auto failed = square(-1);
    CHECK_THROWS_AS((void)failed.result(), std::runtime_error);
    const auto again = square(-1);  // what failed is tried again
    CHECK(again.id() != failed.id());
    CHECK_THROWS_AS((void)again.result(), std::runtime_error);
    bench.app.purge();
    CHECK(square(3).result() == 9);  // and so is what was forgotten
    std::vector<std::tuple<int>> calls(5, std::tuple(7));
    for (const int r : square.parallelize(calls).results()) CHECK(r == 49);
    CHECK(*runs == 6);
  });
}

namespace {
/// Applications of each kind of task on a store that may be away; nothing of what was read is kept here.
template <class F>
void on_a_faulty_store(F f) {
  for (const bool coroutine : {false, true}) {
    CAPTURE(coroutine);
    const auto store = std::make_shared<FaultyStore>(make_memory_store());
    Bench bench({"memory", &make_memory_store, Format::json}, 1, [&](AppOptions& o) {
      o.store = store;
      o.client_data.local_cache = 0;
    });
    const auto runs = std::make_shared<std::atomic<int>>(0);
    const auto plain = bench.app.task("data.plain",
                                      [runs, store](std::string a, bool leaves) {
                                        ++*runs;
                                        if (leaves) store->away = true;
                                        return a + a;
                                      },
                                      {"a", "leaves"});
    const auto co = bench.app.task("data.co",
                                   [runs, store](std::string a, bool leaves) -> Coro<std::string> {
                                     ++*runs;
                                     if (leaves) store->away = true;
                                     co_return a + a;
                                   },
                                   {"a", "leaves"});
    f(bench, *store, coroutine ? co : plain, *runs);
  }
}
const std::string kLarge(20'000, 'l');
}  // namespace

TEST_CASE("large arguments and results are asked for again while the store is away, and the task runs once") {
  on_a_faulty_store([](Bench& bench, FaultyStore& store, const auto& task, const std::atomic<int>& runs) {
    const auto inv = task(kLarge, true);
    store.away = true;
    bench.start();
    store.data_failed.wait(0);  // its arguments
    CHECK(runs == 0);
    const int before = store.data_failed;  // they are not asked for as long as it is away
    store.away = false;
    store.data_failed.wait(before);
    CHECK(runs == 1);
    CHECK(inv.status() == Status::running);  // its result
    store.away = false;
    CHECK(inv.result() == kLarge + kLarge);
    CHECK(runs == 1);
  });
}

TEST_CASE("a store that is there and takes no large result, or gives no arguments, is the task's error") {
  on_a_faulty_store([](Bench& bench, FaultyStore& store, const auto& task, const std::atomic<int>& runs) {
    const auto inv = task(kLarge, false);
    const auto small = task("s", false);
    store.refuses_data = true;
    bench.start();
    CHECK_THROWS_WITH_AS((void)inv.result(), doctest::Contains("gives nothing"), StateBackendError);
    CHECK(small.result() == "ss");
    CHECK(runs == 1);
  });
}

TEST_CASE("a task that waits for the store to come back ends when it is cancelled") {
  on_a_faulty_store([](Bench& bench, FaultyStore& store, const auto& task, const std::atomic<int>& runs) {
    const auto inv = task(kLarge, false);
    store.away = true;
    bench.start();
    store.data_failed.wait(0);
    CHECK(inv.cancel());
    CHECK_THROWS_AS((void)inv.result(), InvocationCancelledError);
    bench.runner->stop().wait();  // its worker, too
    CHECK(runs == 0);
    store.away = false;
  });
}
