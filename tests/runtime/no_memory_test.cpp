// When no memory is left: what could not be done leaves everything as it was, and nothing locked.
#include "support/coro.hpp"

#include <cstdlib>
#include <memory>
#include <new>

using namespace caller;
using namespace caller::test;

namespace {
thread_local constinit long left = -1;  // allocations of this thread that succeed yet; -1: all
thread_local constinit bool refused = false;
}  // namespace

void* operator new(std::size_t size) {
  refused |= left == 0;
  void* const block = left == 0 ? nullptr : std::malloc(size);
  if (!block) throw std::bad_alloc();
  if (left > 0) --left;
  return block;
}
void operator delete(void* block) noexcept { std::free(block); }
void operator delete(void* block, std::size_t) noexcept { std::free(block); }

namespace {

constexpr const char* kLongText = "a text that is longer than what a string keeps in itself";

/// `f(subject)` with memory for no allocation, for one, and so on, until it needs no more; each time with a subject of
/// its own, and `then(subject, whether it threw)` with all the memory there is.
template <class Subject, class F, class Then>
void with_ever_more_memory(F f, Then then) {
  for (long enough = 0; enough < 100; ++enough) {
    Subject subject;
    std::vector<std::pair<void*, std::size_t>> blocks;
    blocks.reserve(100'000);
    left = 0;
    for (const std::size_t size : detail::kBlockSizes) {
      try {
        for (;;) blocks.emplace_back(detail::allocate(size), size);
      } catch (const std::bad_alloc&) {  // the runtime has none of this size in store any more
      }
    }
    bool threw = false;
    refused = false;
    left = enough;
    try {
      f(subject);
    } catch (const std::bad_alloc&) {
      threw = true;
    }
    left = -1;
    for (const auto& [block, size] : blocks) detail::deallocate(block, size);
    then(subject, threw);
    if (!refused) return;
  }
  FAIL("there never was enough memory");
}

struct Sleeper {
  Caller caller{new_thread};
  Pending<> call = caller.call_soon([]() -> Coro<void> { co_await sleep_for(1h); });
  Sleeper() {
    caller.call_soon([] {}).wait();
  }
};

struct LateCall {
  Caller caller{new_thread};
  Pending<> call = caller.call_later(1h, [] {});
  LateCall() {
    caller.call_soon([] {}).wait();
  }
};

struct Member {
  ManualLoop loop;
  PendingGroup group;
  Pending<> pending;
};

struct CancelledElsewhere {
  Pending<> pending;
  int called = 0;
  CancelledElsewhere() {
    pending.set_canceller([](const std::string&) {});
    pending.cancel(kLongText);
  }
};

}  // namespace

TEST_CASE_TEMPLATE("work of another thread that could not be cancelled for want of memory can be afterwards", Work,
                   Sleeper, LateCall) {
  with_ever_more_memory<Work>([](Work& w) { w.call.cancel(kLongText); },
                              [](Work& w, bool threw) {
                                CHECK(w.call.cancelled() == !threw);
                                w.call.cancel();
                                w.call.wait_done();
                                CHECK(w.call.cancelled());
                              });
}

TEST_CASE("a canceller that comes late is called, also without memory for the message") {
  with_ever_more_memory<CancelledElsewhere>(
      [](CancelledElsewhere& p) { p.pending.set_canceller([&p](const std::string&) { ++p.called; }); },
      [](CancelledElsewhere& p, bool threw) {
        CHECK(p.called == (threw ? 0 : 1));
        CHECK_FALSE(p.pending.set_result());
        CHECK(p.pending.done());
      });
}

TEST_CASE("a group does not wait for a member that it had no memory for") {
  with_ever_more_memory<Member>([](Member& m) { m.group.add(m.pending); },
                                [](Member& m, bool threw) {
                                  CHECK(m.group.size() == (threw ? 0 : 1));
                                  const auto joined = m.loop.caller.call_soon([&m] { return m.group.join(); });
                                  m.loop.settle();
                                  CHECK(joined.done() == threw);
                                  m.pending.set_result();
                                  m.loop.settle();
                                  CHECK(joined.done());
                                });
}
