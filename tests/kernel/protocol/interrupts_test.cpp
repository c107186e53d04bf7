// Whom an interrupt or a time-out reaches, where nobody counts the turns of the loops.
#include "session/interrupts.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "session/active_cells.hpp"
#include "session/stdin_broker.hpp"
#include "session/work.hpp"

using namespace caller;
using namespace caller::kernel;
using namespace std::chrono_literals;

namespace {

Request request(std::chrono::steady_clock::time_point received = std::chrono::steady_clock::now()) {
  auto message = std::make_shared<Message>();
  message->header["msg_type"] = "execute_request";
  message->received = received;
  return message;
}

/// A thread that runs cells, and what can be said to it.
struct Fixture {
  Caller control{new_thread, {.name = "Control"}};
  Caller shell{new_thread, {.name = "Shell"}};
  Interrupts interrupts{control};
  std::atomic<bool> begun{false};

  ~Fixture() {
    for (const Caller& caller : {shell, control}) {
      Caller(caller).stop(true);
      caller.stopped().wait_done();
    }
  }

  /// Computes for `whom` until it is interrupted, which is the answer, or for too long.
  std::string compute(const Request& whom) {
    auto work = std::make_shared<Work>();
    work->request = whom;
    const ContextVar<WorkPtr>::Scope scope(work_var(), work);
    (void)interrupts.enter();
    begun = true;
    const auto end = std::chrono::steady_clock::now() + 10s;
    try {
      while (std::chrono::steady_clock::now() < end) interrupt::check();
    } catch (const Interrupted&) {
      return "interrupted";
    }
    return "nobody came";
  }

  Pending<std::string> start(const Request& whom) {
    return shell.call_soon([this, whom] { return compute(whom); });
  }
  void wait_begun() {
    while (!begun) std::this_thread::yield();
  }
};

}  // namespace

TEST_CASE("an interrupt reaches what computes in a turn that was asked in vain before") {
  Fixture f;
  const Request late = request(), computes = request();
  auto outcome = f.start(computes);
  f.wait_begun();
  f.interrupts.break_one(late);  // it does not run here
  f.control.call_later(2 * Interrupts::kPatience, [] {}).wait();
  CHECK_FALSE(outcome.done());
  f.interrupts.break_older(Moment::now());
  CHECK(outcome.wait() == "interrupted");
}

TEST_CASE("a time-out reaches what its cell does while the plain code of another one waits, and only that") {
  Fixture f;
  const Request waits = request(), computes = request(), beside = request();
  std::string inner;
  auto outer = f.shell.call_soon([&] {
    auto work = std::make_shared<Work>();
    work->request = waits;
    const ContextVar<WorkPtr>::Scope scope(work_var(), work);
    const Interrupts::Plain plain(f.interrupts.enter());
    inner = f.shell.call_soon([&] { return f.compute(computes); }).wait();
    try {
      for (int i = 0; i < 1000; ++i) interrupt::check();
    } catch (const Interrupted&) {
      return "met what was not meant for it";
    }
    return "unharmed";
  });
  f.wait_begun();
  f.interrupts.break_one(beside);
  f.control.call_later(2 * Interrupts::kPatience, [] {}).wait();
  CHECK_FALSE(outer.done());
  f.interrupts.break_one(computes);
  CHECK(std::string(outer.wait()) == "unharmed");
  CHECK(inner == "interrupted");
}

TEST_CASE("a time-out of plain code that waits does not meet what runs meanwhile for another cell") {
  Fixture f;
  const Request waits = request(), beside = request();
  std::atomic<bool> may_end{false};
  auto outer = f.shell.call_soon([&] {
    auto work = std::make_shared<Work>();
    work->request = waits;
    const ContextVar<WorkPtr>::Scope scope(work_var(), work);
    const Interrupts::Plain plain(f.interrupts.enter());
    const std::string inner = f.shell
                                  .call_soon([&]() -> std::string {
                                    auto other = std::make_shared<Work>();
                                    other->request = beside;
                                    const ContextVar<WorkPtr>::Scope its(work_var(), other);
                                    f.begun = true;
                                    try {
                                      while (!may_end) interrupt::check();
                                    } catch (const Interrupted&) {
                                      return "met what was not meant for it";
                                    }
                                    return "unharmed";
                                  })
                                  .wait();
    try {
      interrupt::check();
    } catch (const Interrupted&) {
      return inner + ", interrupted";
    }
    return inner;
  });
  f.wait_begun();
  f.interrupts.break_one(waits);
  f.control.call_later(2 * Interrupts::kPatience, [] {}).wait();
  may_end = true;
  CHECK(outer.wait() == "unharmed, interrupted");
}

