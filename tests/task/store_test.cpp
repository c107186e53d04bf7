// What every store promises to those who build on it: follow-ups, workflows, lists, final records, steps made of two.
#include <doctest/doctest.h>

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include <caller/all.hpp>
#include <caller/task/all.hpp>

#include "store_cases.hpp"

using namespace caller::task;
using namespace std::chrono_literals;
using namespace std::string_literals;

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
    // Alone and without anything special.
    CHECK(store.add({call("c")}).wait()[0].id == "c");
    NewInvocation other = call("c");
    other.args = "other";
    CHECK(store.add({other}).wait()[0].id == "c");
    CHECK(store.get("c").wait().args == call("c").args);
    CHECK(store.take("runner", 10, {}).wait().size() == 1);
    CHECK(store.add({other}).wait()[0].id == "c");
    CHECK(store.get("c").wait().status == Status::pending);
    CHECK(store.take("runner", 10, {}).wait().empty());
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

TEST_CASE("whoever names itself as its own ancestor is no endless search for who called it before") {
  on_every_store([](Store& store) {
    store.add({call("a", "b"), call("b", "a"), call("c", "c")}).wait();
    for (const char* parent : {"a", "b", "c"}) store.check_cycle(parent, "t.other", "another").wait();
    CHECK_THROWS_AS(store.check_cycle("a", "t.other", store.get("b").wait().call_id).wait(), CycleDetectedError);
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

TEST_CASE("what a living runner has taken and not begun for too long goes back, and what it has begun does not") {
  on_every_store([](Store& store) {
    store.heartbeat({"runner", {}, {}, {}, {}}, 1h).wait();
    store.add({call("taken"), call("begun")}).wait();
    CHECK(store.take("runner", 2, {}).wait().size() == 2);
    store.change({"begun", Status::running, "runner", {}, {}, {}}).wait();
    CHECK(store.recover(1h).wait().empty());
    std::vector<std::string> back;
    const auto until = std::chrono::steady_clock::now() + 20s;
    while (back.empty() && std::chrono::steady_clock::now() < until) back = store.recover(0ns).wait();
    CHECK(back == std::vector<std::string>{"taken"});
    std::vector<Status> states;
    for (const auto& h : store.history("taken").wait()) states.push_back(h.status);
    CHECK(states == std::vector{Status::registered, Status::pending, Status::pending_recovery, Status::rerouted});
    CHECK(store.get("begun").wait().owner == "runner");
    CHECK_THROWS_AS(store.change({"taken", Status::running, "runner", {}, {}, {}}).wait(), InvocationStatusError);
    CHECK(ids(store.take("other", 5, {}).wait()) == std::vector<std::string>{"taken"});
    CHECK(store.recover(1h).wait().empty());
  });
}

namespace {
NewInvocation keyed(const std::string& id, bool waits = true) {
  NewInvocation n = call(id);
  n.running_key = "key";
  n.reroute = waits;
  return n;
}
void lives(Store& store, const std::string& runner) {
  RunnerRecord told;
  told.id = runner;
  store.heartbeat(std::move(told), 1h).wait();
}
std::vector<std::string> taken(Store& store, const std::string& runner) {
  return ids(store.take(runner, 10, {}, true).wait());
}
void end_before_its_code(Store& store, const std::string& id, Status to, const std::string& runner) {
  Change end{id, to, runner, {}, "e", {}};
  end.code_goes_on = true;
  store.change(end).wait();
}
}  // namespace

TEST_CASE("code that goes on after its end keeps the running key until it has ended, or its runner is gone") {
  using Ids = std::vector<std::string>;
  on_every_store([](Store& store) {
    lives(store, "one");
    lives(store, "two");
    store.add({keyed("a"), keyed("b")}).wait();
    REQUIRE(taken(store, "one") == Ids{"a"});
    end_before_its_code(store, "a", Status::failed, "one");
    CHECK(store.get("a").wait().status == Status::failed);
    CHECK(taken(store, "two").empty());
    CHECK(store.get("b").wait().status == Status::concurrency_controlled);
    store.code_ended("two", "a").wait();  // it is not this one's
    store.recover(1h).wait();
    CHECK(taken(store, "two").empty());
    store.code_ended("one", "a").wait();
    store.code_ended("one", "a").wait();
    CHECK(taken(store, "two") == Ids{"b"});

    end_before_its_code(store, "b", Status::success, "two");
    CHECK(store.purge(0ns).wait() == 2);  // what is forgotten has code all the same
    store.add({keyed("c")}).wait();
    CHECK(taken(store, "one").empty());
    store.forget_runner("two").wait();
    store.recover(1h).wait();
    CHECK(taken(store, "one") == Ids{"c"});
    store.code_ended("two", "b").wait();  // too late: it is another one's by now
    store.add({keyed("d")}).wait();
    CHECK(taken(store, "one").empty());

    end_before_its_code(store, "c", Status::failed, "one");
    store.purge(std::nullopt).wait();
    store.add({keyed("e")}).wait();
    CHECK(taken(store, "one") == Ids{"e"});
  });
}

TEST_CASE("what is tried again waits for its own code that goes on, also where it may not wait for others") {
  using Ids = std::vector<std::string>;
  on_every_store([](Store& store) {
    lives(store, "one");
    store.add({keyed("a", false)}).wait();
    REQUIRE(taken(store, "one") == Ids{"a"});
    end_before_its_code(store, "a", Status::retry, "one");
    CHECK(taken(store, "one").empty());
    CHECK(store.get("a").wait().status == Status::concurrency_controlled);
    store.add({keyed("other", false)}).wait();
    CHECK(taken(store, "one").empty());
    CHECK(store.get("other").wait().status == Status::concurrency_controlled_final);
    store.code_ended("one", "a").wait();
    CHECK(taken(store, "one") == Ids{"a"});
  });
}
