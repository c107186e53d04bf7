// The application: its settings, its components, the tasks it knows.
#include <array>
#include <cstdio>
#include <set>

#include "app.hpp"
#include "config/bind.hpp"
#include "config/nearest.hpp"
#include "process/worker.hpp"

namespace caller::task {

namespace detail {

namespace {

[[noreturn]] void refuse_all(const std::vector<std::string>& mistakes) {
  std::string text;
  for (const auto& m : mistakes) text += (text.empty() ? "" : "; ") + m;
  throw ConfigError(text);
}

}  // namespace

namespace {
thread_local const AppCore* t_keeps = nullptr;
}
AppKeeps::AppKeeps(const AppCore* app) noexcept : before_(std::exchange(t_keeps, app)) {}
AppKeeps::~AppKeeps() { t_keeps = before_; }
bool app_keeps(const AppCore* app) noexcept { return app != nullptr && app == t_keeps; }
void throw_app_gone() { throw TaskRoutingError("", "the application of this task is gone"); }

RunnerBox::~RunnerBox() = default;
AppCore::~AppCore() = default;

AppCore::AppCore(AppOptions with, Config config, bool tells)
    : data(*this), given_(std::move(with)), config_(std::move(config)) {
  app_settings().offer(config_, given_, "app");
  client_data_settings().offer(config_, given_.client_data, "client_data");
  for (const auto& [name, value] : given_.values) config_.option(name, value);
  const auto kind = runner_kind_of(given_.runner_name);
  if (kind) runner_settings().offer(config_, given_.runner_options, settings_of(*kind));
  settle();
  store_ = options.store;
  use_runners_store();
  if (!tells || in_worker(options.app_id)) return;  // its runner's process has told it
  for (const auto& warning : config_.warnings()) log(Severity::warning, warning);
}

/// Errors: ConfigError, which lists everything that is wrong.
void AppCore::settle() {
  std::vector<std::string> mistakes;
  std::set<std::string> said;
  for (const auto& c : config_.classes()) {
    if (c.name == "task") continue;           // each task's are looked at when it is registered
    for (auto& m : config_.mistakes(c.name))  // once for all classes that inherit the value
      if (said.insert(m.substr(m.find('.'))).second) mistakes.push_back(std::move(m));
  }
  if (!mistakes.empty()) refuse_all(mistakes);
  options = given_;
  app_settings().take(config_, options, "app");
  client_data_settings().take(config_, options.client_data, "client_data");
  if (const auto kind = runner_kind_of(options.runner_name)) options.runner_name = word(*kind);
  if (options.app_id.empty()) mistakes.emplace_back("app_id: empty");
  const auto positive = [&](const char* name, auto time) {
    if (time.count() <= 0) mistakes.push_back(config_.find("app", name).name + ": must be more than 0");
  };
  positive("lease", options.lease);
  positive("max_pending", options.max_pending);
  if (options.auto_final_invocation_purge.count() < 0)
    mistakes.emplace_back("app.auto_final_invocation_purge: negative");
  if (!mistakes.empty()) refuse_all(mistakes);
}

// ---- tasks ----

/// The same, for what is stored: with arguments made whole, and a large result kept apart.
DefinitionPtr AppCore::with_whole_data(const TaskDefinition& definition) {
  auto out = std::make_shared<TaskDefinition>(definition);
  if (definition.plain)
    out->plain = [this, run = definition.plain](Format format, std::string_view args, std::stop_token stop) {
      if (is_packed(args)) return data.packed_result(run(format, data.args_for_task(args), std::move(stop)));
      return data.packed_result(run(format, args, std::move(stop)));
    };
  if (definition.coroutine)
    out->coroutine = [this, run = definition.coroutine](Format format, std::string args) {
      return run_with_whole_data(*this, run, format, std::move(args));
    };
  return out;
}

Coro<std::string> AppCore::run_with_whole_data(AppCore& app, std::function<Coro<std::string>(Format, std::string)> run,
                                               Format format, std::string args) {
  if (is_packed(args)) {
    std::string whole = co_await app.data.async_args_for_task(std::move(args));
    args = std::move(whole);
  }
  std::string result = co_await run(format, std::move(args));
  if (app.data.is_large(result.size())) {
    std::string packed = co_await app.data.async_packed_result(std::move(result));
    result = std::move(packed);
  }
  co_return result;
}

DefinitionPtr AppCore::add(std::shared_ptr<TaskDefinition> definition) {
  const std::string& id = definition->id;
  if (id.empty()) throw TaskRoutingError("", "a task needs an id");
  {
    const std::lock_guard lock(mutex_);
    const auto there = tasks_.find(id);
    if (there != tasks_.end() && !(definition->replaces && there->second->replaces))
      throw TaskRoutingError(id, "there is a task " + id + " already");
    take_settings(*definition);
  }
  DefinitionPtr made = definition;
  if (!made->source.empty()) {
    publish_source(store(), *made);
  }
  const AppKeeps keeps(this);  // copies of the function, too
  if (!made->source.empty()) made = guarded(made);
  const DefinitionPtr whole = with_whole_data(*made);
  const std::lock_guard lock(mutex_);
  const auto [there, added] = tasks_.emplace(id, whole);
  if (added) return whole;
  if (!(definition->replaces && there->second->replaces))
    throw TaskRoutingError(id, "there is a task " + id + " already");
  there->second = whole;
  version_.fetch_add(1);
  return whole;
}

/// Options of a task as they are configured. With the mutex held. Errors: InvalidTaskOptionsError.
void AppCore::take_settings(TaskDefinition& definition) {
  const std::string& id = definition.id;
  // Options of a task that may be replaced are not those of the one that replaces it.
  std::optional<Config> own;
  if (definition.replaces) own.emplace(config_);
  Config& config = own ? *own : config_;
  task_settings().offer(config, definition.options, "task", id);
  std::vector<std::string> wrong = config.mistakes("task", id);
  if (wrong.empty()) task_settings().take(config, definition.options, "task", id);
  try {
    definition.options.validate(id, definition.parameters);
  } catch (const InvalidTaskOptionsError& e) {
    if (wrong.empty()) throw;
    wrong.emplace_back(e.what());
  }
  if (!wrong.empty()) {
    std::string text;
    for (const auto& w : wrong) text += (text.empty() ? "" : "; ") + w;
    throw InvalidTaskOptionsError(id, "options of task " + id + ": " + text);
  }
}

DefinitionPtr AppCore::find(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  if (const auto it = tasks_.find(id); it != tasks_.end()) return it->second;
  std::vector<std::string_view> names;
  for (const auto& [name, definition] : tasks_) names.push_back(name);
  throw UnknownTaskError(id, "application " + options.app_id + " has no task " + id + nearest_in_words(id, names));
}

bool AppCore::has(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  return tasks_.contains(id);
}

DefinitionPtr AppCore::find_or_ask(const std::string& id) {
  if (options.find_task && !has(id)) {
    const std::lock_guard lock(asking_);
    if (!has(id)) options.find_task(App(shared_from_this()), id);
  }
  return find(id);
}

void AppCore::publish_sources() {
  std::vector<DefinitionPtr> all;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, definition] : tasks_)
      if (!definition->source.empty()) all.push_back(definition);
  }
  for (const auto& definition : all) publish_source(store(), *definition);
}

