// The program `caller`: reads the command line and calls the library that does the work.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "commands.hpp"

namespace {

namespace cli = caller::kernel::cli;

/// As CLI11 takes them. `-if` and `-of` of tubes, which look like two letters each, are one.
std::vector<std::string> for_parser(std::vector<std::string> words) {
  for (std::string& word : words) {
    if (word == "-if") word = "--input-format";
    if (word == "-of") word = "--output-format";
  }
  std::reverse(words.begin(), words.end());
  return words;
}

int run(int argc, char** argv) {
  CLI::App app{"Caller: a C++20 executor runtime, the Jupyter kernel it powers, tubes and tasks", "caller"};
  app.set_version_flag("--version", "caller " CALLER_VERSION);
  app.require_subcommand(1);
  std::vector<std::string> words(argv + 1, argv + argc);
  // The last word of a process that executes invocations for a runner: see caller::task::worker_main().
  const bool is_worker = !words.empty() && words.back().starts_with("--caller-task-worker=");
  if (is_worker) words.pop_back();
  std::vector<std::unique_ptr<cli::Commands>> all;
#ifdef CALLER_HAVE_KERNEL
  all.push_back(cli::kernel_commands(app));
#endif
#ifdef CALLER_HAVE_TUBE
  all.push_back(cli::tube_commands(app));
#endif
#ifdef CALLER_HAVE_TASK
  all.push_back(cli::task_commands(app, words, is_worker));
#endif
#ifdef CALLER_HAVE_MONITOR
  all.push_back(cli::monitor_commands(app));
#endif
  try {
    app.parse(for_parser(words));
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  for (const auto& commands : all)
    if (commands->given()) return commands->run();
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::cout.flush();
    std::cerr << "caller: " << error.what() << '\n';
    return 1;
  }
}
