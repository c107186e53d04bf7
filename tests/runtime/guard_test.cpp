// Who runs the turns of a loop, and who what is called in the middle of one.
#include "support/coro.hpp"

#include <exception>
#include <vector>

#include <caller/detail/turn_guard.hpp>

using namespace caller;
using namespace caller::test;

namespace {

int turns = 0, calls = 0;

std::exception_ptr count_turn(void (*body)(void*), void* argument) {
  ++turns;
  body(argument);
  return nullptr;
}

std::exception_ptr count_call(void (*body)(void*), void* argument) {
  ++calls;
  body(argument);
  return nullptr;
}

struct Guards {
  Guards() {
    detail::set_fault_guard(&count_call);
    detail::set_turn_guard(&count_turn);
    turns = calls = 0;
  }
  ~Guards() { detail::set_fault_guard(nullptr); }
  Guards(const Guards&) = delete;
  Guards& operator=(const Guards&) = delete;
};

}  // namespace

TEST_CASE("a callback is called by the guard of calls, and is no turn of the loop") {
  const Guards guards;
  ManualLoop loop;
  int called = 0;
  const auto outcome = loop.caller.call_soon([&] {
    const int turns_before = turns, calls_before = calls;
    for (int i = 0; i < 3; ++i) {
      Pending<int> p;
      p.add_done_callback([&](const PendingBase&) { ++called; });
      p.set_result(1);
    }
    CHECK(turns == turns_before);
    CHECK(calls == calls_before + 3);
  });
  loop.settle();
  CHECK(outcome.done());
  CHECK(called == 3);
  CHECK(turns > 0);
}

TEST_CASE("an item of a lane is called by the guard of calls, and is no turn of the loop") {
  const Guards guards;
  ManualLoop loop;
  std::vector<int> turns_at, calls_at;
  for (int i = 0; i < 3; ++i)
    loop.caller.queue_call("k", [&] {
      turns_at.push_back(turns);
      calls_at.push_back(calls);
    });
  loop.settle();
  REQUIRE(turns_at.size() == 3);
  CHECK(turns_at[0] == turns_at[2]);
  CHECK(calls_at[2] == calls_at[0] + 2);
}

TEST_CASE("without a guard of their own turns are run by that of calls, and by nobody when it goes") {
  {
    const Guards guards;
    detail::set_fault_guard(&count_call);
    ManualLoop loop;
    (void)loop.caller.call_soon([] {});
    loop.settle();
    CHECK(turns == 0);
    CHECK(calls > 0);
  }
  const int before = calls;
  ManualLoop loop;
  (void)loop.caller.call_soon([] {});
  loop.settle();
  CHECK(calls == before);
}
