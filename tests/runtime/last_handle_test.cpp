// The last handle of a Caller with a thread goes on that thread after its loop, or on one that the thread waits for.
#include "support/coro.hpp"

#include <atomic>
#include <future>
#include <memory>
#include <thread>

using namespace caller;
using namespace caller::test;

namespace {

/// Somebody who ends later than all that the thread of a Caller does for it.
struct Told {
  std::promise<void> gone;
  ~Told() { gone.set_value(); }
};

bool happens(std::future<void>& what) { return what.wait_for(20s) == std::future_status::ready; }

}  // namespace

TEST_CASE("last handle: in a callback of stopped(), the thread ends by itself") {
  auto told = std::make_shared<Told>();
  auto gone = told->gone.get_future();
  auto last = std::make_shared<std::optional<Caller>>(std::in_place, new_thread);
  (*last)->stopped().add_done_callback([last, told](const PendingBase&) { last->reset(); });
  const Pending<> stopped = (*last)->stopped();
  told.reset();
  // Not by this thread: the handle goes meanwhile.
  (*last)->call_soon([last] { (*last)->stop(); });
  last.reset();
  CHECK(stopped.wait_done({.timeout = 20s, .protect = true}));
  CHECK(happens(gone));
}

TEST_CASE("last handle: in a variable of its own thread, that ends by itself") {
  auto told = std::make_shared<Told>();
  auto gone = told->gone.get_future();
  std::optional<Caller> w(std::in_place, new_thread);
  w->call_soon([w = *w, told] {
     struct Kept {
       std::shared_ptr<Told> told;
       Caller handle;
     };
     static thread_local std::optional<Kept> kept;
     kept.emplace(told, w);
   }).wait();
  told.reset();
  const Pending<> stopped = w->stopped();
  w->stop();
  w.reset();
  CHECK(stopped.wait_done({.timeout = 20s, .protect = true}));
  CHECK(happens(gone));
}

TEST_CASE("last handle: a parent's, in a callback of its child's stopped() or in a variable of the child's thread") {
  for (const bool in_variable : {false, true}) {
    CAPTURE(in_variable);
    auto parent = std::make_shared<Caller>(new_thread);
    const Pending<> stopped = parent->stopped();
    Caller child = parent->get({.name = "child"});
    if (in_variable)
      child
          .call_soon([parent] {
            static thread_local std::shared_ptr<Caller> kept;
            kept = parent;
          })
          .wait();
    else
      child.stopped().add_done_callback([parent](const PendingBase&) mutable { parent.reset(); });
    parent.reset();
    child.stop();
    CHECK(stopped.wait_done({.timeout = 20s, .protect = true}));
  }
}

TEST_CASE("last handle: two Callers whose coroutines own each other's both end") {
  std::optional<Caller> a(std::in_place, new_thread), b(std::in_place, new_thread);
  const Pending<> a_stopped = a->stopped(), b_stopped = b->stopped();
  const auto hold = [](Caller, Pending<> begun) -> Coro<void> {
    begun.set_result();
    co_await sleep_for(1h);
  };
  const Pending<> in_a, in_b;
  (void)a->call_soon(hold, *b, in_a);
  (void)b->call_soon(hold, *a, in_b);
  in_a.wait();
  in_b.wait();
  a->stop();
  b->stop();
  a.reset();
  b.reset();
  CHECK(a_stopped.wait_done({.timeout = 20s, .protect = true}));
  CHECK(b_stopped.wait_done({.timeout = 20s, .protect = true}));
}
