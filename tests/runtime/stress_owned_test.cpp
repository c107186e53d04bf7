// Calls that a loop makes on itself, with handles in other threads: the loop ends them by plain stores, unless somebody
// asks (detail/state.hpp, "owned").
#include "support/stress.hpp"

#include <deque>

using namespace caller;
using namespace caller::test;

namespace {

/// What a call returns, and holds: all of them go.
struct Counted {
  inline static std::atomic<int> alive{0};
  int value;
  explicit Counted(int v) : value(v) { ++alive; }
  Counted(const Counted& other) : value(other.value) { ++alive; }
  Counted(Counted&& other) noexcept : value(other.value) { ++alive; }
  Counted& operator=(const Counted&) = default;
  ~Counted() { --alive; }
};

struct Handed {
  Pending<Counted> pending;
  int expected;
  Handed(Pending<Counted> p, int value) : pending(std::move(p)), expected(value) {}
};

class Handover {
public:
  void give(Handed h) {
    const std::lock_guard lock(mutex_);
    list_.push_back(std::move(h));
  }
  std::optional<Handed> take() {
    const std::lock_guard lock(mutex_);
    if (list_.empty()) return std::nullopt;
    Handed h = std::move(list_.front());
    list_.pop_front();
    return h;
  }

private:
  std::mutex mutex_;
  std::deque<Handed> list_;
};

Pending<Counted> make(const Caller& loop, unsigned kind, int value) {
  const Counted held(value);
  switch (kind) {
    case 0:
      return loop.call_soon([held]() -> Coro<Counted> { co_return held; });
    case 1:
      return loop.call_soon([held]() -> Coro<Counted> {
        co_await Caller().call_soon([] {});
        co_return held;
      });
    case 2:
      return loop.call_later(1us, [held] { return held; });
    default:
      return loop.call_soon([held] { return held; });
  }
}

}  // namespace

TEST_CASE(
    "stress: what a loop calls on itself, others wait for, watch, cancel and drop while it ends: each ends once") {
  MESSAGE("CALLER_SEED=" << seed());
  constexpr unsigned kThreads = 3, kBatch = 32;
  const std::size_t rounds = std::max<std::size_t>(1, steps() / kBatch);
  Handover handover;
  std::atomic<bool> made_all{false}, sound{true};
  std::atomic<std::size_t> added{0}, called{0}, removed{0};
  {
    const Caller loop(new_thread), other(new_thread);
    const auto maker = loop.call_soon([&]() -> Coro<void> {
      Random random(99);
      for (std::size_t round = 0; round < rounds; ++round) {
        std::vector<Handed> kept;
        for (unsigned i = 0; i < kBatch; ++i) {
          Handed h{make(loop, random.below(8), static_cast<int>(i)), static_cast<int>(i)};
          if (random.one_in(3)) kept.push_back(h);
          handover.give(std::move(h));
        }
        for (Handed& h : kept) {
          if (random.one_in(4)) continue;  // dropped here
          if (random.one_in(8)) h.pending.cancel();
          co_await h.pending.async_wait_done({.protect = true});
          if (!h.pending.cancelled() && h.pending.result().value != h.expected) sound = false;
        }
      }
      made_all = true;
    });
    on_threads(kThreads, [&](unsigned thread) {
      Random random(thread);
      for (;;) {
        const bool last = made_all;
        std::optional<Handed> h = handover.take();
        if (!h && last) return;
        if (!h) {
          std::this_thread::yield();
          continue;
        }
        const Pending<Counted> p = std::move(h->pending);
        const auto check = [&] {
          if (!p.done() || (!p.cancelled() && p.result().value != h->expected)) sound = false;
        };
        switch (random.below(8)) {
          case 0:  // dropped
            break;
          case 1:
            p.wait_done();
            check();
            break;
          case 2:
            p.cancel();
            p.wait_done();
            check();
            break;
          case 3:
            ++added;
            p.add_done_callback([&called](const PendingBase&) { ++called; });
            break;
          case 4: {
            ++added;
            const auto id = p.add_done_callback([&called](const PendingBase&) { ++called; });
            removed += p.remove_done_callback(id);
            break;
          }
          case 5: {
            const Pending<Counted> copy = p;
            copy.protect();
            copy.wait_done();
            check();
            break;
          }
          case 6:
            other
                .call_soon([p]() -> Coro<void> {
                  const Pending<Counted> mine = p;
                  co_await mine.async_wait_done({.protect = true});
                })
                .wait_done();
            check();
            break;
          case 7:
            while (!p.done()) std::this_thread::yield();
            check();
            break;
        }
      }
    });
    maker.wait();
  }
  CHECK(sound);
  CHECK(called + removed == added);
  CHECK(Counted::alive == 0);
}

TEST_CASE("stress: who asks for a call in the moment in which its loop ends it is told, and leaves nothing behind") {
  MESSAGE("CALLER_SEED=" << seed());
  const std::size_t rounds = steps() / 2;
  std::atomic<std::size_t> added{0}, called{0};
  std::atomic<Handed*> slot{nullptr};
  std::atomic<bool> made_all{false};
  const auto wait_a_little = [](Random& random) {
    for (unsigned n = random.below(400); n > 0; --n) std::atomic_signal_fence(std::memory_order_seq_cst);
  };
  {
    const Caller loop(new_thread);
    const auto maker = loop.call_soon([&]() -> Coro<void> {
      Random random(1);
      const Caller here;
      for (std::size_t round = 0; round < rounds; ++round) {
        auto handed = std::make_unique<Handed>(make(here, 3, static_cast<int>(round)), static_cast<int>(round));
        const Pending<> next = here.call_soon([] {});
        while (slot.load(std::memory_order_relaxed)) std::this_thread::yield();
        slot.store(handed.release(), std::memory_order_release);
        wait_a_little(random);
        co_await next;  // the call runs before
      }
      made_all = true;
    });
    Random random(2);
    for (;;) {
      const bool last = made_all;
      const std::unique_ptr<Handed> handed(slot.exchange(nullptr, std::memory_order_acquire));
      if (!handed && last) break;
      if (!handed) continue;
      wait_a_little(random);
      const Pending<Counted> p = std::move(handed->pending);
      switch (random.below(4)) {
        case 0:  // dropped
          break;
        case 1:
          p.cancel();
          break;
        default:
          ++added;
          p.add_done_callback([&called](const PendingBase&) { ++called; });
          break;
      }
    }
    maker.wait();
  }
  CHECK(called == added);
  CHECK(Counted::alive == 0);
}
