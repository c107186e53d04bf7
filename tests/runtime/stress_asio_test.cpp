// Randomised ends of Asio's operations: bytes that arrive, time-outs, cancellations, closed sockets and the stop of
// their Caller, from several threads.
#include "asio_support.hpp"
#include "support/stress.hpp"

#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>

#include <algorithm>
#include <array>
#include <memory>

using namespace caller;
using namespace caller::test;

namespace {

/// With Boost before 1.77 what is cancelled goes on to its own end, or to that of the Caller.
constexpr bool kCancels = BOOST_VERSION >= 107700;

/// What the operations of one place use. It outlives the frames, as it must with Boost before 1.77 when a Caller stops.
struct Place {
  Connection connection;
  asio::steady_timer timer;
  std::array<char, 64> in{};
  std::array<char, 64> out{};
  explicit Place(const Caller& c) : connection(c), timer(c.executor()) {}
};

struct Count {
  std::atomic<int> alive{0}, begun{0}, ended{0};
};

struct Frame {
  Count& count;
  explicit Frame(Count& c) : count(c) { ++count.alive; }
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;
  ~Frame() { --count.alive; }
};

Coro<void> one_operation(Count& count, Place& place, unsigned which, unsigned limit) {
  const Frame frame(count);
  WaitOptions how;
  how.timeout = limit * 1us;
  switch (which) {
    case 0:
      co_await place.connection.a.async_read_some(asio::buffer(place.in), use_pending).async_wait_done(how);
      break;
    case 1:
      co_await asio::async_write(place.connection.b, asio::buffer(place.out), use_pending);
      break;
    case 2:
      place.timer.expires_after(limit * 1us);
      co_await place.timer.async_wait(use_pending);
      break;
    case 3: {
      asio::steady_timer own(Caller::current().executor(), 1h);
      co_await own.async_wait(use_pending).async_wait_done(how);
      break;
    }
    default:
      place.connection.a.cancel();
      co_await yield_now();
  }
}

}  // namespace

TEST_CASE("stress: Asio's operations end by bytes, time-outs, cancellations and the stop of their Caller: each once") {
  MESSAGE("CALLER_SEED=" << seed());
  constexpr unsigned kThreads = 4, kActs = 24, kPlaces = 4;
  const std::size_t rounds = std::max<std::size_t>(1, steps() / (kThreads * kActs));
  for (std::size_t round = 0; round < rounds; ++round) {
    Count count;
    Caller c(new_thread);
    std::vector<std::unique_ptr<Place>> places;  // goes before the io_context
    c.call_soon([&] {
       for (unsigned i = 0; i < kPlaces; ++i) places.push_back(std::make_unique<Place>(c));
     }).wait();
    on_threads(kThreads, [&](unsigned thread) {
      Random random(static_cast<unsigned>(round) * kThreads + thread);
      std::vector<Pending<>> mine;
      for (unsigned i = 0; i < kActs; ++i) {
        ++count.begun;
        mine.push_back(c.call_soon(one_operation, std::ref(count), std::ref(*places[random.below(kPlaces)]),
                                   random.below(5), random.below(100)));
        mine.back().add_done_callback([&count](const PendingBase&) { ++count.ended; });
        if (random.one_in(3)) mine[random.below(static_cast<unsigned>(mine.size()))].cancel();
        if (thread == 0 && i == kActs / 2 && (!kCancels || random.one_in(2))) c.stop();
      }
      // What reads may have nothing to read, and waits for its time-out; the rest ends by itself or is cancelled.
      for (auto& p : mine) {
        CHECK(p.wait_done({.timeout = 60s, .protect = true}));
        if (!p.cancelled()) (void)p.exception();  // closed, or cancelled by a neighbour
      }
    });
    c.stop();
    REQUIRE(c.stopped().wait_done({.timeout = 60s}));
    CHECK(count.ended == count.begun);
    CHECK(count.alive == 0);
  }
}
