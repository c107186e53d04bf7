// Completion, cancellation and callbacks of a Pending.
#include <caller/pending.hpp>

#include <ostream>

#include "log.hpp"
#include "tracking.hpp"

namespace caller::detail {
namespace {

using P = PendingState;

struct Callback : Waiter {
  Callback() { fire = nullptr; }
  std::function<void(PendingBase)> fn;
  CallbackId id = 0;
  ContextNode* context = nullptr;
  ~Callback() { release(context); }
};

void run_callback(Callback& c, PendingState& s) noexcept {
  ContextNode* saved = retain(current_context());
  replace_current_context(std::exchange(c.context, nullptr));
  const auto fault = call_guarded([&] {
    try {
      c.fn(PendingBase::share(&s));
    } catch (...) {
      report_error(nullptr, "done callback", std::current_exception());
    }
  });
  if (fault) [[unlikely]]
    report_error(nullptr, "done callback", fault);
  replace_current_context(saved);
}

Waiter* head_of(P::Word word) noexcept { return reinterpret_cast<Waiter*>(word & P::kList); }

void pause(unsigned& spins) noexcept {
  if (++spins > 64) std::this_thread::yield();
}

void unlink(P::Word& word, Waiter& w) noexcept {
  word &= ~P::Word{P::kSole};  // it may be the one meant, and somebody else gets a reference in its place
  if (w.prev)
    w.prev->next = w.next;
  else
    word = (word & P::kFlags) | reinterpret_cast<P::Word>(w.next);
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

/// Somebody has seen the error: nothing is kept for a report any more.
void observed(PendingState& s) noexcept {
  s.extra()->observed.store(true, std::memory_order_relaxed);
  release(s.extra()->context.exchange(nullptr, std::memory_order_acq_rel));
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
  const P::Word w = lock_word(s);
  if (s.extras) taken.swap(s.extra()->canceller);
  if (!(w & P::kDone)) unlock_word(s, w);
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
    if (w & P::kLock) {
      pause(spins);
      w = s.word.load(std::memory_order_acquire);
    } else if (w & P::kDone) {
      return w;
    } else if (s.word.compare_exchange_weak(w, w | P::kLock, std::memory_order_acquire, std::memory_order_acquire)) {
      return w;
    }
  }
}

void unlock_word(PendingState& s, std::uintptr_t word) noexcept { s.word.store(word, std::memory_order_release); }

namespace {

/// Changes the word by `change` (of the old word; the same word: leave it), never while somebody holds the lock.
/// Returns the word as it was.
template <class F>
P::Word update(PendingState& s, F&& change) noexcept {
  unsigned spins = 0;
  P::Word w = s.word.load(std::memory_order_acquire);
  for (;;) {
    if (w & P::kLock) [[unlikely]] {
      pause(spins);
      w = s.word.load(std::memory_order_acquire);
      continue;
    }
    const P::Word to = change(w);
    if (to == w || s.word.compare_exchange_weak(w, to, std::memory_order_acq_rel, std::memory_order_acquire)) return w;
  }
}

/// With the list taken out of the word, which says DONE|LOCK now: tells them, oldest first.
void tell(PendingState& s, P::Word was) noexcept {
  Waiter* w = head_of(was);
  while (w->next) w = w->next;
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
  s.word.store((was & P::kFlags) | P::kDone, std::memory_order_release);
  while (first) {
    std::unique_ptr<Callback> c(static_cast<Callback*>(first));
    first = c->next;
    run_callback(*c, s);
  }
}

/// With the lock held, the outcome decided, and `w` what the word shall say: the end.
void complete_locked(PendingState& s, P::Word w) noexcept {
  if (w & P::kList) {
    s.word.store((w & P::kFlags) | P::kDone | P::kLock, std::memory_order_release);
    tell(s, w);
  } else {
    s.word.store((w & P::kFlags) | P::kDone, std::memory_order_release);
  }
}

}  // namespace

bool add_waiter(PendingState& s, Waiter& w) noexcept {
  P::Word was = s.word.load(std::memory_order_acquire);
  if (!(was & (P::kList | P::kLock | P::kDone))) [[likely]] {  // the first one
    w.prev = w.next = nullptr;
    if (s.word.compare_exchange_strong(was, was | reinterpret_cast<P::Word>(&w), std::memory_order_acq_rel,
                                       std::memory_order_acquire))
      return true;
  }
  was = lock_word(s);
  if (was & P::kDone) return false;
  Waiter* head = head_of(was);
  w.prev = nullptr;
  w.next = head;
  if (head) head->prev = &w;
  unlock_word(s, (was & P::kFlags) | reinterpret_cast<P::Word>(&w));
  return true;
}

bool remove_waiter(PendingState& s, Waiter& w) noexcept {
  std::uintptr_t word = lock_word(s);
  if (word & P::kDone) return false;
  const bool listed = w.prev != &w;
  if (listed) unlink(word, w);
  unlock_word(s, word);
  return listed;
}

Extras& extras_of(PendingState& s) {
  if (Extras* const there = s.extra()) return *there;
  auto made = std::make_unique<Extras>();
  Extras* none = nullptr;
  if (s.extras.compare_exchange_strong(none, made.get(), std::memory_order_acq_rel)) return *made.release();
  return *none;
}

void protect(PendingState& s) noexcept {
  update(s, [](P::Word w) { return w | P::kProtected; });
}

bool claim(PendingState& s) noexcept {
  const auto refuses = [](P::Word w) {
    return (w & (P::kClaimed | P::kDone)) || ((w & P::kCancelled) && !(w & P::kForeign));
  };
  const P::Word w = update(s, [&](P::Word was) { return refuses(was) ? was : was | P::kClaimed; });
  if (refuses(w)) return false;
  if (!(w & P::kForeign)) return true;
  take_canceller(s);
  if (!(w & P::kCancelled)) return true;
  complete(s);  // its owner says that the cancelled work has ended
  return false;
}

bool set_canceller(PendingState& s, Canceller canceller) {
  Extras& extras = extras_of(s);
  const P::Word w = lock_word(s);  // so cancel() comes before or after, not meanwhile
  const bool done = w & P::kDone;
  const bool too_late = (w & P::kCancelled) && !(w & (done ? P::kWork | P::kForeign : P::Word{P::kWork}));
  const bool taken = !done && !too_late && !(w & (P::kWork | P::kClaimed));
  if (taken) extras.canceller.swap(canceller);
  if (!done) unlock_word(s, taken ? w | P::kForeign : w);
  if (too_late) call_canceller(canceller, cancel_message(s));
  return too_late || taken;
}

void pass_report(PendingState& from, PendingState& to) noexcept {
  if (!from.is(P::kFailed)) return;
  try {
    Extras& extras = extras_of(to);
    extras.voice = from.extra()->voice;
    release(extras.context.exchange(from.extra()->context.exchange(nullptr)));
  } catch (...) {  // no memory: the handler of the last holder's thread is told
  }
}

void complete(PendingState& s) noexcept {
  const P::Word w = update(s, [](P::Word was) {
    if (was & P::kDone) return was;
    return (was & P::kFlags) | P::kDone | (was & P::kList ? P::Word{P::kLock} : P::Word{0});
  });
  if (!(w & P::kDone) && (w & P::kList)) tell(s, w);
}

// ---- the end of work ----

namespace {

/// The work has ended, or never began, on a worker: gives it back, once.
void free_worker(PendingState& s) noexcept {
  if (update(s, [](P::Word w) { return w & ~P::Word{P::kWorker}; }) & P::kWorker) work_of_worker_ended(s);
}

bool publish_slow(PendingState& s) noexcept {
  constexpr auto unwanted = P::kClaimed | P::kCancelled;
  free_worker(s);
  const P::Word w = update(s, [](P::Word was) {
    if (was & unwanted) return was;
    return (was & P::kFlags) | P::kDone | P::kClaimed | (was & P::kList ? P::Word{P::kLock} : P::Word{0});
  });
  if (w & unwanted) return false;
  if (w & P::kList) tell(s, w | P::kClaimed);
  s.unref();
  return true;
}

}  // namespace

bool publish(PendingState& s) noexcept {
  P::Word w = s.word.load(std::memory_order_acquire);
  if (w & ~(P::kList | P::kWork | P::kStarted | P::kSole)) [[unlikely]]
    return publish_slow(s);
  const P::Word done = (w & P::kFlags) | P::kDone | P::kClaimed;
  const bool waited_for = w & P::kList;
  if (!s.word.compare_exchange_strong(w, waited_for ? done | P::kLock : done, std::memory_order_acq_rel)) [[unlikely]]
    return publish_slow(s);
  if (waited_for) {
    Waiter* const one = head_of(w);
    if (one->fire == &fire_pending && !one->next) [[likely]] {
      auto& wait = static_cast<PendingWait&>(*one);
      detail::submit(*wait.home, &wait);
      s.word.store(done, std::memory_order_release);
    } else {
      tell(s, done | (w & P::kList));
    }
  }
  s.unref();
  return true;
}

void end_unwanted(PendingState& s) noexcept {
  free_worker(s);
  // Cancelled, and nobody has claimed it: so it is ours to end. Claimed: who claimed it ends it.
  const P::Word w = update(s, [](P::Word was) { return was | P::kClaimed; });
  if (!(w & P::kClaimed)) complete(s);
  s.unref();
}

void set_flag(PendingState& s, P::Flag flag) noexcept {
  update(s, [&](P::Word w) { return w | flag; });
}
void clear_flag(PendingState& s, P::Flag flag) noexcept {
  update(s, [&](P::Word w) { return w & ~P::Word{flag}; });
}

Settle settle(PendingState& s) noexcept {
  const P::Word w = update(s, [](P::Word was) { return was | P::kClaimed; });
  if (w & P::kClaimed) return Settle::lost;
  return w & P::kCancelled ? Settle::cancelled : Settle::store;
}

bool settle_error(PendingState& s, std::exception_ptr error) noexcept {
  ContextNode* const context = std::exchange(s.context, nullptr);
  const Settle how = settle(s);
  if (how == Settle::store) {
    try {
      std::rethrow_exception(error);
    } catch (const PendingCancelled& e) {
      try {
        extras_of(s).message = message_of(e);
      } catch (...) {  // no memory for the message: it is cancelled all the same
      }
      set_flag(s, P::kCancelled);
    } catch (...) {
      set_error(s, std::move(error));
      if (context && s.extras) s.extra()->context = without_trackers(context);
    }
  }
  release(context);  // it may hold a group that holds us
  return how != Settle::lost;
}

void end_work_failed(PendingState& s, std::exception_ptr error) noexcept {
  free_worker(s);
  if (settle_error(s, std::move(error))) complete(s);
  s.unref();
}

void fail_unbegun(PendingState& s, std::exception_ptr error) noexcept {
  if (settle_error(s, std::move(error))) complete(s);
  s.act(&s, OpAct::drop);
}

namespace {
void add_message(PendingState& s, std::string_view message) {
  std::string& text = extras_of(s).message;
  if (!text.empty()) text += "; ";
  text += message;
}
}  // namespace

void end_work_cancelled(PendingState& s, const char* reason) noexcept {
  const P::Word w = update(s, [](P::Word was) { return was & P::kClaimed ? was : was | P::kClaimed | P::kCancelled; });
  if (w & P::kClaimed) return;
  try {
    add_message(s, reason);
  } catch (...) {  // no memory for the message
  }
  complete(s);
}

void drop_work(PendingState& s) noexcept {
  update(s, [](P::Word w) { return w & ~P::Word{P::kWorker}; });  // it has none, or one that ends
  end_work_cancelled(s, "the caller stopped before the call began");
}

bool begin_work_slow(PendingState& s) noexcept {
  constexpr auto decided = P::kClaimed | P::kCancelled;
  if (update(s, [](P::Word w) { return w & decided ? w : w | P::kStarted; }) & decided) return false;
  if (!s.core->accepts_calls()) [[unlikely]] {
    end_work_cancelled(s, "the caller was stopped before the call began");
    return false;
  }
  return true;
}

bool cancel(PendingState& s, std::string message) {
  const P::Word w = lock_word(s);
  if (w & P::kDone) return false;
  if (w & (P::kClaimed | P::kProtected)) {
    unlock_word(s, w);
    return false;
  }
  const bool running = (w & P::kWork) && (w & P::kStarted);
  const bool foreign = w & P::kForeign;
  const P::Word now = w | P::kCancelled | P::kUndelivered | (running || foreign ? P::Word{0} : P::Word{P::kClaimed});
  std::optional<std::stop_source> stop;
  try {
    if (!message.empty()) {
      add_message(s, message);
    }
    if (running && s.extras) stop = s.extra()->stop;
  } catch (...) {  // no memory for the message: it is cancelled all the same
  }
  if (foreign) {
    Canceller canceller;
    canceller.swap(s.extra()->canceller);  // under the lock: whoever completes it next must not take it away
    unlock_word(s, now);
    call_canceller(canceller, cancel_message(s));
    return true;
  }
  if (!running && !(w & P::kTimer)) {
    complete_locked(s, now);
    return true;
  }
  // The core cannot end before this work is done, and the work cannot be done while we hold the lock.
  const bool here = !s.core || s.core->on_thread();
  if (here && (w & P::kTimer)) {
    unschedule(s);
    unlock_word(s, now & ~P::Word{P::kTimer});
    s.act(&s, OpAct::drop);
    if (s.alone())
      complete_locked(s, s.word.load(std::memory_order_relaxed));
    else
      complete(s);
    return true;
  }
  if (!here) {
    s.word.store(now | P::kLock, std::memory_order_release);  // before the loop can hear of it
    auto* op = ::new (allocate(sizeof(CancelOp))) CancelOp(s);
    if (!s.core->submit(op)) op->act(op, OpAct::drop);
  }
  unlock_word(s, now);
  if (here) deliver_cancel(s);
  if (stop) stop->request_stop();
  if (!running) complete(s);
  return true;
}

void set_error(PendingState& s, std::exception_ptr error) noexcept {
  try {
    Extras& e = extras_of(s);
    e.error = std::move(error);
    // When the last handle goes the core may be gone, and the context is its holder's; the work's own are used then.
    if (s.core) e.voice = s.core->voice;
    update(s, [](P::Word w) { return w | P::kFailed; });
  } catch (...) {  // no memory to keep an error in: what remains to say is that there is no result
    update(s, [](P::Word w) { return w | P::kCancelled; });
  }
}

void set_box(PendingState& s, void* value, void (*destroy)(void*) noexcept) {
  Extras& e = extras_of(s);
  e.box = {value, destroy};
  update(s, [](P::Word w) { return w | P::kBoxed; });
}
void* boxed(PendingState& s) noexcept { return s.extra()->box.get(); }

std::stop_token stop_token_of(PendingState& s) {
  Extras& e = extras_of(s);
  std::stop_source source;
  const std::uintptr_t w = lock_word(s);
  if (!e.stop) e.stop.emplace(source);
  source = *e.stop;
  if (!(w & PendingState::kDone)) unlock_word(s, w);
  if (s.is(PendingState::kCancelled)) source.request_stop();  // cancel() came before there was a source
  return source.get_token();
}

std::string cancel_message(PendingState& s) {
  const std::uintptr_t w = lock_word(s);
  std::string text = s.extras ? s.extra()->message : std::string();
  if (!(w & PendingState::kDone)) unlock_word(s, w);
  return text.empty() ? "the Pending was cancelled" : text;
}

bool throw_outcome_slow(PendingState& s) {
  if (!s.done()) throw PendingNotDone("Pending::result");
  if (s.is(PendingState::kCancelled)) throw PendingCancelled(cancel_message(s));
  if (s.is(P::kFailed)) {
    observed(s);
    std::rethrow_exception(s.extra()->error);
  }
  return s.is(P::kBoxed);
}

void finish_state(PendingState& s) noexcept {
  if (s.is(P::kFailed) && !s.extra()->observed.load(std::memory_order_relaxed)) {
    const char* const where = "a Pending nobody looked at";
    if (s.extra()->voice) {
      ContextNode* const mine = retain(current_context());
      replace_current_context(s.extra()->context.exchange(nullptr));
      report_error_to(s.extra()->voice.get(), where, s.extra()->error);
      replace_current_context(mine);
    } else {
      report_error(nullptr, where, s.extra()->error);
    }
  }
  if (s.extras) release(s.extra()->context.exchange(nullptr));
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
using P = PendingState;

std::exception_ptr PendingBase::exception() const {
  if (!done()) throw PendingNotDone("Pending::exception");
  if (cancelled()) throw PendingCancelled(detail::cancel_message(*state_));
  if (!state_->is(P::kFailed)) return nullptr;
  detail::observed(*state_);
  return state_->extra()->error;
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
  std::uintptr_t word = detail::lock_word(*state_);
  if (word & PendingState::kDone) return false;
  std::unique_ptr<detail::Callback> found;
  for (auto* w = detail::head_of(word); w; w = w->next) {
    if (w->fire) continue;
    auto* c = static_cast<detail::Callback*>(w);
    if (c->id != id) continue;
    detail::unlink(word, *c);
    found.reset(c);
    break;
  }
  detail::unlock_word(*state_, word);
  return found != nullptr;  // its function is destroyed here, outside the lock
}

std::map<std::string, std::any>& PendingBase::metadata() const { return detail::extras_of(*state_).metadata; }

PendingBase current_pending() noexcept { return PendingBase::share(detail::current_task()); }

std::ostream& operator<<(std::ostream& out, const PendingBase& p) {
  if (!p) return out << "<Pending empty>";
  const char* what = !p.done()                   ? (p.cancelled() ? "cancelling" : "pending")
                     : p.cancelled()             ? "cancelled"
                     : p.state()->is(P::kFailed) ? "error"
                                                 : "done";
  return out << "<Pending " << what << ' ' << static_cast<const void*>(p.state()) << '>';
}

}  // namespace caller
