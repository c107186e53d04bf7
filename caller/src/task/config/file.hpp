// A file of settings as a tree that knows its places, whatever language it is in. Internal to this folder.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace caller::task::detail {

struct SettingNode {
  enum class Kind { scalar, list, map };
  Kind kind = Kind::scalar;
  std::string text;                  // of a scalar
  bool is_null = false;              // nothing stands there
  std::vector<SettingNode> items;    // of a list
  std::vector<SettingNode> entries;  // of a map, each with its key
  std::string key;
  void add(std::string name, SettingNode value) {
    value.key = std::move(name);
    entries.push_back(std::move(value));
  }
  int line = 0;  // 0: not known

  const SettingNode* find(std::string_view name) const noexcept {
    for (const SettingNode& node : entries)
      if (node.key == name) return &node;
    return nullptr;
  }
};

/// Its language is told by its ending. Errors: ConfigError, which names file and line.
SettingNode read_settings(const std::string& path);

SettingNode parse_toml(const std::string& text, const std::string& path);
SettingNode parse_yaml(const std::string& text, const std::string& path);
SettingNode parse_json(const std::string& text, const std::string& path);

}  // namespace caller::task::detail
