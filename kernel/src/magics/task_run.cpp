#include "magics/task_run.hpp"

#include <unistd.h>

#include <utility>

#include <caller/caller.hpp>
#include <caller/error.hpp>
#include <caller/task/builder.hpp>

#include "interpreter/faults.hpp"
#include "protocol/wire.hpp"
#include "runtime/shielded_wait.hpp"
#include "session/interrupts.hpp"
#include "session/kernel.hpp"

namespace caller::kernel {

using task::App;

TaskSession::TaskSession() : queue_(".cells of " + std::to_string(::getpid()) + " " + new_id()) {}

TaskSession::~TaskSession() {
  for (auto& [app, runner] : runners_) caller::detail::wait_to_the_end(runner->stop(true));
}

App TaskSession::app(const Place& place) {
  const std::lock_guard lock(mutex_);
  if (place.sqlite.empty() && place.url.empty())
    if (task::detail::AppPtr made = task::detail::living_app(place.app)) return App(std::move(made));
  const auto found = apps_.find(place);
  if (found != apps_.end()) return found->second;
  task::AppBuilder builder;
  builder.app_id(place.app);
  if (!place.sqlite.empty()) builder.sqlite(place.sqlite);
  if (!place.url.empty()) builder.redis(place.url);
  App made = builder.build();
  apps_.emplace(place, made);
  return made;
}

void TaskSession::serve(const App& app) {
  const std::lock_guard lock(mutex_);
  auto& runner = runners_[app.core().get()];
  if (runner) return;
  task::RunnerOptions options;
  options.queues = {queue_};
  options.description = "the kernel of process " + std::to_string(::getpid()) + ", for its %%task cells";
  auto made = app.thread_runner(std::move(options));
  // Its own work belongs to no cell.
  const ContextVar<WorkPtr>::Scope nobody(work_var(), nullptr);
  made->start();
  runner = std::move(made);
}

namespace magics {

TaskSession& task_session(Kernel& kernel) {
  // Never destroyed: a runner may be asked for results by what ends last.
  static auto* all = new std::map<const Kernel*, std::unique_ptr<TaskSession>>;
  static auto* mutex = new std::mutex;
  const std::lock_guard lock(*mutex);
  auto& session = (*all)[&kernel];
  if (!session) session = std::make_unique<TaskSession>();
  return *session;
}

/// While it lives, code of the run is at work in the calling thread and can be interrupted.
class TaskRun::Here {
public:
  explicit Here(TaskRun& run) : run_(run) {
    if (run_.elsewhere_) Interrupts::take_signals();
    const std::lock_guard lock(run_.mutex_);
    run_.here_ = this;
  }
  ~Here() {
    const std::lock_guard lock(run_.mutex_);
    run_.here_ = nullptr;
  }
  Here(const Here&) = delete;
  Here& operator=(const Here&) = delete;

  PendingBase awaited;  // guarded by the run
  interrupt::Scope scope;

private:
  TaskRun& run_;
};

TaskRun::TaskRun(ActiveCellPtr active, WorkPtr work, CompiledCell cell, bool elsewhere)
    : active_(std::move(active)), work_(std::move(work)), cell_(std::move(cell)), elsewhere_(elsewhere) {}

std::exception_ptr TaskRun::error() const {
  const std::lock_guard lock(mutex_);
  return error_;
}

void TaskRun::break_off() {
  PendingBase awaited;
  {
    const std::lock_guard lock(mutex_);
    if (!here_) return;
    awaited = here_->awaited;
    here_->scope.request();
  }
  if (awaited) awaited.cancel("the cell was stopped");
}

// Statements that await, on a loop of this thread: a call of its own, which can be cancelled.
void TaskRun::await(const std::function<Coro<void>()>& start) {
  const auto drive = [&](Caller loop, bool ours) {
    Pending<void> call = loop.call_soon(start);
    {
      const std::lock_guard lock(mutex_);
      if (here_) here_->awaited = call;
    }
    if (stopped()) call.cancel("the cell was stopped");
    if (ours) loop.run_until(call);
    call.wait();
    const std::lock_guard lock(mutex_);
    if (here_) here_->awaited = {};
  };
  if (caller::detail::current_core())
    drive(Caller::current(), false);
  else
    drive(Caller(Modifier::manual, {.name = "cell", .backend = Backend::asio}), true);
}

std::string TaskRun::execute() {
  const ContextVar<WorkPtr>::Scope context(work_var(), work_);
  {
    const std::lock_guard lock(mutex_);
    error_ = nullptr;
  }
  work_->capture = std::make_shared<Capture>();
  try {
    Here here(*this);
    for (const Segment& segment : cell_.segments) {
      if (stopped()) throw PendingCancelled("the cell was stopped");
      if (segment.run)
        faults::guarded(segment.run);
      else
        await(segment.start);
    }
  } catch (...) {
    const std::lock_guard lock(mutex_);
    error_ = std::current_exception();
    throw;
  }
  return work_->capture->data.value("text/plain", "");
}

}  // namespace magics
}  // namespace caller::kernel
