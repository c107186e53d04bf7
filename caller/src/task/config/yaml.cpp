// YAML by libyaml. Settings need no more of it than maps, lists and plain texts: aliases and tags are refused.
#include <yaml.h>

#include <new>

#include <caller/task/error.hpp>

#include "file.hpp"

namespace caller::task::detail {

namespace {

constexpr int kDeepest = 16;

class Events {
public:
  Events(const std::string& text, const std::string& path) : path_(path) {
    if (!yaml_parser_initialize(&parser_)) throw std::bad_alloc();
    yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text.data()), text.size());
  }
  Events(const Events&) = delete;
  Events& operator=(const Events&) = delete;
  ~Events() {
    drop();
    yaml_parser_delete(&parser_);
  }
  const yaml_event_t& next() {
    drop();
    if (!yaml_parser_parse(&parser_, &event_)) {
      if (parser_.error == YAML_MEMORY_ERROR) throw std::bad_alloc();
      throw ConfigError(path_ + ":" + std::to_string(parser_.problem_mark.line + 1) +
                        ": this is no YAML: " + (parser_.problem ? parser_.problem : "no reason is given"));
    }
    held_ = true;
    return event_;
  }
  [[noreturn]] void refuse(const std::string& what) const {
    throw ConfigError(path_ + ":" + std::to_string(event_.start_mark.line + 1) + ": " + what);
  }

private:
  void drop() {
    if (std::exchange(held_, false)) yaml_event_delete(&event_);
  }
  std::string path_;
  yaml_parser_t parser_;
  yaml_event_t event_;
  bool held_ = false;
};

SettingNode value(Events& events, const yaml_event_t& event, int depth) {
  if (depth > kDeepest) events.refuse("settings do not go so deep");
  SettingNode out;
  out.line = static_cast<int>(event.start_mark.line) + 1;
  switch (event.type) {
    case YAML_SCALAR_EVENT: {
      const auto& scalar = event.data.scalar;
      if (!scalar.plain_implicit && !scalar.quoted_implicit) events.refuse("settings have no tags");
      out.text.assign(reinterpret_cast<const char*>(scalar.value), scalar.length);
      out.is_null =
          scalar.style == YAML_PLAIN_SCALAR_STYLE && (out.text.empty() || out.text == "~" || out.text == "null");
      return out;
    }
    case YAML_SEQUENCE_START_EVENT:
      out.kind = SettingNode::Kind::list;
      for (;;) {
        const yaml_event_t& item = events.next();
        if (item.type == YAML_SEQUENCE_END_EVENT) return out;
        out.items.push_back(value(events, item, depth + 1));
      }
    case YAML_MAPPING_START_EVENT:
      out.kind = SettingNode::Kind::map;
      for (;;) {
        const yaml_event_t& first = events.next();
        if (first.type == YAML_MAPPING_END_EVENT) return out;
        const SettingNode key = value(events, first, depth + 1);
        if (key.kind != SettingNode::Kind::scalar) events.refuse("the name of a setting is a plain text");
        if (out.find(key.text)) events.refuse("\"" + key.text + "\" stands here twice");
        out.add(key.text, value(events, events.next(), depth + 1));
      }
    default:
      events.refuse("settings have no aliases");
  }
}

}  // namespace

SettingNode parse_yaml(const std::string& text, const std::string& path) {
  Events events(text, path);
  (void)events.next();  // the stream begins
  if (events.next().type == YAML_STREAM_END_EVENT) return {};
  SettingNode root = value(events, events.next(), 0);
  (void)events.next();  // the document ends
  if (events.next().type != YAML_STREAM_END_EVENT) events.refuse("settings are one document");
  return root;
}

}  // namespace caller::task::detail
