// Randomised lives: 4 to 8 threads call, cancel, wait for, stop, replace and abandon the same few Callers. Whatever the
// order, each call ends once, each coroutine that waited goes on once, and everything that was made is destroyed.
#include "support/stress.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <set>

using namespace caller;
using namespace caller::test;

namespace {

/// What a round adds up to.
struct Ledger {
  std::atomic<int> tokens{0};          // alive; each function owns one
  std::atomic<int> made{0}, ended{0};  // Pendings, and done callbacks of them
  std::atomic<int> waiting{0}, resumed{0},
      dropped{0};               // coroutines at a wait; those that went on; frames destroyed there
  std::atomic<int> unsound{0};  // things seen that must not be
};

struct Token {
  Ledger* ledger;
  explicit Token(Ledger& l) : ledger(&l) { ++l.tokens; }
  Token(Token&& o) noexcept : ledger(o.ledger) { ++ledger->tokens; }
  Token(const Token&) = delete;
  Token& operator=(const Token&) = delete;
  ~Token() { --ledger->tokens; }
};

/// Waits for `p`, and counts how that ends.
Coro<void> count_wait(Ledger& ledger, PendingBase p, WaitOptions options) {
  struct Counts {
    Ledger& ledger;
    bool resumed = false;
    explicit Counts(Ledger& l) : ledger(l) { ++ledger.waiting; }
    Counts(const Counts&) = delete;
    Counts& operator=(const Counts&) = delete;
    ~Counts() { ++(resumed ? ledger.resumed : ledger.dropped); }
  } counts(ledger);
  std::exception_ptr cancelled;
  try {
    co_await p.async_wait_done(options);
  } catch (const PendingCancelled&) {
    cancelled = std::current_exception();
  }
  ledger.unsound += counts.resumed;
  counts.resumed = true;
  if (cancelled) std::rethrow_exception(cancelled);
}

Coro<void> sleep_a_little(Token, unsigned microseconds) { co_await sleep_for(microseconds * 1us); }

/// Members on this Caller and on workers; none may outlive the group.
Coro<void> group_work(Ledger& ledger, Token, int mode, bool fails) {
  auto running = std::make_shared<std::atomic<int>>(0);
  struct Runs {
    std::shared_ptr<std::atomic<int>> n;
    explicit Runs(std::shared_ptr<std::atomic<int>> r) : n(std::move(r)) { ++*n; }
    Runs(const Runs&) = delete;
    Runs& operator=(const Runs&) = delete;
    ~Runs() { --*n; }
  };
  PendingGroupOptions options;
  options.mode = mode;
  auto body = [&ledger, running, fails](PendingGroup&) -> Coro<void> {
    Caller self = Caller::current();
    auto member = [running]() -> Coro<void> {
      const Runs runs(running);
      co_await sleep_for(20us);
    };
    auto on_worker = [running, fails, token = Token(ledger)] {
      const Runs runs(running);
      if (fails) throw std::runtime_error("member");
    };
    self.call_soon(member);
    self.call_soon(member);
    try {
      self.to_thread(std::move(on_worker));
    } catch (const CallerStopped&) {  // then it has no member there
    }
    co_await yield_now();
  };
  std::exception_ptr failed;
  try {
    co_await with_pending_group(options, std::move(body));
  } catch (...) {
    failed = std::current_exception();
  }
  ledger.unsound += *running != 0;
  if (failed) std::rethrow_exception(failed);
}

AsyncGenerator<Pending<int>> numbers(Ledger& ledger, int count) {
  for (int i = 0; i < count; ++i) {
    if (i % 3 == 2) co_await yield_now();
    auto work = [i, token = Token(ledger)] { return i; };
    co_yield Caller::current().call_soon(std::move(work));
  }
}

Coro<void> stream_work(Ledger& ledger, Token, int count, int leave_after) {
  std::set<int> got;
  auto stream = Caller::current().as_completed(numbers(ledger, count), {.max_concurrent = 2});
  while (static_cast<int>(got.size()) != leave_after) {
    auto p = co_await stream.next();
    if (!p) break;
    if (!p->cancelled()) ledger.unsound += !got.insert(p->result()).second;
  }
}

/// The Callers everybody uses: one is replaced now and then.
class Town {
public:
  static constexpr unsigned kCallers = 3;
  Town() {
    for (auto& c : callers_) c.emplace(new_thread, options());
  }
  /// Sometimes an owner: then the Caller may end in the borrower's hands.
  Caller borrow(unsigned n, bool own) {
    std::lock_guard lock(mutex_);
    if (own) return *callers_[n];
    detail::retain_core(callers_[n]->core(), false);
    return Caller(Caller::Adopt{}, callers_[n]->core(), false);
  }
  void replace(unsigned n) {
    std::optional<Caller> old(std::in_place, new_thread, options());
    {
      std::lock_guard lock(mutex_);
      old.swap(callers_[n]);
    }
  }

private:
  static CallerOptions options() {
    CallerOptions o;
    o.max_idle_workers = 1;
    o.max_workers = 2;
    o.error_handler = [](const std::string&, const std::exception_ptr&) {};
    return o;
  }
  std::mutex mutex_;
  std::array<std::optional<Caller>, kCallers> callers_;
};

/// One thread's part of a round.
class Citizen {
public:
  Citizen(Town& town, Ledger& ledger, unsigned stream) : town_(town), ledger_(ledger), random_(stream) {}

