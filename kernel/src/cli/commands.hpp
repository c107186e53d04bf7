// The words of the command line: each class adds its commands to the parser, and runs the one that was given.
#pragma once

#include <memory>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace caller::kernel::cli {

class Commands {
public:
  virtual ~Commands() = default;
  /// Whether one of them was given.
  virtual bool given() const = 0;
  /// Runs it and returns the exit code of the process.
  virtual int run() = 0;
};

/// `caller kernel …`, `caller tube …`; `caller runner …`, `caller task …`, `caller config …`; `caller monitor`.
/// `words`: the command line, with which a runner starts its processes. `is_worker`: this is one of them.
std::unique_ptr<Commands> kernel_commands(CLI::App& app);
std::unique_ptr<Commands> tube_commands(CLI::App& app);
std::unique_ptr<Commands> task_commands(CLI::App& app, std::vector<std::string> words, bool is_worker);
std::unique_ptr<Commands> monitor_commands(CLI::App& app);

}  // namespace caller::kernel::cli
