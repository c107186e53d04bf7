#include "tree.hpp"

#include <charconv>
#include <cmath>
#include <limits>
#include <new>
#include <unordered_map>
#include <unordered_set>

#include <yaml.h>

namespace caller::tube::detail {

namespace {

constexpr std::size_t kMaxDepth = 64;
constexpr std::size_t kMaxParts = 4'000'000;  // aliases can make a short text very large

bool all_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

template <class T>
bool parse_whole(std::string_view text, T& number, int base = 10) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  return error == std::errc() && end == text.data() + text.size();
}

/// A plain scalar by YAML's core schema: null, true, 12, 0x1f, 0o17, 1.5e3, .inf, .nan, else text.
Value plain_scalar(const std::string& text) {
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL") return nullptr;
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  std::string_view digits = text;
  const bool negative = digits.front() == '-';
  if (negative || digits.front() == '+') digits.remove_prefix(1);
  if (digits.starts_with("0x") || digits.starts_with("0o")) {
    std::uint64_t number = 0;
    if (digits.size() == text.size() && digits.size() > 2 &&
        parse_whole(digits.substr(2), number, digits[1] == 'x' ? 16 : 8))
      return number;
    return text;
  }
  if (all_digits(digits)) {
    std::int64_t number = 0;
    if (parse_whole(negative ? std::string_view(text) : digits, number)) return number;
    std::uint64_t natural = 0;
    if (!negative && parse_whole(digits, natural)) return natural;
  }
  if (digits == ".inf" || digits == ".Inf" || digits == ".INF")
    return negative ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
  if (text == ".nan" || text == ".NaN" || text == ".NAN") return std::numeric_limits<double>::quiet_NaN();
  if (!digits.empty() && (digits.front() == '.' || (digits.front() >= '0' && digits.front() <= '9'))) {
    double number = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (error == std::errc() && end == digits.data() + digits.size()) return negative ? -number : number;
  }
  return text;
}

/// libyaml's parser and its current event. Errors of the text are SpecErrors.
class Events {
public:
  Events(std::string_view text, const std::string& name, int first_line) : name_(name), first_line_(first_line) {
    if (!yaml_parser_initialize(&parser_)) throw std::bad_alloc();
    yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text.data()), text.size());
  }
  ~Events() {
    drop();
    yaml_parser_delete(&parser_);
  }
  Events(const Events&) = delete;
  Events& operator=(const Events&) = delete;

  const yaml_event_t& next() {
    drop();
    if (!yaml_parser_parse(&parser_, &event_)) {
      if (parser_.error == YAML_MEMORY_ERROR) throw std::bad_alloc();
      std::string message = "this is no YAML: " + std::string(parser_.problem ? parser_.problem : "unknown problem");
      if (parser_.context) message += std::string(" ") + parser_.context;
      fail(parser_.problem_mark, message);
    }
    valid_ = true;
    return event_;
  }
  const yaml_event_t& event() const { return event_; }
  [[noreturn]] void fail(const yaml_mark_t& mark, const std::string& message) const {
    throw SpecError({name_, line(mark), static_cast<int>(mark.column) + 1}, {}, message);
  }
  int line(const yaml_mark_t& mark) const { return static_cast<int>(mark.line) + first_line_; }

private:
  void drop() {
    if (valid_) yaml_event_delete(&event_);
    valid_ = false;
  }
  std::string name_;
  int first_line_;
  yaml_parser_t parser_{};
  yaml_event_t event_{};
  bool valid_ = false;
};

std::string text_of(const unsigned char* text, std::size_t length) {
  return {reinterpret_cast<const char*>(text), length};
}
std::string text_of(const unsigned char* text) { return text ? reinterpret_cast<const char*>(text) : std::string(); }

class Builder {
public:
  Builder(std::string_view text, const std::string& name, int first_line)
      : file_(std::make_shared<const std::string>(name)), events_(text, name, first_line) {}

  /// Reads the one document there must be.
  Tree read() {
    bool seen = false;
    for (;;) {
      const yaml_event_t& e = events_.next();
      switch (e.type) {
        case YAML_STREAM_END_EVENT:
          if (!seen) events_.fail({}, "the specification is empty");
          return std::move(root_);
        case YAML_DOCUMENT_START_EVENT:
          if (seen) events_.fail(e.start_mark, "a second document: a file holds one tube");
          seen = true;
          break;
        case YAML_ALIAS_EVENT:
          alias(e);
          break;
        case YAML_SCALAR_EVENT:
          scalar(e);
          break;
        case YAML_SEQUENCE_START_EVENT:
          open(Tree::Type::sequence, text_of(e.data.sequence_start.anchor));
          break;
        case YAML_MAPPING_START_EVENT:
          open(Tree::Type::mapping, text_of(e.data.mapping_start.anchor));
          break;
        case YAML_MAPPING_END_EVENT:
          merge_keys();
          close();
          break;
        case YAML_SEQUENCE_END_EVENT:
          close();
          break;
        default:
          break;
      }
    }
  }

private:
  void alias(const yaml_event_t& e) {
    const auto found = anchors_.find(text_of(e.data.alias.anchor));
    if (found == anchors_.end())
      events_.fail(e.start_mark, "an alias of something that was not named before, or that it is inside of");
    parts_ += found->second.parts;
    if (parts_ > kMaxParts) events_.fail(e.start_mark, "the aliases make this specification too large");
    place(Tree(found->second.tree));
  }
  void scalar(const yaml_event_t& e) {
    Tree t = made();
    t.text = text_of(e.data.scalar.value, e.data.scalar.length);
    const std::string tag = text_of(e.data.scalar.tag);
    // Quoted scalars are text, and so are those that say so; a tag of the user's own says nothing here.
    const bool plain = e.data.scalar.style == YAML_PLAIN_SCALAR_STYLE && tag != "tag:yaml.org,2002:str";
    t.scalar = plain ? plain_scalar(t.text) : Value(t.text);
    const std::string anchor = text_of(e.data.scalar.anchor);
    if (!anchor.empty()) anchors_.insert_or_assign(anchor, Anchored{t, 1});
    place(std::move(t));
  }

