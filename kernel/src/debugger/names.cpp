#include "names.hpp"

#include <regex>

namespace caller::kernel::debugger {

using nlohmann::json;

std::string clean(std::string text) {
  static const std::regex cell("__cell_[0-9]+::");
  static const std::regex wrapper("(__caller_s[0-9]+_[0-9]+|caller_coro_[0-9]+_[0-9]+)(\\(\\))?");
  text = std::regex_replace(text, cell, "");
  return std::regex_replace(text, wrapper, "<cell>");
}

void clean_field(json& object, const char* name) {
  if (const auto it = object.find(name); it != object.end() && it->is_string()) *it = clean(it->get<std::string>());
}

std::string text_of(const json& object, const char* name) {
  const auto it = object.find(name);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

std::string path_of(const json& object) {
  const auto it = object.find("source");
  return it != object.end() && it->is_object() ? text_of(*it, "path") : std::string();
}

bool is_internal(std::string name) {
  if (name.starts_with("::")) name.erase(0, 2);
  return name.starts_with("__caller_") || name.starts_with("caller_") || name.starts_with("__coro_");
}

}  // namespace caller::kernel::debugger
