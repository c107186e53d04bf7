#include "tree.hpp"

#include <algorithm>
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
Value plain_scalar(std::string_view text) {
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
    return std::string(text);
  }
  if (all_digits(digits)) {
    std::int64_t number = 0;
    if (parse_whole(negative ? text : digits, number)) return number;
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
  return std::string(text);
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

std::string_view text_of(const unsigned char* text, std::size_t length) {
  return {reinterpret_cast<const char*>(text), length};
}
std::string_view text_of(const unsigned char* text) {
  return text ? std::string_view(reinterpret_cast<const char*>(text)) : std::string_view();
}

/// The keys of a map: a set only where looking at each would take longer.
class Keys {
public:
  explicit Keys(const std::vector<TreeEntry>& entries) : entries_(entries) {}
  /// Whether there is an entry of that key; all others are known since the last call.
  bool contains(std::string_view key) {
    if (entries_.size() <= kFew)
      return std::any_of(entries_.begin(), entries_.end(), [&](const TreeEntry& e) { return e.key == key; });
    for (; known_ < entries_.size(); ++known_) set_.insert(entries_[known_].key);
    return set_.contains(std::string(key));
  }

private:
  static constexpr std::size_t kFew = 16;
  const std::vector<TreeEntry>& entries_;
  std::unordered_set<std::string> set_;
  std::size_t known_ = 0;
};

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
          merge_keys(*stack_.back().tree);
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
  /// A list or map that has not ended. It lies where it will stay: nothing is added around it meanwhile.
  struct Open {
    Tree* tree;
    std::string anchor;
    std::size_t parts;
    Keys keys;
    bool has_key = false;
  };
  struct Anchored {
    Tree tree;
    std::size_t parts;
  };

  bool wants_key() const {
    return !stack_.empty() && stack_.back().tree->type == Tree::Type::mapping && !stack_.back().has_key;
  }
  void alias(const yaml_event_t& e) {
    const auto found = anchors_.find(std::string(text_of(e.data.alias.anchor)));
    if (found == anchors_.end())
      events_.fail(e.start_mark, "an alias of something that was not named before, or that it is inside of");
    const Tree& named = found->second.tree;
    parts_ += found->second.parts;
    if (parts_ > kMaxParts) events_.fail(e.start_mark, "the aliases make this specification too large");
    if (!wants_key()) {
      next() = named;
    } else if (named.type == Tree::Type::scalar) {
      add_key(named.text(), named.line, named.column);
    } else {
      throw SpecError(named.place(), {}, "a key must be a text, not " + named.what());
    }
  }
  void scalar(const yaml_event_t& e) {
    const std::string_view text = text_of(e.data.scalar.value, e.data.scalar.length);
    const bool key = wants_key();
    if (key && !e.data.scalar.anchor) {
      count(e.start_mark);
      add_key(text, events_.line(e.start_mark), static_cast<int>(e.start_mark.column) + 1);
      return;
    }
    Tree named;
    Tree& t = key ? named : next();
    begin(t, Tree::Type::scalar);
    // Quoted scalars are text, and so are those that say so; a tag of the user's own says nothing here.
    const bool plain =
        e.data.scalar.style == YAML_PLAIN_SCALAR_STYLE && text_of(e.data.scalar.tag) != "tag:yaml.org,2002:str";
    t.scalar = plain ? plain_scalar(text) : Value(std::string(text));
    if (!t.scalar.is<std::string>()) t.spelled = std::string(text);
    if (e.data.scalar.anchor) anchors_.insert_or_assign(std::string(text_of(e.data.scalar.anchor)), Anchored{t, 1});
    if (key) add_key(text, t.line, t.column);
  }

  void count(const yaml_mark_t& mark) {
    if (++parts_ > kMaxParts) events_.fail(mark, "this specification is too large");
  }
  /// Where the part that begins now belongs; a key is none.
  Tree& next() {
    if (stack_.empty()) return root_;
    Open& top = stack_.back();
    if (top.tree->type == Tree::Type::sequence) return top.tree->items.emplace_back();
    top.has_key = false;
    return top.tree->entries.back().value;
  }
  void begin(Tree& t, Tree::Type type) {
    const yaml_mark_t& mark = events_.event().start_mark;
    count(mark);
    t.type = type;
    t.file = file_;
    t.line = events_.line(mark);
    t.column = static_cast<int>(mark.column) + 1;
  }
  void open(Tree::Type type, std::string_view anchor) {
    if (stack_.size() >= kMaxDepth) events_.fail(events_.event().start_mark, "nested too deeply");
    if (wants_key())
      events_.fail(events_.event().start_mark, type == Tree::Type::sequence ? "a key must be a text, not a list"
                                                                            : "a key must be a text, not a map");
    Tree& t = next();
    begin(t, type);
    stack_.push_back({&t, std::string(anchor), parts_, Keys(t.entries)});
  }
  void close() {
    Open& top = stack_.back();
    if (!top.anchor.empty()) anchors_.insert_or_assign(top.anchor, Anchored{*top.tree, parts_ - top.parts + 1});
    stack_.pop_back();
  }
  void add_key(std::string_view key, int line, int column) {
    Open& top = stack_.back();
    if (top.keys.contains(key)) throw SpecError({*file_, line, column}, std::string(key), "this key stands here twice");
    TreeEntry& e = top.tree->entries.emplace_back();
    e.key = key;
    e.line = line;
    e.column = column;
    top.has_key = true;
  }
  /// `<<: *other` takes the entries of another map that are not here.
  static void merge_keys(Tree& t) {
    TreeEntry* merge = t.entry("<<");
    if (!merge) return;
    std::vector<Tree> sources;
    if (merge->value.type == Tree::Type::sequence)
      sources = std::move(merge->value.items);
    else
      sources.push_back(std::move(merge->value));
    std::erase_if(t.entries, [](const TreeEntry& e) { return e.key == "<<"; });
    Keys keys(t.entries);
    for (Tree& source : sources) {
      if (source.type != Tree::Type::mapping)
        throw SpecError(source.place(), "<<", "expected a map to merge, found " + source.what());
      for (TreeEntry& e : source.entries)
        if (!keys.contains(e.key)) t.entries.push_back(std::move(e));
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

std::string Tree::text() const {
  if (type != Type::scalar) return {};
  if (scalar.is<std::string>()) return scalar.as<std::string>();
  return spelled.is<std::string>() ? spelled.as<std::string>() : scalar.repr();
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
  }
  return t;
}

}  // namespace caller::tube::detail
