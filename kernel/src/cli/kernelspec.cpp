#include "kernelspec.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>

#include "debugger/find_adapter.hpp"

extern char** environ;

namespace caller::kernel::cli {

namespace fs = std::filesystem;

namespace {

constexpr const char* kLogos[] = {"logo-32x32.png", "logo-64x64.png", "logo-svg.svg"};

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

bool is_executable(const fs::path& file) {
  std::error_code ignored;
  return fs::is_regular_file(file, ignored) && ::access(file.c_str(), X_OK) == 0;
}

/// Directories made for an installation that has not succeeded yet: removed again when it does not.
class Rollback {
public:
  Rollback() = default;
  Rollback(const Rollback&) = delete;
  Rollback& operator=(const Rollback&) = delete;
  ~Rollback() {
    std::error_code ignored;
    if (!temporary_.empty()) fs::remove_all(temporary_, ignored);
    // Deepest first; a directory in which someone else has put something meanwhile stays.
    for (auto it = made_.rbegin(); it != made_.rend(); ++it) ::rmdir(it->c_str());
  }

  void make_directories(const fs::path& directory) {
    fs::path so_far;
    for (const auto& part : directory) {
      so_far /= part;
      std::error_code error;
      if (fs::create_directory(so_far, error)) {
        made_.push_back(so_far);
      } else if (error) {
        throw KernelspecError("cannot create the directory " + so_far.string() + ": " + error.message());
      }
    }
  }

  /// A fresh directory inside `parent`. The `~` keeps Jupyter from taking it for a kernelspec.
  fs::path make_temporary(const fs::path& parent, const std::string& name) {
    std::string pattern = (parent / ("." + name + "~XXXXXX")).string();
    if (::mkdtemp(pattern.data()) == nullptr) {
      throw KernelspecError("cannot write to " + parent.string() + ": " + std::strerror(errno));
    }
    temporary_ = pattern;
    ::chmod(pattern.c_str(), 0755);  // mkdtemp gives 0700; the kernelspec of a prefix is for everyone
    return temporary_;
  }

