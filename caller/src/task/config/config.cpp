// Where the value of a field comes from.
#include <caller/task/config.hpp>

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>
#include <tuple>

#include "file.hpp"
#include "nearest.hpp"

extern char** environ;

namespace caller::task {

namespace {

using detail::SettingNode;

constexpr std::string_view kPrefix = "CALLER__", kFilepath = "CALLER__FILEPATH", kTask = "task";

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return out;
}
std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

/// MODULE#FUNCTION of "module.function".
std::string task_variable(std::string_view task_id) {
  std::string out = upper(task_id);
  if (const auto dot = out.rfind('.'); dot != std::string::npos) out[dot] = '#';
  return out;
}

struct File {
  ConfigSource source;
  std::string path;
  SettingNode root;
};

/// class, field, task
using Key = std::tuple<std::string, std::string, std::string>;

}  // namespace

ConfigSources ConfigSources::of_process(std::string filepath) {
  ConfigSources out;
  for (char** one = environ; one && *one; ++one) {
    const std::string_view text = *one;
    const auto equal = text.find('=');
    if (text.starts_with(kPrefix) && equal != std::string_view::npos)
      out.environment.emplace(text.substr(0, equal), text.substr(equal + 1));
  }
  out.filepath = std::move(filepath);
  out.folder = ".";
  return out;
}

struct Config::State {
  std::map<std::string, std::string, std::less<>> environment;
  std::vector<File> files;  // the most important first
  std::vector<ConfigClass> classes;
  std::map<Key, ConfigText> assigned, options;

  const ConfigClass* find_class(std::string_view class_name) const noexcept {
    for (const auto& c : classes)
      if (c.name == class_name) return &c;
    return nullptr;
  }

  /// The class and those above it, without repetition, itself first.
  std::vector<const ConfigClass*> line_of(const ConfigClass& c) const {
    std::vector<const ConfigClass*> out{&c};
    for (std::size_t i = 0; i < out.size(); ++i)
      for (const auto& parent : out[i]->parents) {
        const ConfigClass* p = find_class(parent);
        if (p && std::find(out.begin(), out.end(), p) == out.end()) out.push_back(p);
      }
    return out;
  }
  static const ConfigField* own_field(const ConfigClass& c, std::string_view field) noexcept {
    for (const auto& f : c.fields)
      if (f.name == field) return &f;
    return nullptr;
  }
  const ConfigField* find_field(const ConfigClass& c, std::string_view field) const {
    for (const ConfigClass* one : line_of(c))
      if (const ConfigField* f = own_field(*one, field)) return f;
    return nullptr;
  }
  const ConfigField& field_of(std::string_view class_name, std::string_view field) const {
    const ConfigClass* c = find_class(class_name);
    if (!c) throw ConfigError("there are no settings of \"" + std::string(class_name) + "\"");
    if (const ConfigField* f = find_field(*c, field)) return *f;
    throw ConfigError("there is no setting \"" + std::string(class_name) + "." + std::string(field) + "\"" +
                      detail::nearest_in_words(field, names_of(*c)));
  }
  std::vector<std::string> names_of(const ConfigClass& c) const {
    std::vector<std::string> out;
    for (const ConfigClass* one : line_of(c))
      for (const auto& f : one->fields) {
        out.push_back(f.name);
        for (const auto& [other, unit] : f.other_names) out.push_back(other);
      }
    return out;
  }

  // ---- the places, each asked for one name of the field ----

  std::optional<ConfigText> from_variable(std::string_view variable, const std::string& unit,
                                          ConfigSource source) const {
    const auto it = environment.find(variable);
    if (it == environment.end()) return std::nullopt;
    return ConfigText{{}, {it->second + unit}, false, source, it->first};
  }

  static std::optional<ConfigText> from_node(const SettingNode* node, const std::string& unit, const File& file) {
    if (!node || node->kind == SettingNode::Kind::map || node->is_null) return std::nullopt;
    ConfigText out;
    out.source = file.source;
    out.where = file.path + (node->line ? ":" + std::to_string(node->line) : "");
    out.list = node->kind == SettingNode::Kind::list;
    if (!out.list) {
      out.items = {node->text + unit};
      return out;
    }
    for (const SettingNode& item : node->items) {
      if (item.kind != SettingNode::Kind::scalar)
        throw ConfigError("a list of lists is no setting (" + out.where + ")");
      out.items.push_back(item.text);
    }
    return out;
  }

