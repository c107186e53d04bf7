#include "assets.hpp"

#include <dlfcn.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <vector>

namespace caller::monitor {

namespace fs = std::filesystem;

namespace {

const std::map<std::string, std::string> kTypes = {{".html", "text/html; charset=utf-8"},
                                                   {".css", "text/css; charset=utf-8"},
                                                   {".js", "text/javascript; charset=utf-8"},
                                                   {".svg", "image/svg+xml"}};

std::vector<fs::path> candidates() {
  std::vector<fs::path> out;
  std::error_code error;
  Dl_info here{};
  if (::dladdr(reinterpret_cast<const void*>(&load_assets), &here) != 0 && here.dli_fname) {
    const fs::path folder = fs::canonical(here.dli_fname, error).parent_path();
    // lib/ or lib/x86_64-linux-gnu/ beside share/.
    for (const char* way : {"../share/caller/monitor", "../../share/caller/monitor"})
      out.push_back((folder / way).lexically_normal());
  }
  const fs::path program = fs::canonical("/proc/self/exe", error).parent_path();
  out.push_back((program / "../share/caller/monitor").lexically_normal());
  return out;
}

}  // namespace

Assets load_assets(const std::string& folder) {
  std::string looked;
  for (const fs::path& place : folder.empty() ? candidates() : std::vector<fs::path>{folder}) {
    looked += (looked.empty() ? "" : ", ") + place.string();
    std::error_code error;
    if (!fs::exists(place / "index.html", error)) continue;
    Assets out;
    for (const auto& entry : fs::directory_iterator(place)) {
      const auto type = kTypes.find(entry.path().extension().string());
      if (type == kTypes.end() || !entry.is_regular_file()) continue;
      std::ifstream in(entry.path(), std::ios::binary);
      out[entry.path().filename().string()] = {type->second, std::string(std::istreambuf_iterator<char>(in), {})};
    }
    return out;
  }
  throw std::runtime_error("the monitor's page (index.html) is not in " + looked);
}

}  // namespace caller::monitor
