// What holds for triggers whatever the store and the serializer.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <caller/all.hpp>
#include <caller/task/all.hpp>

#include "faulty_store.hpp"
#include "store_cases.hpp"

using namespace caller::task;
using namespace std::chrono_literals;
using namespace std::string_literals;

namespace {

using If = ValueChange::If;

/// An application on a store that others share, as another process would have it, with a task that is called.
struct Process {
  std::shared_ptr<std::vector<std::string>> log = std::make_shared<std::vector<std::string>>();
  App app;
  Task<std::string(std::string)> note;
  explicit Process(std::shared_ptr<Store> store, Format format = Format::json)
      : app([&] {
          AppOptions o;
          o.app_id = "test";
          o.store = std::move(store);
          o.format = format;
          o.log = [log = log](Severity, const std::string& text) { log->push_back(text); };
          return App(std::move(o));
        }()),
        note(app.task("t.note", [](std::string s) { return s; }, {"text"})) {}

  /// What the trigger's task was called with, sorted.
  std::vector<std::string> notes() const {
    std::vector<std::string> out;
    for (const auto& r : app.store().list("t.note", std::nullopt, 0, 1000).wait())
      out.push_back(decode<std::string>(Document(app.conf().format, r.args).root().at("text")));
    std::sort(out.begin(), out.end());
    return out;
  }
  bool nothing_left() const { return app.store().values(std::string(kChangeKey), "", 10).wait().empty(); }
};
using Notes = std::vector<std::string>;

void set_time(const Process& p, Time t) {
  detail::set_trigger_clock(*p.app.core(), [t] { return t; });
}
const Time kNoon = std::chrono::sys_days(std::chrono::year(2026) / 5 / 4) + 12h;

/// Waits until an invocation of the task has come, and runs all there are.
void run_all(const App& app, const std::string& task, std::size_t count) {
  for (;;) {
    const auto list = app.store().list(task, std::nullopt, 0, 1000).wait();
    if (list.size() >= count) {
      for (const auto& r : list) app.store().ended(r.id).wait();
      return;
    }
    std::this_thread::yield();
  }
}

}  // namespace

TEST_CASE("triggers: an event calls a task once, with what it brings, whichever runner sees it first") {
  for (const Format format : {Format::json, Format::cbor})
    on_every_store([&](const std::shared_ptr<Store>& store) {
      Process one(store, format), two(store, format);
      for (Process* p : {&one, &two})
        p->app.on(event("order"), p->note, [](const Match& m) { return std::to_string(m.value<int>("number")); });
      auto first = one.app.thread_runner({1, {}, {}}), second = two.app.thread_runner({1, {}, {}});
      first->start();
      second->start();
      Notes wanted;
      for (int i = 0; i < 20; ++i) {
        one.app.emit("order", {{"number", i}});
        wanted.push_back(std::to_string(i));
      }
      std::sort(wanted.begin(), wanted.end());
      run_all(one.app, "t.note", wanted.size());
      one.app.evaluate_triggers();
      CHECK(one.notes() == wanted);
      CHECK(one.nothing_left());
    });
}

TEST_CASE("triggers: an event matches by its name and by the values that its payload must have") {
  on_every_store([](const std::shared_ptr<Store>& store) {
    Process p(store);
    p.app.on(event("order", {{"kind", "book"}, {"size", 2}}), p.note, "books of two");
    p.app.on(event("order").where([](const MatchPart& m) { return m.value<int>("size") > 5; }), p.note,
             [](const Match& m) { return "big " + m.event().source; });
    p.app.emit("other", {{"kind", "book"}, {"size", 9}});
    p.app.emit("order", {{"kind", "pen"}, {"size", 2}});
    p.app.emit("order", {{"kind", "book"}, {"size", 2}, {"more", std::vector<int>{1, 2}}});
    p.app.emit("order", {{"size", 6}});
    p.app.emit("order");  // of which one function cannot make anything
    CHECK(p.app.evaluate_triggers() == 2);
    CHECK(p.notes() == Notes{"big order", "books of two"});
    CHECK(p.nothing_left());
    CHECK(p.app.evaluate_triggers() == 0);
    CHECK(p.log->size() == 1);
  });
}

