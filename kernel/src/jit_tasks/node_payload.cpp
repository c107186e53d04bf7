// What the kernel tells a process of nodes, and which program that is.
#include <dlfcn.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <system_error>

#include "jit_tasks/cell_nodes.hpp"
#include "jit_tasks/source_json.hpp"

namespace caller::kernel {

using nlohmann::json;
namespace fs = std::filesystem;

std::string to_payload(const CellNodes& nodes) {
  json types = json::array();
  for (const CellNodes::Type& t : nodes.types) types.push_back({{"name", t.name}, {"asset", t.asset}});
  return json{{"nodes", nodes.nodes},
              {"types", std::move(types)},
              {"source", source_to_json(nodes.source)},
              {"prelude", nodes.prelude_directory}}
      .dump(-1, ' ', false, json::error_handler_t::replace);
}

CellNodes from_payload(const std::string& payload) {
  CellNodes out;
  try {
    const json j = json::parse(payload);
    out.nodes = j.at("nodes").get<std::vector<std::string>>();
    for (const json& t : j.at("types"))
      out.types.push_back({t.at("name").get<std::string>(), t.at("asset").get<bool>()});
    out.source = source_from_json(j.at("source").get<std::string>());
    out.prelude_directory = j.at("prelude").get<std::string>();
  } catch (const json::exception& e) {
    throw std::invalid_argument(std::string("nodes of cells: ") + e.what());
  }
  return out;
}

std::string cell_node_program() {
  const char* name = "caller";
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  // Also when its file was replaced meanwhile, by an update.
  if (!error && (self.filename() == name || self.filename() == std::string(name) + " (deleted)"))
    return "/proc/self/exe";
  Dl_info here{};
  if (::dladdr(reinterpret_cast<const void*>(&cell_node_program), &here) != 0 && here.dli_fname) {
    const fs::path folder = fs::canonical(here.dli_fname, error).parent_path();
    for (const char* way : {"", "../bin", "../../bin"}) {
      const fs::path found = folder / way / name;
      if (::access(found.c_str(), X_OK) == 0 && !fs::is_directory(found, error))
        return found.lexically_normal().string();
    }
  }
  return name;
}

}  // namespace caller::kernel
