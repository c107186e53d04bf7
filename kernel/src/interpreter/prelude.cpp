#include "prelude.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace caller::kernel {
namespace fs = std::filesystem;
namespace {

// The directory of the program or library that holds this code.
fs::path here() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<void*>(&find_prelude), &info) && info.dli_fname) {
    std::error_code e;
    const fs::path p = fs::canonical(info.dli_fname, e);
    if (!e) return p.parent_path();
  }
  std::error_code e;
  return fs::read_symlink("/proc/self/exe", e).parent_path();
}

fs::path locate(const InterpreterOptions& options) {
  std::vector<fs::path> places;
  if (!options.prelude_directory.empty()) places.emplace_back(options.prelude_directory);
  if (const char* p = std::getenv("CALLER_PRELUDE_DIR")) places.emplace_back(p);
  for (fs::path d = here();; d = d.parent_path()) {
    places.push_back(d / CALLER_PRELUDE_LIBDIR_NAME / "caller" / "prelude");
    places.push_back(d / "lib" / "caller" / "prelude");
    places.push_back(d / "caller" / "prelude");
    if (d == d.parent_path()) break;
  }
  places.emplace_back(CALLER_PRELUDE_LIBDIR "/caller/prelude");
  std::string tried;
  for (const auto& p : places) {
    if (fs::exists(p / "prelude.args")) return p;
    tried += "\n  " + p.string();
  }
  throw std::runtime_error("the prelude of cells (prelude.args) was not found in any of" + tried);
}

}  // namespace

Prelude find_prelude(const InterpreterOptions& options) {
  const fs::path dir = locate(options);
  Prelude out;
  std::ifstream in(dir / "prelude.args");
  for (std::string line; std::getline(in, line);) {
    // Paths of an installed tree are relative to the prelude, so that the tree can be moved.
    if (const auto at = line.find("@PRELUDE@"); at != std::string::npos)
      line = line.substr(0, at) + fs::weakly_canonical(dir / line.substr(at + 10)).string();
    if (!line.empty()) out.args.push_back(line);
  }
  const auto pch = dir / "prelude.pch";
  const auto library = dir / "libcaller_prelude.so";
  if (fs::exists(pch) && fs::exists(library)) {
    out.pch = pch.string();
    out.library = library.string();
    if (fs::exists(dir / "nodes.pch")) out.nodes = (dir / "nodes.pch").string();
  }
  return out;
}

}  // namespace caller::kernel
