// `caller monitor`: a live web page over a task store.
#pragma once

#include <memory>

namespace CLI {
class App;
}

namespace caller::kernel::cli {

/// The subcommand: what of the command line is its own, and what it does.
class MonitorCommand {
public:
  /// Adds it to the program's commands. It must outlive the parsing.
  explicit MonitorCommand(CLI::App& app);
  ~MonitorCommand();
  MonitorCommand(const MonitorCommand&) = delete;
  MonitorCommand& operator=(const MonitorCommand&) = delete;

  /// Whether it is what was asked for.
  bool given() const;
  /// Serves until SIGINT or SIGTERM. Returns the exit code. Errors: those of caller::monitor and of the store.
  int run();

private:
  struct Options;
  std::unique_ptr<Options> options_;
};

}  // namespace caller::kernel::cli
