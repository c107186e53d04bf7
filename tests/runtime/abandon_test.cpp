// A manual Caller destroyed before its work has ended: its children end first, then its coroutines' frames.
#include "support/coro.hpp"

#include <memory>
#include <optional>
#include <thread>
#include <utility>

using namespace caller;
using namespace caller::test;

namespace {

const WaitOptions kShielded{.timeout = {}, .protect = true, .shield = true};

/// Runs `body` on a Caller of this thread until `inside` is done, and abandons it there.
template <class Body>
void abandon_when(const Pending<>& inside, Body body) {
  Caller loop(manual, {.backend = Backend::asio});
  loop.call_soon(std::move(body));
  loop.run_until(inside);
}

}  // namespace

TEST_CASE("an abandoned Caller ends the shielded wait of a worker, which still may use what the coroutine owns") {
  Pending<> gate, inside;
  bool ended_by_error = false;
  int found = 0;
  abandon_when(inside, [&]() -> Coro<void> {
    std::vector<int> owned(1000, 1);
    const OpenAtEnd opens(gate);
    auto work = Caller::current().to_thread([&, gate, inside] {
      inside.set_result();
      try {
        gate.wait(kShielded);
      } catch (const CallerStopped&) {
        ended_by_error = true;
      }
      for (const int i : owned) found += i;
    });
    co_await work;
  });
  CHECK(ended_by_error);
  CHECK(found == 1000);
}

TEST_CASE("an abandoned Caller does not wait for the idle time-out of a worker that has a call again") {
  Pending<> gate, inside;
  std::thread::id first, second;
  {
    // A day: this test would run into its own time limit.
    Caller loop(manual, {.backend = Backend::asio, .worker_idle_timeout = 24h});
    loop.call_soon([&]() -> Coro<void> {
      const OpenAtEnd opens(gate);
      Caller self = Caller::current();
      co_await self.to_thread([&first] { first = std::this_thread::get_id(); });
      auto work = self.to_thread([&second, gate, inside] {
        second = std::this_thread::get_id();
        inside.set_result();
        gate.wait(kShielded);
      });
      co_await work;
    });
    loop.run_until(inside);
  }
  CHECK(first == second);
}

TEST_CASE("an abandoned Caller ends shielded waits of coroutines of its children and grandchildren") {
  Pending<> gate, first, inside;
  std::atomic<int> ended{0};
  abandon_when(inside, [&]() -> Coro<void> {
    const OpenAtEnd opens(gate);
    const auto waits = [&ended, gate](Pending<> told) -> Coro<void> {
      told.set_result();
      try {
        co_await gate.async_wait_done(kShielded);
      } catch (const PendingCancelled&) {
        ++ended;
      }
    };
    Caller child = Caller::current().get({.name = "child"});
    child.call_soon(waits, first);
    child.call_soon([waits, first, inside]() -> Coro<void> {
      co_await first;
      Caller::current().get({.name = "grandchild"}).call_soon(waits, inside);
      co_await sleep_for(1h);
    });
    co_await sleep_for(1h);
  });
  CHECK(ended == 2);
}

TEST_CASE("an abandoned Caller ends the clean-up of its children's coroutines when that waits for a frame's end") {
  Pending<> gate, inside;
  std::atomic<int> interrupted{0};
  abandon_when(inside, [&]() -> Coro<void> {
    const OpenAtEnd opens(gate);
    Caller::current().get({.name = "child"}).call_soon([&interrupted, gate, inside]() -> Coro<void> {
      inside.set_result();
      for (int i = 0; i < 3; ++i) {
        try {
          co_await gate.async_wait_done({.protect = true});
        } catch (const PendingCancelled&) {
          ++interrupted;
        }
      }
    });
    co_await sleep_for(1h);
  });
  CHECK(interrupted == 3);
}

TEST_CASE("an abandoned Caller lets the clean-up of its children finish that waits for time") {
  Pending<> inside;
  bool cleaned = false;
  abandon_when(inside, [&]() -> Coro<void> {
    Caller::current().get({.name = "child"}).call_soon([&cleaned, inside]() -> Coro<void> {
      inside.set_result();
      bool cancelled = false;
      try {
        co_await sleep_for(1h);
      } catch (const PendingCancelled&) {
        cancelled = true;
      }
      if (cancelled) co_await sleep_for(1ms);
      cleaned = true;
    });
    co_await sleep_for(1h);
  });
  CHECK(cleaned);
}

TEST_CASE("an abandoned Caller ends a start-stop task of a child that waits for a frame's end") {
  Pending<> gate, inside;
  bool ended = false;
  abandon_when(inside, [&]() -> Coro<void> {
    const OpenAtEnd opens(gate);
    auto task = Caller::current()
                    .get({.name = "child"})
                    .create_start_stop_task([&ended, gate, inside](StartSignal, Pending<>) -> Coro<void> {
                      inside.set_result();
                      try {
                        co_await gate.async_wait_done(kShielded);
                      } catch (const PendingCancelled&) {
                        ended = true;
                      }
                    });
    task.start();
    co_await sleep_for(1h);
  });
  CHECK(ended);
}

TEST_CASE("a Caller owned by an abandoned coroutine ends, though its worker waits for the end of another frame") {
  Pending<> gate, ready, inside;
  abandon_when(inside, [&]() -> Coro<void> {
    Caller::current().call_soon([gate, ready, inside]() -> Coro<void> {  // its frame goes first: it is the younger one
      Caller own(new_thread);
      own.call_soon([gate, inside] {
        inside.set_result();
        gate.wait(kShielded);
      });
      co_await sleep_for(1h);
    });
    const OpenAtEnd opens(gate);
    co_await sleep_for(1h);
  });
  CHECK(gate.done());
}

