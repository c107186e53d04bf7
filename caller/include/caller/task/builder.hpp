// An application, put together.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <caller/task/app.hpp>

namespace caller::task {

/// `AppBuilder{}.app_id("demo").sqlite("demo.db").thread_runner(1, 4).build()`. What is configured elsewhere goes
/// before all of it but store(s). Thread-safety: one thread. Errors: in build(), as App's and those of the chosen
/// store's maker. Source: pynenc PynencBuilder.
class CALLER_API AppBuilder {
public:
  /// See AppOptions::app_id.
  AppBuilder& app_id(std::string id) {
    options_.app_id = std::move(id);
    return *this;
  }
  /// Everything in memory, of this process only; the default.
  AppBuilder& memory() { return store("memory"); }
  /// See make_sqlite_store(). Errors: in build().
  AppBuilder& sqlite(const std::string& path, SqliteOptions options = {});
  /// See make_redis_store(). Errors: in build().
  AppBuilder& redis(std::string url) { return redis(RedisOptions{.url = std::move(url)}); }
  /// The same, with all that can be said of a connection.
  AppBuilder& redis(const RedisOptions& options);
  /// A store that is made already.
  AppBuilder& store(std::shared_ptr<Store> s) {
    options_.store = std::move(s);
    return *this;
  }
  /// By name; see Components.
  AppBuilder& store(std::string name) {
    options_.store = nullptr;
    options_.store_name = std::move(name);
    return *this;
  }
  /// By name; see Components.
  AppBuilder& store(const char* name) { return store(std::string(name)); }
  /// What App::runner() gives. `min`: threads that are kept while they have nothing to do; `max`: slots, 0: one for
  /// each core.
  AppBuilder& thread_runner(std::size_t min = 1, std::size_t max = 0);
  /// What App::runner() gives: RunnerKind::process.
  AppBuilder& process_runner(std::size_t slots = 0);
  /// What App::runner() gives: RunnerKind::persistent_process.
  AppBuilder& persistent_process_runner(std::size_t processes = 0);
  /// What App::runner() gives: RunnerKind::multi_thread.
  AppBuilder& multi_thread_runner(std::size_t min_processes, std::size_t max_processes, std::size_t threads);
  /// What App::runner() gives: RunnerKind::dummy.
  AppBuilder& dummy_runner() { return runner(RunnerKind::dummy); }
  /// What App::runner() gives: RunnerKind::sync.
  AppBuilder& sync_runner() { return runner(RunnerKind::sync); }
  /// What App::runner() gives.
  AppBuilder& runner(RunnerKind kind, RunnerOptions options = {});
  /// What App::runner() gives, by name; see Components.
  AppBuilder& runner(std::string name) {
    options_.runner_name = std::move(name);
    return *this;
  }
  /// How arguments and results are written; the same in all processes.
  AppBuilder& serializer(Format f) {
    options_.format = f;
    return *this;
  }
  /// Calls run where they are made, at once.
  AppBuilder& dev_mode(bool on = true) {
    options_.dev_mode = on;
    return *this;
  }
  /// How long a runner is believed to live after its last heartbeat.
  AppBuilder& lease(std::chrono::milliseconds time) {
    options_.lease = time;
    return *this;
  }
  /// See AppOptions::max_pending.
  AppBuilder& max_pending(std::chrono::milliseconds time) {
    options_.max_pending = time;
    return *this;
  }
  /// What is logged: this, and what is worse.
  AppBuilder& logging_level(Severity least) {
    options_.logging_level = least;
    return *this;
  }
  /// Who is told, in any thread; nobody: standard error.
  AppBuilder& log(std::function<void(Severity, const std::string&)> to) {
    options_.log = std::move(to);
    return *this;
  }
  /// Any setting by its name: `.value("task.max_retries", "3")`. Source: pynenc PynencBuilder.custom_config.
  AppBuilder& value(std::string name, std::string text) {
    options_.values.insert_or_assign(std::move(name), std::move(text));
    return *this;
  }
  /// A file of settings: YAML, TOML or JSON.
  AppBuilder& config_filepath(std::string path) {
    filepath_ = std::move(path);
    return *this;
  }
  /// The application. Its store is made, too. Errors: as App's and those of the store's maker.
  App build();

private:
  AppOptions options_;
  std::string filepath_;
};

}  // namespace caller::task
