// Invocations on Callers: coroutines on the runner's own, plain functions on its workers.
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "engine.hpp"

namespace caller::task::detail {

/// Compiling it may take a while. What AppOptions::find_task throws, whatever that is, comes as `error`.
/// Errors: UnknownTaskError.
Coro<DefinitionPtr> LocalWork::find(Work& work, std::string task_id, std::exception_ptr& error) const {
  if (!app_->options.find_task || app_->has(task_id)) co_return app_->find(task_id);
  const Pending<DefinitionPtr> asked =
      loop_.to_thread([app = app_, id = std::move(task_id)] { return app->find_or_ask(id); });
  work.pending = asked;
  WaitOptions how;
  how.protect = true;
  (void)co_await asked.async_wait_done(how);
  work.cancelled = work.cancelled || asked.cancelled();
  if (work.cancelled) co_return DefinitionPtr();
  error = asked.exception();
  co_return error ? DefinitionPtr() : asked.result();
}

Coro<Worked> LocalWork::work(InvocationRecord record, std::string runner, std::shared_ptr<SlotKeeper> slots,
                             bool timed) {
  Worked out;
  const auto kept = std::make_shared<Work>();
  Work& work = *kept;
  active_.insert_or_assign(record.id, kept);
  DefinitionPtr definition;
  std::exception_ptr error;
  try {
    Coro<DefinitionPtr> finding = find(work, record.task_id, error);
    definition = co_await std::move(finding);
  } catch (const PendingCancelled&) {  // the loop was stopped: it is no end of the task, whose lease will run out
    throw;
  } catch (const CallerStopped&) {
    throw;
  } catch (...) {
    error = std::current_exception();
  }
  if (work.cancelled || error) {
    const Status to = !work.cancelled ? Status::failed : work.give_up ? Status::killed : Status::cancelled;
    leave(record.id, work);
    out.change = {record.id, to, runner, {}, {}, {}};
    if (to == Status::failed) out.change.exception = ExceptionRecord::of(error).to_json();
    co_return out;
  }
  const auto run = make_run(app_, record, runner, std::move(slots));
  std::optional<Pending<std::string>> started;
  with_run(run, [&] { started = start(definition, record.args); });
  const Pending<std::string> running = *started;
  work.pending = running;
  WaitOptions how;
  how.protect = true;
  if (timed && definition->options.timeout.count() > 0) how.timeout = definition->options.timeout;
  std::string result;
  const bool in_time = co_await running.async_wait_done(how);
  const bool give_up = work.give_up;
  out.left_waiting = run->end();
  leave(record.id, work);
  if (!in_time) {
    (void)running.cancel("the task's time is over");
    error = std::make_exception_ptr(timeout_error(*definition, record.id));
  } else if (running.cancelled()) {
    out.change = {record.id, give_up ? Status::killed : Status::cancelled, runner, {}, {}, {}};
    co_return out;
  } else if (running.exception()) {
    error = running.exception();
  } else {
    result = running.result();
  }
  out.change = outcome(*definition, record, runner, error, std::move(result));
  if (!record.running_key.empty() && !running.done()) {
    out.change.code_goes_on = true;
    out.code = running;
  }
  co_return out;
}

/// Unless the invocation has come to us again meanwhile.
void LocalWork::leave(const std::string& invocation, const Work& work) {
  if (const auto it = active_.find(invocation); it != active_.end() && it->second.get() == &work) active_.erase(it);
}

void LocalWork::cancel(const std::string& invocation, bool give_up) {
  const auto it = active_.find(invocation);
  if (it == active_.end()) return;
  Work& work = *it->second;
  work.cancelled = true;
  work.give_up = work.give_up || give_up;
  if (work.pending) (void)work.pending.cancel(give_up ? "the runner was stopped" : "cancelled");
}

Pending<std::string> LocalWork::start(const DefinitionPtr& definition, const std::string& args) const {
  const Format format = app_->options.format;
  if (definition->coroutine)
    return loop_.call_soon([definition, format, args] { return definition->coroutine(format, args); });
  return loop_.to_thread(
      [definition, format, args](std::stop_token stop) { return definition->plain(format, args, std::move(stop)); });
}

namespace {

class ThreadExecutor final : public Executor {
public:
  void open(Engine& engine) override {
    engine_ = &engine;
    local_.emplace(engine.app(), engine.loop());
  }
  Coro<Worked> work(InvocationRecord record) override {
    return local_->work(std::move(record), engine_->id(), engine_->shared_from_this(), true);
  }
  void cancel(const std::string& invocation, bool give_up) override { local_->cancel(invocation, give_up); }
  Coro<void> close() override { co_return; }
  bool is_here() const noexcept override { return true; }

private:
  Engine* engine_ = nullptr;
  std::optional<LocalWork> local_;
};

}  // namespace

std::unique_ptr<Runner> make_thread_runner(AppPtr app, RunnerOptions options) {
  const std::size_t slots = options.slots ? options.slots : std::max(1u, std::thread::hardware_concurrency());
  return std::make_unique<EngineRunner>(std::make_shared<Engine>(
      std::move(app), std::move(options), "thread runner of process " + std::to_string(::getpid()), slots,
      std::make_unique<ThreadExecutor>()));
}

}  // namespace caller::task::detail