std::vector<std::string> AppCore::task_ids() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> out;
  for (const auto& [name, definition] : tasks_) out.push_back(name);
  return out;
}

void AppCore::log(Severity severity, const std::string& text) const noexcept {
  if (severity < options.logging_level) return;
  try {
    if (options.log) return options.log(severity, text);
    const std::string line = "caller: " + std::string(name(severity)) + ": " + text + "\n";
    (void)std::fwrite(line.data(), 1, line.size(), stderr);
  } catch (...) {  // there is nobody left to tell
  }
}

// ---- components ----

void AppCore::prepare_store() {
  const std::lock_guard lock(making_);
  if (store_) return;
  store_ = components().make_store(options.store_name, App(shared_from_this()));
  store_by_name_ = true;
}

/// A process that executes invocations for a runner has that runner's store, whatever is configured.
void AppCore::use_runners_store() {
  auto runners = store_in_worker(options.app_id);
  if (!runners) return;
  store_ = std::move(runners);
  store_by_name_ = false;
}

Store& AppCore::use_store() {
  const std::lock_guard lock(making_);
  if (Store* const s = used_store_.load(std::memory_order_relaxed)) return *s;  // of two threads the first was here
  prepare_store();
  local_ = dynamic_cast<LocalStore*>(store_.get());
  used_store_.store(store_.get(), std::memory_order_release);
  return *store_;
}

