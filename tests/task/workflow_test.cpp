// Workflows: what their tasks share, and what is the same when a task is run again.
#include <doctest/doctest.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "settings.hpp"

using namespace caller::task;
using caller::Coro;

namespace {

/// What one run saw.
struct Seen {
  std::vector<double> numbers;
  std::vector<std::string> texts;
  std::vector<Time> times;
  bool operator==(const Seen&) const = default;
};
Seen look(const Workflow& wf) {
  Seen seen;
  for (int i = 0; i < 3; ++i) {
    seen.numbers.push_back(wf.random());
    seen.texts.push_back(wf.uuid());
    seen.times.push_back(wf.utc_now());
  }
  return seen;
}

void forget(const App& app) {
  caller::call_async_from_sync([core = app.core()] { return detail::forget_ended_workflows(core); });
}

struct Log {
  std::mutex mutex;
  std::vector<Seen> seen;
  void add(Seen s) {
    const std::lock_guard lock(mutex);
    seen.push_back(std::move(s));
  }
};

}  // namespace

TEST_CASE("a run after a failure is given the same numbers, ids and times, and goes on from the calls that were made") {
  on_every_setting([](const Setting& s) {
    Bench bench(s, 2);
    const auto log = std::make_shared<Log>();
    const auto paid = std::make_shared<std::atomic<int>>(0);
    const auto pay = bench.app.task("shop.pay", [paid](int amount) { return amount + (++*paid) * 1000; }, {"amount"});
    const auto order = bench.app.task("shop.order",
                                      [log, pay](int fail) {
                                        const Workflow wf = workflow();
                                        log->add(look(wf));
                                        const int first = wf.execute_task(pay, 5).result();
                                        const int second =
                                            wf.execute_task(pay, 5).result();  // an equal call is a call of its own
                                        const int other = wf.execute_task(pay, 6).result();
                                        if (static_cast<int>(log->seen.size()) <= fail) throw RetryError();
                                        return std::vector<int>{first, second, other};
                                      },
                                      {"fail"}, {.max_retries = 3});
    bench.start();
    const auto done = order(2);
    CHECK(done.result() == std::vector<int>{1005, 2005, 3006});
    CHECK(*paid == 3);
    REQUIRE(log->seen.size() == 3);
    CHECK(log->seen[0] == log->seen[1]);
    CHECK(log->seen[0] == log->seen[2]);
    const Seen& seen = log->seen[0];
    CHECK(std::set<double>(seen.numbers.begin(), seen.numbers.end()).size() == 3);
    CHECK(std::set<std::string>(seen.texts.begin(), seen.texts.end()).size() == 3);
    for (const double n : seen.numbers) CHECK((n >= 0 && n < 1));
    for (const auto& id : seen.texts) CHECK(id.size() == 36);
    CHECK(seen.times[0] <= seen.times[1]);
    CHECK(order(0).result().front() > 3000);  // another invocation is another workflow
    CHECK_FALSE(log->seen.back() == seen);
  });
}

TEST_CASE("tasks of a workflow share its data, others do not see it, and each has its own numbers") {
  on_every_setting([](const Setting& s) {
    Bench bench(s, 2);
    const auto child = bench.app.task("wf.child",
                                      [](int) {
                                        const Workflow wf = workflow();
                                        CHECK_FALSE(wf.is_main());
                                        CHECK(wf.type() == "wf.main");
                                        wf.set_data("seen", wf.get_data<std::string>("from", "nobody"));
                                        return std::tuple(wf.id(), wf.random());
                                      },
                                      {"n"});
    const auto main = bench.app.task("wf.main",
                                     [child](std::string from) {
                                       const Workflow wf = workflow();
                                       CHECK(wf.is_main());
                                       CHECK_FALSE(wf.parent_id().has_value());
                                       CHECK_FALSE(wf.get_data<std::string>("from").has_value());
                                       wf.set_data("from", from);
                                       const auto [id, a] = child(1).result();
                                       const auto [same, b] = child(2).result();
                                       CHECK(id == wf.id());
                                       CHECK(same == wf.id());
                                       CHECK(a != b);
                                       CHECK(wf.get_data<std::string>("seen", "") == from);
                                       CHECK_THROWS_AS((void)wf.get_data<int>("seen"), SerializationError);
                                       CHECK(wf.erase_data("seen"));
                                       CHECK_FALSE(wf.erase_data("seen"));
                                       return wf.id();
                                     },
                                     {"from"});
    bench.start();
    const auto one = main("one");
    const auto two = main("a:*\"two");
    CHECK(one.result() == one.id());
    CHECK(two.result() == two.id());
  });
}

