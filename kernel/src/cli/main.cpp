// The program `caller`: reads the command line and calls the library that does the work.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "kernelspec.hpp"
#include "start.hpp"

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

int run_list() {
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

  LocationFlags uninstall_location;
  std::string uninstall_name = "caller";
  auto* uninstall_command = kernel->add_subcommand("uninstall", "Remove a kernelspec of this program");
  uninstall_location.add_to(*uninstall_command);
  uninstall_command->add_option("--name", uninstall_name, "The kernelspec's name")->capture_default_str();

  auto* list_command = kernel->add_subcommand("list", "Show this program's kernelspecs");

  cli::StartOptions start;
  auto* start_command = kernel->add_subcommand("start", "Run a kernel; Jupyter calls this");
  start_command->add_option("-f,--connection-file", start.connection_file, "The connection file Jupyter wrote")
      ->type_name("FILE")
      ->required();
  start_command->add_option("--cxxflags", start.cxxflags, "Compiler flags added for every cell")->type_name("FLAGS");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (*install_command) {
    for (const auto& text : variables) {
      const auto [name, value] = cli::parse_assignment(text);
      install.environment.insert_or_assign(name, value);
    }
    install.location = install_location.location();
    install.program = own_program();
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
  if (*list_command) return run_list();
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
