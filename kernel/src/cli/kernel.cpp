// `caller kernel …`.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "commands.hpp"
#include "kernelspec.hpp"
#include "start.hpp"

namespace caller::kernel::cli {

namespace {

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

  Location location() const {
    if (!prefix.empty()) return {Scope::prefix, prefix};
    return {sys_prefix ? Scope::sys_prefix : Scope::user, {}};
  }
};

/// This program's own path, and the resources that lie beside it both in the build tree and when installed.
fs::path own_program() { return fs::canonical("/proc/self/exe"); }
fs::path own_resources() { return own_program().parent_path().parent_path() / CALLER_DATA_DIR "/kernelspec"; }

int run_list(bool json) {
  if (json) {
    std::cout << list_json(Environment::of_process());
    return 0;
  }
  const auto found = list(Environment::of_process());
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

class KernelCommands final : public Commands {
public:
  explicit KernelCommands(CLI::App& app)
      : kernel_(app.add_subcommand("kernel", "Install, remove, list or start the Jupyter kernel")) {
    kernel_->require_subcommand(1);
    install_command_ = kernel_->add_subcommand("install", "Make the kernel known to Jupyter");
    install_location_.add_to(*install_command_);
    install_command_->add_option("--name", install_.name, "Name for `jupyter … --kernel NAME`")->capture_default_str();
    install_command_->add_option("--display-name", install_.display_name, "Name in menus")->capture_default_str();
    install_command_->add_option("--env", variables_, "Environment variable of the kernel; may be repeated")
        ->type_name("NAME=VALUE")
        ->allow_extra_args(false);
    install_command_->add_option("--cxxflags", install_.cxxflags, "Compiler flags added for every cell")
        ->type_name("FLAGS");
    install_command_
        ->add_option("--program", program_, "Where this program will be, for packages (default: where it is)")
        ->type_name("FILE");

    uninstall_command_ = kernel_->add_subcommand("uninstall", "Remove a kernelspec of this program");
    uninstall_location_.add_to(*uninstall_command_);
    uninstall_command_->add_option("--name", uninstall_name_, "The kernelspec's name")->capture_default_str();

    list_command_ = kernel_->add_subcommand("list", "Show this program's kernelspecs");
    list_command_->add_flag("--json", list_as_json_, "As JSON");

    auto* const start_command = kernel_->add_subcommand("start", "Run a kernel; Jupyter calls this");
    start_command->add_option("-f,--connection-file", start_.connection_file, "The connection file Jupyter wrote")
        ->type_name("FILE")
        ->required();
    start_command->add_option("--cxxflags", start_.cxxflags, "Compiler flags added for every cell")->type_name("FLAGS");
  }

  bool given() const override { return kernel_->parsed(); }

  int run() override {
    if (*install_command_) {
      for (const auto& text : variables_) {
        const auto [name, value] = parse_assignment(text);
        install_.environment.insert_or_assign(name, value);
      }
      install_.location = install_location_.location();
      install_.elsewhere = !program_.empty();
      install_.program = program_.empty() ? own_program() : fs::path(program_);
      install_.resources = own_resources();
      const fs::path directory = install(install_, Environment::of_process());
      std::cout << "Installed the kernelspec in " << directory.string() << '\n';
      return 0;
    }
    if (*uninstall_command_) {
      const auto directory = uninstall(uninstall_location_.location(), uninstall_name_, Environment::of_process());
      std::cout << "Removed the kernelspec in " << directory.string() << '\n';
      return 0;
    }
    if (*list_command_) return run_list(list_as_json_);
    return start(start_);
  }

private:
  CLI::App* kernel_;
  CLI::App *install_command_ = nullptr, *uninstall_command_ = nullptr, *list_command_ = nullptr;
  InstallOptions install_;
  LocationFlags install_location_, uninstall_location_;
  std::vector<std::string> variables_;
  std::string uninstall_name_ = "caller", program_;
  bool list_as_json_ = false;
  StartOptions start_;
};

}  // namespace

std::unique_ptr<Commands> kernel_commands(CLI::App& app) { return std::make_unique<KernelCommands>(app); }

}  // namespace caller::kernel::cli
