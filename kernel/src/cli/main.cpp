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

/// `-if` and `-of` of tubes, which look like two letters each, as one.
std::vector<std::string> words_of(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  for (std::string& word : words) {
    if (word == "-if") word = "--input-format";
    if (word == "-of") word = "--output-format";
  }
  std::reverse(words.begin(), words.end());  // as CLI11 takes them
  return words;
}

int run(int argc, char** argv) {
  CLI::App app{"Caller: a C++20 executor runtime, the Jupyter kernel it powers, tubes and tasks", "caller"};
  app.set_version_flag("--version", "caller " CALLER_VERSION);
  app.require_subcommand(1);
  std::vector<std::unique_ptr<cli::Commands>> all;
#ifdef CALLER_HAVE_KERNEL
  all.push_back(cli::kernel_commands(app));
#endif
#ifdef CALLER_HAVE_TUBE
  all.push_back(cli::tube_commands(app));
#endif
#ifdef CALLER_HAVE_TASK
  all.push_back(cli::task_commands(app));
#endif
  try {
    app.parse(words_of(argc, argv));
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