  /// The section of a task: `[task."a.b"]`, or `[task.a.b]`.
  static const SettingNode* task_section(const SettingNode& tasks, std::string_view task_id) noexcept {
    if (const SettingNode* whole = tasks.find(task_id); whole && whole->kind == SettingNode::Kind::map) return whole;
    for (std::size_t dot = task_id.find('.'); dot != std::string_view::npos; dot = task_id.find('.', dot + 1)) {
      const SettingNode* first = tasks.find(task_id.substr(0, dot));
      if (!first || first->kind != SettingNode::Kind::map) continue;
      if (const SettingNode* rest = task_section(*first, task_id.substr(dot + 1))) return rest;
    }
    return nullptr;
  }

  /// Of one file: the task's section, the class's, its parents', the top.
  std::optional<ConfigText> from_file(const File& file, const std::vector<const ConfigClass*>& line,
                                      const ConfigField& field, std::string_view task_id) const {
    const auto in = [&](const SettingNode* section) -> std::optional<ConfigText> {
      if (!section || section->kind != SettingNode::Kind::map) return std::nullopt;
      const SettingNode* node = section->find(field.name);
      if (field.names_section && node && node->kind == SettingNode::Kind::map) node = node->find("name");
      if (auto found = from_node(node, {}, file)) return found;
      for (const auto& [other, unit] : field.other_names)
        if (auto found = from_node(section->find(other), unit, file)) return found;
      return std::nullopt;
    };
    if (!task_id.empty())
      if (const SettingNode* tasks = file.root.find(kTask); tasks && tasks->kind == SettingNode::Kind::map)
        if (auto found = in(task_section(*tasks, task_id))) return found;
    for (const ConfigClass* c : line)
      if (auto found = in(file.root.find(c->name))) return found;
    return in(&file.root);
  }

  std::optional<ConfigText> from_environment(const std::vector<const ConfigClass*>& line, const ConfigField& field,
                                             std::string_view task_id) const {
    if (environment.empty()) return std::nullopt;
    const auto under = [&](const std::string& prefix, ConfigSource source) {
      auto found = from_variable(prefix + upper(field.name), {}, source);
      if (!found && field.names_section) found = from_variable(prefix + upper(field.name) + "__NAME", {}, source);
      for (const auto& [other, unit] : field.other_names)
        if (!found) found = from_variable(prefix + upper(other), unit, source);
      return found;
    };
    const std::string prefix(kPrefix);
    if (!task_id.empty())
      if (auto found = under(prefix + "TASK__" + task_variable(task_id) + "__", ConfigSource::environment_task))
        return found;
    for (const ConfigClass* c : line)
      if (auto found = under(prefix + upper(c->name) + "__", ConfigSource::environment_class)) return found;
    return under(prefix, ConfigSource::environment);
  }

  static std::optional<ConfigText> from_map(const std::map<Key, ConfigText>& map,
                                            const std::vector<const ConfigClass*>& line, const ConfigField& field,
                                            std::string_view task_id) {
    if (map.empty()) return std::nullopt;
    const auto at = [&](std::string_view class_name, std::string_view task) -> std::optional<ConfigText> {
      const auto it = map.find(Key(class_name, field.name, task));
      return it == map.end() ? std::nullopt : std::optional(it->second);
    };
    if (!task_id.empty())
      if (auto found = at(line.front()->name, task_id)) return found;
    for (const ConfigClass* c : line)
      if (auto found = at(c->name, {})) return found;
    return at({}, {});
  }

  ConfigText find(const ConfigClass& c, const ConfigField& field, std::string_view task_id) const {
    const auto line = line_of(c);
    auto found = from_map(assigned, line, field, task_id);
    if (!found) found = from_environment(line, field, task_id);
    for (const File& file : files)
      if (!found) found = from_file(file, line, field, task_id);
    if (!found) found = from_map(options, line, field, task_id);
    if (!found) found = field.fallback;
    found->name = c.name + "." + field.name;
    if (!task_id.empty()) found->name = c.name + "." + std::string(task_id) + "." + field.name;
    return *found;
  }