  void act() {
    const Caller c = town_.borrow(random_.below(Town::kCallers), random_.one_in(8));
    switch (random_.below(24)) {
      case 0:
      case 1:
        return note(c.call_soon([token = Token(ledger_)] {}));
      case 2:
        return note(c.call_later(random_.below(60) * 1us, [token = Token(ledger_)] {}));
      case 3:
      case 4:
        return note(c.call_soon(sleep_a_little, Token(ledger_), random_.below(3) * 20));
      case 5:
      case 6:
        try {
          return note(c.to_thread([token = Token(ledger_)] {}));
        } catch (const CallerStopped&) {
          return;
        }
      case 7:
      case 8:
        c.queue_call(static_cast<int>(random_.below(2)),
                     [token = Token(ledger_)]() -> Coro<void> { co_await yield_now(); });
        return;
      case 9:
        c.queue_close(static_cast<int>(random_.below(2)));
        return;
      case 10:
        c.call_direct([token = Token(ledger_)] {});
        c.post([token = Token(ledger_)] {});
        return;
      case 11:
        return note(c.call_soon(group_work, std::ref(ledger_), Token(ledger_), static_cast<int>(random_.below(4)),
                                random_.one_in(3)));
      case 12:
        return note(c.call_soon(stream_work, std::ref(ledger_), Token(ledger_), 6, random_.one_in(2) ? -1 : 2));
      case 13:
      case 14:
      case 15:
        return wait_on(c);
      case 16:
      case 17:
        if (!mine_.empty()) mine_[random_.below(static_cast<unsigned>(mine_.size()))].cancel();
        return;
      case 18:
        return foreign(c);
      case 19:
        if (!mine_.empty())
          mine_[random_.below(static_cast<unsigned>(mine_.size()))].wait_done({.timeout = 30us, .protect = true});
        return;
      case 20:
        try {
          Caller parent = c;
          note(parent.get({.name = "child"}).call_soon(sleep_a_little, Token(ledger_), 10));
        } catch (const CallerStopped&) {  // as it should
        }
        return;
      case 21:
        return live_alone(c);
      case 22:
        if (random_.one_in(4)) town_.replace(random_.below(Town::kCallers));
        return;
      case 23:
        if (random_.one_in(4)) note(c.call_soon([token = Token(ledger_)] { Caller::current().stop(); }));
        return;
    }
  }

  /// Every call of mine ends, whatever became of its Caller.
  void finish() {
    for (auto& p : mine_) p.wait_done({.timeout = {}, .protect = true});
    for (auto& p : mine_)
      if (!p.cancelled()) (void)p.exception();
  }

private:
  void note(PendingBase p) {
    ++ledger_.made;
    p.add_done_callback([l = &ledger_](const PendingBase&) { ++l->ended; });
    if (random_.one_in(5)) p.cancel("random");
    mine_.push_back(std::move(p));
  }

  void wait_on(const Caller& c) {
    if (mine_.empty()) return;
    WaitOptions options;
    if (random_.one_in(2)) options.timeout = random_.below(40) * 1us;
    options.protect = random_.one_in(2);
    options.shield = random_.one_in(3);
    const auto& target = mine_[random_.below(static_cast<unsigned>(mine_.size()))];
    note(c.call_soon(count_wait, std::ref(ledger_), target, options));
  }

