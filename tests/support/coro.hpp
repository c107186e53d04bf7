// Tests whose body is a coroutine.
//
//   ASYNC_TEST_CASE("sentence") { … co_await … }          one thread, time that moves only when nothing else is ready
//   ASYNC_THREADS_TEST_CASE("sentence") { … }             a real loop: for bodies that talk to other threads
//
// Each body runs on a fresh Caller of the test's thread. With CALLER_ABANDON=1 in the environment it runs again and
// again, its Caller destroyed after 0, 1, 2, … entries of the queue: so teardown happens at every suspension point, and
// AddressSanitizer sees what it leaks or touches too late.
#pragma once

#include <doctest/doctest.h>
#include <caller/all.hpp>
#include <cstdlib>
#include <exception>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace caller::test {

using namespace std::chrono_literals;

/// Collects what the error handler of a Caller is told. Keep it alive longer than the Caller.
class Reports {
public:
  ErrorHandler handler() {
    return [this](const std::string& where, const std::exception_ptr& error) {
      std::string text = "?";
      try {
        std::rethrow_exception(error);
      } catch (const std::exception& e) {
        text = e.what();
      } catch (...) {  // stays "?"
      }
      std::lock_guard lock(mutex_);
      list_.push_back(where + ": " + text);
    };
  }
  std::vector<std::string> list() const {
    std::lock_guard lock(mutex_);
    return list_;
  }
  std::size_t size() const { return list().size(); }

private:
  mutable std::mutex mutex_;
  std::vector<std::string> list_;
};

/// Opens a gate also when the test is abandoned: somebody waits at it who cannot be cancelled.
class OpenAtEnd {
public:
  explicit OpenAtEnd(Pending<> gate) : gate_(std::move(gate)) {}
  ~OpenAtEnd() { gate_.set_result(); }
  OpenAtEnd(const OpenAtEnd&) = delete;
  OpenAtEnd& operator=(const OpenAtEnd&) = delete;

private:
  Pending<> gate_;
};

/// A manual Caller of this thread and its clock.
struct ManualLoop {
  ManualClock clock;
  Reports reports;
  Caller caller;

  ManualLoop() : ManualLoop(CallerOptions{}) {}
  explicit ManualLoop(CallerOptions options) : caller(Modifier::manual, complete(std::move(options))) {}

  /// Runs one entry of the queue; when none is ready, time jumps to the next timer. False: nothing will ever happen.
  bool step() {
    for (;;) {
      if (detail::step(caller.core()) > 0) return true;
      const std::int64_t next = detail::next_timer(caller.core());
      if (next < 0) return false;
      clock.advance(Duration(next > clock.now() ? next - clock.now() : 0));
    }
  }
  /// Runs all that is ready; time stands still.
  void settle() {
    while (caller.poll() > 0) {
    }
  }

private:
  CallerOptions complete(CallerOptions o) {
    if (!o.backend) o.backend = Backend::manual;
    o.clock = &clock;
    if (!o.error_handler) o.error_handler = reports.handler();
    return o;
  }
};

inline std::size_t abandon_limit() {
  const char* s = std::getenv("CALLER_ABANDON");
  if (!s || std::string(s) == "0") return 0;
  const std::size_t n = std::strtoul(s, nullptr, 10);
  return n > 1 ? n : 2000;
}

template <class Body>
void run_simulated(Body body) {
  std::size_t steps = 0;
  {
    ManualLoop loop;
    auto outcome = loop.caller.call_soon(body);
    while (!outcome.done()) {
      if (!loop.step()) FAIL("the loop ran dry before the test's body ended");
      ++steps;
    }
    outcome.result();
  }
  const std::size_t last = std::min(steps, abandon_limit());
  for (std::size_t k = 0; k < last; ++k) {
    ManualLoop loop;
    auto outcome = loop.caller.call_soon(body);
    for (std::size_t i = 0; i < k && !outcome.done() && loop.step(); ++i) {
    }
  }
}

template <class Body>
void run_real(Body body) {
  Reports reports;
  const CallerOptions options{.name = {}, .backend = Backend::asio, .error_handler = reports.handler()};
  {
    Caller loop(Modifier::manual, options);
    auto outcome = loop.call_soon(body);
    loop.run_until(outcome);
    REQUIRE_MESSAGE(outcome.done(), "the loop ended before the test's body");
    outcome.result();
  }
  // How far it got each time depends on the other threads; every time is a place where a program may end.
  const std::size_t limit = std::min<std::size_t>(abandon_limit(), 200);
  bool ended = false;
  for (std::size_t k = 0; k < limit && !ended; ++k) {
    Caller loop(Modifier::manual, options);
    auto outcome = loop.call_soon(body);
    for (std::size_t i = 0; i < k && !(ended = outcome.done()); ++i)
      if (detail::step(loop.core()) == 0) loop.run_once();
  }
}

}  // namespace caller::test

#define CALLER_TEST_CONCAT2(a, b) a##b
#define CALLER_TEST_CONCAT(a, b) CALLER_TEST_CONCAT2(a, b)
#define CALLER_TEST_BODY(fn, name, run)        \
  static ::caller::Coro<void> fn();            \
  TEST_CASE(name) { ::caller::test::run(fn); } \
  static ::caller::Coro<void> fn()
#define ASYNC_TEST_CASE(name) CALLER_TEST_BODY(CALLER_TEST_CONCAT(async_test_, __LINE__), name, run_simulated)
#define ASYNC_THREADS_TEST_CASE(name) CALLER_TEST_BODY(CALLER_TEST_CONCAT(async_test_, __LINE__), name, run_real)

/// `expr` is a statement (it may co_await); fails unless it throws `Type`. For coroutines, where doctest's macros
/// cannot go.
#define CHECK_CORO_THROWS_AS(expr, Type)                   \
  do {                                                     \
    bool caller_thrown_ = false;                           \
    try {                                                  \
      expr;                                                \
    } catch (const Type&) {                                \
      caller_thrown_ = true;                               \
    }                                                      \
    CHECK_MESSAGE(caller_thrown_, #expr " throws " #Type); \
  } while (false)
