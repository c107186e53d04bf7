// Stores and runners by name, and the builder, which chooses among them.
#include <map>
#include <mutex>

#include <caller/task/builder.hpp>

#include "app.hpp"
#include "config/bind.hpp"
#include "config/nearest.hpp"

namespace caller::task {

// ---- components by name ----

struct Components::State {
  template <class Make>
  struct Kind {
    std::string word, suffix, parent;
    std::map<std::string, std::pair<Make, ConfigClass>> known;
    void add(std::string name, Make make, std::vector<ConfigField> fields) {
      ConfigClass c(name + suffix, {parent});
      c.fields = std::move(fields);
      if (!known.try_emplace(name, std::move(make), std::move(c)).second)
        throw ConfigError("there is a " + word + " of the name \"" + name + "\" already");
    }
    std::vector<std::string> names() const {
      std::vector<std::string> out;
      for (const auto& [name, one] : known) out.push_back(name);
      return out;
    }
    Make find(const std::string& name) const {
      if (const auto it = known.find(name); it != known.end()) return it->second.first;
      std::string all;
      for (const auto& n : names()) all += (all.empty() ? "" : ", ") + n;
      throw ConfigError("there is no " + word + " \"" + name + "\"" + detail::nearest_in_words(name, names()) +
                        "; known are " + all);
    }
  };
  mutable std::mutex mutex;
  Kind<MakeStore> stores{"store", "", "store", {}};
  Kind<MakeRunner> runners{"runner", "_runner", "runner", {}};
};

Components::Components() : state_(std::make_unique<State>()) {
  add_store("memory", [](const App&) { return make_memory_store(); });
  add_store(
      "sqlite",
      [](const App& app) {
        detail::SqliteSettings s;
        detail::sqlite_settings().take(app.config(), s, "sqlite");
        return make_sqlite_store(s.path, s.options);
      },
      detail::sqlite_settings().settings.fields);
  add_store(
      "redis",
      [](const App& app) {
        RedisOptions o;
        detail::redis_settings().take(app.config(), o, "redis");
        return make_redis_store(o, app.app_id());
      },
      detail::redis_settings().settings.fields);
  const auto add_kind = [this](RunnerKind kind) {
    add_runner(std::string(detail::word(kind)),
               [kind](const App& app) { return app.make_runner(kind, app.core()->own_runner_options(kind)); });
  };
  add_kind(RunnerKind::dummy);
  add_kind(RunnerKind::sync);
  add_kind(RunnerKind::thread);
  add_kind(RunnerKind::process);
  add_kind(RunnerKind::persistent_process);
  add_kind(RunnerKind::multi_thread);
}
Components::~Components() = default;

void Components::add_store(std::string name, MakeStore make, std::vector<ConfigField> settings) {
  const std::lock_guard lock(state_->mutex);
  state_->stores.add(std::move(name), std::move(make), std::move(settings));
}
void Components::add_runner(std::string name, MakeRunner make, std::vector<ConfigField> settings) {
  const std::lock_guard lock(state_->mutex);
  state_->runners.add(std::move(name), std::move(make), std::move(settings));
}
std::vector<std::string> Components::stores() const {
  const std::lock_guard lock(state_->mutex);
  return state_->stores.names();
}
std::vector<std::string> Components::runners() const {
  const std::lock_guard lock(state_->mutex);
  return state_->runners.names();
}
std::shared_ptr<Store> Components::make_store(const std::string& name, const App& app) const {
  MakeStore make;
  {
    const std::lock_guard lock(state_->mutex);
    make = state_->stores.find(name);
  }
  return make(app);
}
std::unique_ptr<Runner> Components::make_runner(const std::string& name, const App& app) const {
  MakeRunner make;
  {
    const std::lock_guard lock(state_->mutex);
    make = state_->runners.find(name);
  }
  return make(app);
}
std::vector<ConfigClass> Components::settings() const {
  const std::lock_guard lock(state_->mutex);
  std::vector<ConfigClass> out;
  for (const auto& [name, one] : state_->stores.known) out.push_back(one.second);
  for (const auto& [name, one] : state_->runners.known) out.push_back(one.second);
  return out;
}

Components& components() {
  static auto* all = new Components;  // applications may end after static destruction has begun
  return *all;
}

Config app_config(ConfigSources sources) {
  Config config(std::move(sources));
  config.add(detail::app_settings().settings);
  config.add(detail::client_data_settings().settings);
  config.add(detail::task_settings().settings);
  config.add(ConfigClass("store"));
  config.add(detail::runner_settings().settings);
  for (auto& c : components().settings()) config.add(std::move(c));
  return config;
}

// ---- the builder ----

AppBuilder& AppBuilder::sqlite(const std::string& path, SqliteOptions options) {
  options_.values.insert_or_assign("sqlite.path", path);
  options_.values.insert_or_assign("sqlite.sync", ConfigType<SqliteSync>::text(options.sync));
  options_.values.insert_or_assign("sqlite.busy_timeout", detail::duration_text(options.busy_timeout));
  return store("sqlite");
}
AppBuilder& AppBuilder::redis(const RedisOptions& options) {
  Config config = app_config({});
  detail::redis_settings().offer(config, options, "redis");
  for (const auto& text : config.show("redis"))
    if (text.source == ConfigSource::option) options_.values.insert_or_assign(text.name, text.text());
  options_.values.insert_or_assign("redis.url", options.url);
  return store("redis");
}
AppBuilder& AppBuilder::thread_runner(std::size_t min, std::size_t max) {
  RunnerOptions o;
  o.slots = max;
  o.min_threads = min;
  return runner(RunnerKind::thread, std::move(o));
}
AppBuilder& AppBuilder::process_runner(std::size_t slots) {
  RunnerOptions o;
  o.slots = slots;
  return runner(RunnerKind::process, std::move(o));
}
AppBuilder& AppBuilder::persistent_process_runner(std::size_t processes) {
  RunnerOptions o;
  o.slots = processes;
  return runner(RunnerKind::persistent_process, std::move(o));
}
AppBuilder& AppBuilder::multi_thread_runner(std::size_t min_processes, std::size_t max_processes, std::size_t threads) {
  RunnerOptions o;
  o.min_processes = min_processes;
  o.max_processes = max_processes;
  o.threads = threads;
  return runner(RunnerKind::multi_thread, std::move(o));
}
AppBuilder& AppBuilder::runner(RunnerKind kind, RunnerOptions options) {
  options_.runner_name = detail::word(kind);
  options_.runner_options = std::move(options);
  return *this;
}
App AppBuilder::build() {
  App app(options_, app_config(ConfigSources::of_process(filepath_)));
  app.core()->prepare_store();
  return app;
}

}  // namespace caller::task
