// Operations of other libraries as work of a Caller. They stand in the list of suspended work, without a frame.
#include <caller/detail/operation.hpp>

#include "core.hpp"

namespace caller::detail {
namespace {

void pass_cancel_on(PendingState& s) noexcept {
  if (s.done() || !s.suspended) return;
  s.suspended->detach(s.suspended);
}

/// On the Core's thread. An operation that ended meanwhile (`kOperationEnded`) stays out of the list.
void enlist(PendingState& s) noexcept {
  if (s.is(PendingState::kOperationEnded) || s.done()) return;
  s.core->link_task(s);
  if (s.core->between_turns()) s.core->ask_for_turn();  // it has something to do now
  if (s.is(PendingState::kCancelled)) pass_cancel_on(s);
}

}  // namespace

void operation_act(Op* op, OpAct why) {
  auto& s = *static_cast<PendingState*>(op);
  if (why == OpAct::drop) {
    end_work_cancelled(s, "the caller stopped before it knew of the operation");
  } else {
    enlist(s);
    try {  // a stop may have gone through the list before it was in there
      if (!s.core->accepts_calls()) cancel(s, "the caller was stopped");
    } catch (...) {  // no memory for the message
      pass_cancel_on(s);
    }
  }
  s.unref();
}

namespace {

struct DelistOp : Op {
  PendingState* state;
  explicit DelistOp(PendingState& s) : state(&s) {
    s.ref();
    act = [](Op* op, OpAct) {
      auto* self = static_cast<DelistOp*>(op);
      self->state->core->unlink_task(*self->state);
      self->state->unref();
      self->~DelistOp();
      deallocate(self, sizeof(DelistOp));
    };
  }
};

/// In the io_context of a Core's own, started by another thread: the Core must not close it meanwhile.
bool passes_gate(const PendingState& s) noexcept {
  return s.core && !s.core->on_thread() && !s.is(PendingState::kHoldsCore);
}

/// While a Caller stops, only work that is still running may begin operations, for its clean-up.
bool may_begin(Core& core) noexcept {
  if (core.accepts_calls()) return true;
  return core.on_thread() && !core.dropping() && current_task();
}

}  // namespace

bool begin_operation(PendingState& s, Core* core, bool elsewhere) noexcept {
  using P = PendingState;
  s.refs.store(2, std::memory_order_relaxed);
  s.set_begun();
  s.word.store(P::kWork | P::kOperation, std::memory_order_relaxed);
  s.core = core;
  // What runs in the Core's own io_context goes with it; anything else may end after the Core.
  const bool holds = core && (elsewhere || core->options.host);
  if (holds) set_flag(s, P::kHoldsCore);
  if (core && (!may_begin(*core) || (passes_gate(s) && !core->driver().enter()))) {
    end_work_cancelled(s, "the caller was stopped before the operation began");
    s.unref();
    return false;
  }
  if (holds) core->retain();
  return true;
}

void operation_begun(PendingState& s) noexcept {
  Core* const core = s.core;
  if (core && core->on_thread()) {
    enlist(s);
  } else if (core) {
    s.ref();
    const bool queued = core->submit(&s);
    if (passes_gate(s)) core->driver().leave();
    if (!queued) operation_act(&s, OpAct::drop);
  }
  ContextNode* const context = current_context();
  if (context && context->group) group_add(*context->group, s);
}

void end_operation(PendingState& s, bool due) noexcept {
  Core* const core = s.core;
  set_flag(s, PendingState::kOperationEnded);
  if (core && core->on_thread()) {
    core->unlink_task(s);
    if (core->between_turns()) core->ask_for_turn();  // a stop may wait for this, or nothing is left to do
  } else if (core) {
    auto* op = ::new (allocate(sizeof(DelistOp))) DelistOp(s);
    if (!core->submit(op)) op->act(op, OpAct::drop);
  }
  if (due) complete(s);
  if (s.is(PendingState::kHoldsCore)) core->release();
  s.unref();
}

void forsake_operation(PendingState& s, bool& forsaken) noexcept {
  // It works on its buffers until it ends, which is up to its object. Only a loop of ours that ends, and runs the
  // operation itself, does not wait for that.
  if (!s.core || s.core->accepts_calls() || s.is(PendingState::kHoldsCore)) return;
  forsaken = true;
  s.core->unlink_task(s);
  end_work_cancelled(s, "the operation is left to its object");
}

/// Before the coroutines' frames go: what the operations write into lies there.
void Core::abandon_operations() noexcept {
  PendingState* next = nullptr;
  for (PendingState* s = tasks_; s; s = next) {
    next = s->next_task;
    if (!s->is(PendingState::kOperation)) continue;
    const PendingBase keep = PendingBase::share(s);
    pass_cancel_on(*s);
    unlink_task(*s);
    end_work_cancelled(*s, "the caller was abandoned");
  }
}

}  // namespace caller::detail
