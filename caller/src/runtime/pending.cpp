// Completion, cancellation and callbacks of a Pending.
#include <caller/pending.hpp>

#include <ostream>

#include "log.hpp"
#include "tracking.hpp"

namespace caller::detail {
namespace {

struct Callback : Waiter {
  std::function<void(PendingBase)> fn;
  CallbackId id = 0;
  ContextNode* context = nullptr;
  ~Callback() { release(context); }
};

void run_callback(Callback& c, PendingState& s) noexcept {
  ContextNode* saved = retain(current_context());
  replace_current_context(std::exchange(c.context, nullptr));
  try {
    c.fn(PendingBase::share(&s));
  } catch (...) {
    report_error(nullptr, "done callback", std::current_exception());
  }
  replace_current_context(saved);
}

Waiter* head_of(std::uintptr_t word) noexcept { return reinterpret_cast<Waiter*>(word & ~PendingState::kMask); }

void pause(unsigned& spins) noexcept {
  if (++spins > 64) std::this_thread::yield();
}

void unlink(std::uintptr_t& list, Waiter& w) noexcept {
  if (w.prev)
    w.prev->next = w.next;
  else
    list = reinterpret_cast<std::uintptr_t>(w.next);
  if (w.next) w.next->prev = w.prev;
  w.prev = &w;  // in no list: taken out once, it may be asked to leave again
  w.next = nullptr;
}

/// What the error was made with: passed on from call to call the text must not grow.
std::string message_of(const PendingCancelled& e) {
  std::string text = e.what();
  const std::string suffix = ": " + e.code().message();
  if (text.ends_with(suffix)) text.resize(text.size() - suffix.size());
  return text;
}

/// When the last handle goes the core may be gone, and the context is its holder's; the work's own must be used then.
void remember_for_report(PendingState& s) noexcept {
  try {
    Extras& extras = extras_of(s);
    if (s.core) extras.voice = s.core->voice;
    // A plain function's context is in force while it settles; a coroutine's was taken back.
    extras.context = without_trackers(s.context || s.frame ? s.context : current_context());
    s.flags.fetch_or(PendingState::kReport, std::memory_order_release);
  } catch (...) {  // no memory: the handler of the last holder's thread is told
  }
}

/// Somebody has seen the error: nothing is kept for a report any more.
void observed(PendingState& s) noexcept {
  const std::uint32_t f = s.flags.fetch_or(PendingState::kObserved, std::memory_order_acq_rel);
  if (f & PendingState::kReport) release(s.extras->context.exchange(nullptr, std::memory_order_acq_rel));
}

void call_canceller(const Canceller& canceller, const std::string& message) noexcept {
  try {
    if (canceller) canceller(message);
  } catch (...) {
    report_error(nullptr, "canceller", std::current_exception());
  }
}

/// To be destroyed outside of locks: it may own anything, this Pending included.
Canceller take_canceller(PendingState& s) noexcept {
  Canceller taken;
  const std::uintptr_t list = lock_word(s);
  if (s.extras) taken.swap(s.extras->canceller);
  if (!(list & PendingState::kDone)) unlock_word(s, list);
  return taken;
}

/// Tells the loop of `s` to look at its cancellation.
struct CancelOp : Op {
  PendingState* state;
  explicit CancelOp(PendingState& s) : state(&s) {
    s.ref();
    act = [](Op* op, OpAct why) {
      auto* self = static_cast<CancelOp*>(op);
      if (why == OpAct::run) deliver_cancel(*self->state);
      self->state->unref();
      self->~CancelOp();
      deallocate(self, sizeof(CancelOp));
    };
  }
};

}  // namespace

std::uintptr_t lock_word(PendingState& s) noexcept {
  unsigned spins = 0;
  std::uintptr_t w = s.word.load(std::memory_order_acquire);
  for (;;) {
    if (w & PendingState::kLock) {
      pause(spins);
      w = s.word.load(std::memory_order_acquire);
    } else if (w & PendingState::kDone) {
      return w;
    } else if (s.word.compare_exchange_weak(w, w | PendingState::kLock, std::memory_order_acquire,
                                            std::memory_order_acquire)) {
      return w;
    }
  }
}

void unlock_word(PendingState& s, std::uintptr_t list) noexcept { s.word.store(list, std::memory_order_release); }

bool add_waiter(PendingState& s, Waiter& w) noexcept {
  const std::uintptr_t list = lock_word(s);
  if (list & PendingState::kDone) return false;
  Waiter* head = head_of(list);
  w.prev = nullptr;
  w.next = head;
  if (head) head->prev = &w;
  unlock_word(s, reinterpret_cast<std::uintptr_t>(&w));
  return true;
}

bool remove_waiter(PendingState& s, Waiter& w) noexcept {
  std::uintptr_t list = lock_word(s);
  if (list & PendingState::kDone) return false;
  const bool listed = w.prev != &w;
  if (listed) unlink(list, w);
  unlock_word(s, list);
  return listed;
}

Extras& extras_of(PendingState& s) {
  const std::uintptr_t list = lock_word(s);
  if (!s.extras) s.extras = new Extras;
  Extras& e = *s.extras;
  if (!(list & PendingState::kDone)) unlock_word(s, list);
  return e;
}

bool claim(PendingState& s) noexcept {
  std::uint32_t f = s.flags.load(std::memory_order_acquire);
  do {
    if (f & PendingState::kClaimed) return false;
    if ((f & PendingState::kCancelled) && !(f & PendingState::kForeign)) return false;
  } while (!s.flags.compare_exchange_weak(f, f | PendingState::kClaimed, std::memory_order_acq_rel,
                                          std::memory_order_acquire));
  if (!(f & PendingState::kForeign)) return true;
  take_canceller(s);
  if (!(f & PendingState::kCancelled)) return true;
  complete(s);  // its owner says that the cancelled work has ended
  return false;
}

bool set_canceller(PendingState& s, Canceller canceller) {
  using P = PendingState;
  auto spare = std::make_unique<Extras>();
  const std::uintptr_t list = lock_word(s);  // so cancel() comes before or after, not meanwhile
  const bool done = list & P::kDone;
  std::uint32_t f = s.flags.load(std::memory_order_acquire);
  const bool too_late = (f & P::kCancelled) && !(f & P::kWork) && !(done && (f & P::kForeign));
  bool set = false;
  if (!done) {
    if (!(f & (P::kCancelled | P::kWork))) {
      if (!s.extras) s.extras = spare.release();
      s.extras->canceller.swap(canceller);
      while (!(f & P::kClaimed) && !set)
        set = s.flags.compare_exchange_weak(f, f | P::kForeign, std::memory_order_acq_rel, std::memory_order_acquire);
      if (!set) s.extras->canceller.swap(canceller);  // it is being completed
    }
    unlock_word(s, list);
  }
  if (too_late) call_canceller(canceller, cancel_message(s));
  return set || too_late;
}

void pass_report(PendingState& from, PendingState& to) noexcept {
  if (!from.is(PendingState::kReport)) return;
  try {
    Extras& extras = extras_of(to);
    extras.voice = from.extras->voice;
    release(extras.context.exchange(from.extras->context.exchange(nullptr)));
    to.flags.fetch_or(PendingState::kReport, std::memory_order_release);
  } catch (...) {  // no memory: as above
  }
}

Settle settle(PendingState& s) noexcept {
  const std::uint32_t f = s.flags.fetch_or(PendingState::kClaimed, std::memory_order_acq_rel);
  if (f & PendingState::kClaimed) return Settle::lost;
  return f & PendingState::kCancelled ? Settle::cancelled : Settle::store;
}

bool settle_error(PendingState& s, std::exception_ptr error) noexcept {
  const Settle how = settle(s);
  if (how == Settle::store) {
    try {
      std::rethrow_exception(error);
    } catch (const PendingCancelled& e) {
      s.flags.fetch_or(PendingState::kCancelled, std::memory_order_release);
      try {
        extras_of(s).message = message_of(e);
      } catch (...) {  // no memory for the message: it is cancelled all the same
      }
    } catch (...) {
      s.error = std::move(error);
      remember_for_report(s);
    }
  }
  return how != Settle::lost;
}

void end_work_cancelled(PendingState& s, const char* reason) noexcept {
  std::uint32_t f = s.flags.load(std::memory_order_acquire);
  do {
    if (f & PendingState::kClaimed) return;
  } while (!s.flags.compare_exchange_weak(f, f | PendingState::kClaimed | PendingState::kCancelled,
                                          std::memory_order_acq_rel, std::memory_order_acquire));
  try {
    Extras& e = extras_of(s);
    if (!e.message.empty()) e.message += "; ";
    e.message += reason;
  } catch (...) {  // as above
  }
  complete(s);
}

void complete(PendingState& s) noexcept {
  std::uintptr_t empty = 0;
  if (s.word.compare_exchange_strong(empty, PendingState::kDone, std::memory_order_acq_rel)) return;
  Waiter* w = head_of(lock_word(s));
  s.word.store(PendingState::kDone | PendingState::kLock, std::memory_order_release);
  while (w && w->next) w = w->next;  // oldest first
  Waiter *first = nullptr, *last = nullptr;
  while (w) {
    Waiter* newer = w->prev;
    if (w->fire) {
      w->fire(w);  // after this the waiter may be gone
    } else {
      w->next = nullptr;
      (last ? last->next : first) = w;
      last = w;
    }
    w = newer;
  }
  s.word.store(PendingState::kDone, std::memory_order_release);
  while (first) {
    std::unique_ptr<Callback> c(static_cast<Callback*>(first));
    first = c->next;
    run_callback(*c, s);
  }
}

bool begin_work(PendingState& s) noexcept {
  const std::uint32_t f = s.flags.fetch_or(PendingState::kStarted, std::memory_order_acq_rel);
  if (f & (PendingState::kCancelled | PendingState::kClaimed)) return false;
  if (!s.core->accepts_calls()) [[unlikely]] {
    end_work_cancelled(s, "the caller was stopped before the call began");
    return false;
  }
  return true;
}

bool cancel(PendingState& s, std::string message) {
  const std::uintptr_t list = lock_word(s);
  if (list & PendingState::kDone) return false;
  using P = PendingState;
  std::uint32_t f = s.flags.load(std::memory_order_acquire);
  const bool foreign = f & P::kForeign;
  bool running;
  do {
    if (f & (P::kClaimed | P::kProtected)) {
      unlock_word(s, list);
      return false;
    }
    running = (f & P::kWork) && (f & P::kStarted);
  } while (
      !s.flags.compare_exchange_weak(f, f | P::kCancelled | P::kUndelivered | (running || foreign ? 0u : +P::kClaimed),
                                     std::memory_order_acq_rel, std::memory_order_acquire));
  if (!s.extras) s.extras = new Extras;
  std::string& text = s.extras->message;
  if (!text.empty() && !message.empty()) text += "; ";
  text += message;

  if (running || f & P::kTimer) {
    // The core cannot end before this work is done, and the work cannot be done while we hold the lock.
    std::optional<std::stop_source> stop = running ? s.extras->stop : std::nullopt;
    const bool here = s.core->on_thread();
    if (!here) {
      auto* op = ::new (allocate(sizeof(CancelOp))) CancelOp(s);
      if (!s.core->submit(op)) op->act(op, OpAct::drop);
    }
    unlock_word(s, list);
    if (here) deliver_cancel(s);
    if (stop) stop->request_stop();
  } else {
    unlock_word(s, list);
  }
  if (foreign) {
    if (const Canceller canceller = take_canceller(s)) call_canceller(canceller, cancel_message(s));
  } else if (!running) {
    complete(s);
  }
  return true;
}

std::stop_token stop_token_of(PendingState& s) {
  Extras& e = extras_of(s);
  const std::uintptr_t list = lock_word(s);
  if (!e.stop) e.stop.emplace();
  std::stop_source source = *e.stop;
  if (!(list & PendingState::kDone)) unlock_word(s, list);
  if (s.is(PendingState::kCancelled)) source.request_stop();  // cancel() came before there was a source
  return source.get_token();
}

std::string cancel_message(PendingState& s) {
  const std::uintptr_t list = lock_word(s);
  std::string text = s.extras ? s.extras->message : std::string();
  if (!(list & PendingState::kDone)) unlock_word(s, list);
  return text.empty() ? "the Pending was cancelled" : text;
}

void throw_outcome(PendingState& s) {
  if (!s.done()) throw PendingNotDone("Pending::result");
  if (s.is(PendingState::kCancelled)) throw PendingCancelled(cancel_message(s));
  if (s.error) {
    observed(s);
    std::rethrow_exception(s.error);
  }
}

void finish_state(PendingState& s) noexcept {
  if (s.error && !s.is(PendingState::kObserved)) {
    const char* const where = "a Pending nobody looked at";
    if (s.is(PendingState::kReport)) {
      ContextNode* const mine = retain(current_context());
      replace_current_context(s.extras->context.exchange(nullptr));
      report_error_to(s.extras->voice.get(), where, s.error);
      replace_current_context(mine);
    } else {
      report_error(nullptr, where, s.error);
    }
  }
  if (s.is(PendingState::kReport)) release(s.extras->context.exchange(nullptr));
  release(std::exchange(s.context, nullptr));
  // Callbacks of a Pending that is dropped before it was decided: nobody will ever call them.
  Waiter* w = head_of(s.word.load(std::memory_order_acquire));
  while (w) {
    Waiter* next = w->next;
    if (!w->fire) delete static_cast<Callback*>(w);
    w = next;
  }
  delete s.extras;
  s.extras = nullptr;
}

}  // namespace caller::detail