TEST_CASE("a task with force_new_workflow begins a workflow below its caller's") {
  on_every_setting([](const Setting& s) {
    Bench bench(s, 1);
    const auto inner = bench.app.task("wf.inner",
                                      [] {
                                        const Workflow wf = workflow();
                                        CHECK(wf.is_main());
                                        return std::tuple(wf.id(), wf.parent_id().value_or("none"));
                                      },
                                      {}, {.force_new_workflow = true});
    const auto outer = bench.app.task("wf.outer", [inner] {
      const auto called = inner();
      const auto [id, parent] = called.result();
      CHECK(id == called.id());
      CHECK(parent == workflow().id());
      return parent;
    });
    bench.start();
    const auto i = outer();
    CHECK(i.result() == i.id());
  });
}

TEST_CASE("coroutines have workflows, too, and development mode runs a call that was made before only once") {
  on_every_setting([](const Setting& s) {
    Bench bench(s, 1);
    const auto add = bench.app.task("wf.add", [](int a, int b) { return a + b; }, {"a", "b"});
    const auto sum = bench.app.task("wf.sum",
                                    [add](int n) -> Coro<int> {
                                      const Workflow wf = workflow();
                                      int total = 0;
                                      for (int i = 0; i < n; ++i) {
                                        const auto called = wf.execute_task(add, total, i);
                                        total = co_await called;
                                      }
                                      co_return total;
                                    },
                                    {"n"});
    bench.start();
    CHECK(sum(5).result() == 10);
  });
  AppOptions o;
  o.app_id = "dev";
  o.dev_mode = true;
  const App app(o);
  const auto runs = std::make_shared<std::atomic<int>>(0);
  const auto once = app.task("wf.once", [runs] { return ++*runs; });
  const auto tries = std::make_shared<std::atomic<int>>(0);
  const auto main = app.task("wf.tries",
                             [once, tries] {
                               const int r = workflow().execute_task(once).result();
                               if (++*tries < 3) throw RetryError();
                               return r;
                             },
                             {}, {.max_retries = 5});
  CHECK(main().result() == 1);
  CHECK(*tries == 3);
  CHECK(*runs == 1);
}

TEST_CASE("outside of a task there is no workflow") {
  CHECK_THROWS_AS((void)workflow(), RunnerNotExecutableError);
  AppOptions o;
  const App app(o);
  const auto f = app.task("f", [] { return 1; });
  CHECK_THROWS_AS((void)f.call_once(), RunnerNotExecutableError);
}

TEST_CASE("what a workflow kept goes when the invocation that began it has been purged") {
  on_every_setting([](const Setting& s) {
    Bench bench(s, 1);
    const auto f = bench.app.task("wf.keeps", [] {
      workflow().set_data("key", 1);
      (void)workflow().utc_now();
      return 0;
    });
    bench.start();
    (void)f().result();
    Store& store = bench.app.store();
    CHECK(store.values("wf:", "", 10).wait().size() == 2);
    (void)store.purge(std::chrono::nanoseconds(0)).wait();
    forget(bench.app);
    CHECK(store.values("wf:", "", 10).wait().empty());
    const auto keeps = f();
    (void)keeps.result();
    forget(bench.app);
    CHECK(store.values("wf:", "", 10).wait().size() == 2);
    for (const char* id : {"a:b", ":", "x:d:y"}) {  // ids that look like others, with something behind them
      NewInvocation n = again(store.get(keeps.id()).wait(), id);
      n.workflow_id = id;
      store.add({n}).wait();
      store.ended(id).wait();
    }
    forget(bench.app);
    CHECK(store.values("wf:", "", 10).wait().size() == 8);
    (void)store.purge(std::chrono::nanoseconds(0)).wait();
    forget(bench.app);
    CHECK(store.values("wf:", "", 10).wait().empty());
  });
}

TEST_CASE("whose a value is is found out for a key that might be of a great many workflows, too") {
  on_every_setting([](const Setting& s) {
    Bench bench(s, 1);
    std::string long_key;
    while (long_key.size() < 100'000) long_key += ":d";
    const auto f = bench.app.task("wf.keeps", [long_key] {
      workflow().set_data("a:d:b", 1);
      workflow().set_data(long_key, 1);
      return 0;
    });
    bench.start();
    (void)f().result();
    Store& store = bench.app.store();
    forget(bench.app);
    CHECK(store.values("wf:", "", 10).wait().size() == 2);
    (void)store.purge(std::chrono::nanoseconds(0)).wait();
    forget(bench.app);
    CHECK(store.values("wf:", "", 10).wait().size() == 1);  // nobody looks for all whose it might be: it stays
  });
}
