// The word of a Pending: its flags, its lock, and the list of those who wait. Internal to this folder.
#pragma once

#include <atomic>
#include <functional>
#include <string_view>
#include <thread>

#include "core.hpp"

namespace caller::detail {

using P = PendingState;

/// A done callback: a waiter that is told last, and without being fired.
struct Callback : Waiter {
  Callback() { fire = nullptr; }
  std::function<void(PendingBase)> fn;
  CallbackId id = 0;
  ContextNode* context = nullptr;
  ~Callback() { release(context); }
};

void run_callback(Callback& c, PendingState& s) noexcept;
/// With the lock held, the outcome decided, and `w` what the word shall say: the end.
void complete_locked(PendingState& s, P::Word w) noexcept;
/// To what a cancelled Pending says why. Errors: std::bad_alloc.
void add_message(PendingState& s, std::string_view message);

inline Waiter* head_of(P::Word word) noexcept { return reinterpret_cast<Waiter*>(word & P::kList); }

inline void pause(unsigned& spins) noexcept {
  if (++spins > 64) std::this_thread::yield();
}

inline void unlink(P::Word& word, Waiter& w) noexcept {
  word &= ~P::Word{P::kSole};  // it may be the one meant, and somebody else gets a reference in its place
  if (w.prev)
    w.prev->next = w.next;
  else
    word = (word & P::kFlags) | reinterpret_cast<P::Word>(w.next);
  if (w.next) w.next->prev = w.prev;
  w.prev = &w;  // in no list: taken out once, it may be asked to leave again
  w.next = nullptr;
}

inline bool owned_here(const PendingState& s) noexcept {
  return this_thread().core == s.core;  // which never changes of what is owned
}
/// Waits until nobody holds the lock, and takes the word from another thread that owns it. Returns it.
P::Word settled_word(PendingState& s) noexcept;
/// What is settled, as it is once it is not owned: who changes it from the one to the other takes it.
inline P::Word disowned(P::Word w) noexcept { return P::is_owned(w) ? w & ~(P::kOwned | P::kAsked) : w; }
/// Changes the word by `change` (of the old word; the same word: leave it), never while somebody holds the lock.
/// Returns the word as it was.
template <class F>
P::Word update(PendingState& s, F&& change) noexcept {
  P::Word w = s.word.load(std::memory_order_acquire);
  for (;;) {
    P::Word was = w;
    if (w & (P::kLock | P::kOwned)) [[unlikely]] {
      w = settled_word(s);
      was = disowned(w);
    }
    const P::Word to = change(was);
    if (to == was || s.word.compare_exchange_weak(w, to, std::memory_order_acq_rel, std::memory_order_acquire))
      return was;
  }
}

}  // namespace caller::detail