TEST_CASE("triggers: states, results, exceptions and arguments of a task lead on") {
  for (const Format format : {Format::json, Format::cbor})
    on_every_store([&](const std::shared_ptr<Store>& store) {
      Process p(store, format);
      const auto work = p.app.task("t.work",
                                   [](int n) {
                                     if (n < 0) throw std::out_of_range("negative");
                                     if (n == 0) throw std::logic_error("zero");
                                     return n * 2;
                                   },
                                   {"n"});
      const auto text = [](const std::string& what) {
        return [what](const Match& m) { return what + " " + std::to_string(m.argument<int>("n")); };
      };
      p.app.on(status(work, Status::running), p.note, text("running"));
      p.app.on(status(work, {Status::success, Status::failed}).with_arguments({{"n", 7}}), p.note, text("seven"));
      p.app.on(result(work, 42), p.note, text("42"));
      p.app.on(result(work, [](int r) { return r > 15; }), p.note,
               [](const Match& m) { return "result " + std::to_string(m.result<int>()); });
      p.app.on(exception(work, "out_of_range"), p.note,
               [](const Match& m) { return "error " + m.change().error().message; });
      p.app.on(exception(work, errors<std::logic_error>()), p.note, text("logic"));
      p.app.on(exception(work, "std::runtime_error"), p.note, text("never"));
      std::vector<Invocation<int>> calls;
      for (const int n : {-1, 0, 7, 8, 21}) calls.push_back(work(n));
      auto runner = p.app.thread_runner({2, {}, {}});
      runner->start();
      for (const auto& c : calls) store->ended(c.id()).wait();
      run_all(p.app, "t.note", 12);  // the runner may be about to call some of them
      p.app.evaluate_triggers();
      CHECK(p.notes() == Notes{"42 21", "error negative", "logic -1", "logic 0", "result 16", "result 42", "running -1",
                               "running 0", "running 21", "running 7", "running 8", "seven 7"});
    });
}

TEST_CASE("triggers: states that no runner brings about lead on as well: cancelled, refused, recovered") {
  on_every_store([](const std::shared_ptr<Store>& store) {
    Process p(store);
    TaskOptions one;
    one.running_concurrency = Concurrency::TASK;
    one.reroute_on_concurrency_control = false;
    const auto work = p.app.task("t.work", [](int n) { return n; }, {"n"}, one);
    for (const Status s : {Status::registered, Status::cancelled, Status::concurrency_controlled_final,
                           Status::running_recovery, Status::rerouted})
      p.app.on(status(work, s), p.note, [](const Match& m) {
        return std::string(name(m.change().status)) + " " + std::to_string(m.argument<int>("n"));
      });
    const auto cancelled = work(1), taken = work(2), refused = work(3), later = work(4);
    // What others do, who know of no trigger.
    CHECK(store->cancel(cancelled.id()).wait());
    CHECK(store->take("runner", 3, {}).wait().size() == 1);
    store->change({taken.id(), Status::running, "runner", {}, {}, {}}).wait();
    CHECK(store->cancel(taken.id()).wait());  // the runner is told, but vanishes
    store->forget_runner("runner").wait();
    CHECK(store->recover(1h).wait() == std::vector<std::string>{taken.id()});
    CHECK(taken.status() == Status::cancelled);
    CHECK(refused.status() == Status::concurrency_controlled_final);
    p.app.evaluate_triggers();
    CHECK(p.notes() == Notes{"CANCELLED 1", "CANCELLED 2", "CONCURRENCY_CONTROLLED_FINAL 3",
                             "CONCURRENCY_CONTROLLED_FINAL 4", "REGISTERED 1", "REGISTERED 2", "REGISTERED 3",
                             "REGISTERED 4", "REROUTED 2", "RUNNING_RECOVERY 2"});
    CHECK(p.nothing_left());
  });
}

