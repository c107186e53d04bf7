// Which application of tasks a command is about, and where its invocations are.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <caller/task/all.hpp>

namespace CLI {
class App;
}

namespace caller::kernel::cli {

struct ApplicationFlags {
  std::vector<std::string> libraries;
  std::string app_id, url, sqlite, config;

  /// --url, --sqlite, --config and --app-id.
  void add_to(CLI::App& command);
};

/// What was written by others may hold anything, and a terminal would obey some of it: control characters become \x07.
std::string printable(const std::string& text);

/// The application, with its libraries loaded. The command line goes before all other settings, `more` is part of it.
/// Errors: those of caller::task.
task::App opened(const ApplicationFlags& flags, const std::function<void(task::Config&)>& more = {},
                 task::AppOptions options = {});

/// Throws std::runtime_error unless other processes see the application's invocations, too, and their file is there.
void require_shared(const task::App& app, bool makes_the_file = false);

/// The application of a command that looks at what others do. Errors: those of both.
task::App shared(const ApplicationFlags& flags, const std::function<void(task::Config&)>& more = {});

}  // namespace caller::kernel::cli