namespace caller {

using detail::PendingState;

std::exception_ptr PendingBase::exception() const {
  if (!done()) throw PendingNotDone("Pending::exception");
  if (cancelled()) throw PendingCancelled(detail::cancel_message(*state_));
  detail::observed(*state_);
  return state_->error;
}

CallbackId PendingBase::add_done_callback(std::function<void(PendingBase)> fn) const {
  static std::atomic<CallbackId> next{1};
  auto c = std::make_unique<detail::Callback>();
  c->fn = std::move(fn);
  c->id = next.fetch_add(1, std::memory_order_relaxed);
  c->context = detail::retain(detail::current_context());
  const CallbackId id = c->id;
  if (detail::add_waiter(*state_, *c))
    (void)c.release();
  else
    detail::run_callback(*c, *state_);
  return id;
}

bool PendingBase::remove_done_callback(CallbackId id) const {
  std::uintptr_t list = detail::lock_word(*state_);
  if (list & PendingState::kDone) return false;
  std::unique_ptr<detail::Callback> found;
  for (auto* w = detail::head_of(list); w; w = w->next) {
    if (w->fire) continue;
    auto* c = static_cast<detail::Callback*>(w);
    if (c->id != id) continue;
    detail::unlink(list, *c);
    found.reset(c);
    break;
  }
  detail::unlock_word(*state_, list);
  return found != nullptr;  // its function is destroyed here, outside the lock
}

std::map<std::string, std::any>& PendingBase::metadata() const { return detail::extras_of(*state_).metadata; }

PendingBase current_pending() noexcept { return PendingBase::share(detail::current_task()); }

std::ostream& operator<<(std::ostream& out, const PendingBase& p) {
  if (!p) return out << "<Pending empty>";
  const char* what = !p.done()          ? (p.cancelled() ? "cancelling" : "pending")
                     : p.cancelled()    ? "cancelled"
                     : p.state()->error ? "error"
                                        : "done";
  return out << "<Pending " << what << ' ' << static_cast<const void*>(p.state()) << '>';
}

}  // namespace caller
