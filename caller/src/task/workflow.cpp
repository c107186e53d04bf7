// What a workflow keeps are values of the store: `wf:<workflow>:d:<key>` what tasks put there,
// `wf:<workflow>:t:<run>:<n>` the times that were asked for. All else that must be the same again is derived from the
// invocation's id.
#include <caller/task/workflow.hpp>

#include <charconv>
#include <utility>
#include <vector>

#include "app.hpp"

namespace caller::task {

namespace detail {

namespace {

const std::string kPrefix = "wf:";

/// Of the running task; `what` wants it. Errors: RunnerNotExecutableError.
std::shared_ptr<const Run> run_for(const char* what) {
  auto run = current_run();
  if (!run) throw RunnerNotExecutableError(std::string(what) + " was called outside of a task");
  return run;
}

/// Names the run's next operation of a kind.
std::string next_operation(const Run& run, const std::string& kind) {
  return run.id + ":" + kind + ":" + std::to_string(run.operations.next(kind));
}

/// The next workflow whose value that may be, of those whose names are longer: ids and keys have any bytes. `at` is
/// where the one before ended, and becomes where this one does; none: npos.
std::string_view next_owner(std::string_view key, std::size_t& at) {
  while ((at = key.find(':', at + 1)) != std::string_view::npos)
    if (const std::string_view kind = key.substr(at, 3); kind == ":d:" || kind == ":t:")
      return key.substr(kPrefix.size(), at - kPrefix.size());
  return {};
}

/// Also where nobody can say.
Coro<bool> may_be_there(Store& store, const std::string& id) {
  const Pending<InvocationRecord> found = store.get(id);
  (void)co_await found.async_wait_done();
  try {
    (void)found.result();
  } catch (const InvocationNotFoundError&) {
    co_return false;
  } catch (...) {  // it stays
  }
  co_return true;
}

}  // namespace

std::uint64_t Operations::next(const std::string& kind) {
  const std::lock_guard lock(mutex_);
  return ++counts_[kind];
}

std::string next_call_id(const TaskDefinition& definition, const CallBytes& call) {
  const auto run = run_for("call_once");
  return uuid_of(next_operation(*run, "call:" + definition.id + "#" + args_id(definition, call)));
}

Coro<void> forget_ended_workflows(AppPtr app) {
  constexpr std::size_t kPage = 200;
  constexpr std::size_t kMostOwners = 16;  // of one value; with more it stays
  Store& store = store_of(*app);
  std::string after, known, gone;
  for (;;) {
    const auto page = store.values(kPrefix, after, kPage);
    (void)co_await page.async_wait_done();
    if (page.exception()) co_return;
    const auto list = page.result();
    for (const auto& [key, value] : list) {
      after = key;
      bool wanted = false;
      std::size_t at = kPrefix.size() - 1;
      for (std::size_t looked_at = 0; !wanted; ++looked_at) {
        const std::string id(next_owner(key, at));
        if (at == std::string::npos) break;
        if (looked_at < kMostOwners && id != known && id != gone) {
          Coro<bool> looking = may_be_there(store, id);
          const bool is_there = co_await std::move(looking);
          (is_there ? known : gone) = id;
        }
        wanted = id == known || looked_at == kMostOwners;
      }
      if (wanted) continue;
      ValueChange erase;
      erase.key = key;
      const Pending<bool> erased = store.set_value(std::move(erase));
      (void)co_await erased.async_wait_done();
    }
    if (list.size() < kPage) co_return;
  }
}

}  // namespace detail

Workflow workflow() { return Workflow(detail::run_for("workflow")); }

Workflow::Workflow(std::shared_ptr<const detail::Run> run) : run_(std::move(run)) {}

detail::AppPtr Workflow::app() const {
  auto app = run_->app.lock();
  if (!app) throw RunnerNotExecutableError("the application of workflow " + id() + " has ended");
  return app;
}
Format Workflow::format() const { return detail::format_of(*app()); }

std::string Workflow::type() const {
  const auto core = app();
  return detail::store_of(*core).get(id()).wait().task_id;
}

std::optional<std::string> Workflow::parent_id() const {
  const auto core = app();
  Store& store = detail::store_of(*core);
  const std::string parent = store.get(id()).wait().parent_id;
  if (parent.empty()) return std::nullopt;
  return store.get(parent).wait().workflow_id;
}

std::string Workflow::data_key(const std::string& key) const { return detail::kPrefix + id() + ":d:" + key; }

std::optional<std::string> Workflow::data(const std::string& key) const {
  const auto core = app();
  return detail::store_of(*core).value(data_key(key)).wait();
}

void Workflow::put_data(const std::string& key, std::string bytes) const {
  const auto core = app();
  ValueChange change;
  change.key = data_key(key);
  change.value = std::move(bytes);
  (void)detail::store_of(*core).set_value(std::move(change)).wait();
}

bool Workflow::erase_data(const std::string& key) const {
  const auto core = app();
  Store& store = detail::store_of(*core);
  for (;;) {
    const auto now = store.value(data_key(key)).wait();
    if (!now) return false;
    ValueChange change{data_key(key), ValueChange::If::equal, *now};
    if (store.set_value(std::move(change)).wait()) return true;
  }
}

double Workflow::random() const {
  const std::string hash = detail::sha256_of(detail::next_operation(*run_, "random"));
  std::uint64_t bits = 0;
  (void)std::from_chars(hash.data(), hash.data() + 16, bits, 16);
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

std::string Workflow::uuid() const { return detail::uuid_of(detail::next_operation(*run_, "uuid")); }

Time Workflow::utc_now() const {
  const auto core = app();
  Store& store = detail::store_of(*core);
  const std::string key = detail::kPrefix + id() + ":t:" + detail::next_operation(*run_, "time");
  const Time now = std::chrono::time_point_cast<Time::duration>(std::chrono::system_clock::now());
  ValueChange first{key, ValueChange::If::absent};
  first.value = std::to_string(now.time_since_epoch().count());
  if (store.set_value(std::move(first)).wait()) return now;
  const auto kept = store.value(key).wait();
  std::int64_t count = 0;
  if (!kept || std::from_chars(kept->data(), kept->data() + kept->size(), count).ptr != kept->data() + kept->size())
    throw StateBackendError("the time that " + run_->id + " was given cannot be read");
  return Time(Time::duration(count));
}

}  // namespace caller::task
