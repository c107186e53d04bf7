// call_later: work that waits for its time.
#include <vector>

#include "word.hpp"

namespace caller::detail {

namespace {

/// Its time has come, or never will: the work goes on without its node.
void pass_delay(DelayNode& n, OpAct why) noexcept {
  PendingState& s = *n.state;
  Core& core = *n.core;
  const auto without_timer = [](P::Word w) { return w & ~P::Word{P::kTimer}; };
  P::Word was = s.word.load(std::memory_order_relaxed);
  if (s.alone()) {  // without a handle there is nobody else
    s.suspended = nullptr;
    s.word.store(without_timer(s.word.load(std::memory_order_relaxed)), std::memory_order_relaxed);
  } else if (was != (P::kWork | P::kOwned | P::kTimer) ||
             !s.word.compare_exchange_strong(was, P::kWork | P::kOwned, std::memory_order_acq_rel)) {
    // Under the lock: whoever cancels a call with a timer uses its core under the lock.
    const P::Word w = lock_word(s);
    s.suspended = nullptr;
    if (!(w & P::kDone)) unlock_word(s, without_timer(w));
  } else {
    s.suspended = nullptr;
  }
  if (n.separate) deallocate(&n, sizeof n);
  if (why == OpAct::run)
    core.push_local(&s);
  else
    s.act(&s, OpAct::drop);
}

/// `fresh`: its handle has not been given to anybody yet.
void arm(DelayNode& n, bool fresh) noexcept {
  PendingState& s = *n.state;
  n.armed = true;
  if (fresh && s.holders() == 2) {
    const P::Word word = s.word.load(std::memory_order_acquire);  // after the count: nobody else has touched it since
    if (disowned(word) == P::kWork && n.core->accepts_calls()) {
      s.delay = &n;
      s.word.store(word | P::kTimer, std::memory_order_relaxed);
      return n.core->timers.add(n);
    }
  }
  const PendingState::Word w = lock_word(s);
  if (w & PendingState::kDone) return pass_delay(n, OpAct::drop);
  s.delay = &n;
  unlock_word(s, w | PendingState::kTimer);
  if (w & PendingState::kCancelled || !n.core->accepts_calls()) return pass_delay(n, OpAct::drop);
  n.core->timers.add(n);
}

void delay_act(Op* op, OpAct why) {
  auto& n = *static_cast<DelayNode*>(op);
  if (why == OpAct::run && !n.armed) return arm(n, false);  // it came from another thread
  pass_delay(n, why);
}

}  // namespace

void arm_delay(Core& core, PendingState& s, DelayNode* node, Duration delay) noexcept {
  if (!node) {
    node = ::new (allocate(sizeof(DelayNode))) DelayNode;
    node->separate = true;
  }
  node->core = &core;
  node->state = &s;
  node->act = &delay_act;
  node->when = time_after(core.now(), delay.count());
  if (core.on_thread() && !core.between_turns())  // the host must hear of it
    arm(*node, true);
  else if (!core.submit(node))
    pass_delay(*node, OpAct::drop);
}

void unschedule(PendingState& s) noexcept {
  DelayNode& n = *std::exchange(s.delay, nullptr);
  n.core->timers.remove(n);
  if (n.separate) deallocate(&n, sizeof n);
}

void drop_timer(TimerNode& node) noexcept {
  if (node.act != &delay_act) return;
  auto& n = static_cast<DelayNode&>(node);
  n.core->timers.remove(n);
  pass_delay(n, OpAct::drop);
}

PendingState* delayed_by(const Op& op) noexcept {
  return op.act == &delay_act ? static_cast<const DelayNode&>(op).state : nullptr;
}

void cancel_delays(Core& core) noexcept {
  std::vector<TimerNode*> list;
  core.timers.for_each([&](TimerNode& n) {
    if (n.act == &delay_act) list.push_back(&n);
  });
  for (TimerNode* n : list) drop_timer(*n);
}

}  // namespace caller::detail
