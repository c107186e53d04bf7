// Where Jupyter looks for kernelspecs, and how one of this program is written, listed and removed.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace caller::kernel::cli {

/// What went wrong with a kernelspec, in one sentence meant for the terminal.
struct KernelspecError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The environment variables the rules below read; a value type so that tests need no setenv.
struct Environment {
  std::map<std::string, std::string> variables;

  /// The variables of this process. Thread-safety: not while another thread changes the environment.
  static Environment of_process();
  /// The variable's value; nothing when it is unset or empty, as Jupyter treats both alike.
  std::optional<std::string> find(std::string_view name) const;
};

enum class Scope {
  user,        ///< Jupyter's data directory of the user
  sys_prefix,  ///< the active Python environment
  prefix,      ///< any directory: <prefix>/share/jupyter
};

/// One place a kernelspec can live in, as given on the command line.
struct Location {
  Scope scope = Scope::user;
  std::filesystem::path prefix;  ///< with Scope::prefix only
};

struct InstallOptions {
  Location location;
  std::string name = "caller";
  std::string display_name = "C++20 (Caller)";
  std::map<std::string, std::string> environment;  ///< set in the kernel process by Jupyter
  std::string cxxflags;                            ///< added to the compiler flags of every cell; may be empty
  std::filesystem::path program;                   ///< absolute path of `caller`
  bool elsewhere = false;           ///< the kernelspec is for a machine or a root where `program` will be
  std::filesystem::path resources;  ///< directory with the logos
};

/// A kernelspec of this program that was found on Jupyter's path.
struct Installed {
  std::string name;
  std::string display_name;
  std::filesystem::path directory;
  std::filesystem::path program;
  bool runnable = false;  ///< the program it names still exists and may be executed
};

/// Jupyter's data directory of the user: JUPYTER_DATA_DIR, else XDG_DATA_HOME/jupyter, else ~/.local/share/jupyter.
///
/// Thread-safety: any thread. Errors: KernelspecError when none of the three nor HOME is set.
/// Source: jupyter_core.paths.jupyter_data_dir.
std::filesystem::path user_data_dir(const Environment& environment);

/// The prefix of the active Python environment: VIRTUAL_ENV, CONDA_PREFIX, else what python3 reports, else /usr.
///
/// Thread-safety: any thread. Errors: none. Source: Python's sys.prefix.
std::filesystem::path python_prefix(const Environment& environment);

/// The directories Jupyter searches, most important first; each may hold a `kernels` directory.
///
/// Thread-safety: any thread. Errors: as user_data_dir. Source: jupyter_core.paths.jupyter_path.
std::vector<std::filesystem::path> search_path(const Environment& environment);

/// The `kernels` directory of a location. Thread-safety: any thread. Errors: as user_data_dir.
std::filesystem::path kernels_dir(const Location& location, const Environment& environment);

/// The name as Jupyter stores it (lower case).
///
/// Thread-safety: any thread. Errors: KernelspecError unless it matches [A-Za-z0-9._-]+ and is more than dots.
/// Source: jupyter_client.kernelspec.
std::string checked_name(std::string_view name);

/// Splits `KEY=VALUE`. Thread-safety: any thread. Errors: KernelspecError without `=` or with an unusable key.
std::pair<std::string, std::string> parse_assignment(std::string_view text);

/// The text of kernel.json. Thread-safety: any thread. Errors: none. Source: Jupyter's kernelspec format.
std::string kernel_json(const InstallOptions& options);

/// Writes the kernelspec and returns its directory. An older one of this name is replaced in one step; after a failure
/// everything is as it was before.
///
/// Thread-safety: any thread. Errors: KernelspecError, naming the path and the system's reason.
std::filesystem::path install(const InstallOptions& options, const Environment& environment);

/// Removes a kernelspec of this program and returns where it was.
///
/// Thread-safety: any thread. Errors: KernelspecError when there is none of that name there, or it is another
/// program's.
std::filesystem::path uninstall(const Location& location, std::string_view name, const Environment& environment);

/// This program's kernelspecs on the search path, sorted by name; of equal names the one Jupyter would take.
///
/// Thread-safety: any thread. Errors: as user_data_dir; unreadable entries are left out.
std::vector<Installed> list(const Environment& environment);

/// The same for scripts: a JSON list of objects with name, display_name, directory, program and runnable, then a line's
/// end. Thread-safety: any thread. Errors: as list.
std::string list_json(const Environment& environment);

}  // namespace caller::kernel::cli