TEST_CASE("a shielded wait on a worker holds when its parent is stopped in order") {
  Pending<> gate, inside;
  bool held = false;
  Caller loop(manual, {.backend = Backend::asio});
  auto work = loop.to_thread([&, gate, inside] {
    inside.set_result();
    gate.wait(kShielded);
    held = gate.done();
  });
  loop.run_until(inside);
  loop.stopping().add_done_callback([gate](const PendingBase&) { gate.set_result(); });
  loop.stop();
  CHECK(loop.state() == CallerState::stopped);
  CHECK(held);
}

TEST_CASE("frames of members go before the frame whose group they use, also when that has waited in a nested loop") {
  std::size_t seen = 99;
  {
    ManualLoop loop;
    loop.caller.call_soon([&]() -> Coro<void> {
      PendingGroup group;
      const PendingGroup::Scope scope(group);
      struct UsesGroup {
        PendingGroup& group;
        std::size_t& seen;
        UsesGroup(PendingGroup& g, std::size_t& s) : group(g), seen(s) {}
        UsesGroup(const UsesGroup&) = delete;
        UsesGroup& operator=(const UsesGroup&) = delete;
        ~UsesGroup() { seen = group.size(); }
      };
      Pending<> inside;
      Caller::current().call_soon([&seen, &group, inside]() -> Coro<void> {
        const UsesGroup uses(group, seen);
        inside.set_result();
        co_await sleep_for(1h);
      });
      inside.wait();  // the member begins, and waits, inside of this
      co_await sleep_for(1h);
    });
    loop.settle();
  }
  CHECK(seen == 1);
}

TEST_CASE("a body that uses the group of a frame around it goes before that frame") {
  std::vector<std::size_t> seen;
  {
    ManualLoop loop;
    struct Notes {
      PendingGroup& group;
      std::vector<std::size_t>& seen;
      Notes(PendingGroup& g, std::vector<std::size_t>& s) : group(g), seen(s) {}
      Notes(const Notes&) = delete;
      Notes& operator=(const Notes&) = delete;
      ~Notes() { seen.push_back(group.size()); }
    };
    auto body = [&seen](PendingGroup& outer) -> Coro<void> {
      auto inner_body = [&seen, &outer](PendingGroup& inner) -> Coro<void> {
        const Notes a(outer, seen), b(inner, seen);
        Caller::current().call_soon([&seen, &outer, &inner]() -> Coro<void> {
          const Notes c(outer, seen), d(inner, seen);
          co_await sleep_for(1h);
        });
        co_await sleep_for(1h);
      };
      co_await with_pending_group(std::move(inner_body));
    };
    auto work = [body]() -> Coro<void> { co_await with_pending_group(body); };
    loop.caller.call_soon(work);
    loop.settle();
  }
  CHECK(seen.size() == 4);
}

TEST_CASE("an abandoned Caller ends a group on its worker that has one of its own coroutines as a member") {
  for (const bool shield : {false, true}) {
    CAPTURE(shield);
    Pending<> inside;
    bool body_ended = false;
    abandon_when(inside, [&, inside]() -> Coro<void> {
      const Caller self;
      const auto body = [self, inside, &body_ended](PendingGroup&) -> Coro<void> {
        self.call_soon([inside]() -> Coro<void> {
          inside.set_result();
          co_await sleep_for(1h);
        });
        body_ended = true;
        co_return;
      };
      self.to_thread([body, shield]() -> Coro<void> {
        co_await with_pending_group({.mode = 0, .timeout = {}, .shield = shield}, body);
      });
      co_await sleep_for(1h);
    });
    CHECK(body_ended);
  }
}

namespace {

/// A destructor that waits.
class WaitsAtEnd {
public:
  WaitsAtEnd(Pending<> p, bool& ended) : pending_(std::move(p)), ended_(&ended) {}
  WaitsAtEnd(WaitsAtEnd&& other) noexcept : pending_(other.pending_), ended_(std::exchange(other.ended_, nullptr)) {}
  WaitsAtEnd& operator=(WaitsAtEnd&&) = delete;
  ~WaitsAtEnd() {
    if (!ended_) return;
    pending_.cancel();
    pending_.wait_done({.timeout = {}, .protect = true});
    *ended_ = true;
  }

private:
  Pending<> pending_;
  bool* ended_;
};

}  // namespace

TEST_CASE("a destructor that waits for an older coroutine of its Caller comes to an end when that is abandoned") {
  bool older = false, younger = false, ended = false;
  {
    ManualLoop loop;
    struct Sets {
      bool& flag;
      ~Sets() { flag = true; }
    };
    Pending<> first = loop.caller.call_soon([&older]() -> Coro<void> {
      const Sets sets{older};
      co_await sleep_for(1h);
    });
    loop.caller.call_soon([&ended, first]() -> Coro<void> {
      const WaitsAtEnd waits(first, ended);
      co_await sleep_for(1h);
    });
    loop.caller.call_soon([&younger]() -> Coro<void> {
      const Sets sets{younger};
      co_await sleep_for(1h);
    });
    loop.settle();
  }
  CHECK(older);
  CHECK(younger);
  CHECK(ended);
}

TEST_CASE("an argument whose destructor waits for a later call of its Caller comes to an end when that is abandoned") {
  for (const bool delayed : {false, true}) {
    CAPTURE(delayed);
    bool ended = false;
    Pending<> later;
    {
      ManualLoop loop;
      auto argument = std::make_shared<std::optional<WaitsAtEnd>>();
      loop.caller.call_soon([argument] {});
      later = delayed ? loop.caller.call_later(1h, [] {}) : loop.caller.call_soon([] {});
      later.protect();
      argument->emplace(later, ended);
      argument.reset();
    }
    CHECK(ended);
    CHECK(later.cancelled());
  }
}
