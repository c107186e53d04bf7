#include "app.hpp"
#include "spin.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <thread>

namespace caller::task {

namespace detail {

namespace {

ContextVar<std::shared_ptr<const Run>>& run_var() {
  static ContextVar<std::shared_ptr<const Run>> var;
  return var;
}

std::string key_of(Concurrency kind, const TaskDefinition& definition, const CallBytes& call) {
  switch (kind) {
    case Concurrency::DISABLED:
      return {};
    case Concurrency::TASK:
      return definition.id;
    case Concurrency::ARGUMENTS:
      return definition.id + "#" + args_id(call.named);
    case Concurrency::KEYS: {
      const auto& keys = definition.options.key_arguments;
      auto named = call.named;
      std::erase_if(named, [&](const auto& a) { return std::find(keys.begin(), keys.end(), a.first) == keys.end(); });
      return definition.id + "#" + args_id(named);
    }
  }
  return {};
}

/// In words: which arguments of the stored call are others.
std::string difference(Format format, const std::string& stored, const CallBytes& call) {
  const auto there = format == Format::json ? nlohmann::json::parse(stored, nullptr, false)
                                            : nlohmann::json::from_cbor(stored, true, false);
  if (!there.is_object()) return "the stored arguments cannot be read";
  std::string out;
  for (const auto& [name, json] : call.named) {
    const auto here = nlohmann::json::parse(json, nullptr, false);
    const auto it = there.find(name);
    if (it != there.end() && *it == here) continue;
    out += (out.empty() ? "" : ", ") + name + ": " + (it == there.end() ? "missing" : it->dump()) + ", called with " +
           json;
  }
  return out;
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

// ---- routing ----

namespace {

/// Looks a little while for what is likely to come soon; not where every processor may be needed for the work itself.
bool ends_soon(const PendingBase& end) {
  static const int most = static_cast<int>(std::thread::hardware_concurrency()) / 2;
  static std::atomic<int> spinning{0};
  if (end.done()) return true;
  const bool ended =
      spinning.fetch_add(1) < most && spin_until(std::chrono::microseconds(40), [&] { return end.done(); });
  spinning.fetch_sub(1);
  return ended;
}

/// `data`: contents by hash, which must be in the store before the calls are.
std::vector<NewInvocation> prepared(const AppCore& app, const TaskDefinition& definition,
                                    const std::vector<CallBytes>& calls, const Run* run, const std::string& id,
                                    std::map<std::string, std::string>& data) {
  const TaskOptions& options = definition.options;
  std::vector<NewInvocation> list;
  list.reserve(calls.size());
  for (const CallBytes& call : calls) {
    NewInvocation n;
    n.id = id.empty() ? new_uuid() : id;
    n.task_id = definition.id;
    n.call_id.reserve(definition.id.size() + 65);
    n.call_id.append(definition.id).append(1, '#').append(args_id(call.named));
    std::vector<std::pair<std::string, std::string>> parts;
    n.args = app.data.packed_args(definition, call, parts);
    for (auto& [hash, content] : parts) {
      n.data.push_back(hash);
      data.emplace(hash, std::move(content));
    }
    n.queue = options.queue;
    n.priority = options.priority;
    n.delay = options.delay;
    if (!options.call_result_cache) n.registration_key = key_of(options.registration_concurrency, definition, call);
    n.running_key = key_of(options.running_concurrency, definition, call);
    n.reroute = options.reroute_on_concurrency_control;
    n.refuse_other_call = options.on_diff_non_key_args_raise;
    if (run) n.parent_id = run->id;
    if (options.force_new_workflow) n.workflow_id = n.id;
    list.push_back(std::move(n));
  }
  return list;
}

std::vector<Routed> settled(AppCore& app, const TaskDefinition& definition, const std::vector<CallBytes>& calls,
                            std::vector<Added> added) {
  std::vector<Routed> out;
  out.reserve(added.size());
  for (std::size_t i = 0; i < added.size(); ++i) {
    Routed routed{std::move(added[i].id), added[i].reused, {}};
    if (added[i].reused)
      routed.diff_arg = difference(app.options.format, app.data.unpack(std::move(added[i].args)), calls[i]);
    if (added[i].refused)
      throw InvocationConcurrencyWithDifferentArgumentsError(definition.id, routed.id, routed.diff_arg);
    out.push_back(std::move(routed));
  }
  return out;
}

}  // namespace

namespace {

/// One that has a result or is under way, for calls whose results are kept.
std::optional<Added> kept_call(Store& store, const std::optional<std::string>& id) {
  if (!id) return std::nullopt;
  try {
    const InvocationRecord r = store.get(*id).wait();
    if (r.status != Status::success && is_final(r.status)) return std::nullopt;
    return Added{r.id, true, false, r.call_id, r.args};
  } catch (const InvocationNotFoundError&) {  // purged
    return std::nullopt;
  }
}

/// The call's last invocation is a value of the store. Whoever replaces it adds the new one in the same step.
Added add_or_find_kept(const AppCore& app, Store& store, const NewInvocation& call) {
  const std::string key = "kept:" + call.call_id;
  for (;;) {
    const std::optional<std::string> last = store.value(key).wait();
    if (auto kept = kept_call(store, last)) return std::move(*kept);
    ValueChange change{key, last ? ValueChange::If::equal : ValueChange::If::absent, last.value_or("")};
    change.value = call.id;
    change.lifetime = 2 * app.options.auto_final_invocation_purge;
    change.then.push_back(call);
    if (store.set_value(std::move(change)).wait()) return {call.id, false, false, {}, {}};
  }
}

}  // namespace

std::vector<Routed> route_now(const AppPtr& app, const DefinitionPtr& definition, const std::vector<CallBytes>& calls,
                              const std::string& id) {
  Store& store = store_of(*app);
  app->triggers.tell(store);
  const auto run = current_run();
  std::map<std::string, std::string> data;
  std::vector<NewInvocation> list = prepared(*app, *definition, calls, run.get(), id, data);
  if (run)
    for (const auto& n : list) store.check_cycle(run->id, n.task_id, n.call_id).wait();
  std::vector<Pending<void>> puts;
  for (auto& [hash, content] : data) puts.push_back(store.put_data(hash, std::move(content)));
  for (const auto& put : puts) put.wait();
  std::vector<Added> added;
  if (definition->options.call_result_cache) {
    for (const auto& n : list) added.push_back(add_or_find_kept(*app, store, n));
  } else {
    const Pending<std::vector<Added>> adding = store.add(std::move(list));
    (void)ends_soon(adding);
    (void)adding.wait_done();
    added = std::move(adding.result());  // nobody else has it
  }
  auto out = settled(*app, *definition, calls, std::move(added));
  if (app->runs_here()) {
    for (const auto& routed : out)
      if (!routed.reused && (id.empty() || !is_final(store.get(routed.id).wait().status))) run_here(app, routed.id);
    after_changes(app);
  }
  return out;
}

NewInvocation triggered_call(AppCore& app, const TaskDefinition& definition, const CallBytes& call, std::string id) {
  std::map<std::string, std::string> data;
  NewInvocation n = std::move(prepared(app, definition, {call}, nullptr, id, data).front());
  for (auto& [hash, content] : data) store_of(app).put_data(hash, std::move(content)).wait();
  return n;
}

std::string whole_bytes(AppCore& app, std::string stored) {
  return is_packed(stored) ? app.data.unpack(std::move(stored)) : stored;
}

// ---- waiting ----

namespace {

/// `id`, `task_id`: for what is said of it.
std::string result_of_end(const std::string& id, const std::string& task_id, Status status, std::string result,
                          const std::string& exception) {
  switch (status) {
    case Status::success:
      return result;
    case Status::failed:
      ExceptionRecord::from_json(exception).rethrow();
    case Status::cancelled:
      throw InvocationCancelledError(id);
    case Status::concurrency_controlled_final:
      throw TaskRoutingError(
          task_id, "invocation " + id + " of task " + task_id + " was refused: another one of its kind was running");
    default:
      throw InvocationStatusError(id, "invocation " + id + " has no result: it is " + std::string(name(status)));
  }
}
std::string result_of_end(std::string_view id, Ended& end) {
  if (end.error) std::rethrow_exception(end.error);
  return result_of_end(std::string(id), end.task_id, end.status, std::move(end.result), end.exception);
}

}  // namespace

namespace {

/// A wait of the code of `run` for another invocation: it is PAUSED and its slot is free meanwhile. Several waits of
/// one run at the same time count as one.
class Wait {
public:
  Wait(AppPtr app, std::shared_ptr<const Run> run) : app_(std::move(app)), run_(std::move(run)) {}
  /// What there is to do first; null: nothing.
  std::optional<Pending<void>> begin() {
    if (run_->waits.fetch_add(1) != 0) return std::nullopt;
    if (run_->slots) run_->slots->give_back_slot();
    return store_of(*app_).change({run_->id, Status::paused, run_->runner_id, {}, {}, {}});
  }
  /// What there is to wait for before the run goes on.
  std::optional<Pending<void>> end() {
    if (run_->waits.fetch_sub(1) != 1) return std::nullopt;
    last_ = true;
    if (!run_->slots) return std::nullopt;
    return run_->slots->take_slot_again();
  }
  std::optional<Pending<void>> resumed() {
    if (!last_) return std::nullopt;
    return store_of(*app_).change({run_->id, Status::resumed, run_->runner_id, {}, {}, {}});
  }

private:
  AppPtr app_;
  std::shared_ptr<const Run> run_;
  bool last_ = false;
};

}  // namespace

Coro<std::string> result_of(AppPtr app, std::string id) {
  Store& store = store_of(*app);
  const Pending<InvocationRecord> ended = store.final_record(id);
  const auto run = current_run();
  if (ended.done() || !run) {
    (void)co_await ended.async_wait_done();
  } else {
    const Pending<void> waits = store.wait_for(run->id, std::vector<std::string>(1, id));
    co_await waits;
    Wait wait(app, run);
    if (auto first = wait.begin()) (void)co_await first->async_wait_done();
    std::exception_ptr error;
    try {
      (void)co_await ended.async_wait_done();
      error = ended.exception();
    } catch (...) {
      error = std::current_exception();
    }
    if (auto slot = wait.end(); slot && !error) co_await *slot;
    WaitOptions to_the_end;
    to_the_end.shield = true;
    if (auto last = wait.resumed()) (void)co_await last->async_wait_done(to_the_end);
    if (error) std::rethrow_exception(error);
  }
  const InvocationRecord& end = ended.result();
  std::string bytes = result_of_end(end.id, end.task_id, end.status, end.result, end.exception);
  if (!is_packed(bytes)) co_return bytes;
  co_return co_await app->data.async_unpack(std::move(bytes));
}

namespace {

/// Blocks until all are final. In a task the slot of the waiting one is free meanwhile.
void wait_now(const AppPtr& app, std::span<const std::string_view> ids, const PendingBase& ends) {
  if (ends.done()) return;
  const auto run = current_run();
  if (!run) {
    if (ids.size() > 1 || !ends_soon(ends)) ends.wait_done();
    return;
  }
  store_of(*app).wait_for(run->id, {ids.begin(), ids.end()}).wait();
  Wait wait(app, run);
  if (auto first = wait.begin()) first->wait_done();
  std::exception_ptr error;
  try {
    ends.wait_done();
    error = ends.exception();
  } catch (...) {
    error = std::current_exception();
  }
  if (auto slot = wait.end(); slot && !error) slot->wait();
  if (auto last = wait.resumed()) last->wait_done();
  if (error) std::rethrow_exception(error);
}

}  // namespace

std::string result_now(const AppPtr& app, const std::string& id) {
  const std::string_view one = id;
  const Pending<std::vector<Ended>> ended = store_of(*app).all_ended({&one, 1});
  wait_now(app, {&one, 1}, ended);
  return app->data.unpack(result_of_end(id, ended.result().front()));
}

std::vector<std::pair<std::size_t, std::string>> results_now(const AppPtr& app, std::span<const std::string_view> ids,
                                                             bool as_they_ended) {
  const Pending<std::vector<Ended>> ended = store_of(*app).all_ended(ids);
  wait_now(app, ids, ended);
  std::vector<Ended>& ends = ended.result();
  if (!as_they_ended)
    std::sort(ends.begin(), ends.end(), [](const Ended& a, const Ended& b) { return a.place < b.place; });
  std::vector<std::pair<std::size_t, std::string>> out;
  out.reserve(ends.size());
  for (Ended& end : ends) out.emplace_back(end.place, app->data.unpack(result_of_end(ids[end.place], end)));
  return out;
}

}  // namespace detail

// ---- what users hold ----

namespace detail {

namespace {

constexpr std::string_view kKinds[] = {"distributed", "reused", "synchronous"};
std::string kind_name(InvocationKind kind) { return std::string(kKinds[static_cast<std::size_t>(kind)]); }

nlohmann::json object_of(std::string_view json, const char* what) {
  auto out = nlohmann::json::parse(json, nullptr, false);
  if (!out.is_object()) throw SerializationError(std::string("this is no ") + what + " as JSON");
  return out;
}
std::string text_of(const nlohmann::json& object, const char* key, const char* what) {
  const auto it = object.find(key);
  if (it == object.end() || !it->is_string())
    throw SerializationError(std::string("this is no ") + what + " as JSON: \"" + key + "\" is missing, or is no text");
  return it->get<std::string>();
}

}  // namespace

std::string task_json(const TaskDefinition& definition) {
  return nlohmann::json{{"task_id", definition.id}, {"signature", definition.signature}}.dump();
}
std::string task_id_from_json(std::string_view json) { return text_of(object_of(json, "task"), "task_id", "task"); }

Routed routed_from_json(const AppCore& app, std::string_view json, InvocationKind* kind) {
  constexpr auto kWhat = "invocation";
  const auto object = object_of(json, kWhat);
  const std::string app_id = text_of(object, "app_id", kWhat), word = text_of(object, "kind", kWhat);
  Routed out{text_of(object, "invocation_id", kWhat), false, text_of(object, "diff_arg", kWhat)};
  if (app_id != app.options.app_id)
    throw TaskRoutingError(
        "", "invocation " + out.id + " is of application " + app_id + ", and not of " + app.options.app_id);
  const auto at = std::find(std::begin(kKinds), std::end(kKinds), word);
  if (at == std::end(kKinds)) throw SerializationError("this is no invocation as JSON: its kind is \"" + word + "\"");
  *kind = static_cast<InvocationKind>(at - std::begin(kKinds));
  out.reused = *kind == InvocationKind::reused;
  return out;
}

}  // namespace detail

App::App(AppOptions options) : App(std::move(options), app_config()) {}
App::App(AppOptions options, Config config) : core_(detail::make_app(std::move(options), std::move(config))) {
  core_->box(runner_);
}
App::App(std::string app_id, std::map<std::string, std::string> config_values, std::string config_filepath)
    : App(AppOptions{.app_id = std::move(app_id), .values = std::move(config_values)},
          app_config(ConfigSources::of_process(std::move(config_filepath)))) {}

const std::string& App::app_id() const noexcept { return core_->options.app_id; }
Store& App::store() const { return core_->store(); }
Runner& App::runner() const { return core_->use_runner(runner_); }
const AppOptions& App::conf() const noexcept { return core_->options; }
std::size_t App::purge() const {
  const std::size_t n = store().purge(std::nullopt).wait();
  core_->triggers.forget_told();
  core_->publish_sources();  // of tasks that may be called again
  return n;
}
std::string App::emit(const std::string& event, const Payload& payload) const {
  return detail::emit_event(core_, event, payload);
}
std::vector<TriggerRecord> App::triggers() const { return detail::list_triggers(core_); }
std::size_t App::evaluate_triggers() const { return detail::evaluate_triggers(core_); }
Config App::config() const { return core_->config(); }
Format App::serializer() const noexcept { return core_->options.format; }
Logger App::logger() const { return Logger(core_.get(), {}); }
void App::assign(const std::string& name, const std::string& value, const std::string& task_id) const {
  core_->assign(name, value, task_id);
}
void App::set_store(std::shared_ptr<Store> store) const { core_->set_store(std::move(store)); }
void App::set_runner(std::unique_ptr<Runner> runner) const { core_->set_runner(runner_, std::move(runner)); }
bool App::is_initialized(std::string_view component) const {
  if (component == "store") return core_->store_used();
  if (component == "runner") return core_->runner_used();
  throw ConfigError("an application has no component \"" + std::string(component) + "\"; it has store and runner");
}
std::string App::retry(const std::string& invocation_id) const {
  const InvocationRecord record = store().get(invocation_id).wait();
  if (!is_final(record.status))
    throw InvocationStatusError(invocation_id, "invocation " + invocation_id + " has not ended, it is " +
                                                   std::string(name(record.status)) + "; cancel it first");
  return store().add({again(record, detail::new_uuid())}).wait().front().id;
}
detail::DefinitionPtr App::find_task(const std::string& task_id) const { return core_->find(task_id); }
std::vector<std::string> App::task_ids() const { return core_->task_ids(); }

void App::load(const std::string& library) const {
  // The loader looks a bare name up in the system's folders; a library of tasks is named by its path.
  const std::string file = library.find('/') == std::string::npos ? "./" + library : library;
  void* const handle = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    const char* reason = ::dlerror();
    if (std::error_code error; !std::filesystem::exists(file, error))
      reason = "there is no such file; a library of tasks is named by the path of its shared object, like libtasks.so";
    throw ConfigError("the library of tasks " + library +
                      " cannot be loaded: " + (reason ? reason : "no reason given"));
  }
  auto* const enter = reinterpret_cast<void (*)(App&)>(::dlsym(handle, "caller_tasks"));
  if (!enter)
    throw ConfigError("the library " + library +
                      " has no tasks: it needs a function CALLER_TASKS(app) { … }, see caller/task/plugin.hpp");
  App app = *this;
  enter(app);
}

std::optional<RunningInvocation> try_invocation() {
  const auto run = detail::current_run();
  const auto app = run ? run->app.lock() : nullptr;
  if (!app) return std::nullopt;
  return RunningInvocation{run->id,          run->task_id,   run->call_id, run->parent_id,
                           run->workflow_id, run->runner_id, run->retries, app};
}
RunningInvocation invocation() {
  if (auto running = try_invocation()) return *std::move(running);
  throw RunnerNotExecutableError("no task runs here, so there is no invocation");
}
Logger logger() {
  const auto run = detail::current_run();
  if (!run) return Logger({}, {});
  return Logger(run->app, "[" + run->task_id + " " + run->id + "] ");
}

InvocationBase::InvocationBase(detail::AppPtr app, detail::Routed routed, InvocationKind kind)
    : app_(std::move(app)), routed_(std::move(routed)), kind_(kind) {}
Status InvocationBase::status() const { return detail::store_of(*app_).get(id()).wait().status; }
int InvocationBase::num_retries() const { return detail::store_of(*app_).get(id()).wait().retries; }
std::vector<HistoryEntry> InvocationBase::history() const { return detail::store_of(*app_).history(id()).wait(); }
std::string InvocationBase::parent_id() const { return detail::store_of(*app_).get(id()).wait().parent_id; }
std::string InvocationBase::to_json() const {
  return nlohmann::json{{"app_id", app_->options.app_id},
                        {"invocation_id", routed_.id},
                        {"kind", detail::kind_name(kind_)},
                        {"diff_arg", routed_.diff_arg}}
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}
bool InvocationBase::cancel() const { return detail::store_of(*app_).cancel(id()).wait(); }

}  // namespace caller::task
