// The execution that the current code belongs to, which travels in the context.
#include "app.hpp"

namespace caller::task::detail {

namespace {

/// Of the context's links with a LazyRun.
std::uint64_t run_key() noexcept {
  static const std::uint64_t key = caller::detail::new_context_key();
  return key;
}
const LazyRun* lazy_run() noexcept {
  const std::uint64_t key = run_key();
  for (const auto* n = caller::detail::current_context(); n; n = n->next)
    if (n->key == key) return static_cast<const LazyRun*>(n->value.get());
  return nullptr;
}

class Given final : public LazyRun {
public:
  explicit Given(std::shared_ptr<const Run> run) : run_(std::move(run)) {}

private:
  std::shared_ptr<const Run> make() const override { return run_; }
  std::shared_ptr<const Run> run_;
};

}  // namespace

LazyRun::~LazyRun() = default;
std::shared_ptr<const Run> LazyRun::get() const {
  std::call_once(once_, [this] {
    run_ = make();
    made_.store(run_.get());
    if (over_.load()) (void)run_->end();
  });
  return run_;
}
bool LazyRun::end() const noexcept {
  over_.store(true);
  const Run* const run = made_.load();
  return run && run->end();
}

RunScope::RunScope(std::shared_ptr<LazyRun> run) : before_(caller::detail::retain(caller::detail::current_context())) {
  caller::detail::replace_current_context(caller::detail::make_context_node(run_key(), std::move(run), before_));
}
RunScope::~RunScope() { caller::detail::replace_current_context(before_); }

SlotKeeper::~SlotKeeper() = default;

std::shared_ptr<const Run> current_run() noexcept {
  const LazyRun* const run = lazy_run();
  return run ? run->get() : nullptr;
}
bool in_run() noexcept { return lazy_run() != nullptr; }

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
  const RunScope scope(std::make_shared<Given>(std::move(run)));
  body();
}

}  // namespace caller::task::detail