TEST_CASE("triggers: all of several conditions, which may be seen by different processes, lead to one call") {
  on_every_store([](const std::shared_ptr<Store>& store) {
    Process one(store), two(store);
    for (Process* p : {&one, &two}) {
      p->app.on(all_of(event("a"), event("b"), any_of(event("c"), event("d"))), p->note, [](const Match& m) {
        std::string out;
        for (const auto& part : m.parts()) out += part.source + part.value<std::string>("v") + " ";
        return out;
      });
      p->app.on(any_of(event("x"), all_of(event("y"), event("z"))), p->note,
                [](const Match& m) { return "any " + std::to_string(m.parts().size()); });
    }
    const auto at = [&](Process& p, const char* name, const char* v) {
      p.app.emit(name, {{"v", v}});
      return p.app.evaluate_triggers();
    };
    CHECK(at(one, "a", "1") == 0);
    CHECK(at(two, "a", "2") == 0);
    CHECK(at(one, "b", "1") == 0);
    CHECK(at(two, "d", "1") == 1);
    CHECK(one.notes() == Notes{"a2 b1 d1 "});
    CHECK(at(one, "a", "3") == 0);
    CHECK(at(one, "c", "3") == 0);
    const auto record = [&] {
      for (const auto& r : two.app.triggers())
        if (r.when.starts_with("all_of")) return r;
      return TriggerRecord{};
    };
    CHECK(record().seen == Notes{"event(\"a\")", "event(\"c\")"});
    CHECK(at(two, "b", "3") == 1);
    CHECK(record().seen.empty());
    // Alternatives are for themselves.
    CHECK(at(one, "y", "1") == 0);
    CHECK(at(two, "x", "1") == 1);
    CHECK(at(two, "z", "1") == 1);
    CHECK(one.notes() == Notes{"a2 b1 d1 ", "a3 b3 c3 ", "any 1", "any 2"});
    CHECK(one.nothing_left());
  });
}

TEST_CASE("triggers: whenever a process dies while it looks, another one does the rest, once") {
  struct Kind {
    const char* name;
    Condition (*make)();
    std::size_t calls;
  };
  const Kind kinds[] = {
      {"event", +[] { return event("e"); }, 2},
      {"all", +[] { return all_of(event("e"), event("f")); }, 1},
      {"all of one", +[] { return all_of(event("e"), event("e", {{"v", 1}})); }, 1},
      {"mixed", +[] { return any_of(event("e"), all_of(event("e"), event("f"))); }, 3},
      {"cron", +[] { return cron("* * * * *"); }, 1},
      {"cron and event", +[] { return all_of(cron("* * * * *"), event("e")); }, 1},
  };
  for (const Kind& kind : kinds) {
    const std::string trigger = kind.name;
    CAPTURE(trigger);
    on_every_store([&](const std::shared_ptr<Store>& store) {
      const int stride = store->description() == "memory" ? 1 : 5;
      for (int steps = 0;; steps += stride) {
        CAPTURE(steps);
        store->purge(std::nullopt).wait();
        const auto faulty = std::make_shared<FaultyStore>(store);
        Process dies(faulty), rest(store);
        for (Process* p : {&dies, &rest}) {
          p->app.on(kind.make(), p->note, "x");
          set_time(*p, kNoon);
          p->app.evaluate_triggers();
        }
        rest.app.emit("e", {{"v", 1}});
        rest.app.emit("f");
        if (trigger != "cron") rest.app.emit("e");
        for (Process* p : {&dies, &rest}) set_time(*p, kNoon + 1min);
        faulty->fail_after(steps);
        bool died = false;
        try {
          dies.app.evaluate_triggers();
        } catch (const StateBackendError&) {
          died = true;
        }
        died = died || faulty->failed();
        rest.app.evaluate_triggers();
        // Of "all of one" and "cron and event" the second e is the beginning of the next match, if at all.
        const std::size_t wanted = trigger == "all of one" ? 1 : kind.calls;
        CHECK(rest.notes().size() == wanted);
        CHECK(rest.nothing_left());
        CHECK(rest.app.evaluate_triggers() == 0);
        if (!died) break;
        REQUIRE(steps < 100);
      }
    });
  }
}

