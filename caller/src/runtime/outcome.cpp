// What a Pending has come to, and who is told: results, errors, callbacks, the error nobody looked at.
#include <caller/pending.hpp>

#include <memory>
#include <ostream>

#include "log.hpp"
#include "tracking.hpp"
#include "word.hpp"

namespace caller::detail {
namespace {

/// Somebody has seen the error: nothing is kept for a report any more.
void observed(PendingState& s) noexcept {
  s.extra()->observed.store(true, std::memory_order_relaxed);
  release(s.extra()->context.exchange(nullptr, std::memory_order_acq_rel));
}

}  // namespace

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

Extras& extras_of(PendingState& s) {
  if (Extras* const there = s.extra()) return *there;
  auto made = std::make_unique<Extras>();
  Extras* none = nullptr;
  if (!s.extras.compare_exchange_strong(none, made.get(), std::memory_order_acq_rel)) return *none;
  s.magazine.store(kNoMagazine, std::memory_order_relaxed);  // there is more to free now
  return *made.release();
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

void refuse_no_exception() { throw Error(Errc::invalid_argument, "Pending::set_exception: no exception was given"); }

void set_box(PendingState& s, void* value, void (*destroy)(void*) noexcept) {
  Extras& e = extras_of(s);
  e.box = {value, destroy};
  update(s, [](P::Word w) { return w | P::kBoxed; });
}
void* boxed(PendingState& s) noexcept { return s.extra()->box.get(); }

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
  if (Extras* const e = s.extra()) {
    if (e->dropped) report_error(nullptr, "a call that was cancelled", e->dropped);
    release(e->context.exchange(nullptr));
  }
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

using detail::P;
using detail::PendingState;

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