std::shared_ptr<Store> AppCore::shared_store() {
  (void)store();
  const std::lock_guard lock(making_);
  return store_;
}

void AppCore::set_store(std::shared_ptr<Store> store) {
  const std::lock_guard lock(making_);
  if (store_used())
    throw AlreadyInitializedError("the store of application " + options.app_id +
                                  " was used already; choose it before the first call");
  store_ = std::move(store);
  store_by_name_ = false;
  use_runners_store();
}

/// A handle that was made by task code does not keep the runner: its end would wait for that code.
std::shared_ptr<RunnerBox> AppCore::box(std::shared_ptr<RunnerBox>& handle) {
  std::shared_ptr<RunnerBox> b = handle ? handle : runner_.lock();
  if (!b) runner_ = handle = b = std::make_shared<RunnerBox>();
  return b;
}

Runner& AppCore::use_runner(std::shared_ptr<RunnerBox>& handle) {
  const std::lock_guard lock(making_);
  const auto b = box(handle);
  if (!b->runner) b->runner = components().make_runner(options.runner_name, App(shared_from_this()));
  b->used = true;
  return *b->runner;
}

void AppCore::set_runner(std::shared_ptr<RunnerBox>& handle, std::unique_ptr<Runner> runner) {
  const std::lock_guard lock(making_);
  const auto b = box(handle);
  if (b->used)
    throw AlreadyInitializedError("the runner of application " + options.app_id +
                                  " was used already; choose it before that");
  b->runner = std::move(runner);
}

bool AppCore::runner_used() const {
  const std::lock_guard lock(making_);
  const auto b = runner_.lock();
  return b && b->used;
}

Config AppCore::config() const {
  const std::lock_guard lock(mutex_);
  return config_;
}

void AppCore::assign(const std::string& setting, const std::string& value, const std::string& task_id) {
  const std::lock_guard making(making_);
  if (store_used() || runner_used())
    throw AlreadyInitializedError("application " + options.app_id + " was used already; assign " + setting +
                                  " before the first call");
  const std::lock_guard lock(mutex_);
  Config before = config_;
  config_.assign(setting, value, task_id);
  try {
    settle();
    if (std::exchange(store_by_name_, false)) store_.reset();  // it may be another one by now
    use_runners_store();
  } catch (...) {
    config_ = std::move(before);
    settle();
    throw;
  }
}

RunnerOptions AppCore::settle(RunnerKind kind, RunnerOptions given) const {
  const std::string class_name = settings_of(kind);
  const std::lock_guard lock(mutex_);
  Config config = config_;
  runner_settings().offer(config, given, class_name);
  if (const auto wrong = config.mistakes(class_name); !wrong.empty()) refuse_all(wrong);
  runner_settings().take(config, given, class_name);
  return given;
}

RunnerOptions AppCore::own_runner_options(RunnerKind kind) const {
  RunnerOptions own = given_.runner_options;
  if (runner_kind_of(given_.runner_name) == kind) return own;
  RunnerOptions other;
  other.on_start = std::move(own.on_start);
  other.on_stop = std::move(own.on_stop);
  return other;
}

Format format_of(const AppCore& app) noexcept { return app.options.format; }
bool runs_here(const AppCore& app) noexcept { return app.runs_here(); }
Store& store_of(AppCore& app) { return app.store(); }
DefinitionPtr add_task(AppCore& app, std::shared_ptr<TaskDefinition> definition) {
  return app.add(std::move(definition));
}
DefinitionPtr task_of(const AppCore& app, const std::string& id, const std::string& signature) {
  DefinitionPtr found = app.find(id);
  if (found->signature != signature)
    throw TaskRoutingError(id, "task " + id + " is " + found->signature + ", and not " + signature);
  return found;
}

}  // namespace detail

std::string_view name(Severity severity) noexcept {
  constexpr std::array<std::string_view, 4> kNames{"debug", "info", "warning", "error"};
  return kNames[static_cast<std::size_t>(severity)];
}

bool Logger::enabled(Severity severity) const noexcept {
  const auto app = app_.lock();
  return app && severity >= app->options.logging_level;
}
void Logger::log(Severity severity, std::string_view text) const noexcept {
  const auto app = app_.lock();
  if (!app || severity < app->options.logging_level) return;
  try {
    app->log(severity, prefix_ + std::string(text));
  } catch (...) {  // no memory for the words
  }
}

}  // namespace caller::task