TEST_CASE("triggers: a clock that is new waits for its next time, which then counts once, whoever is first") {
  on_every_store([](const std::shared_ptr<Store>& store) {
    std::vector<std::unique_ptr<Process>> all;
    for (int i = 0; i < 4; ++i) {
      all.push_back(std::make_unique<Process>(store));
      all.back()->app.on(cron("*/10 * * * *"), all.back()->note,
                         [](const Match& m) { return std::to_string((m.at() - kNoon) / 1min); });
      all.back()->app.on(any_of(cron("20 * * * *"), cron("0-30/20 * * * *")), all.back()->note, "two clocks");
    }
    const auto at = [&](Time t) {
      std::atomic<std::size_t> added{0};
      for (auto& p : all) set_time(*p, t);
      std::vector<std::thread> threads;
      for (auto& p : all)
        threads.emplace_back([&added, &p] {
          for (int i = 0; i < 5; ++i) added += p->app.evaluate_triggers();
        });
      for (auto& t2 : threads) t2.join();
      return added.load();
    };
    CHECK(at(kNoon + 5s) == 0);
    CHECK(at(kNoon + 9min + 59s) == 0);
    CHECK(at(kNoon + 10min) == 1);
    CHECK(at(kNoon + 19min) == 0);
    CHECK(at(kNoon + 20min + 1s) == 2);
    CHECK(at(kNoon + 20min) == 0);  // a clock that goes back
    CHECK(all[0]->notes() == Notes{"10", "20", "two clocks"});
    // While nobody was there: the last time counts, if that is not too long ago.
    CHECK(at(kNoon + 58min) == 1);
    CHECK(all[0]->notes() == Notes{"10", "20", "50", "two clocks"});
    for (const auto& r : all[1]->app.triggers()) CHECK(*r.next == kNoon + 60min);
  });
}

TEST_CASE("triggers: what was due too long ago is left out") {
  on_every_store([](const std::shared_ptr<Store>& store) {
    Process p(store);
    p.app.on(cron("0 * * * *", {.zone = "Asia/Kolkata", .late = 5min}), p.note, "hour");
    const auto at = [&](Time t) {
      set_time(p, t);
      return p.app.evaluate_triggers();
    };
    CHECK(at(kNoon) == 0);
    CHECK(at(kNoon + 36min) == 0);
    CHECK(at(kNoon + 94min) == 1);
    CHECK(at(kNoon + 24h + 29min) == 0);
    CHECK(at(kNoon + 24h + 30min) == 1);
  });
}

TEST_CASE("triggers: a runner acts when its clock is due and when a task has ended, and sleeps between") {
  on_every_store([](const std::shared_ptr<Store>& store) {
    Process p(store);
    set_time(p, kNoon);
    auto runner = p.app.thread_runner({1, {}, {}});
    runner->start();
    const auto last = p.app.task("t.last", [](std::string s) { return s; }, {"text"});
    p.app.on(cron("0 13 * * *"), p.note, "hour");  // while it runs
    p.app.on(result(p.note, "hour"s), last, [](const Match& m) { return m.result<std::string>() + "!"; });
    p.app.evaluate_triggers();
    CHECK(p.notes().empty());
    set_time(p, kNoon + 1h);
    run_all(p.app, "t.last", 1);
    CHECK(p.notes() == Notes{"hour"});
    CHECK(from_bytes<std::string>(Format::json, store->list("t.last", std::nullopt, 0, 10).wait().at(0).result) ==
          "hour!");
  });
}

