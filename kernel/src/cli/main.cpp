// The program `caller`: reads the command line and calls the library that does the work.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "kernelspec.hpp"
#include "monitor.hpp"
#include "start.hpp"
#include "tube.hpp"

namespace {

namespace cli = caller::kernel::cli;
namespace fs = std::filesystem;

/// --user, --sys-prefix and --prefix, which `install` and `uninstall` share; at most one may be given.
struct LocationFlags {
  bool user = false;
  bool sys_prefix = false;
  std::string prefix;

  void add_to(CLI::App& command) {
    auto* group = command.add_option_group("location", "Where the kernelspec lives (default: --user)");
    group->add_flag("--user", user, "Jupyter's data directory of this user");
    group->add_flag("--sys-prefix", sys_prefix, "The active Python environment");
    group->add_option("--prefix", prefix, "PREFIX/share/jupyter")->type_name("PREFIX");
    group->require_option(0, 1);
  }

  cli::Location location() const {
    if (!prefix.empty()) return {cli::Scope::prefix, prefix};
    return {sys_prefix ? cli::Scope::sys_prefix : cli::Scope::user, {}};
  }
};

/// This program's own path, and the resources that lie beside it both in the build tree and when installed.
fs::path own_program() { return fs::canonical("/proc/self/exe"); }
fs::path own_resources() { return own_program().parent_path().parent_path() / CALLER_DATA_DIR "/kernelspec"; }

int run_list(bool json) {
  if (json) {
    std::cout << cli::list_json(cli::Environment::of_process());
    return 0;
  }
  const auto found = cli::list(cli::Environment::of_process());
  if (found.empty()) {
    std::cout << "No kernelspec of this program is installed; `caller kernel install` makes one.\n";
    return 0;
  }
  std::size_t width = 0;
  for (const auto& entry : found) width = std::max(width, entry.name.size());
  for (const auto& entry : found) {
    std::cout << entry.name << std::string(width - entry.name.size() + 2, ' ') << entry.directory.string() << "  "
              << entry.display_name;
    if (!entry.runnable) std::cout << "  (its program " << entry.program.string() << " is gone)";
    std::cout << '\n';
  }
  return 0;
}

#ifdef CALLER_HAVE_TUBE
/// `caller tube …`: parses into `options` and says which command was given.
struct TubeCommands {
  explicit TubeCommands(CLI::App& app) : tube(app.add_subcommand("tube", "Run, check or draw a dataflow graph")) {
    tube->require_subcommand(1);
    run = tube->add_subcommand("run", "Run a tube; results go to standard output, a line of JSON each");
    check = tube->add_subcommand("check", "Build a tube without running it");
    plot = tube->add_subcommand("plot", "Draw the graph");
    types = tube->add_subcommand("types", "Show what specifications can name");
    for (CLI::App* command : {run, check, plot}) {
      command->add_option("spec", options.spec, "An id in the search path, or a file")->type_name("SPEC")->required();
      command->add_option("-i,--input", inputs, "An input: its name, and JSON or text; may be repeated")
          ->type_name("NAME VALUE")
          ->allow_extra_args(false);
    }
    for (CLI::App* command : {run, check, plot, types}) {
      command->add_option("--plugin", options.plugins, "A shared object that registers types; may be repeated")
          ->type_name("LIB")
          ->allow_extra_args(false);
      command->add_option("--path", options.folders, "A folder of tubes; may be repeated (also: CALLER_TUBE_PATH)")
          ->type_name("DIR")
          ->allow_extra_args(false);
    }
    run->add_option("--runner", options.runner, "Where nodes run")
        ->check(CLI::IsMember({"sync", "async", "thread", "cluster"}))
        ->capture_default_str();
    run->add_option("-n", options.n, "How many results; all, if not given")->type_name("N");
    run->add_option("--input-format", options.input_format, "Of the inputs on standard input (short: -if)")
        ->check(CLI::IsMember({"json", "jsonl"}))
        ->capture_default_str();
    run->add_option("--output-format", options.output_format, "Of the results (short: -of)")
        ->check(CLI::IsMember({"json", "jsonl"}))
        ->capture_default_str();
    run->add_flag("--progress", options.progress, "Show on standard error how far the run is");
    check->add_flag("--json", options.json, "The built graph as JSON");
    types->add_flag("--json", options.json, "As JSON");
    plot->add_option("-o,--output", options.output,
                     "A .svg, .png, .pdf or .dot file; without it the dot text is printed")
        ->type_name("FILE");
  }