  /// The temporary directory now holds only what is to be thrown away, if it exists at all.
  void succeeded() { made_.clear(); }

private:
  fs::path temporary_;
  std::vector<fs::path> made_;
};

void write_file(const fs::path& file, const std::string& text) {
  std::ofstream out(file, std::ios::binary);
  out << text;
  out.close();
  if (!out) throw KernelspecError("cannot write " + file.string() + ": " + std::strerror(errno));
}

/// Puts `from` in the place of `to`, which keeps existing for everyone who looks: afterwards `from` is the old one.
void exchange(const fs::path& from, const fs::path& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return;
  if (errno == EEXIST && ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) return;
  if (errno == EINVAL || errno == ENOSYS) {  // a file system without these flags, NFS for instance
    std::error_code error;
    fs::path old = from;
    old += "-old";
    fs::rename(to, old, error);
    fs::rename(from, to, error);
    if (!error) {
      fs::remove_all(old, error);
      return;
    }
    const std::string reason = error.message();
    fs::rename(old, to, error);
    throw KernelspecError("cannot install " + to.string() + ": " + reason);
  }
  throw KernelspecError("cannot install " + to.string() + ": " + std::strerror(errno));
}

/// The parsed kernel.json of a directory, when it is one of this program's.
std::optional<nlohmann::json> read_own(const fs::path& directory) {
  std::ifstream in(directory / "kernel.json", std::ios::binary);
  if (!in) return std::nullopt;
  auto spec = nlohmann::json::parse(in, nullptr, /*allow_exceptions=*/false);
  if (!spec.is_object()) return std::nullopt;
  const auto metadata = spec.find("metadata");
  if (metadata == spec.end() || !metadata->is_object() || !metadata->contains("caller")) return std::nullopt;
  return spec;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

}  // namespace

Environment Environment::of_process() {
  Environment out;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const auto equals = text.find('=');
    if (equals != std::string_view::npos) out.variables.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return out;
}

std::optional<std::string> Environment::find(std::string_view name) const {
  const auto it = variables.find(std::string(name));
  if (it == variables.end() || it->second.empty()) return std::nullopt;
  return it->second;
}

fs::path user_data_dir(const Environment& environment) {
  if (auto dir = environment.find("JUPYTER_DATA_DIR")) return *dir;
  if (auto dir = environment.find("XDG_DATA_HOME")) return fs::path(*dir) / "jupyter";
  if (auto home = environment.find("HOME")) return fs::path(*home) / ".local/share/jupyter";
  throw KernelspecError(
      "neither JUPYTER_DATA_DIR, XDG_DATA_HOME nor HOME is set, so there is no user directory; use --prefix");
}

fs::path python_prefix(const Environment& environment) {
  for (const char* name : {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
    if (auto dir = environment.find(name)) return *dir;
  }
  std::string text;
  if (FILE* python = ::popen("python3 -c 'import sys; print(sys.prefix)' 2>/dev/null", "r")) {
    std::array<char, 256> buffer{};
    while (std::fgets(buffer.data(), buffer.size(), python) != nullptr) text += buffer.data();
    if (::pclose(python) != 0) text.clear();
  }
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.empty() ? fs::path("/usr") : fs::path(text);
}

std::vector<fs::path> search_path(const Environment& environment) {
  std::vector<fs::path> out;
  if (auto extra = environment.find("JUPYTER_PATH")) {
    std::string_view rest = *extra;
    while (!rest.empty()) {
      const auto colon = rest.find(':');
      std::string_view entry = rest.substr(0, colon);
      while (entry.size() > 1 && entry.back() == '/') entry.remove_suffix(1);
      if (!entry.empty()) out.emplace_back(entry);
      rest = colon == std::string_view::npos ? std::string_view() : rest.substr(colon + 1);
    }
  }
  const fs::path user = user_data_dir(environment);
  const fs::path active = python_prefix(environment) / "share/jupyter";
  const std::string prefer = lower(environment.find("JUPYTER_PREFER_ENV_PATH").value_or(""));
  const bool active_first = !prefer.empty() && prefer != "no" && prefer != "n" && prefer != "false" &&
                            prefer != "off" && prefer != "0" && prefer != "0.0";
  out.push_back(active_first ? active : user);
  out.push_back(active_first ? user : active);
  out.emplace_back("/usr/local/share/jupyter");
  out.emplace_back("/usr/share/jupyter");
  std::vector<fs::path> unique;
  for (auto& dir : out) {
    if (std::find(unique.begin(), unique.end(), dir) == unique.end()) unique.push_back(std::move(dir));
  }
  return unique;
}

fs::path kernels_dir(const Location& location, const Environment& environment) {
  switch (location.scope) {
    case Scope::user:
      return fs::absolute(user_data_dir(environment)) / "kernels";
    case Scope::sys_prefix:
      return python_prefix(environment) / "share/jupyter/kernels";
    case Scope::prefix:
      break;
  }
  return fs::absolute(location.prefix) / "share/jupyter/kernels";
}

std::string checked_name(std::string_view name) {
  const bool valid = !name.empty() && name.size() <= 200 && std::all_of(name.begin(), name.end(), is_name_character) &&
                     name.find_first_not_of('.') != std::string_view::npos;
  if (!valid) {
    throw KernelspecError("\"" + std::string(name) +
                          "\" cannot name a kernelspec: only letters, digits, `.`, `_` and `-` are allowed");
  }
  return lower(name);
}

std::pair<std::string, std::string> parse_assignment(std::string_view text) {
  const auto equals = text.find('=');
  const std::string_view key = text.substr(0, equals);
  const auto usable = [](char c) { return is_name_character(c) && c != '.' && c != '-'; };
  if (equals == std::string_view::npos || key.empty() || (key[0] >= '0' && key[0] <= '9') ||
      !std::all_of(key.begin(), key.end(), usable)) {
    throw KernelspecError("\"" + std::string(text) + "\" is not of the form NAME=VALUE");
  }
  return {std::string(key), std::string(text.substr(equals + 1))};
}

std::string kernel_json(const InstallOptions& options) {
  nlohmann::ordered_json spec;
  spec["argv"] = {options.program.string(), "kernel", "start", "-f", "{connection_file}"};
  if (!options.cxxflags.empty()) spec["argv"].push_back("--cxxflags=" + options.cxxflags);
  spec["display_name"] = options.display_name;
  spec["language"] = "c++";
  spec["interrupt_mode"] = "message";
  spec["kernel_protocol_version"] = "5.5";
  spec["env"] = options.environment;
  // What there will be elsewhere is known there only; a kernel that has no debugger says so itself.
  spec["metadata"] = {{"debugger", options.elsewhere || debugger::find_adapter().has_value()},
                      {"supported_encryption", {"curve"}},
                      {"caller", {{"name", checked_name(options.name)}}}};
  return spec.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

fs::path install(const InstallOptions& options, const Environment& environment) {
  const std::string name = checked_name(options.name);
  if (options.elsewhere && !options.program.is_absolute()) {
    throw KernelspecError("the program " + options.program.string() + " must be named with its whole path");
  }
  if (!options.elsewhere && !is_executable(options.program)) {
    throw KernelspecError("the program " + options.program.string() + " does not exist or cannot be executed");
  }
  const fs::path kernels = kernels_dir(options.location, environment);
  const fs::path target = kernels / name;
  Rollback rollback;
  rollback.make_directories(kernels);
  const fs::path temporary = rollback.make_temporary(kernels, name);
  write_file(temporary / "kernel.json", kernel_json(options));
  for (const char* logo : kLogos) {
    std::error_code error;
    fs::copy_file(options.resources / logo, temporary / logo, error);
    if (error) throw KernelspecError("cannot copy " + (options.resources / logo).string() + ": " + error.message());
  }
  exchange(temporary, target);
  rollback.succeeded();
  return target;
}

fs::path uninstall(const Location& location, std::string_view name, const Environment& environment) {
  const fs::path directory = kernels_dir(location, environment) / checked_name(name);
  std::error_code error;
  if (!fs::exists(directory, error)) {
    throw KernelspecError("there is no kernelspec " + directory.string() +
                          "; `caller kernel list` shows those there are");
  }
  if (!read_own(directory)) {
    throw KernelspecError(directory.string() + " is not a kernelspec of this program; it is left alone");
  }
  fs::remove_all(directory, error);
  if (error) throw KernelspecError("cannot remove " + directory.string() + ": " + error.message());
  return directory;
}

std::vector<Installed> list(const Environment& environment) {
  std::map<std::string, std::optional<Installed>> found;  // nothing: another program's kernelspec hides ours
  for (const auto& data : search_path(environment)) {
    std::error_code error;
    for (fs::directory_iterator it(data / "kernels", error), end; !error && it != end; it.increment(error)) {
      const fs::path directory = it->path();
      const std::string file_name = directory.filename().string();
      std::error_code ignored;
      if (!std::all_of(file_name.begin(), file_name.end(), is_name_character)) continue;
      if (!fs::exists(directory / "kernel.json", ignored)) continue;
      auto [slot, is_new] = found.try_emplace(lower(file_name));
      if (!is_new) continue;
      const auto spec = read_own(directory);
      if (!spec) continue;
      Installed entry;
      entry.name = slot->first;
      entry.directory = directory;
      if (auto text = spec->find("display_name"); text != spec->end() && text->is_string()) entry.display_name = *text;
      if (auto argv = spec->find("argv");
          argv != spec->end() && argv->is_array() && !argv->empty() && (*argv)[0].is_string()) {
        entry.program = (*argv)[0].get<std::string>();
      }
      entry.runnable = is_executable(entry.program);
      slot->second = std::move(entry);
    }
  }
  std::vector<Installed> out;
  for (auto& [name, entry] : found) {
    if (entry) out.push_back(std::move(*entry));
  }
  return out;
}

std::string list_json(const Environment& environment) {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const Installed& entry : list(environment))
    out.push_back({{"name", entry.name},
                   {"display_name", entry.display_name},
                   {"directory", entry.directory.string()},
                   {"program", entry.program.string()},
                   {"runnable", entry.runnable}});
  return out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace caller::kernel::cli
