#include "protocol/paths.hpp"

#include <cstdlib>
#include <filesystem>

namespace caller::kernel {
namespace fs = std::filesystem;
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

}  // namespace

std::string jupyter_data_dir() {
  if (const auto data = variable("JUPYTER_DATA_DIR"); !data.empty()) return data;
  if (const auto xdg = variable("XDG_DATA_HOME"); !xdg.empty()) return (fs::path(xdg) / "jupyter").string();
  if (const auto home = variable("HOME"); !home.empty()) return (fs::path(home) / ".local/share/jupyter").string();
  return {};
}

std::string jupyter_runtime_dir() {
  fs::path dir = variable("JUPYTER_RUNTIME_DIR");
  if (dir.empty()) {
    const std::string data = jupyter_data_dir();
    if (data.empty()) return {};
    dir = fs::path(data) / "runtime";
  }
  std::error_code error;
  if (fs::create_directories(dir, error)) fs::permissions(dir, fs::perms::owner_all, error);
  return dir.string();
}

}  // namespace caller::kernel