  int operator()() {
    options.inputs = inputs;
    if (*run) return cli::tube_run(options);
    if (*check) return cli::tube_check(options);
    if (*plot) return cli::tube_plot(options);
    return cli::tube_types(options);
  }

  cli::TubeOptions options;
  std::vector<std::pair<std::string, std::string>> inputs;
  CLI::App* tube;
  CLI::App *run = nullptr, *check = nullptr, *plot = nullptr, *types = nullptr;
};

/// `-if` and `-of`, which look like two letters each.
std::vector<std::string> long_options(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  for (std::string& word : words) {
    if (word == "-if")
      word = "--input-format";
    else if (word == "-of")
      word = "--output-format";
  }
  return words;
}
#endif

int run(int argc, char** argv) {
  CLI::App app{"Caller: a C++20 executor runtime and the Jupyter kernel it powers", "caller"};
  app.set_version_flag("--version", "caller " CALLER_VERSION);
  app.require_subcommand(1);
  auto* kernel = app.add_subcommand("kernel", "Install, remove, list or start the Jupyter kernel");
  kernel->require_subcommand(1);

  cli::InstallOptions install;
  LocationFlags install_location;
  std::vector<std::string> variables;
  auto* install_command = kernel->add_subcommand("install", "Make the kernel known to Jupyter");
  install_location.add_to(*install_command);
  install_command->add_option("--name", install.name, "Name for `jupyter … --kernel NAME`")->capture_default_str();
  install_command->add_option("--display-name", install.display_name, "Name in menus")->capture_default_str();
  install_command->add_option("--env", variables, "Environment variable of the kernel; may be repeated")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  install_command->add_option("--cxxflags", install.cxxflags, "Compiler flags added for every cell")
      ->type_name("FLAGS");

  std::string program;
  install_command->add_option("--program", program, "Where this program will be, for packages (default: where it is)")
      ->type_name("FILE");

  LocationFlags uninstall_location;
  std::string uninstall_name = "caller";
  auto* uninstall_command = kernel->add_subcommand("uninstall", "Remove a kernelspec of this program");
  uninstall_location.add_to(*uninstall_command);
  uninstall_command->add_option("--name", uninstall_name, "The kernelspec's name")->capture_default_str();

  auto* list_command = kernel->add_subcommand("list", "Show this program's kernelspecs");
  bool list_as_json = false;
  list_command->add_flag("--json", list_as_json, "As JSON");

  cli::StartOptions start;
  auto* start_command = kernel->add_subcommand("start", "Run a kernel; Jupyter calls this");
  start_command->add_option("-f,--connection-file", start.connection_file, "The connection file Jupyter wrote")
      ->type_name("FILE")
      ->required();
  start_command->add_option("--cxxflags", start.cxxflags, "Compiler flags added for every cell")->type_name("FLAGS");

#ifdef CALLER_HAVE_TUBE
  TubeCommands tube_commands(app);
#endif
#ifdef CALLER_HAVE_MONITOR
  cli::MonitorCommand monitor(app);
#endif
  try {
#ifdef CALLER_HAVE_TUBE
    std::vector<std::string> words = long_options(argc, argv);
    std::reverse(words.begin(), words.end());  // as CLI11 takes them
    app.parse(std::move(words));
#else
    app.parse(argc, argv);
#endif
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
#ifdef CALLER_HAVE_TUBE
  if (*tube_commands.tube) return tube_commands();
#endif
#ifdef CALLER_HAVE_MONITOR
  if (monitor.given()) return monitor.run();
#endif
  if (*install_command) {
    for (const auto& text : variables) {
      const auto [name, value] = cli::parse_assignment(text);
      install.environment.insert_or_assign(name, value);
    }
    install.location = install_location.location();
    install.elsewhere = !program.empty();
    install.program = program.empty() ? own_program() : fs::path(program);
    install.resources = own_resources();
    std::cout << "Installed the kernelspec in " << cli::install(install, cli::Environment::of_process()).string()
              << '\n';
    return 0;
  }
  if (*uninstall_command) {
    const auto directory =
        cli::uninstall(uninstall_location.location(), uninstall_name, cli::Environment::of_process());
    std::cout << "Removed the kernelspec in " << directory.string() << '\n';
    return 0;
  }
  if (*list_command) return run_list(list_as_json);
  return cli::start(start);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "caller: " << error.what() << '\n';
    return 1;
  }
}
