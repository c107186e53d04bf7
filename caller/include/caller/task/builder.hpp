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
  AppBuilder& app_id(std::string id) {
    options_.app_id = std::move(id);
    return *this;
  }
  AppBuilder& memory() { return store("memory"); }
  AppBuilder& sqlite(const std::string& path, SqliteOptions options = {});
  /// See make_redis_store().
  AppBuilder& redis(std::string url) { return redis(RedisOptions{.url = std::move(url)}); }
  AppBuilder& redis(const RedisOptions& options);
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
  AppBuilder& store(const char* name) { return store(std::string(name)); }
  AppBuilder& runner(std::string name) {
    options_.runner_name = std::move(name);
    return *this;
  }
  /// At most `most` slots (0: one for each core), but at least `least`.
  AppBuilder& thread_runner(std::size_t least = 1, std::size_t most = 0);
  AppBuilder& serializer(Format f) {
    options_.format = f;
    return *this;
  }
  AppBuilder& dev_mode(bool on = true) {
    options_.dev_mode = on;
    return *this;
  }
  AppBuilder& lease(std::chrono::milliseconds time) {
    options_.lease = time;
    return *this;
  }
  AppBuilder& max_pending(std::chrono::milliseconds time) {
    options_.max_pending = time;
    return *this;
  }
  AppBuilder& logging_level(Severity least) {
    options_.logging_level = least;
    return *this;
  }
  AppBuilder& log(std::function<void(Severity, const std::string&)> to) {
    options_.log = std::move(to);
    return *this;
  }
  /// Any setting by its name: `.value("task.max_retries", "3")`. Source: pynenc PynencBuilder.custom_config.
  AppBuilder& value(std::string name, std::string text) {
    options_.values.insert_or_assign(std::move(name), std::move(text));
    return *this;
  }
  AppBuilder& config_filepath(std::string path) {
    filepath_ = std::move(path);
    return *this;
  }
  App build();

private:
  AppOptions options_;
  std::string filepath_;
};

}  // namespace caller::task
