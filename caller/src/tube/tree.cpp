#include "tree.hpp"

#include <charconv>
#include <cmath>
#include <limits>
#include <sstream>
#include <unordered_map>
#include <unordered_set>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

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

class Builder final : public YAML::EventHandler {
public:
  Builder(std::shared_ptr<const std::string> file, int first_line) : file_(std::move(file)), first_line_(first_line) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { finish(made(mark), anchor); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) fail(mark, "an alias inside of what it names");
    parts_ += found->second.parts;
    if (parts_ > kMaxParts) fail(mark, "the aliases make this specification too large");
    place(Tree(found->second.tree));
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    Tree t = made(mark);
    t.text = value;
    // "?" is a plain scalar, "!" a quoted one; a tag of the user's own says nothing here.
    t.scalar = tag == "!" || tag == "tag:yaml.org,2002:str" ? Value(value) : plain_scalar(value);
    finish(std::move(t), anchor);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, anchor, Tree::Type::sequence);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, anchor, Tree::Type::mapping);
  }
  void OnMapEnd() override {
    merge_keys();
    close();
  }

  Tree take() { return std::move(root_); }
  [[noreturn]] void fail(const YAML::Mark& mark, const std::string& message) const {
    throw SpecError({*file_, line(mark), mark.column + 1}, {}, message);
  }
  int line(const YAML::Mark& mark) const { return mark.line < 0 ? 0 : mark.line + first_line_; }

private:
  struct Open {
    Tree tree;
    YAML::anchor_t anchor;
    std::size_t parts;
    bool has_key = false;
    TreeEntry pending{};
    std::unordered_set<std::string> keys{};
  };
  struct Anchored {
    Tree tree;
    std::size_t parts;
  };

  Tree made(const YAML::Mark& mark) {
    if (++parts_ > kMaxParts) fail(mark, "this specification is too large");
    Tree t;
    t.file = file_;
    t.line = line(mark);
    t.column = mark.column + 1;
    return t;
  }
  void open(const YAML::Mark& mark, YAML::anchor_t anchor, Tree::Type type) {
    if (stack_.size() >= kMaxDepth) fail(mark, "nested too deeply");
    Tree t = made(mark);
    t.type = type;
    stack_.push_back({std::move(t), anchor, parts_});
  }
  void close() {
    Open top = std::move(stack_.back());
    stack_.pop_back();
    if (top.anchor) anchors_.insert_or_assign(top.anchor, Anchored{top.tree, parts_ - top.parts + 1});
    place(std::move(top.tree));
  }
  void finish(Tree t, YAML::anchor_t anchor) {
    if (anchor) anchors_.insert_or_assign(anchor, Anchored{t, 1});
    place(std::move(t));
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
  int first_line_;
  std::vector<Open> stack_;
  std::unordered_map<YAML::anchor_t, Anchored> anchors_;
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
  auto file = std::make_shared<const std::string>(name);
  Builder builder(file, first_line);
  if (text.find('\0') != std::string_view::npos)
    throw SpecError({name, 0, 0}, {}, "this is no YAML: it contains a NUL byte");
  std::istringstream in{std::string(text)};
  try {
    YAML::Parser parser(in);
    if (!parser.HandleNextDocument(builder)) throw SpecError({name, first_line, 1}, {}, "the specification is empty");
    Builder rest(file, first_line);
    if (parser.HandleNextDocument(rest)) {
      const Tree second = rest.take();
      throw SpecError(second.place(), {}, "a second document: a file holds one tube");
    }
  } catch (const YAML::Exception& e) {
    builder.fail(e.mark, "this is no YAML: " + e.msg);
  }
  return builder.take();
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