  void set(std::map<Key, ConfigText>& map, std::string_view full, ConfigText value, std::string task_id,
           ConfigSource source) {
    const auto dot = full.find('.');
    const std::string class_name(dot == std::string_view::npos ? std::string_view() : full.substr(0, dot));
    const std::string field(dot == std::string_view::npos ? full : full.substr(dot + 1));
    value.source = source;
    if (!class_name.empty()) {
      map.insert_or_assign(Key(class_name, field_of(class_name, field).name, task_id), std::move(value));
      return;
    }
    std::vector<std::string> all;
    bool known = false;
    for (const auto& c : classes) {
      known = known || own_field(c, field);
      for (auto& n : names_of(c)) all.push_back(std::move(n));
    }
    if (!known) throw ConfigError("there is no setting \"" + field + "\"" + detail::nearest_in_words(field, all));
    map.insert_or_assign(Key("", field, task_id), std::move(value));
  }
};

Config::Config(ConfigSources sources) : state_(std::make_unique<State>()) {
  state_->environment = std::move(sources.environment);
  std::string named;
  if (const auto it = state_->environment.find(kFilepath); it != state_->environment.end()) named = it->second;
  if (!named.empty()) state_->files.push_back({ConfigSource::environment_file, named, detail::read_settings(named)});
  if (!sources.filepath.empty())
    state_->files.push_back({ConfigSource::file, sources.filepath, detail::read_settings(sources.filepath)});
  if (!sources.folder.empty()) {
    const std::filesystem::path here = std::filesystem::path(sources.folder) / "caller.toml";
    std::error_code ignored;
    if (std::filesystem::exists(here, ignored)) {
      const std::string path = here.lexically_normal().string();
      state_->files.push_back({ConfigSource::working_directory, path, detail::read_settings(path)});
    }
  }
}
Config::Config(const Config& other) : state_(std::make_unique<State>(*other.state_)) {}
Config::Config(Config&&) noexcept = default;
Config& Config::operator=(Config other) noexcept {
  state_.swap(other.state_);
  return *this;
}
Config::~Config() = default;

void Config::add(ConfigClass c) {
  if (knows(c.name)) throw ConfigError("there are settings of \"" + c.name + "\" already");
  std::map<std::string, const ConfigClass*, std::less<>> from;
  for (const auto& parent : c.parents) {
    const ConfigClass* p = state_->find_class(parent);
    if (!p) throw ConfigError("the settings of \"" + c.name + "\" have the unknown parent \"" + parent + "\"");
    for (const ConfigClass* one : state_->line_of(*p))
      for (const auto& f : one->fields) {
        const auto [it, first] = from.emplace(f.name, one);
        const bool of_both = !first && it->second != one && State::own_field(c, f.name) == nullptr;
        // What a parent takes from its own parent, and has itself, is its own.
        if (of_both && state_->find_field(*p, f.name) == &f)
          throw ConfigMultiInheritanceError(
              "the settings of \"" + c.name + "\" have \"" + f.name + "\" from two parents, \"" + it->second->name +
              "\" and \"" + one->name + "\"; give it a \"" + f.name + "\" of its own, or one of the two another name");
      }
  }
  state_->classes.push_back(std::move(c));
}

bool Config::knows(std::string_view class_name) const { return state_->find_class(class_name) != nullptr; }
const std::vector<ConfigClass>& Config::classes() const noexcept { return state_->classes; }

void Config::assign(std::string_view full, std::string value, std::string task_id) {
  ConfigText text;
  text.name = full;
  text.items = {std::move(value)};
  assign(std::move(text), std::move(task_id));
}
void Config::assign(ConfigText value, std::string task_id) {
  const std::string full = value.name;
  state_->set(state_->assigned, full, std::move(value), std::move(task_id), ConfigSource::assigned);
}
void Config::option(std::string_view full, std::string value, std::string task_id) {
  ConfigText text;
  text.name = full;
  text.items = {std::move(value)};
  option(std::move(text), std::move(task_id));
}
void Config::option(ConfigText value, std::string task_id) {
  const std::string full = value.name;
  state_->set(state_->options, full, std::move(value), std::move(task_id), ConfigSource::option);
}

ConfigText Config::find(std::string_view class_name, std::string_view field, std::string_view task_id) const {
  const ConfigField& f = state_->field_of(class_name, field);
  return state_->find(*state_->find_class(class_name), f, task_id);
}

