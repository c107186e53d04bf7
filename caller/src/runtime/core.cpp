// The loop of a Core: its queue, its sleep, its timers, its turns. See docs/ARCHITECTURE.md, "The loop".
#include "core.hpp"
#include "log.hpp"

#include <algorithm>
#include <chrono>

#include <caller/detail/turn_guard.hpp>
#include <caller/host.hpp>

namespace caller::detail {
namespace {

std::uint64_t next_core_id() noexcept {
  static std::atomic<std::uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

Core::Core(const CallerOptions& opts, Core* of, bool threaded)
    : id(next_core_id()),
      options(opts),
      parent(of),
      owns_thread(threaded),
      name(opts.name),
      guest_(opts.host != nullptr),
      driver_(std::make_unique<Driver>(opts.host.get())) {
  if (!options.backend) options.backend = guest_ ? opts.host->backend() : of ? *of->options.backend : Backend::asio;
  check_backend(*options.backend, opts.host.get());
  if (!options.error_handler && of) options.error_handler = of->options.error_handler;
  if (!options.log && of) options.log = of->options.log;
  if (of) of->retain();
  own_call = PendingState::kWork;
  if (loops_spare_barrier.load(std::memory_order_relaxed)) own_call |= PendingState::kOwned;
  started.protect();
  stopping.protect();
  stopped.protect();
  is_protected.store(opts.protect, std::memory_order_relaxed);
  if (name.empty()) name = "Caller-" + std::to_string(id);
  voice = std::make_shared<const Voice>(Voice{name, options.error_handler, options.log});
}

Core::~Core() {
  driver_.reset();  // handlers that are dropped only now look at us
  if (thread_.joinable()) thread_.detach();
  if (parent) parent->release();
  trim_blocks();
}

// ---- queue ----

bool submit_slow(Core& core, Op* op) noexcept { return core.submit(op); }
bool submit_or_drop_slow(Core& core, Op* op) noexcept {
  if (core.accepts_calls() && core.submit(op)) return true;
  op->act(op, OpAct::drop);
  return false;
}

std::size_t step(Core& core) noexcept { return core.loop_once(1); }
std::int64_t next_timer(Core& core) noexcept { return core.timers.empty() ? -1 : core.timers.next(); }

bool Core::submit(Op* op) noexcept {
  if (on_thread()) {
    if (closed_) return false;
    push_local(op);
    if (guest_) [[unlikely]]
      ask_for_turn();
    return true;
  }
  Op* list = inbox.load(std::memory_order_relaxed);
  do {
    if (list == closed()) return false;
    op->next = list == asleep() ? nullptr : list;
  } while (!inbox.compare_exchange_weak(list, op, std::memory_order_acq_rel, std::memory_order_relaxed));
  if (list == asleep()) {
    // We took the mark, so the loop waits for this wake-up before it ends: it is alive until the count rises.
    driver_->wake();
    kicks_done_.fetch_add(1, std::memory_order_release);
  }
  return true;
}

bool Core::grab() noexcept {
  Op* const list = inbox.load(std::memory_order_relaxed);
  if (!list || list == asleep() || list == closed()) return false;
  append_oldest_first(inbox.exchange(nullptr, std::memory_order_acquire), tail);
  return true;
}

std::size_t Core::drain(std::size_t budget) noexcept {
  const std::size_t outer = std::exchange(limit, budget), outer_forgone = std::exchange(forgone_, 0);
  const FaultGuard guard = turn_guard.load(std::memory_order_acquire);
  const std::size_t n = guard ? run_entries_guarded(guard) : run_entries();
  limit = outer;
  forgone_ = outer_forgone;
  return n;
}

std::size_t Core::run_entries() noexcept {
  const std::size_t budget = limit;
  bool more_due = !timers.empty() && fire_timers();
  grab();  // what refills itself does not keep out what other threads have queued
  std::size_t n = 0;
  for (;;) {
    Op* const op = head;
    if (!op) {
      if (grab()) continue;
      if (!more_due) break;
      more_due = fire_timers();
      continue;
    }
    if (!(head = op->next)) tail = &head;
    ++n;
    op->act(op, OpAct::run);
    if (n >= limit) break;
  }
  return n + (budget - limit - forgone_);  // with what ran in place
}

// ---- faults ----

std::atomic<FaultGuard> fault_guard{nullptr}, turn_guard{nullptr};
void set_fault_guard(FaultGuard guard) noexcept {
  fault_guard.store(guard, std::memory_order_release);
  turn_guard.store(guard, std::memory_order_release);
}
void set_turn_guard(FaultGuard guard) noexcept { turn_guard.store(guard, std::memory_order_release); }

std::size_t Core::run_entries_guarded(FaultGuard guard) noexcept {
  struct Turn {
    Core& core;
    std::size_t n;
  } turn{*this, 1};  // after a fault: something has run
  PendingState* const outer = in_place;
  const auto fault = guard(
      [](void* t) {
        auto& self = *static_cast<Turn*>(t);
        self.n = self.core.run_entries();
      },
      &turn);
  if (fault) {
    in_place = outer;
    end_faulted(fault, "the loop");
  }
  return turn.n;
}

/// The frames of the work are lost: of its stack, and of its coroutine, which is in the middle of something and can be
/// neither resumed nor destroyed. So are its function and arguments, which they may refer to.
void Core::end_faulted(const std::exception_ptr& fault, const char* where) noexcept {
  ThreadState& ts = this_thread();
  PendingState* const s = std::exchange(ts.task, nullptr);
  if (!s) {
    report(where, fault);
    return detail::release(std::exchange(ts.context, nullptr));
  }
  s->context = std::exchange(ts.context, nullptr);  // the error is reported in it
  s->ref();                                         // for ever: timers in the lost frames still refer to it
  s->set_begun();                                   // there is no frame any more
  s->suspended = nullptr;
  unlink_task(*s);
  std::optional<OwnedLaneKey> lane;
  LaneItem* const waiting = take_lane_of(*this, *s, lane);
  end_work_failed(*s, fault);
  if (lane) queue_again(*this, *lane, waiting);
}

std::size_t Core::queued() noexcept {
  while (grab()) {
  }
  std::size_t n = 0;
  for (Op* op = head; op; op = op->next) ++n;
  return n;
}

/// Looks for calls of other threads for CallerOptions::spin. True: there are some, or a timer is due.
bool Core::spin() noexcept {
  constexpr int kLooks = 64;  // between two looks at the clock
  const auto clock = [] { return std::chrono::steady_clock::now().time_since_epoch().count(); };
  std::int64_t until = time_after(clock(), options.spin.count());
  const bool timed = !timers.empty() && !options.clock;
  if (timed) until = std::min(until, timers.next());
  do {
    for (int i = 0; i < kLooks; ++i) {
      if (inbox.load(std::memory_order_relaxed)) return true;
      relax();
    }
  } while (clock() < until);
  return timed && timers.next() <= now();
}

/// Where work comes back soon after each sleep, falling asleep and being woken cost more than the work. So a loop whose
/// last sleeps were ended soon by calls first gives its processor away a few times, to whoever has work for it. True:
/// there is some.
bool Core::linger() noexcept {
  constexpr int kTries = 16;
  if (early_sleeps_ > 0) return linger_early();
  if (short_sleeps_ == 0) return false;
  for (int i = 0; i < kTries; ++i) {
    if (inbox.load(std::memory_order_relaxed)) return true;
    std::this_thread::yield();
  }
  --short_sleeps_;
  return false;
}

/// The first two times that the loop of a new thread has nothing to do: who made it is about to make its first call, or
/// is being told of that call's end and goes on to the next one or to the loop's end. To be woken takes as long again.
bool Core::linger_early() noexcept {
  --early_sleeps_;
  const auto called = [this] { return inbox.load(std::memory_order_relaxed) != nullptr; };
  return timers.empty() || options.clock ? wait_awake(called) : wait_awake(called, timers.next() - now());
}

void Core::sleep() noexcept {
  if (options.spin > Duration::zero() ? spin() : linger()) return;
  Op* expected = nullptr;
  if (!inbox.compare_exchange_strong(expected, asleep(), std::memory_order_acq_rel)) return;
  std::optional<std::int64_t> timeout;
  // Time of a manual clock does not pass while waiting.
  if (!timers.empty() && !options.clock) timeout = std::max<std::int64_t>(0, timers.next() - now());
  asleep_ = true;
  const auto fell_asleep = std::chrono::steady_clock::now();
  driver_->wait(timeout);
  leave_context();
  constexpr auto kShort = std::chrono::microseconds(100);
  constexpr int kTrust = 4;
  const bool called = inbox.load(std::memory_order_relaxed) != asleep();  // not by a timer or the backend
  if (called && std::chrono::steady_clock::now() - fell_asleep < kShort) short_sleeps_ = kTrust;
  rise();
}

void Core::rise() noexcept {
  if (!std::exchange(asleep_, false)) return;
  Op* expected = asleep();
  if (!inbox.compare_exchange_strong(expected, nullptr, std::memory_order_acq_rel)) ++kicks_owed_;
}

// ---- time ----

std::int64_t Core::now() const noexcept {
  if (options.clock) return options.clock->now();
  return std::chrono::steady_clock::now().time_since_epoch().count();
}
void add_timer(Core& core, TimerNode& node) noexcept { core.timers.add(node); }
void remove_timer(Core& core, TimerNode& node) noexcept { core.timers.remove(node); }

/// True: there is more.
bool Core::fire_timers() noexcept {
  // Only queue here: the nodes' own work runs in its turn, so that order is kept and the heap is at rest.
  return timers.fire_due(now(), [](TimerNode& node) { node.act(&node, OpAct::run); });
}

// ---- suspended work ----

void Core::link_task(PendingState& s) noexcept {
  s.linked = true;
  s.prev_task = nullptr;
  s.next_task = tasks_;
  if (tasks_) tasks_->prev_task = &s;
  tasks_ = &s;
}

void Core::unlink_task(PendingState& s) noexcept {
  if (!s.linked) return;
  s.linked = false;
  if (s.prev_task)
    s.prev_task->next_task = s.next_task;
  else
    tasks_ = s.next_task;
  if (s.next_task) s.next_task->prev_task = s.prev_task;
}

// ---- turning ----

void Core::check_pump(const char* operation) {
  if (state() == CallerState::stopped) throw CallerStopped(std::string(operation) + ": the Caller \"" + name + "\"");
  if (!on_thread())
    throw Error(Errc::wrong_thread, std::string(operation) + ": the Caller \"" + name + "\" belongs to another thread");
}

void Core::finish_if_stopped() {
  if (depth_ == 0 && state() == CallerState::stopping && stop_ready()) finalize();
}

void Core::run() {
  check_pump("run");
  const Pump pump(*this);
  if (guest_) throw Error(Errc::already_running, "run: the Caller \"" + name + "\" is driven by its host");
  if (depth_ > 0) throw Error(Errc::already_running, "run: the Caller \"" + name + "\"");
  enter_running();
  loop_until([this] { return stop_ready(); });
  finalize();
}

std::size_t Core::poll() {
  check_pump("poll");
  const Pump pump(*this);
  enter_running();
  bool first = true;
  std::size_t rest = 0;
  const std::size_t n = loop_until([&](std::size_t ran) {
    if (std::exchange(first, false)) {
      poll_backend();
      return false;
    }
    if (ran >= kBudget) {  // what was ready is in front of what has been queued since: a bound to the whole
      while (fire_timers()) {
      }
      rest = drain(queued());
    }
    return true;
  });
  finish_if_stopped();
  return n + rest;
}

std::size_t Core::loop_once(std::size_t budget) noexcept {
  const Pump pump(*this);
  enter_running();
  const Bare bare;
  ++depth_;
  poll_backend();
  const std::size_t n = drain(budget);
  --depth_;
  return n;
}

std::size_t Core::run_once() {
  check_pump("run_once");
  const Pump pump(*this);
  if (guest_) throw Error(Errc::already_running, "run_once: the Caller \"" + name + "\" is driven by its host");
  enter_running();
  // What counts is what the loop has run, not what it finds when it looks once more.
  const std::size_t n = loop_until([this](std::size_t ran) { return ran > 0 || stop_ready(); });
  finish_if_stopped();
  return n;
}

void Core::run_until(PendingState& s) {
  check_pump("run_until");
  const Pump pump(*this);
  enter_running();
  s.ref();
  const PendingBase keep(PendingBase::Adopt{}, &s);
  try {
    block_on(s, std::nullopt, true, true);
  } catch (const CallerStopped&) {  // then this is the end of the loop, and no error
  }
  finish_if_stopped();
}

}  // namespace caller::detail
