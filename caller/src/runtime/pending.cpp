// Who waits for a Pending, its completion, and the end of the work behind it.
#include <caller/pending.hpp>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "barrier.hpp"
#include "tracking.hpp"
#include "word.hpp"

namespace caller::detail {
namespace {

/// What the error was made with: passed on from call to call the text must not grow.
std::string message_of(const PendingCancelled& e) {
  std::string text = e.what();
  const std::string suffix = ": " + e.code().message();
  if (text.ends_with(suffix)) text.resize(text.size() - suffix.size());
  return text;
}

/// Of a word that is owned by another thread. On return it is not; the last step there was may have ended it.
void disown(PendingState& s) noexcept {
  P::Word w = s.word.load(std::memory_order_acquire);
  while (P::is_owned(w)) {
    if (!(w & P::kAsked) && !s.word.compare_exchange_weak(w, w | P::kAsked, std::memory_order_acq_rel)) continue;
    barrier_of_all_threads();
    // From now on its thread sees that somebody asks before it ends it; unless it does so already.
    unsigned spins = 0;
    while (s.begun.load(std::memory_order_acquire) == s.ending() && P::is_owned(s.word.load(std::memory_order_acquire)))
      pause(spins);
    w = s.word.load(std::memory_order_acquire);
    while (P::is_owned(w))
      if (s.word.compare_exchange_weak(w, disowned(w), std::memory_order_acq_rel)) return;
  }
}

}  // namespace

P::Word settled_word(PendingState& s) noexcept {
  unsigned spins = 0;
  for (;;) {
    const P::Word w = s.word.load(std::memory_order_acquire);
    if (w & P::kLock)
      pause(spins);
    else if (P::is_owned(w) && !owned_here(s))
      disown(s);
    else
      return w;
  }
}

bool last_slow(PendingState& s) noexcept {
  P::Word w = s.word.load(std::memory_order_acquire);
  if (P::is_owned(w)) {
    if (owned_here(s)) {
      s.refs.fetch_sub(1, std::memory_order_acq_rel);  // the work has one
      return false;
    }
    disown(s);
    w = s.word.load(std::memory_order_acquire);
  }
  // An end by plain stores leaves the work's in the count.
  return s.refs.fetch_sub(1, std::memory_order_acq_rel) == (w & P::kOwned ? 2 : 1);
}

std::uintptr_t lock_word(PendingState& s) noexcept {
  P::Word w = s.word.load(std::memory_order_acquire);
  for (;;) {
    P::Word was = w;
    if (w & (P::kLock | P::kOwned)) {
      if ((w & P::kLock) || !owned_here(s)) w = settled_word(s);
      was = disowned(w);
    }
    if (was & P::kDone) return was;
    if (s.word.compare_exchange_weak(w, was | P::kLock, std::memory_order_acquire, std::memory_order_acquire))
      return was;
  }
}

void unlock_word(PendingState& s, std::uintptr_t word) noexcept { s.word.store(word, std::memory_order_release); }

namespace {

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

}  // namespace

void complete_locked(PendingState& s, P::Word w) noexcept {
  if (w & P::kList) {
    s.word.store((w & P::kFlags) | P::kDone | P::kLock, std::memory_order_release);
    tell(s, w);
  } else {
    s.word.store((w & P::kFlags) | P::kDone, std::memory_order_release);
  }
}

bool add_waiter(PendingState& s, Waiter& w) noexcept {
  P::Word was = s.word.load(std::memory_order_acquire);
  if (!(was & (P::kList | P::kLock | P::kDone | P::kOwned))) [[likely]] {  // the first one
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

void protect(PendingState& s) noexcept {
  update(s, [](P::Word w) { return w | P::kProtected; });
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

#if defined(__x86_64__) && CALLER_POOLED_INLINE
const bool has_cmpxchg16b = [] {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_CMPXCHG16B) != 0;
}();
#endif

/// The word becomes `to` and a reference that is not the last one is given up, in one step instead of two: the count
/// and what shares its eight bytes lie behind the word. False: nothing has changed, somebody was there first (or this
/// processor cannot). The sanitizers, who would not see it, watch the two steps.
bool change_and_unref([[maybe_unused]] PendingState& s, [[maybe_unused]] P::Word from,
                      [[maybe_unused]] P::Word to) noexcept {
#if defined(__x86_64__) && CALLER_POOLED_INLINE
  using Eight [[gnu::may_alias]] = std::uint64_t;
  struct [[gnu::may_alias]] Sixteen {
    std::uint64_t word, rest;
  };
  static_assert(sizeof s.word == 8 && sizeof(Op) % 16 == 0 && __STDCPP_DEFAULT_NEW_ALIGNMENT__ >= 16);
  if (!has_cmpxchg16b) return false;
  auto* const rest = reinterpret_cast<Eight*>(&s.refs);
  auto* const both = reinterpret_cast<Sixteen*>(&s.word);
  std::uint64_t old = __atomic_load_n(rest, __ATOMIC_RELAXED);
  if (static_cast<std::uint32_t>(old) < 2) return false;
  const std::uint64_t less = old - 1;
  bool same = false;
  asm volatile("lock cmpxchg16b %1"
               : "=@ccz"(same), "+m"(*both), "+a"(from), "+d"(old)
               : "b"(to), "c"(less)
               : "memory");
  return same;
#else
  return false;
#endif
}

}  // namespace

bool publish(PendingState& s) noexcept {
  P::Word w = s.word.load(std::memory_order_acquire);
  if (w & ~(P::kList | P::kWork | P::kSole)) [[unlikely]]
    return publish_slow(s);
  const P::Word done = (w & P::kFlags) | P::kDone | P::kClaimed;
  const bool waited_for = w & P::kList;
  if (!waited_for && change_and_unref(s, w, done)) return true;
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

namespace {

/// An error of work that was cancelled, or decided by somebody else: nobody can look at it. With its context, owned.
void report_dropped(PendingState& s, ContextNode* context, const std::exception_ptr& error) noexcept {
  bool tell = false;
  try {
    std::rethrow_exception(error);
  } catch (const PendingCancelled&) {  // what it was asked for
  } catch (const std::exception&) {
    tell = true;
  } catch (...) {  // no error, but how somebody ends what runs
  }
  if (Extras* const e = s.extra(); tell && e && e->keeps_dropped) {
    e->dropped = error;
    tell = false;
  }
  ContextNode* const mine = retain(current_context());
  replace_current_context(context);
  if (tell) report_error(s.core, "a call that was cancelled or decided before it ended", error);
  replace_current_context(mine);
}

}  // namespace

void end_work_failed(PendingState& s, std::exception_ptr error) noexcept {
  free_worker(s);
  ContextNode* const context = retain(s.context);
  const bool due = settle_error(s, error);
  if (due && s.is(P::kFailed))
    release(context);
  else
    report_dropped(s, context, error);
  if (due) complete(s);
  s.unref();
}

void fail_unbegun(PendingState& s, std::exception_ptr error) noexcept {
  if (settle_error(s, std::move(error))) complete(s);
  s.act(&s, OpAct::drop);
}

void end_work_cancelled(PendingState& s, const char* reason) noexcept {
  const P::Word w = update(s, [](P::Word was) { return was & P::kClaimed ? was : was | P::kClaimed | P::kCancelled; });
  if (w & P::kClaimed) return;
  try {
    add_message(s, reason);
  } catch (...) {  // no memory for the message
  }
  complete(s);
}

namespace {

void end_unbegun(PendingState& s) noexcept {
  if (s.is(P::kClaimed)) return;  // decided before
  std::string reason;
  try {
    reason = "the caller \"" + s.core->voice->name + "\" stopped before the call began";
  } catch (...) {  // no memory for the reason
  }
  end_work_cancelled(s, reason.c_str());
}

}  // namespace

void drop_work(PendingState& s) noexcept {
  update(s, [](P::Word w) { return w & ~P::Word{P::kWorker}; });  // it has none, or one that ends
  end_unbegun(s);
}

bool begin_work_slow(PendingState& s) noexcept {
  constexpr auto decided = P::kClaimed | P::kCancelled;
  if (update(s, [](P::Word w) { return w; }) & decided) return false;
  if (!s.core->accepts_calls()) [[unlikely]] {
    end_unbegun(s);
    return false;
  }
  return true;
}

}  // namespace caller::detail
