#include "file.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include <caller/task/error.hpp>

namespace caller::task::detail {

namespace {

constexpr int kDeepest = 16;

SettingNode from_json(const nlohmann::json& value, const std::string& path, int depth) {
  if (depth > kDeepest) throw ConfigError(path + ": settings do not go so deep");
  SettingNode out;
  switch (value.type()) {
    case nlohmann::json::value_t::object:
      out.kind = SettingNode::Kind::map;
      for (const auto& [key, one] : value.items()) out.add(key, from_json(one, path, depth + 1));
      break;
    case nlohmann::json::value_t::array:
      out.kind = SettingNode::Kind::list;
      for (const auto& one : value) out.items.push_back(from_json(one, path, depth + 1));
      break;
    case nlohmann::json::value_t::string:
      out.text = value.get<std::string>();
      break;
    case nlohmann::json::value_t::null:
      out.is_null = true;
      break;
    default:
      out.text = value.dump();
  }
  return out;
}

/// Stops before the parser's tree is too deep to be copied or destroyed.
bool too_deep(const std::string& text) {
  int depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') ++i;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      if (++depth > 4 * kDeepest) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

}  // namespace

SettingNode parse_json(const std::string& text, const std::string& path) {
  if (too_deep(text)) throw ConfigError(path + ": settings do not go so deep");
  nlohmann::json root;
  try {
    root = nlohmann::json::parse(text);
  } catch (const nlohmann::json::parse_error& e) {
    const auto end = text.begin() + static_cast<std::ptrdiff_t>(std::min(e.byte, text.size()));
    throw ConfigError(path + ":" + std::to_string(1 + std::count(text.begin(), end, '\n')) +
                      ": this is no JSON; correct what stands there or before");
  }
  return from_json(root, path, 0);
}

SettingNode read_settings(const std::string& path) {
  const std::string ending = std::filesystem::path(path).extension().string();
  SettingNode (*parse)(const std::string&, const std::string&) = nullptr;
  if (ending == ".toml") parse = parse_toml;
  if (ending == ".yaml" || ending == ".yml") parse = parse_yaml;
  if (ending == ".json") parse = parse_json;
  if (!parse)
    throw ConfigError("the file of settings " + path +
                      " is in an unknown language: its name must end in .toml, .yaml or .json");
  std::ifstream in(path, std::ios::binary);
  if (!in)
    throw ConfigError("the file of settings " + path + " cannot be read: " + std::strerror(errno) +
                      "; correct its name, or make it");
  const std::string text(std::istreambuf_iterator<char>(in), {});
  if (in.bad() || std::filesystem::is_directory(path))
    throw ConfigError("the file of settings " + path + " cannot be read: it is no file");
  SettingNode root = parse(text, path);
  if (root.kind == SettingNode::Kind::scalar && (root.is_null || root.text.empty())) root.kind = SettingNode::Kind::map;
  if (root.kind != SettingNode::Kind::map) throw ConfigError(path + ": expected settings with names");
  return root;
}

}  // namespace caller::task::detail
