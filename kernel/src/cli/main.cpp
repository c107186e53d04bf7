// The program `caller`: reads the command line and calls the library that does the work.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <iostream>
#include <regex>
#include <string>
#include <string_view>
#include <vector>

#include "commands.hpp"
#if defined(CALLER_HAVE_SESSION) && defined(CALLER_HAVE_TUBE)
#include "jit_tasks/cell_nodes.hpp"
#endif
#include "terminal.hpp"

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

/// A sentence for a command line that is wrong: what, where, and what to do.
std::string sentence(const CLI::App* app, const CLI::Error& error) {
  std::string command = app->get_name();
  while (!app->get_subcommands().empty()) {
    app = app->get_subcommands().front();
    command += " " + app->get_name();
  }
  const auto known = app->get_subcommands([](const CLI::App* one) { return !one->get_name().empty(); });  // no groups
  const auto rest = app->remaining();
  if (!rest.empty() && rest.front().starts_with('-'))
    return "there is no option " + rest.front() + "; `" + command + " --help` lists those there are";
  if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::RequiredError) && !known.empty()) {
    std::string all;
    for (const CLI::App* one : known) all += (all.empty() ? "" : ", ") + one->get_name();
    return (rest.empty() ? "a command is missing after `" + command + "`"
                         : "there is no command `" + command + " " + rest.front() + "`") +
           (known.size() == 1 ? "; there is " : "; there are ") + all;
  }
  const std::string help = "; `" + command + " --help` explains it", what = error.what();
  if (!rest.empty()) return "`" + command + "` takes no \"" + rest.front() + "\"" + help;
  std::smatch parts;
  if (std::regex_match(what, parts, std::regex("(.*): \\d+ required (.*) missing")))
    return parts[1].str() + " needs " + parts[2].str() + help;
  if (std::regex_match(what, parts, std::regex("Requires at most 1 options be given from \\[(.*)\\]")))
    return "at most one of " + std::regex_replace(parts[1].str(), std::regex(","), ", ") + " can be given" + help;
  return what + help;
}

int run(int argc, char** argv) {
#if defined(CALLER_HAVE_SESSION) && defined(CALLER_HAVE_TUBE)
  if (argc == 2 && argv[1] == std::string_view(caller::kernel::kCellNodeArgument))
    caller::kernel::cell_node_main(argc, argv);
#endif
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
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    cli::complain("caller", sentence(&app, error));
    return 2;
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
    cli::complain("caller", error.what());
    return 1;
  }
}
