// What every store promises of values by key, and of data by hash.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <caller/all.hpp>
#include <caller/task/all.hpp>

#include "store_cases.hpp"

using namespace caller::task;
using namespace std::chrono_literals;
using namespace std::string_literals;

namespace {

using If = ValueChange::If;

bool set(Store& store, const std::string& key, If expect, const std::string& expected,
         std::optional<std::string> value) {
  return store.set_value({key, expect, expected, std::move(value), {}, {}}).wait();
}

using Pairs = std::vector<std::pair<std::string, std::string>>;

}  // namespace

TEST_CASE("a value is set if it is what is expected, and only then") {
  on_every_store([](Store& store) {
    CHECK_FALSE(store.value("k").wait());
    CHECK_FALSE(set(store, "k", If::equal, "", "1"));
    CHECK(set(store, "k", If::absent, "", "1"));
    CHECK(store.value("k").wait() == "1");
    CHECK_FALSE(set(store, "k", If::absent, "", "2"));
    CHECK_FALSE(set(store, "k", If::equal, "2", "3"));
    CHECK(set(store, "k", If::equal, "1", ""));
    CHECK(store.value("k").wait() == "");
    CHECK_FALSE(set(store, "k", If::absent, "", "2"));
    CHECK(set(store, "k", If::anything, "", "3"));
    CHECK_FALSE(set(store, "k", If::equal, "", std::nullopt));
    CHECK(set(store, "k", If::equal, "3", std::nullopt));
    CHECK_FALSE(store.value("k").wait());
    CHECK(set(store, "k", If::anything, "", std::nullopt));
    CHECK_THROWS_AS(set(store, "", If::anything, "", "x"), StateBackendError);
  });
}

TEST_CASE("of many who claim the same, in any thread, one gets it") {
  on_every_store([](Store& store) {
    std::atomic<int> got{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&, t] {
        for (int i = 0; i < 25; ++i) got += set(store, "claim " + std::to_string(i), If::absent, "", std::to_string(t));
      });
    for (auto& t : threads) t.join();
    CHECK(got == 25);
    CHECK(store.values("claim ", "", 100).wait().size() == 25);
  });
}

TEST_CASE("keys and values are any bytes, and are listed by their beginning, page by page, in the order of the keys") {
  on_every_store([](Store& store) {
    std::set<std::string> keys;
    for (const auto& odd : kOdd)
      for (const auto& key : {odd, odd + "1", "p/" + odd}) {
        keys.insert(key);
        CHECK(set(store, key, If::absent, "", odd + std::string(300, '\0')));
      }
    for (const auto& key : keys) CHECK(store.value(key).wait().has_value());
    for (const std::string& prefix : {""s, "p/"s, "a:b"s, "*"s, "\0"s, "\xff"s, "none"s}) {
      CAPTURE(prefix);
      std::vector<std::string> wanted, found;
      for (const auto& key : keys)
        if (key.starts_with(prefix)) wanted.push_back(key);
      std::string after;
      for (;;) {
        const auto page = store.values(prefix, after, 3).wait();
        for (const auto& [key, value] : page) {
          found.push_back(key);
          CHECK(value.size() > 300);
        }
        if (page.size() < 3) break;
        after = page.back().first;
      }
      CHECK(found == wanted);
    }
    CHECK(set(store, "*", If::anything, "", std::nullopt));
    CHECK(store.values("*", "", 10).wait().size() == 1);
    const std::string huge(2'000'000, '\xfe');
    CHECK(set(store, "huge", If::anything, "", huge));
    CHECK(store.value("huge").wait() == huge);
    store.purge(0ns).wait();
    CHECK(store.value("huge").wait() == huge);
    store.purge(std::nullopt).wait();
    CHECK(store.values("", "", 10).wait().empty());
    CHECK(set(store, "huge", If::absent, "", "x"));
  });
}

TEST_CASE("a value with a lifetime is gone after it, unless it is set again") {
  on_every_store([](Store& store) {
    const auto lives = [&](const std::string& key, std::chrono::nanoseconds lifetime) {
      CHECK(store.set_value({key, If::anything, {}, "v", lifetime, {}}).wait());
    };
    lives("long", 1h);
    lives("kept", 1ms);
    lives("kept", 0ns);
    lives("renewed", 1ms);
    lives("renewed", 1h);
    lives("short", 1ms);
    while (store.value("short").wait()) std::this_thread::yield();
    CHECK(store.values("", "", 10).wait() == Pairs{{"kept", "v"}, {"long", "v"}, {"renewed", "v"}});
    CHECK(set(store, "short", If::absent, "", "again"));
    CHECK(store.value("short").wait() == "again");
    store.purge(0ns).wait();
    CHECK(store.values("", "", 10).wait().size() == 4);
  });
}