TEST_CASE("an interrupt that takes effect late does not meet the plain code of a request that came after it") {
  Fixture f;
  const Moment asked = Moment::now();
  const auto outcome_of = [&](Request whom) {
    return f.shell
        .call_soon([&f, whom, asked] {
          auto work = std::make_shared<Work>();
          work->request = whom;
          const ContextVar<WorkPtr>::Scope scope(work_var(), work);
          const Interrupts::Plain plain(f.interrupts.enter());
          f.interrupts.break_older(asked);
          try {
            interrupt::check();
          } catch (const Interrupted&) {
            return "interrupted";
          }
          return "unharmed";
        })
        .wait();
  };
  CHECK(std::string(outcome_of(request(asked.at - 1s))) == "interrupted");
  CHECK(std::string(outcome_of(request(asked.at + 1s))) == "unharmed");
}

TEST_CASE("a cell or handler that begins on a subshell after the word that this ends is born stopped") {
  Fixture fixture;
  StdinBroker input([](const Request&, const json&) { return std::string(); });
  ActiveCells cells(input, fixture.interrupts);
  auto message = std::make_shared<Message>(*request());
  message->header["subshell_id"] = "one";
  const Request late = message;
  const auto stops = [&](const Request& whose) {
    return fixture.shell
        .call_soon([&] {
          const ActiveCellPtr cell = cells.add(whose, "cell", std::nullopt);
          cells.remove(cell);
          const ActiveCellPtr handler = cells.add_handler(whose);
          cells.remove(handler);
          CHECK(handler->stop.load() == cell->stop.load());
          return cell->stop.load();
        })
        .wait();
  };
  CHECK(stops(late) == ActiveCell::Stop::none);
  cells.stop_subshell("one");
  CHECK(stops(late) == ActiveCell::Stop::shutdown);
  CHECK(stops(request()) == ActiveCell::Stop::none);
  cells.forget_subshell("one");
  CHECK(stops(late) == ActiveCell::Stop::none);
}

TEST_CASE(
    "an interrupt that takes effect late does not meet what computes in a loop for a request that came after it") {
  Fixture f;
  const Moment asked = Moment::now();
  const Request later = request(asked.at + 1s);
  auto outcome = f.start(later);
  f.wait_begun();
  f.interrupts.break_older(asked);
  f.control.call_later(3 * Interrupts::kPatience, [] {}).wait();
  CHECK_FALSE(outcome.done());
  f.interrupts.break_one(later);
  CHECK(outcome.wait() == "interrupted");
}

TEST_CASE("an interrupt stops the cells whose requests came before it, and tells of no others") {
  Fixture f;
  StdinBroker input([](const Request&, const json&) { return std::string(); });
  ActiveCells cells(input, f.interrupts);
  const Moment asked = Moment::now();
  const auto add = [&](std::chrono::steady_clock::time_point received, const std::string& label) {
    return f.shell.call_soon([&] { return cells.add(request(received), label, "lane of " + label); }).wait();
  };
  const ActiveCellPtr later = add(asked.at + 1s, "later");
  cells.stop_all(ActiveCell::Stop::interrupt, asked);
  CHECK(later->stop.load() == ActiveCell::Stop::none);
  REQUIRE(cells.records().size() == 1);
  CHECK(cells.records().back().reached.empty());
  const ActiveCellPtr earlier = add(asked.at - 1s, "earlier");  // which has met none of its lane
  CHECK(earlier->stop.load() == ActiveCell::Stop::interrupt);
  const Moment again{asked.at + 500ms, nullptr};
  cells.stop_all(ActiveCell::Stop::interrupt, again);
  CHECK(later->stop.load() == ActiveCell::Stop::none);
  CHECK(cells.records().back().reached == "earlier");
  cells.stop_all(ActiveCell::Stop::shutdown, again);
  CHECK(later->stop.load() == ActiveCell::Stop::shutdown);
  for (const ActiveCellPtr& cell : {later, earlier}) cells.remove(cell);
}
