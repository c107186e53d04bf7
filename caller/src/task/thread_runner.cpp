// Invocations on Callers: coroutines on the runner's own, plain functions on its workers.
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "engine.hpp"

namespace caller::task::detail {

Coro<Change> LocalWork::work(InvocationRecord record, std::string runner, std::shared_ptr<SlotKeeper> slots,
                             bool timed) {
  DefinitionPtr definition;
  std::exception_ptr error;
  if (app_->options.find_task && !app_->has(record.task_id)) {
    // Compiling it may take a while.
    const Pending<DefinitionPtr> asked =
        loop_.to_thread([app = app_, id = record.task_id] { return app->find_or_ask(id); });
    (void)co_await asked.async_wait_done();
    error = asked.exception();
    if (!error && asked.cancelled()) {
      Change killed{record.id, Status::killed, runner, {}, {}, {}};
      co_return killed;
    }
    if (!error) definition = asked.result();
  } else {
    try {
      definition = app_->find(record.task_id);
    } catch (...) {
      error = std::current_exception();
    }
  }
  if (error) {
    Change unknown{record.id, Status::failed, runner, {}, ExceptionRecord::of(error).to_json(), {}};
    co_return unknown;
  }
  const auto run = make_run(app_, record, runner, std::move(slots));
  Work& work = active_[record.id];
  with_run(run, [&] { work.pending = start(definition, record.args); });
  const Pending<std::string> running = work.pending;
  WaitOptions how;
  how.protect = true;
  if (timed && definition->options.timeout.count() > 0) how.timeout = definition->options.timeout;
  std::string result;
  const bool in_time = co_await running.async_wait_done(how);
  const bool give_up = active_.at(record.id).give_up;
  active_.erase(record.id);
  if (!in_time) {
    (void)running.cancel("the task's time is over");
    error = std::make_exception_ptr(timeout_error(*definition, record.id));
  } else if (running.cancelled()) {
    Change ended{record.id, give_up ? Status::killed : Status::cancelled, runner, {}, {}, {}};
    co_return ended;
  } else if (running.exception()) {
    error = running.exception();
  } else {
    result = running.result();
  }
  co_return outcome(*definition, record, runner, error, std::move(result));
}

void LocalWork::cancel(const std::string& invocation, bool give_up) {
  const auto it = active_.find(invocation);
  if (it == active_.end()) return;
  it->second.give_up = it->second.give_up || give_up;
  (void)it->second.pending.cancel(give_up ? "the runner was stopped" : "cancelled");
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
  Coro<Change> work(InvocationRecord record) override {
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