  /// Work outside of the runtime: cancelled, waited for and completed from different threads.
  void foreign(const Caller& c) {
    Pending<int> p;
    auto called = std::make_shared<std::atomic<int>>(0);
    p.set_canceller([called, token = std::make_shared<Token>(ledger_)](const std::string&) { ++*called; });
    note(p);
    note(c.call_soon(count_wait, std::ref(ledger_), p, WaitOptions{}));
    if (random_.one_in(2)) c.post([p, token = Token(ledger_)] { p.cancel("from there"); });
    if (random_.one_in(2)) std::this_thread::yield();
    p.set_result(1);
    ledger_.unsound += *called > 1 || !p.done() || (*called && !p.cancelled());
  }

  /// A manual Caller of this thread that uses the others, and is left before its work has ended.
  void live_alone(const Caller& c) {
    Caller alone(manual, {.backend = Backend::manual, .max_workers = 1, .error_handler = [](auto&&...) {}});
    auto elsewhere = c.call_soon(sleep_a_little, Token(ledger_), 20);
    note(elsewhere);
    note(alone.call_soon(count_wait, std::ref(ledger_), elsewhere, WaitOptions{.timeout = {}, .protect = true}));
    note(alone.call_soon(group_work, std::ref(ledger_), Token(ledger_), 1, false));
    note(alone.call_soon(stream_work, std::ref(ledger_), Token(ledger_), 4, -1));
    note(alone.to_thread([token = Token(ledger_)] {}));
    auto held = alone.call_soon([l = &ledger_]() -> Coro<void> {
      Pending<> gate;
      const OpenAtEnd opens(gate);
      Token token(*l);
      auto work = Caller::current().to_thread([gate] { gate.wait({.timeout = {}, .protect = true, .shield = true}); });
      co_await work.async_wait_done({.timeout = {}, .protect = true});
    });
    note(held);
    const unsigned turns = random_.below(12);
    for (unsigned i = 0; i < turns; ++i) alone.poll();
  }

  Town& town_;
  Ledger& ledger_;
  Random random_;
  std::vector<PendingBase> mine_;
};

}  // namespace

TEST_CASE(
    "stress: Callers are called, stopped, replaced and abandoned from everywhere: all ends once, nothing is left") {
  MESSAGE("CALLER_SEED=" << seed());
  constexpr unsigned kActs = 48;
  std::size_t done = 0;
  for (unsigned round = 0; done < std::max<std::size_t>(1, steps()); ++round) {
    const unsigned threads = 4 + round % 5;
    done += threads * kActs;
    Ledger ledger;
    {
      Town town;
      on_threads(threads, [&](unsigned t) {
        Citizen citizen(town, ledger, round * 16 + t);
        for (unsigned i = 0; i < kActs; ++i) citizen.act();
        citizen.finish();
      });
    }
    CAPTURE(round);
    CHECK(ledger.ended == ledger.made);
    CHECK(ledger.resumed + ledger.dropped == ledger.waiting);
    CHECK(ledger.unsound == 0);
    CHECK(ledger.tokens == 0);
  }
}

TEST_CASE("stress: set_canceller, cancel and the owner's completion in any order: told at most once, ended once") {
  MESSAGE("CALLER_SEED=" << seed());
  const std::size_t rounds = std::max<std::size_t>(1, steps() / 40);
  constexpr unsigned kThreads = 4;
  std::vector<Pending<int>> pendings(rounds);
  std::vector<std::atomic<int>> told(rounds), ended(rounds), decided(rounds);
  for (std::size_t i = 0; i < rounds; ++i)
    pendings[i].add_done_callback([&ended, i](const PendingBase&) { ++ended[i]; });
  std::atomic<std::size_t> arrived{0};
  std::atomic<int> wrong{0};
  on_threads(kThreads, [&](unsigned t) {
    Random random(t);
    for (std::size_t i = 0; i < rounds; ++i) {
      ++arrived;
      while (arrived < (i + 1) * kThreads) std::this_thread::yield();
      if (random.one_in(2)) std::this_thread::yield();
      const auto& p = pendings[i];
      if (t == 0) {  // the owner
        const bool heard = p.set_canceller([&told, i](const std::string&) { ++told[i]; });
        if (random.one_in(2)) std::this_thread::yield();
        decided[i] += p.set_result(1);
        if (!heard) ++wrong;
      } else if (t == 1) {
        p.wait_done();
      } else {
        p.cancel();
      }
    }
  });
  for (std::size_t i = 0; i < rounds; ++i) {
    wrong += ended[i] != 1;
    wrong += told[i] != (pendings[i].cancelled() ? 1 : 0);
    wrong += decided[i] != (pendings[i].cancelled() ? 0 : 1);
  }
  CHECK(wrong == 0);
}
