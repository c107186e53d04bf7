#include "jit_tasks/source_json.hpp"

#include <nlohmann/json.hpp>
#include <stdexcept>

namespace caller::kernel {

using nlohmann::json;

std::string source_to_json(const FunctionSource& source) {
  json cells = json::array();
  for (const SourceCell& c : source.cells) cells.push_back({{"number", c.number}, {"text", c.text}});
  return json{{"version", 1},
              {"name", source.name},
              {"hash", source.hash},
              {"cells", std::move(cells)},
              {"flags", source.flags}}
      .dump(-1, ' ', false, json::error_handler_t::replace);
}

FunctionSource source_from_json(const std::string& text) {
  FunctionSource out;
  try {
    const json j = json::parse(text);
    if (j.at("version").get<int>() != 1) throw std::invalid_argument("it is of another version of this program");
    out.name = j.at("name").get<std::string>();
    out.hash = j.at("hash").get<std::string>();
    for (const json& c : j.at("cells"))
      out.cells.push_back({c.at("number").get<int>(), c.at("text").get<std::string>()});
    out.flags = j.at("flags").get<std::vector<std::string>>();
  } catch (const json::exception& e) {
    throw std::invalid_argument(std::string("it cannot be read: ") + e.what());
  }
  return out;
}

}  // namespace caller::kernel