TEST_CASE("triggers: what only some processes know is left for them") {
  on_every_store([](const std::shared_ptr<Store>& store) {
    Process one(store), two(store), client(store);
    const auto work = one.app.task("t.work", [] {});
    const auto same = two.app.task("t.work", [] {}), called = client.app.task("t.work", [] {});
    one.app.on(event("e"), one.note, "one");
    two.app.on(event("e"), two.note, "two");
    two.app.on(all_of(event("e"), status(same, Status::cancelled)), two.note, "both");
    for (Process* p : {&one, &two}) CHECK(p->app.evaluate_triggers() == 0);
    client.app.emit("e");
    client.app.emit("nobody waits for this");
    CHECK(called().cancel());
    CHECK(one.app.evaluate_triggers() == 1);
    CHECK(one.app.evaluate_triggers() == 0);
    CHECK_FALSE(one.nothing_left());
    CHECK(two.app.evaluate_triggers() == 2);
    CHECK(one.nothing_left());
    CHECK(one.notes() == Notes{"both", "one", "two"});
    CHECK(client.app.triggers().size() == 3);
  });
}

TEST_CASE("triggers: the same one twice is one, and functions are told apart by their order") {
  Process p(make_memory_store()), q(make_memory_store());
  std::set<std::string> ids;
  for (Process* each : {&p, &q}) {
    ids.insert(each->app.on(event("e"), each->note, "x"));
    ids.insert(each->app.on(event("e"), each->note, "x"));
    ids.insert(each->app.on(event("e"), each->note, "y"));
    ids.insert(each->app.on(event("e"), each->note, [](const Match&) { return "f"; }));
    ids.insert(each->app.on(event("e"), each->note, [](const Match&) { return "g"; }));
    ids.insert(each->app.on(event("e").where([](const MatchPart&) { return false; }), each->note, "x"));
    each->app.emit("e");
    CHECK(each->app.evaluate_triggers() == 4);
    CHECK(each->notes() == Notes{"f", "g", "x", "y"});
  }
  CHECK(ids.size() == 5);
  CHECK_THROWS_AS(p.app.on(cron("61 * * * *"), p.note, "x"), ConfigError);
  CHECK_THROWS_AS((void)all_of(event("e")).where([](const MatchPart&) { return true; }), ConfigError);
  CHECK_THROWS_AS((void)event("e").with_arguments({{"n", 1}}), ConfigError);
  CHECK_THROWS_AS(p.app.on(event("e"), p.note), TaskRoutingError);
  CHECK_THROWS_AS((void)Payload::json("[1]"), SerializationError);
  CHECK_THROWS_AS((void)Payload::json("{"), SerializationError);
}

