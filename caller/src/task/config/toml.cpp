// TOML by toml++, which is used nowhere else.
#include <sstream>

#include <caller/task/error.hpp>

#include "file.hpp"

#define TOML_EXCEPTIONS 1
#define TOML_ENABLE_FORMATTERS 1
#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

namespace caller::task::detail {

namespace {

SettingNode converted(const toml::node& from) {
  SettingNode out;
  out.line = static_cast<int>(from.source().begin.line);
  if (const toml::table* table = from.as_table()) {
    out.kind = SettingNode::Kind::map;
    for (const auto& [key, value] : *table) out.add(std::string(key.str()), converted(value));
  } else if (const toml::array* array = from.as_array()) {
    out.kind = SettingNode::Kind::list;
    for (const toml::node& value : *array) out.items.push_back(converted(value));
  } else if (const auto* text = from.as_string()) {
    out.text = text->get();
  } else {
    std::ostringstream written;
    from.visit([&](const auto& value) { written << toml::toml_formatter{value}; });
    out.text = written.str();
  }
  return out;
}

}  // namespace

SettingNode parse_toml(const std::string& text, const std::string& path) {
  try {
    return converted(toml::parse(std::string_view(text), std::string_view(path)));
  } catch (const toml::parse_error& e) {
    throw ConfigError(path + ":" + std::to_string(e.source().begin.line) +
                      ": this is no TOML: " + std::string(e.description()));
  }
}

}  // namespace caller::task::detail