  struct Open {
    Tree tree;
    std::string anchor;
    std::size_t parts;
    bool has_key = false;
    TreeEntry pending{};
    std::unordered_set<std::string> keys{};
  };
  struct Anchored {
    Tree tree;
    std::size_t parts;
  };

  Tree made() {
    const yaml_mark_t& mark = events_.event().start_mark;
    if (++parts_ > kMaxParts) events_.fail(mark, "this specification is too large");
    Tree t;
    t.file = file_;
    t.line = events_.line(mark);
    t.column = static_cast<int>(mark.column) + 1;
    return t;
  }
  void open(Tree::Type type, std::string anchor) {
    if (stack_.size() >= kMaxDepth) events_.fail(events_.event().start_mark, "nested too deeply");
    Tree t = made();
    t.type = type;
    stack_.push_back({std::move(t), std::move(anchor), parts_});
  }
  void close() {
    Open top = std::move(stack_.back());
    stack_.pop_back();
    if (!top.anchor.empty()) anchors_.insert_or_assign(top.anchor, Anchored{top.tree, parts_ - top.parts + 1});
    place(std::move(top.tree));
  }
  void place(Tree t) {
    if (stack_.empty()) {
      root_ = std::move(t);
      return;
    }
    Open& top = stack_.back();
    if (top.tree.type == Tree::Type::sequence) {
      top.tree.items.push_back(std::move(t));
    } else if (!top.has_key) {
      if (t.type != Tree::Type::scalar) throw SpecError(t.place(), {}, "a key must be a text, not " + t.what());
      if (!top.keys.insert(t.text).second) throw SpecError(t.place(), t.text, "this key stands here twice");
      top.pending.key = t.text;
      top.pending.line = t.line;
      top.pending.column = t.column;
      top.has_key = true;
    } else {
      top.pending.value = std::move(t);
      top.tree.entries.push_back(std::move(top.pending));
      top.pending = {};
      top.has_key = false;
    }
  }
  /// `<<: *other` takes the entries of another map that are not here.
  void merge_keys() {
    Open& top = stack_.back();
    TreeEntry* merge = top.tree.entry("<<");
    if (!merge) return;
    std::vector<Tree> sources;
    if (merge->value.type == Tree::Type::sequence)
      sources = merge->value.items;
    else
      sources.push_back(merge->value);
    std::erase_if(top.tree.entries, [](const TreeEntry& e) { return e.key == "<<"; });
    for (Tree& source : sources) {
      if (source.type != Tree::Type::mapping)
        throw SpecError(source.place(), "<<", "expected a map to merge, found " + source.what());
      for (TreeEntry& e : source.entries)
        if (!top.tree.find(e.key)) top.tree.entries.push_back(std::move(e));
    }
  }

  std::shared_ptr<const std::string> file_;
  Events events_;
  std::vector<Open> stack_;
  std::unordered_map<std::string, Anchored> anchors_;
  std::size_t parts_ = 0;
  Tree root_;
};

}  // namespace

const Tree* Tree::find(std::string_view key) const noexcept {
  for (const TreeEntry& e : entries)
    if (e.key == key) return &e.value;
  return nullptr;
}
TreeEntry* Tree::entry(std::string_view key) noexcept {
  for (TreeEntry& e : entries)
    if (e.key == key) return &e;
  return nullptr;
}

Value Tree::value() const {
  switch (type) {
    case Type::scalar:
      return scalar;
    case Type::sequence: {
      List list;
      list.reserve(items.size());
      for (const Tree& item : items) list.push_back(item.value());
      return list;
    }
    case Type::mapping: {
      Map map;
      for (const TreeEntry& e : entries) map.set(e.key, e.value.value());
      return map;
    }
  }
  return nullptr;
}

std::string Tree::what() const {
  switch (type) {
    case Type::sequence:
      return "a list";
    case Type::mapping:
      return "a map";
    case Type::scalar:
      break;
  }
  if (scalar.is_none()) return "nothing";
  return "the " + std::string(kind_name(scalar.kind())) + " " + scalar.repr();
}

Tree parse_yaml(std::string_view text, const std::string& name, int first_line) {
  if (text.find('\0') != std::string_view::npos)
    throw SpecError({name, 0, 0}, {}, "this is no YAML: it contains a NUL byte");
  return Builder(text, name, first_line).read();
}

Tree tree_of(const Value& value) {
  Tree t;
  switch (value.kind()) {
    case Kind::map:
      t.type = Tree::Type::mapping;
      for (const auto& [key, item] : value.entries()) t.entries.push_back({key, 0, 0, tree_of(item)});
      break;
    case Kind::list:
      t.type = Tree::Type::sequence;
      for (const Value& item : value.items()) t.items.push_back(tree_of(item));
      break;
    default:
      t.scalar = value;
      t.text = value.is<std::string>() ? value.as<std::string>() : value.repr();
  }
  return t;
}

}  // namespace caller::tube::detail
