// What users hold: applications and invocations, and what they are as JSON.
#include "app.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

namespace caller::task {

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