TEST_CASE("triggers: hostile bytes are nobody's harm") {
  on_every_store([](const std::shared_ptr<Store>& store) {
    Process p(store);
    for (const auto& odd : kOdd)
      p.app.on(event(odd, {{"k", odd}}), p.note, [](const Match& m) { return m.value<std::string>("k"); });
    p.app.on(event("bad").where([](const MatchPart&) -> bool { throw 1; }), p.note, "never");
    p.app.on(event("bad"), p.note, [](const Match& m) { return m.value<std::string>("none"); });
    p.app.on(all_of(cron("* * * * *"), event("bad")), p.note, "never");
    set_time(p, kNoon);
    CHECK(p.app.evaluate_triggers() == 0);
    const auto put = [&](const std::string& key, const std::string& value) {
      store->set_value({key, If::anything, {}, value, 1h, {}}).wait();
    };
    const std::string queue(kChangeKey), time = std::string(19, '0') + "1/";
    for (const auto& odd : kOdd) {
      put(queue + odd, odd);
      put(queue + time + "e/" + odd, odd);
      put(queue + time + "c12/" + odd, "6:t.note");
      put(queue + time + "c99/" + odd, "6:t.note");
      put(queue + time + "e/x" + odd, "3:bad" + std::to_string(odd.size()) + ":" + odd);
      put("trigger/d/" + odd, odd);
      put("trigger/d/x" + odd, "1:x9999999999999999999999:");
    }
    put(queue + std::string(20, '9') + "/e/1", "3:bad2:{}");
    put(queue + time + "e/deep", "3:bad200000:" + std::string(200'000, '['));
    for (const auto& [key, state] : store->values("trigger/s/", "", 100).wait())
      put(key, "\xa5gversion\x1b\xff\xff\xff\xff\xff\xff\xff\xff" + state.substr(0, state.size() / 2));
    p.app.evaluate_triggers();
    CHECK(p.nothing_left());
    CHECK(p.notes().empty());
    Notes wanted;
    for (const auto& odd : kOdd) {
      p.app.emit(odd, {{"k", odd}});
      p.app.emit(odd, {{"k", "other"}});
      wanted.push_back(odd);
    }
    std::sort(wanted.begin(), wanted.end());
    p.app.emit("bad", Payload::json("{\"v\": " + std::string(100, '[') + std::string(100, ']') + "}"));
    CHECK(p.app.evaluate_triggers() == wanted.size());
    CHECK(p.notes() == wanted);
    CHECK(p.nothing_left());
  });
}

TEST_CASE("triggers: invocations that can never be read are left out, however many, and hold up no others") {
  on_every_store([](const std::shared_ptr<Store>& store) {
    Process p(store);
    const auto work = p.app.task("t.work", [](const std::string&) {}, {"s"});
    p.app.on(status(work, Status::success), p.note, [](const Match& m) {
      auto text = m.argument<std::string>("s");
      if (text == "of another") throw UnreadableError("which it asked for");
      return text;
    });
    CHECK(p.app.evaluate_triggers() == 0);
    const auto add = [&](const std::string& id, const std::string& args) {
      NewInvocation n = call(id);
      n.task_id = "t.work";
      n.args = args;
      store->add({n}).wait();
    };
    std::string packed;  // as it is stored where a part is kept apart
    {
      Process large(store);
      const auto big = large.app.task("t.big", [](const std::string&) {}, {"s"});
      packed = store->get(big(std::string(200'000, 'x')).id()).wait().args;
    }
    REQUIRE(ClientDataStore::is_reference(packed));
    std::string lost = packed;
    for (char& c : lost)
      if (c >= 'a' && c <= 'f') c = 'a';  // of a hash that nobody has put
    for (int i = 0; i < 10; ++i) add("bad" + std::to_string(i), i % 2 ? lost : packed.substr(0, 3));
    add("between", R"({"s":"of another"})");
    add("good", R"({"s":"good"})");
    for (const auto& r : store->take("runner", 100, {}, true).wait())
      store->change({r.id, Status::success, "runner", "null", {}, {}}).wait();
    CHECK(p.app.evaluate_triggers() == 1);
    CHECK(p.notes() == Notes{"good"});
    CHECK(p.nothing_left());
    CHECK(p.log->size() == 11);
  });
}

TEST_CASE("triggers: in development mode they act where something happens") {
  AppOptions o;
  o.dev_mode = true;
  const App app{o};
  std::vector<std::string> ran;
  const auto third = app.task("t.third", [&](std::string s) { ran.push_back("third " + s); }, {"s"});
  const auto second = app.task("t.second",
                               [&](int n) {
                                 ran.push_back("second " + std::to_string(n));
                                 return n;
                               },
                               {"n"});
  app.on(event("go"), second, [](const Match& m) { return m.value<int>("n"); });
  app.on(result(second, 5), third, "five");
  app.emit("go", {{"n", 4}});
  app.emit("go", {{"n", 5}});
  CHECK(ran == std::vector<std::string>{"second 4", "second 5", "third five"});
  (void)second(5);
  CHECK(ran.size() == 5);
}
