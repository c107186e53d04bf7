// Stores and runners by name, so that a setting can choose them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <caller/export.hpp>
#include <caller/task/config.hpp>
#include <caller/task/runner.hpp>
#include <caller/task/store.hpp>

namespace caller::task {

class App;

/// What a process knows to make. `memory`, `sqlite`, `redis`, and this library's runners are there from the beginning.
/// A name also is, or is the first part of, a class of settings: the store `sqlite` has [sqlite], the runner `thread`
/// has [thread_runner]; `ThreadRunner`, as RunnerKind is called, means it, too. The factory reads them from
/// App::config().
///
/// Thread-safety: any thread. Errors: ConfigError for a name that is taken or, in make_…, unknown, with the known ones.
/// Source: pynenc's discovery of components by class name; differs: a table.
class CALLER_API Components {
public:
  /// Makes a store for an application.
  using MakeStore = std::function<std::shared_ptr<Store>(const App&)>;
  /// Makes a runner for an application.
  using MakeRunner = std::function<std::unique_ptr<Runner>(const App&)>;

  Components();
  ~Components();
  Components(const Components&) = delete;
  Components& operator=(const Components&) = delete;

  /// `settings`: the fields of its class; its name and parent `store` (or `runner`) are added.
  void add_store(std::string name, MakeStore make, std::vector<ConfigField> settings = {});
  /// The same for a runner.
  void add_runner(std::string name, MakeRunner make, std::vector<ConfigField> settings = {});
  /// Names of all of them, sorted.
  std::vector<std::string> stores() const;
  /// Names of all of them, sorted.
  std::vector<std::string> runners() const;
  /// One of that name. Errors: also those of its maker.
  std::shared_ptr<Store> make_store(const std::string& name, const App& app) const;
  /// One of that name. Errors: also those of its maker.
  std::unique_ptr<Runner> make_runner(const std::string& name, const App& app) const;
  /// Classes of settings of all of them.
  std::vector<ConfigClass> settings() const;

private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Those of this process. Thread-safety: any thread. Errors: none. Source: –
CALLER_API Components& components();

/// A Config that knows the settings of applications, tasks and all components there are now.
/// Thread-safety: as ConfigSources::of_process(). Errors: as Config. Source: –
CALLER_API Config app_config(ConfigSources sources = ConfigSources::of_process());

}  // namespace caller::task
