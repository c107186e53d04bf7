// StartStopTask: who may start, how the function's end becomes the task's.
#include <caller/start_stop.hpp>

#include "log.hpp"

namespace caller {
namespace detail {
namespace {

/// A handle that does not own the executor: a task must not keep a Caller from being stopped.
Caller loose_handle(const Caller& c) {
  retain_core(c.core(), false);
  return Caller(Caller::Adopt{}, c.core(), false);
}

}  // namespace

StartStopState::StartStopState(const Caller& on, PendingBase end) : caller(loose_handle(on)), stopped(std::move(end)) {
  started.protect();
  stopping.protect();
  stopped.protect();
}

StartStopState::~StartStopState() { caller.stopping().remove_done_callback(on_caller_); }

void StartStopState::listen() {
  const CallbackId id = caller.stopping().add_done_callback([weak = weak_from_this()](const PendingBase&) {
    const auto self = weak.lock();
    if (!self) return;
    PendingBase work;
    {
      std::lock_guard lock(self->mutex_);
      self->caller_stops_ = true;
      work = self->work_;
    }
    if (work) work.protect();  // the stop cancels what it finds a moment later
    self->stop();
  });
  std::lock_guard lock(mutex_);
  on_caller_ = id;
}

void StartStopState::start() {
  {
    std::lock_guard lock(mutex_);
    if (begun_ || refused_) return;
    begun_ = true;
  }
  PendingBase work;
  try {
    work = launch();
  } catch (...) {
    return fail(std::current_exception());
  }
  bool protect = false;
  {
    std::lock_guard lock(mutex_);
    work_ = work;
    protect = caller_stops_;
  }
  if (protect) work.protect();
  work.add_done_callback([self = shared_from_this()](const PendingBase& p) { self->work_done(p); });
}

void StartStopState::stop() {
  bool never_ran = false;
  {
    std::lock_guard lock(mutex_);
    never_ran = !begun_;
    refused_ = true;
  }
  end_work_cancelled(*started.state(), "the task was stopped before it had started");
  stopping.set_result();
  if (never_ran) end_work_cancelled(*stopped.state(), "the task was stopped before it was started");
}

void StartStopState::fail(const std::exception_ptr& error) {
  if (started.set_exception(error)) (void)started.exception();  // `stopped` tells of it, once
  Pending<>::share(stopped.state()).set_exception(error);
}

void StartStopState::work_done(const PendingBase& work) {
  log(&caller.core(), LogLevel::debug, "a start-stop task has ended");
  {
    std::lock_guard lock(mutex_);
    work_ = {};
  }
  caller.stopping().remove_done_callback(on_caller_);
  if (work.cancelled()) {
    const std::string message = cancel_message(*work.state());
    end_work_cancelled(*started.state(), message.c_str());
    end_work_cancelled(*stopped.state(), message.c_str());
  } else if (work.state()->is(PendingState::kFailed)) {
    pass_report(*work.state(), *stopped.state());
    fail(work.exception());
  } else {
    end_work_cancelled(*started.state(), "the task ended without having said that it started");
    pass_value(work);
  }
}

void StartStopState::require_started(const char* operation) const {
  std::lock_guard lock(mutex_);
  if (!begun_ && !refused_)
    throw Error(Errc::not_started, std::string(operation) + ": the StartStopTask; call start()");
}

void StartStopState::enter() {
  require_started("StartStopTask::run");
  if (!caller.is_current())
    throw Error(Errc::wrong_thread, "StartStopTask::run: the task belongs to the Caller \"" + caller.name() + "\"");
  std::lock_guard lock(mutex_);
  if (std::exchange(entered_, true)) throw Error(Errc::already_running, "StartStopTask::run: only once for each task");
}

void StartStopState::throw_ended_early() const {
  throw_outcome(*stopped.state());
  throw Error(Errc::stopped_early, "StartStopTask::run: the task on the Caller \"" + caller.name() + "\"");
}

Coro<std::exception_ptr> wait_for_end(PendingBase pending) {
  std::exception_ptr held_back;
  try {
    co_await pending.async_wait_done({.timeout = {}, .protect = true, .shield = true});
  } catch (const PendingCancelled&) {
    if (!pending.done()) throw;
    held_back = std::current_exception();
  }
  co_return held_back;
}

}  // namespace detail

void StartSignal::operator()() const {
  const auto state = state_.lock();
  if (state && state->started.set_result())
    detail::log(&state->caller.core(), LogLevel::debug, "a start-stop task has started");
}

}  // namespace caller