TEST_CASE("invocations that go with a value are added if it is set, and else are not") {
  on_every_store([](Store& store) {
    CHECK(store.set_value({"match", If::absent, {}, "1", {}, {call("a"), call("b")}}).wait());
    CHECK_FALSE(store.set_value({"match", If::absent, {}, "1", {}, {call("c")}}).wait());
    CHECK(store.set_value({"match", If::equal, "1", std::nullopt, {}, {call("a"), call("d")}}).wait());
    CHECK(selected(store, {}) == std::vector<std::string>{"d", "b", "a"});
    CHECK(store.take("r", 10, {}).wait().size() == 3);
  });
}

TEST_CASE("who listens for values is told of each change, and of no other's") {
  on_every_store([](Store& store) {
    std::promise<void> work;
    std::atomic<bool> told{false}, other{false};
    Listener listener;
    listener.work = [&, once = std::make_shared<std::once_flag>()] {
      std::call_once(*once, [&] { work.set_value(); });
    };
    listener.values = "event:";
    listener.value = [&](const std::string& key) {
      if (key.starts_with("event:")) told = true;
      if (!key.empty() && !key.starts_with("event:")) other = true;
    };
    const auto token = store.listen("runner", listener);
    set(store, "other", If::anything, "", "1");
    CHECK(store.set_value({"event:1", If::absent, {}, "1", {}, {call("a")}}).wait());
    for (int n = 2; !told; ++n) CHECK(set(store, "event:" + std::to_string(n), If::absent, "", "1"));
    work.get_future().wait();
    CHECK_FALSE(other);
  });
}

TEST_CASE("data stays as long as an invocation refers to it, and for a while without one") {
  on_every_store([](Store& store) {
    const std::string hash = "sha256:" + std::string(64, 'a'), raw(32, '\0'), bytes(500'000, '\x7f');
    const auto there = [&](const std::string& h) { return store.data(h).wait().has_value(); };
    CHECK_FALSE(there(hash));
    store.put_data(hash, bytes).wait();
    store.put_data(raw, "").wait();
    store.put_data("never", "x").wait();
    CHECK(store.data(hash).wait() == bytes);
    CHECK(store.data(raw).wait() == "");
    NewInvocation a = call("a"), b = call("b");
    a.data = {hash, raw, hash};
    b.data = {hash};
    store.add({a, b, call("c")}).wait();
    store.add({a}).wait();  // which is there, and refers to nothing twice
    CHECK(store.get("a").wait().data == std::vector<std::string>{hash, raw});
    CHECK(store.purge(0ns, 1h).wait() == 0);
    CHECK(there("never"));
    CHECK(store.purge(0ns, 0ns).wait() == 0);
    CHECK_FALSE(there("never"));
    CHECK(there(raw));
    store.put_data("result", "r").wait();
    end(store, "a", Status::success, {}, {"result", hash});
    CHECK(store.get("a").wait().data == std::vector<std::string>{hash, raw, "result"});
    CHECK(store.purge(0ns, 1h).wait() == 1);  // a: what it alone had stays for its grace
    CHECK(there("result"));
    CHECK(there(raw));
    CHECK(store.purge(0ns, 0ns).wait() == 0);
    CHECK_FALSE(there("result"));
    CHECK_FALSE(there(raw));
    CHECK(there(hash));
    store.cancel("b").wait();
    store.change({"c", Status::running, "runner", {}, {}, {}, {hash}, {}}).wait();
    CHECK(store.purge(0ns, 0ns).wait() + store.purge(0ns, 0ns).wait() <= 1);
    CHECK(there(hash));  // c has it
    store.purge(std::nullopt).wait();
    CHECK_FALSE(there(hash));
  });
}

TEST_CASE("data may be named before it is put, and what waits for its grace is kept when it is named again") {
  on_every_store([](Store& store) {
    NewInvocation a = call("a"), b = call("b");
    a.data = {"late"};
    store.add({a}).wait();
    CHECK_FALSE(store.data("late").wait());
    store.put_data("late", "1").wait();
    store.purge(0ns, 0ns).wait();
    CHECK(store.data("late").wait() == "1");
    store.cancel("a").wait();
    CHECK(store.purge(0ns, 1h).wait() == 1);
    b.data = {"late"};
    store.set_value({"k", If::anything, {}, "v", {}, {b}}).wait();
    store.purge(0ns, 0ns).wait();
    CHECK(store.data("late").wait() == "1");
  });
}