std::vector<ConfigText> Config::show(std::string_view class_name, std::string_view task_id) const {
  std::vector<ConfigText> out;
  for (const auto& c : state_->classes) {
    if (!class_name.empty() && c.name != class_name) continue;
    std::set<std::string_view> seen;
    for (const ConfigClass* one : state_->line_of(c))
      for (const auto& f : one->fields) {
        if (!seen.insert(f.name).second) continue;
        ConfigText value = state_->find(c, f, task_id);
        for (std::string& item : value.items) {  // scheme://user:password@host
          const auto scheme = item.find("://");
          const auto at = item.rfind('@');
          if (scheme == std::string::npos || at == std::string::npos || at < scheme) continue;
          const auto colon = item.find(':', scheme + 3);
          if (colon < at) item.replace(colon + 1, at - colon - 1, "***");
        }
        out.push_back(std::move(value));
      }
  }
  return out;
}

std::vector<std::string> Config::mistakes(std::string_view class_name, std::string_view task_id) const {
  std::vector<std::string> out;
  const ConfigClass* c = state_->find_class(class_name);
  if (!c) return out;
  for (const ConfigClass* one : state_->line_of(*c))
    for (const auto& f : one->fields) {
      const ConfigText value = state_->find(*c, f, task_id);
      if (value.source == ConfigSource::fallback || !f.check) continue;
      try {
        f.check(value);
      } catch (const ConfigError& e) {
        out.emplace_back(e.what());
      }
    }
  return out;
}

std::vector<std::string> Config::warnings() const {
  std::vector<std::string> out;
  std::vector<std::string> fields, sections;  // of all classes
  for (const auto& c : state_->classes) {
    sections.push_back(c.name);
    for (auto& n : state_->names_of(c)) fields.push_back(std::move(n));
  }
  const auto known = [](const std::vector<std::string>& names, std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  const auto names_section = [&](std::string_view name) {
    for (const auto& c : state_->classes)
      if (const ConfigField* f = State::own_field(c, name); f && f->names_section) return true;
    return false;
  };
  const auto warn = [&](const std::string& where, std::string_view what, std::string_view name,
                        const std::vector<std::string>& names) {
    out.push_back(where + ": unknown " + std::string(what) + " \"" + std::string(name) + "\"" +
                  detail::nearest_in_words(name, names));
  };
  for (const File& file : state_->files) {
    const auto place = [&](const SettingNode& node) {
      return file.path + (node.line ? ":" + std::to_string(node.line) : "");
    };
    const std::function<void(const SettingNode&, const ConfigClass&)> section = [&](const SettingNode& map,
                                                                                    const ConfigClass& c) {
      const auto names = state_->names_of(c);
      for (const SettingNode& node : map.entries) {
        const std::string& key = node.key;
        if (known(names, key) || (key == "name" && names_section(c.name))) continue;
        if (c.name == kTask && node.kind == SettingNode::Kind::map)
          section(node, c);  // of one task
        else
          warn(place(node), "setting of [" + c.name + "]", key, names);
      }
    };
    for (const SettingNode& node : file.root.entries) {
      const std::string& key = node.key;
      if (node.kind == SettingNode::Kind::map) {
        if (const ConfigClass* c = state_->find_class(key))
          section(node, *c);
        else if (!names_section(key))
          warn(place(node), "section", key, sections);
      } else if (!known(fields, key)) {
        warn(place(node), "setting", key, fields);
      }
    }
  }
  for (const auto& [variable, value] : state_->environment) {
    if (variable == kFilepath) continue;
    const std::string rest = lower(std::string_view(variable).substr(kPrefix.size()));
    if (known(fields, rest)) continue;
    const auto first = rest.find("__");
    if (first == std::string::npos) {
      warn("the environment variable " + variable, "setting", rest, fields);
      continue;
    }
    const std::string class_name = rest.substr(0, first), field = rest.substr(rest.rfind("__") + 2);
    const ConfigClass* c = state_->find_class(class_name);
    if (field == "name" && names_section(class_name)) continue;
    if (!c)
      warn("the environment variable " + variable, "section", class_name, sections);
    else if (!known(state_->names_of(*c), field) || (class_name != kTask && rest.rfind("__") != first))
      warn("the environment variable " + variable, "setting of [" + class_name + "]", field, state_->names_of(*c));
  }
  return out;
}

}  // namespace caller::task
