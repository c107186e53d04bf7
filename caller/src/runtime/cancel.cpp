// Cancelling a Pending, and who else may decide it: claims, cancellers, stop tokens.
#include <caller/pending.hpp>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "barrier.hpp"
#include "log.hpp"
#include "tracking.hpp"
#include "word.hpp"

namespace caller::detail {
namespace {

void call_canceller(const Canceller& canceller, PendingState& s) noexcept {
  if (!canceller) return;
  std::string message;
  try {
    message = cancel_message(s);
  } catch (...) {  // no memory for the message: it is called all the same
  }
  try {
    canceller(message);
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

/// With the lock held and `w` the word. False: it will not begin before the word is unlocked, and not without a look at
/// it then.
bool has_begun(const PendingState& s, P::Word w) noexcept {
  if (s.has_begun()) return true;
  if (w & P::kTimer) return false;
  if (!(w & P::kWorker) && s.core->on_thread()) return false;  // in whose thread it would
  barrier_of_all_threads();
  return s.has_begun();
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

/// With the lock held: told to, and yet to hear of it. Who asks again and again, as one does whose waits time out, has
/// nothing new to say.
bool says_nothing_new(PendingState& s, P::Word w, const std::string& message) noexcept {
  constexpr P::Word told = P::kWork | P::kCancelled | P::kUndelivered;
  if ((w & told) != told || !s.has_begun()) return false;
  return message.empty() || (s.extras && s.extra()->message.find(message) != std::string::npos);
}

/// With the lock held, which goes where there is no memory; `w` is the word.
[[gnu::noinline]] CancelOp* make_cancel_op(PendingState& s, P::Word w) {
  try {
    return ::new (allocate(sizeof(CancelOp))) CancelOp(s);
  } catch (...) {
    unlock_word(s, w);
    throw;
  }
}

}  // namespace

void add_message(PendingState& s, std::string_view message) {
  std::string& text = extras_of(s).message;
  if (!text.empty()) text += "; ";
  text += message;
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
  if (too_late) call_canceller(canceller, s);
  return too_late || taken;
}

namespace {

enum class Asked : std::uint8_t { refused, accepted, to_be_told };  // the last: its coroutine, which waits or runs here

/// `stop`: to be asked to stop when the coroutine has been told.
[[gnu::always_inline]] inline Asked ask_to_cancel(PendingState& s, const std::string& message,
                                                  std::optional<std::stop_source>& stop) {
  const P::Word w = lock_word(s);
  if (w & P::kDone) return Asked::refused;
  if (w & (P::kClaimed | P::kProtected)) {
    unlock_word(s, w);
    return Asked::refused;
  }
  if (says_nothing_new(s, w, message)) {
    unlock_word(s, w);
    return Asked::accepted;
  }
  // The core cannot end before this work is done, and the work cannot be done while we hold the lock.
  const bool running = (w & P::kWork) && has_begun(s, w);
  const bool foreign = w & P::kForeign;
  const P::Word now = w | P::kCancelled | P::kUndelivered | (running || foreign ? P::Word{0} : P::Word{P::kClaimed});
  // Its loop is to hear of it. Where not, its core may be decided at this moment (to_thread).
  const bool told = !foreign && (running || (w & P::kTimer));
  const bool here = told && (!s.core || s.core->on_thread());
  CancelOp* const op = told && !here ? make_cancel_op(s, w) : nullptr;
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
    call_canceller(canceller, s);
    return Asked::accepted;
  }
  if (!told) {
    complete_locked(s, now);
    return Asked::accepted;
  }
  if (here && (w & P::kTimer)) {
    unschedule(s);
    unlock_word(s, now & ~P::Word{P::kTimer});
    s.act(&s, OpAct::drop);
    if (s.alone())
      complete_locked(s, s.word.load(std::memory_order_relaxed));
    else
      complete(s);
    return Asked::accepted;
  }
  if (op) {
    s.word.store(now | P::kLock, std::memory_order_release);  // before the loop can hear of it
    if (!s.core->submit(op)) op->act(op, OpAct::drop);
  }
  unlock_word(s, now);
  if (here) return Asked::to_be_told;
  if (stop) stop->request_stop();
  if (!running) complete(s);
  return Asked::accepted;
}

/// Work that is cancelled, and what it waited in; `left` once it does no longer.
struct Told {
  PendingState* work;
  std::optional<std::stop_source> stop;
  Suspension* left = nullptr;

  /// The next one down, if it is to be told as well. Who awaits is resumed after what is awaited.
  PendingState* tell(std::optional<std::stop_source>& stop_of_next) noexcept {
    Suspension* const w = wait_to_leave(*work);
    if (!w) return nullptr;
    PendingState* const awaited = passes_on_to(*w);
    if (!awaited) {
      if (w->detach(w)) left = w;
      return nullptr;
    }
    if (!leave(*w)) return nullptr;
    left = w;
    try {
      return ask_to_cancel(*awaited, kCancelledWaiter, stop_of_next) == Asked::to_be_told ? awaited : nullptr;
    } catch (...) {  // no memory for the message
      return nullptr;
    }
  }
  void end() noexcept {
    if (left) resume_cancelled(*work, *left);
    if (stop) stop->request_stop();
  }
};

/// Down a chain of works that await one another, which may be longer than the stack is deep.
void tell_all(PendingState& s, std::optional<std::stop_source> stop) noexcept {
  Told first{&s, std::move(stop)};
  std::optional<std::stop_source> next_stop;
  std::vector<Told> chain;
  for (PendingState* next = first.tell(next_stop); next; next = chain.back().tell(next_stop)) {
    try {
      if (chain.size() == chain.capacity()) chain.reserve(2 * chain.size() + 8);
    } catch (...) {  // no memory: the stack must do
      tell_all(*next, std::exchange(next_stop, std::nullopt));
      break;
    }
    chain.push_back({next, std::exchange(next_stop, std::nullopt)});
  }
  for (; !chain.empty(); chain.pop_back()) chain.back().end();
  first.end();
}

}  // namespace

bool cancel(PendingState& s, std::string message) {
  std::optional<std::stop_source> stop;
  const Asked asked = ask_to_cancel(s, message, stop);
  if (asked == Asked::to_be_told) tell_all(s, std::move(stop));
  return asked != Asked::refused;
}

void deliver_cancel(PendingState& s) noexcept { tell_all(s, {}); }

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
  std::string text;
  try {
    if (s.extras) text = s.extra()->message;
  } catch (...) {
    if (!(w & PendingState::kDone)) unlock_word(s, w);
    throw;
  }
  if (!(w & PendingState::kDone)) unlock_word(s, w);
  return text.empty() ? "the Pending was cancelled" : text;
}

}  // namespace caller::detail
