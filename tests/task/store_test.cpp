// What every store promises to those who build on it: values, follow-ups, workflows, lists, data.
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <caller/all.hpp>
#include <caller/task/all.hpp>

#include "new_call.hpp"
#include "stores.hpp"

using namespace caller::task;
using namespace std::chrono_literals;
using namespace std::string_literals;

namespace {

using If = ValueChange::If;

template <class F>
void on_every_store(F f) {
  for (const StoreKind& kind : kStores) {
    const std::string store_name = kind.name;
    CAPTURE(store_name);
    const auto store = kind.make();
    f(*store);
  }
}

std::vector<std::string> ids(const std::vector<InvocationRecord>& records) {
  std::vector<std::string> out;
  for (const auto& r : records) out.push_back(r.id);
  return out;
}
std::vector<std::string> selected(Store& store, Selection s, std::size_t offset = 0, std::size_t most = 100) {
  return ids(store.list(std::move(s), offset, most).wait());
}

/// Takes everything and ends the one called `id` as `to`; the others run on.
void end(Store& store, const std::string& id, Status to, std::vector<NewInvocation> then = {},
         std::vector<std::string> data = {}) {
  while (!store.take("runner", 10, {}).wait().empty()) {
  }
  store.change({id, Status::running, "runner", {}, {}, {}}).wait();
  store.change({id, to, "runner", "r", "e", {}, std::move(data), std::move(then)}).wait();
}

bool set(Store& store, const std::string& key, If expect, const std::string& expected,
         std::optional<std::string> value) {
  return store.set_value({key, expect, expected, std::move(value), {}, {}}).wait();
}

using Pairs = std::vector<std::pair<std::string, std::string>>;

const std::string kOdd[] = {"*",         "a:b", "a:b:", "'; DROP TABLE value; --", "{x}", "\0"s, "a\0b"s,
                            "\xff\xff"s, "%s",  "\r\n"};

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

TEST_CASE("an invocation whose id is there is left as it is, and what is asked twice is done once") {
  on_every_store([](Store& store) {
    NewInvocation first = call("a");
    first.registration_key = "key";
    CHECK_FALSE(store.add({first}).wait()[0].reused);
    NewInvocation twice = first;
    twice.args = "other";
    twice.priority = 9;
    const auto added = store.add({twice, call("b"), call("b")}).wait();
    REQUIRE(added.size() == 3);
    CHECK(added[0].id == "a");
    CHECK_FALSE(added[0].reused);
    CHECK(store.get("a").wait().args == first.args);
    end(store, "a", Status::success);
    CHECK_FALSE(store.add({first}).wait()[0].reused);
    CHECK(store.get("a").wait().status == Status::success);
    CHECK(store.history("a").wait().size() == 4);
    CHECK(selected(store, {}) == std::vector<std::string>{"b", "a"});
    CHECK(store.purge(0ns).wait() == 1);
    store.add({twice}).wait();
    CHECK(store.get("a").wait().args == "other");
  });
}

TEST_CASE("what follows a change is added with it, once, and not at all if it is not made") {
  on_every_store([](Store& store) {
    store.add({call("a"), call("b")}).wait();
    NewInvocation then = call("then", "a");
    end(store, "a", Status::success, {then, call("and")});
    CHECK(store.get("then").wait().parent_id == "a");
    CHECK(store.get("then").wait().workflow_id == "a");
    CHECK_THROWS(store.change({"a", Status::success, "runner", {}, {}, {}, {}, {call("never")}}).wait());
    CHECK_THROWS(store.change({"b", Status::success, "stranger", {}, {}, {}, {}, {call("never")}}).wait());
    CHECK_THROWS_AS(store.get("never").wait(), InvocationNotFoundError);
    store.change({"b", Status::running, "runner", {}, {}, {}}).wait();
    store.change({"b", Status::failed, "runner", {}, "e", {}, {}, {then}}).wait();
    CHECK(selected(store, {}) == std::vector<std::string>{"and", "then", "b", "a"});
    CHECK(store.take("runner", 10, {}).wait().size() == 2);
  });
}

TEST_CASE("an invocation belongs to the workflow of its parent, to the one it names, or to its own") {
  on_every_store([](Store& store) {
    store.add({call("root"), call("child", "root"), call("grandchild", "child"), call("alone")}).wait();
    NewInvocation named = call("named", "root");
    named.workflow_id = "elsewhere";
    NewInvocation own = call("own", "root");
    own.workflow_id = "own";
    store.add({named, own, call("orphan", "nobody"), call("inner", "own")}).wait();
    const auto workflow = [&](const std::string& id) { return store.get(id).wait().workflow_id; };
    CHECK(workflow("root") == "root");
    CHECK(workflow("child") == "root");
    CHECK(workflow("grandchild") == "root");
    CHECK(workflow("alone") == "alone");
    CHECK(workflow("named") == "elsewhere");
    CHECK(workflow("own") == "own");
    CHECK(workflow("inner") == "own");
    CHECK(workflow("orphan") == "orphan");
    CHECK(selected(store, {.workflow_id = "root"}) == std::vector<std::string>{"grandchild", "child", "root"});
    CHECK(selected(store, {.workflow_id = "own"}) == std::vector<std::string>{"inner", "own"});
    CHECK(selected(store, {.workflow_id = "elsewhere"}) == std::vector<std::string>{"named"});
    CHECK(selected(store, {.workflow_id = "alone"}) == std::vector<std::string>{"alone"});
    CHECK(selected(store, {.workflow_id = "none"}).empty());
    store.add({call("elsewhere")}).wait();
    CHECK(selected(store, {.workflow_id = "elsewhere"}) == std::vector<std::string>{"elsewhere", "named"});
    for (const auto& r : store.take("r", 1, {}).wait()) CHECK(r.workflow_id == "root");
  });
}

TEST_CASE("of the children of an invocation there is a list, which those that are forgotten leave") {
  on_every_store([](Store& store) {
    store.add({call("p"), call("q"), call("1", "p"), call("2", "q"), call("3", "p"), call("4", "p"), call("5", "3")})
        .wait();
    CHECK(selected(store, {.parent_id = "p"}) == std::vector<std::string>{"4", "3", "1"});
    CHECK(selected(store, {.parent_id = "p"}, 1, 1) == std::vector<std::string>{"3"});
    CHECK(selected(store, {.parent_id = "p", .before = "3"}) == std::vector<std::string>{"1"});
    CHECK(selected(store, {.parent_id = "p", .workflow_id = "q"}).empty());
    CHECK(selected(store, {.parent_id = "nobody"}).empty());
    for (const auto& odd : kOdd) {
      NewInvocation n = call(odd, odd + "parent");
      store.add({n}).wait();
      CHECK(selected(store, {.parent_id = odd + "parent"}) == std::vector<std::string>{odd});
    }
    CHECK(store.cancel("3").wait());
    CHECK(selected(store, {.status = Status::cancelled, .parent_id = "p"}) == std::vector<std::string>{"3"});
    CHECK(store.purge(0ns).wait() == 1);
    CHECK(selected(store, {.parent_id = "p"}) == std::vector<std::string>{"4", "1"});
    CHECK(selected(store, {.workflow_id = "p"}) == std::vector<std::string>{"5", "4", "1", "p"});
    store.purge(std::nullopt).wait();
    CHECK(selected(store, {.parent_id = "p"}).empty());
    CHECK(selected(store, {.workflow_id = "p"}).empty());
  });
}

TEST_CASE("a list is of a time, of a status, of a task, and goes on behind its last page") {
  on_every_store([](Store& store) {
    std::vector<std::string> all;
    std::vector<Time> created;
    for (int i = 0; i < 40; ++i) {
      NewInvocation n = call(std::to_string(100 + i));
      n.task_id = i % 2 ? "t.odd" : "t.even";
      store.add({n}).wait();
      all.insert(all.begin(), n.id);
      created.push_back(store.get(n.id).wait().created);
      while (std::chrono::system_clock::now() < created.back() + 2us) {
      }
    }
    CHECK(selected(store, {.from = created[10], .until = created[13]}) ==
          std::vector<std::string>{"112", "111", "110"});
    CHECK(selected(store, {.task_id = "t.odd", .from = created[36]}) == std::vector<std::string>{"139", "137"});
    CHECK(selected(store, {.until = created[2]}) == std::vector<std::string>{"101", "100"});
    CHECK(selected(store, {.until = created[0]}).empty());
    CHECK(selected(store, {.from = created[39] + 1s}).empty());
    CHECK(selected(store, {.from = created[5], .until = created[5]}).empty());
    std::vector<std::string> paged;
    for (std::string before;;) {
      const auto page = selected(store, {.before = before}, 0, 7);
      paged.insert(paged.end(), page.begin(), page.end());
      if (page.size() < 7) break;
      before = page.back();
    }
    CHECK(paged == all);
    CHECK_THROWS_AS(selected(store, {.before = "nobody"}), InvocationNotFoundError);
    for (const char* id : {"103", "120", "104"}) store.cancel(id).wait();
    CHECK(selected(store, {.status = Status::cancelled}) == std::vector<std::string>{"120", "104", "103"});
    CHECK(selected(store, {.status = Status::cancelled}, 1, 1) == std::vector<std::string>{"104"});
    CHECK(selected(store, {.status = Status::cancelled, .before = "104"}) == std::vector<std::string>{"103"});
    CHECK(selected(store, {.task_id = "t.odd", .status = Status::cancelled}) == std::vector<std::string>{"103"});
    CHECK(store.take("runner", 2, {}).wait().size() == 2);
    CHECK(selected(store, {.status = Status::pending}) == std::vector<std::string>{"101", "100"});
    end(store, "101", Status::failed);
    CHECK(selected(store, {.status = Status::failed}) == std::vector<std::string>{"101"});
    CHECK(store.purge(0ns).wait() == 4);
    CHECK(selected(store, {.status = Status::failed}).empty());
    CHECK(selected(store, {.status = Status::cancelled}).empty());
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

TEST_CASE("what failed or was cancelled is called again from its record, as it was called") {
  on_every_store([](Store& store) {
    NewInvocation n = call("a", "parent");
    n.queue = "reports";
    n.priority = -7;
    n.registration_key = "reg";
    n.running_key = "run";
    n.reroute = false;
    n.workflow_id = "w";
    n.data = {"hash"};
    store.add({call("parent"), n}).wait();
    store.cancel("a").wait();
    const InvocationRecord record = store.get("a").wait();
    store.add({again(record, "b")}).wait();
    const InvocationRecord copy = store.get("b").wait();
    CHECK(copy.status == Status::registered);
    CHECK(copy.task_id == n.task_id);
    CHECK(copy.call_id == n.call_id);
    CHECK(copy.args == n.args);
    CHECK(copy.parent_id == "parent");
    CHECK(copy.queue == "reports");
    CHECK(copy.priority == -7);
    CHECK(copy.registration_key == "reg");
    CHECK(copy.running_key == "run");
    CHECK_FALSE(copy.reroute);
    CHECK(copy.workflow_id == "w");
    CHECK(copy.data == n.data);
    store.cancel("parent").wait();
    CHECK(again(store.get("parent").wait(), "p2").workflow_id.empty());  // a workflow of its own again
    CHECK(store.take("r", 5, {}).wait().size() == 1);
  });
}

TEST_CASE("what is taken to begin at once is RUNNING in the same step, with both states in its history") {
  on_every_store([](Store& store) {
    NewInvocation one = call("1"), two = call("2"), three = call("3");
    one.running_key = two.running_key = "key";
    store.add({one, two, three}).wait();
    const auto taken = store.take("runner", 3, {}, true).wait();
    CHECK(ids(taken) == std::vector<std::string>{"1", "3"});
    for (const auto& r : taken) {
      CHECK(r.status == Status::running);
      CHECK(r.owner == "runner");
      const auto history = store.history(r.id).wait();
      REQUIRE(history.size() == 3);
      CHECK(history[1].status == Status::pending);
      CHECK(history[2].status == Status::running);
      CHECK(history[2].owner == "runner");
    }
    CHECK(store.get("2").wait().status == Status::concurrency_controlled);
    store.change({"1", Status::success, "runner", "r", {}, {}}).wait();
    CHECK(ids(store.take("runner", 3, {}).wait()) == std::vector<std::string>{"2"});
    CHECK(store.get("2").wait().status == Status::pending);
    CHECK(store.counts().wait() == std::vector<std::pair<Status, std::size_t>>{
                                       {Status::pending, 1}, {Status::running, 1}, {Status::success, 1}});
    // It is a runner's as any other: what that leaves behind is found.
    store.forget_runner("runner").wait();
    CHECK(store.recover(1h).wait().size() == 2);
  });
}

TEST_CASE("who waits for a final record gets it with the end, however large it is, or is told that there is none") {
  on_every_store([](Store& store) {
    const std::string large(100'000, 'x'), odd = "\0:1:\xff'\r\n"s;
    for (const std::string& result : {odd, large, std::string()}) {
      const std::string id = "i" + std::to_string(result.size());
      NewInvocation n = call(id, "parent");
      n.args = "{\"a\": \"" + std::string(result.size() / 2, 'a') + "\"}";
      n.priority = -3;
      store.add({n}).wait();
      const auto record = store.final_record(id), second = store.final_record(id);
      const auto end = store.ended(id);
      (void)store.take("runner", 1, {}, true).wait();
      CHECK_FALSE(record.done());
      CHECK_FALSE(end.done());
      store.change({id, Status::success, "runner", result, {}, {}}).wait();
      end.wait();
      for (const InvocationRecord& r : {record.wait(), second.wait(), store.final_record(id).wait()}) {
        CHECK(r.id == id);
        CHECK(r.status == Status::success);
        CHECK(r.result == result);
        CHECK(r.args == n.args);
        CHECK(r.call_id == n.call_id);
        CHECK(r.parent_id == "parent");
        CHECK(r.priority == -3);
      }
    }
    CHECK_THROWS_AS((void)store.final_record("none").wait(), InvocationNotFoundError);
    store.add({call("forgotten")}).wait();
    const auto forgotten = store.final_record("forgotten");
    (void)store.purge(std::nullopt).wait();
    CHECK_THROWS_AS((void)forgotten.wait(), InvocationNotFoundError);
  });
}

TEST_CASE("a worker tells an end and takes what is next in one step, and one may fail without the other") {
  on_every_store([](Store& store) {
    store.add({call("1"), call("2"), call("3"), call("4")}).wait();
    CHECK(ids(store.take("runner", 1, {}, true).wait()) == std::vector<std::string>{"1"});
    const auto end = store.final_record("1");
    auto both = store.change_and_take({"1", Status::success, "runner", "r", {}, {}}, 2, {});
    both.changed.wait();
    CHECK(ids(both.taken.wait()) == std::vector<std::string>{"2", "3"});
    CHECK(end.wait().result == "r");
    CHECK(store.get("2").wait().status == Status::running);
    CHECK(store.get("3").wait().owner == "runner");

    both = store.change_and_take({"1", Status::success, "runner", "again", {}, {}}, 2, {});  // it has ended
    CHECK_THROWS_AS(both.changed.wait(), InvocationStatusTransitionError);
    CHECK(ids(both.taken.wait()) == std::vector<std::string>{"4"});
    CHECK(store.get("1").wait().result == "r");
    both = store.change_and_take({"none", Status::success, "runner", {}, {}, {}}, 2, {});
    CHECK_THROWS_AS(both.changed.wait(), InvocationNotFoundError);
    CHECK(both.taken.wait().empty());
    both = store.change_and_take({"2", Status::success, "other", {}, {}, {}}, 2, {});
    CHECK_THROWS_AS(both.changed.wait(), InvocationStatusOwnershipError);

    NewInvocation then = call("5", "2");
    then.queue = "other";
    Change with_call{"2", Status::success, "runner", "r2", {}, {}};
    with_call.then.push_back(then);
    both = store.change_and_take(std::move(with_call), 9, {"other"});
    both.changed.wait();
    CHECK(ids(both.taken.wait()) == std::vector<std::string>{"5"});
    both = store.change_and_take({"3", Status::retry, "runner", {}, {}, {}}, 1, {});  // the same one again
    both.changed.wait();
    CHECK(ids(both.taken.wait()) == std::vector<std::string>{"3"});
    CHECK(store.get("3").wait().retries == 1);
    CHECK(store.counts().wait() ==
          std::vector<std::pair<Status, std::size_t>>{{Status::running, 3}, {Status::success, 2}});
  });
}

TEST_CASE("who waits for many final records gets each in its place, of those that have ended already, too") {
  on_every_store([](Store& store) {
    constexpr std::size_t kMany = 1'200;
    std::vector<NewInvocation> calls;
    std::vector<std::string> wanted;
    for (std::size_t i = 0; i < kMany; ++i) {
      calls.push_back(call(std::to_string(i)));
      wanted.push_back(std::to_string(i));
    }
    store.add(std::move(calls)).wait();
    const auto finish = [&](std::size_t n) {
      for (const auto& r : store.take("runner", n, {}, true).wait())
        store.change({r.id, Status::success, "runner", "of " + r.id, {}, {}}).wait();
    };
    finish(3);
    wanted.insert(wanted.begin() + 1, "none");
    wanted.push_back("7");  // twice
    const auto records = store.final_records(wanted);
    REQUIRE(records.size() == wanted.size());
    CHECK(records[0].wait().result == "of 0");
    CHECK_THROWS_AS((void)records[1].wait(), InvocationNotFoundError);
    CHECK(records[2].wait().result == "of 1");
    finish(kMany);
    for (std::size_t i = 2; i < wanted.size(); ++i) {
      const InvocationRecord r = records[i].wait();
      if (r.id != wanted[i] || r.result != "of " + wanted[i]) FAIL("record " << i << " is that of " << r.id);
    }
    CHECK(store.final_records({}).empty());
  });
}
