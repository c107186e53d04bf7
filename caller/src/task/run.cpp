// The execution that the current code belongs to, which travels in the context.
#include "app.hpp"

namespace caller::task::detail {

namespace {

ContextVar<std::shared_ptr<const Run>>& run_var() {
  static ContextVar<std::shared_ptr<const Run>> var;
  return var;
}

}  // namespace

SlotKeeper::~SlotKeeper() = default;

std::shared_ptr<const Run> current_run() noexcept {
  const auto* run = run_var().find();
  return run ? *run : nullptr;
}

std::shared_ptr<Run> make_run(const AppPtr& app, const InvocationRecord& record, std::string runner_id,
                              std::shared_ptr<SlotKeeper> slots) {
  auto run = std::make_shared<Run>();
  run->app = app->weak_from_this();  // a runner of the application's own does not keep it
  run->id = record.id;
  run->task_id = record.task_id;
  run->call_id = record.call_id;
  run->parent_id = record.parent_id;
  run->workflow_id = record.workflow_id.empty() ? record.id : record.workflow_id;
  run->runner_id = std::move(runner_id);
  run->retries = record.retries;
  run->slots = std::move(slots);
  return run;
}

void with_run(std::shared_ptr<const Run> run, const std::function<void()>& body) {
  const ContextVar<std::shared_ptr<const Run>>::Scope scope(run_var(), std::move(run));
  body();
}

}  // namespace caller::task::detail
