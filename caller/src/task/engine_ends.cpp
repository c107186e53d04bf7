// The ends of what a runner has executed, until the store has heard of them.
#include <chrono>
#include <utility>

#include "engine.hpp"

namespace caller::task::detail {

/// Tells of it; what there is to do afterwards is conclude().
Engine::Ending Engine::ending(Change end, ActivePtr active, std::optional<PendingBase> code) const {
  const Pending<void> told = store().change(end);
  return {std::move(end), told, std::move(active), std::move(code)};
}

/// While it is away the store is told again: nobody else knows the end, and our heartbeat keeps the invocation. What it
/// says in the end, or that it is away when that is no more ours to tell; null: it has heard.
Coro<std::exception_ptr> Engine::insist(std::shared_ptr<Engine> self, Pending<void> told, const Ending& ending) {
  const auto first = std::chrono::steady_clock::now();
  for (;;) {
    if (!told.done()) (void)co_await told.async_wait_done();
    std::exception_ptr error = told.exception();
    if (!error || !store_is_away(error)) co_return error;
    {
      const Locked lock(*self);
      // Then our lease ends with us, and it is executed once more.
      const auto longest = ending.active->give_up ? std::chrono::milliseconds(0) : self->app_->options.lease;
      if (self->stopping_ && std::chrono::steady_clock::now() - first >= longest) co_return error;
    }
    self->app_->log("the end of invocation " + ending.change.id +
                    " cannot be told, and is told again: " + ExceptionRecord::of(error).message);
    co_await sleep_for(kAfterError);
    {
      const Locked lock(*self);
      // It has come to us again: the end was heard, and its answer lost. What is told now would be said of the next
      // try.
      const auto it = self->active_.find(ending.change.id);
      if (it != self->active_.end() && it->second != ending.active) co_return error;
    }
    told = self->store().change(ending.change);
  }
}

Coro<void> Engine::conclude(std::shared_ptr<Engine> self, Ending ending) {
  const Status to = ending.change.to;
  const std::string& id = ending.change.id;
  Coro<std::exception_ptr> telling = insist(self, ending.told, ending);
  std::exception_ptr refused = co_await std::move(telling);
  const bool its_own = to == Status::success || to == Status::failed || to == Status::retry;
  if (refused && !store_is_away(refused) && (its_own || ending.active->left_waiting)) {
    // It may have ended while it waited for another one, whose end it will not see.
    const Pending<void> resuming = self->store().change({id, Status::resumed, self->id_, {}, {}, {}});
    (void)co_await resuming.async_wait_done();
    // Refused, too, when its own code has just said so.
    if (!resuming.cancelled()) (void)resuming.exception();
    Coro<std::exception_ptr> once_more = insist(self, self->store().change(ending.change), ending);
    refused = co_await std::move(once_more);
  }
  if (refused) self->app_->log(ExceptionRecord::of(refused).message);
  if (to == Status::killed) {
    Ending back = ending;
    back.change = {id, Status::rerouted, {}, {}, {}, {}};
    Coro<std::exception_ptr> going_back = insist(self, self->store().change(back.change), back);
    refused = co_await std::move(going_back);
    if (refused) self->app_->log(ExceptionRecord::of(refused).message);
  }
  // Only now: what is said of the code must not overtake what says that it goes on.
  if (ending.code) self->await_code(id, *ending.code);
  self->forget(ending);
}

void Engine::await_code(const std::string& invocation, const PendingBase& code) {
  {
    const Locked lock(*this);
    ++codes_;
  }
  (void)code.add_done_callback([self = shared_from_this(), invocation](const PendingBase&) {
    self->on_loop([self, invocation] {
      (void)self->loop_.call_soon([self, invocation] { return tell_code_ended(self, invocation); });
    });
  });
}

/// Until it was heard: nobody else would say so, and our heartbeat keeps the key.
Coro<void> Engine::tell_code_ended(std::shared_ptr<Engine> self, std::string invocation) {
  for (;;) {
    const Pending<void> told = self->store().code_ended(self->id_, invocation);
    if (!told.done()) (void)co_await told.async_wait_done();
    if (told.cancelled() || !told.exception()) break;
    self->app_->log("the end of code of invocation " + invocation +
                    " cannot be told: " + ExceptionRecord::of(told.exception()).message);
    {
      const Locked lock(*self);
      if (self->stopping_) break;  // our lease ends with us
    }
    co_await sleep_for(self->app_->options.lease / 3);
  }
  {
    const Locked lock(*self);
    --self->codes_;
  }
  self->kick();
}

void Engine::forget(const Ending& ending) {
  bool stopping = false;
  {
    const Locked lock(*this);
    if (ending.active->call) forget_local_locked(*ending.active);
    // It may have come to us again.
    if (const auto it = active_.find(ending.change.id); it != active_.end() && it->second == ending.active)
      active_.erase(it);
    stopping = stopping_;
  }
  if (stopping) on_loop([self = shared_from_this()] { self->kick(); });
}

}  // namespace caller::task::detail
