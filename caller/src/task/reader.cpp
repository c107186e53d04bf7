// Reading values: a tree, of which readers show a part each.
#include <caller/task/codec.hpp>

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>

namespace caller::task {

struct detail::Node {
  using Kind = Reader::Kind;
  Kind kind = Kind::null;
  union {
    bool boolean;
    std::int64_t integer = 0;
    std::uint64_t natural;
    double number;
  };
  std::string text;  // also of bytes
  std::vector<Node> items;
  std::vector<std::string> keys;
};

namespace {

/// Of a text that is written as it is.
constexpr bool is_plain(char c) noexcept { return c >= 0x20 && c <= 0x7e && c != '"' && c != '\\'; }

constexpr std::string_view kBytesKey = "$bytes";
constexpr std::string_view kBase64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::optional<std::vector<std::byte>> from_base64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  static const auto values = [] {
    std::array<int, 256> v;
    v.fill(-1);
    for (int i = 0; i < 64; ++i) v[static_cast<unsigned char>(kBase64[static_cast<std::size_t>(i)])] = i;
    return v;
  }();
  std::vector<std::byte> out;
  out.reserve(text.size() / 4 * 3);
  for (std::size_t i = 0; i < text.size(); i += 4) {
    const bool last = i + 4 == text.size();
    const int padding = !last ? 0 : text[i + 3] != '=' ? 0 : text[i + 2] != '=' ? 1 : 2;
    unsigned n = 0;
    for (std::size_t k = 0; k < 4; ++k) {
      const int v = static_cast<int>(k) >= 4 - padding ? 0 : values[static_cast<unsigned char>(text[i + k])];
      if (v < 0) return std::nullopt;
      n = n << 6 | static_cast<unsigned>(v);
    }
    for (int k = 0; k < 3 - padding; ++k) out.push_back(static_cast<std::byte>(n >> (16 - 8 * k) & 255));
  }
  return out;
}

using detail::Node;
using Kind = Reader::Kind;

/// One that stands there twice; null: none does.
const std::string* repeated(const std::vector<std::string>& keys) {
  constexpr std::size_t kFew = 8;
  if (keys.size() <= kFew) {
    for (auto k = keys.begin(); k != keys.end(); ++k)
      if (std::find(keys.begin(), k, *k) != k) return &*k;
    return nullptr;
  }
  std::vector<const std::string*> sorted;
  sorted.reserve(keys.size());
  for (const auto& k : keys) sorted.push_back(&k);
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return *a < *b; });
  const auto twice =
      std::adjacent_find(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return *a == *b; });
  return twice == sorted.end() ? nullptr : *twice;
}

/// Takes the events of nlohmann's reader, which stops as soon as one is answered by false.
class Builder {
public:
  explicit Builder(Node* root) : root_(root) {}
  std::string error;

  bool null() { return add({}); }
  bool boolean(bool b) {
    Node n;
    n.kind = Kind::boolean;
    n.boolean = b;
    return add(std::move(n));
  }
  bool number_integer(std::int64_t i) {
    Node n;
    n.kind = Kind::integer;
    n.integer = i;
    return add(std::move(n));
  }
  bool number_unsigned(std::uint64_t u) {
    Node n;
    n.kind = Kind::natural;
    n.natural = u;
    return add(std::move(n));
  }
  bool number_float(double d, const std::string&) {
    Node n;
    n.kind = Kind::number;
    n.number = d;
    return add(std::move(n));
  }
  bool string(std::string& s) {
    Node n;
    n.kind = Kind::text;
    n.text = std::move(s);
    return add(std::move(n));
  }
  bool binary(nlohmann::json::binary_t& b) {
    Node n;
    n.kind = Kind::bytes;
    n.text.assign(reinterpret_cast<const char*>(b.data()), b.size());
    return add(std::move(n));
  }
  bool start_object(std::size_t) { return open(Kind::map); }
  bool start_array(std::size_t) { return open(Kind::list); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool key(std::string& k) {
    open_.back()->keys.push_back(std::move(k));
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) {
    return refuse("byte " + std::to_string(position) + " cannot be read");
  }

private:
  bool refuse(std::string why) {
    if (error.empty()) error = std::move(why);
    return false;
  }
  Node* place(Node&& n) {
    if (open_.empty()) {
      *root_ = std::move(n);
      return root_;
    }
    open_.back()->items.push_back(std::move(n));
    return &open_.back()->items.back();
  }
  bool add(Node&& n) {
    place(std::move(n));
    return true;
  }
  bool open(Kind kind) {
    if (open_.size() >= static_cast<std::size_t>(kDeepest)) return refuse("it goes too deep");
    Node n;
    n.kind = kind;
    open_.push_back(place(std::move(n)));  // stays where it is: only the innermost open one grows
    return true;
  }
  bool close() {
    const std::string* const twice = repeated(open_.back()->keys);
    if (twice) return refuse("the key \"" + *twice + "\" stands there twice");
    open_.pop_back();
    return true;
  }

  Node* root_;
  std::vector<Node*> open_;
};

}  // namespace

namespace detail {

bool PlainReader::key(std::string_view name) noexcept {
  // A name with what must be escaped is written otherwise, and is not found.
  if (static_cast<std::size_t>(end_ - at_) < name.size() + 3 || *at_ != '"' || at_[name.size() + 1] != '"' ||
      at_[name.size() + 2] != ':' || std::string_view(at_ + 1, name.size()) != name)
    return false;
  for (const char c : name)
    if (!is_plain(c)) return false;
  at_ += name.size() + 3;
  return true;
}
bool PlainReader::integer(std::int64_t& to, std::int64_t least, std::int64_t most) noexcept {
  const bool negative = take('-');
  const char* const begin = at_;
  std::int64_t n = 0;
  for (; at_ != end_ && *at_ >= '0' && *at_ <= '9'; ++at_) {
    if (at_ - begin == 18) return false;
    n = n * 10 + (*at_ - '0');
  }
  if (at_ == begin || (*begin == '0' && (at_ - begin > 1 || negative))) return false;
  if (at_ != end_ && *at_ != ',' && *at_ != ']' && *at_ != '}') return false;
  to = negative ? -n : n;
  return to >= least && to <= most;
}
bool PlainReader::boolean(bool& to) noexcept {
  const std::string_view left(at_, static_cast<std::size_t>(end_ - at_));
  to = left.starts_with("true");
  if (!to && !left.starts_with("false")) return false;
  at_ += to ? 4 : 5;
  return true;
}
bool PlainReader::text(std::string& to) {
  if (!take('"')) return false;
  const char* const begin = at_;
  while (at_ != end_ && is_plain(*at_)) ++at_;
  to.assign(begin, at_);
  return take('"');
}

}  // namespace detail

namespace {

/// Takes JSON as this library writes most of it: small whole numbers, texts of ASCII without escapes, no spaces. What
/// it does not take may be JSON all the same.
class PlainJson : detail::PlainReader {
public:
  using PlainReader::PlainReader;
  bool read(Node& root) { return value(root, 0) && at_end(); }

private:
  bool word(std::string_view w) {
    if (!std::string_view(at_, end_).starts_with(w)) return false;
    at_ += w.size();
    return true;
  }
  bool value(Node& to, int depth) {
    if (at_ == end_ || depth > 8) return false;
    switch (*at_) {
      case '{':
      case '[':
        return container(to, depth);
      case '"':
        to.kind = Kind::text;
        return text(to.text);
      case 'n':
        return word("null");
      case 't':
      case 'f':
        to.kind = Kind::boolean;
        return boolean(to.boolean);
      default:
        return number(to);
    }
  }
  bool container(Node& to, int depth) {
    const bool map = *at_++ == '{';
    to.kind = map ? Kind::map : Kind::list;
    const char close = map ? '}' : ']';
    if (take(close)) return true;
    do {
      if (map) {
        std::string key;
        if (!text(key) || !take(':')) return false;
        to.keys.push_back(std::move(key));
      }
      if (!value(to.items.emplace_back(), depth + 1)) return false;
    } while (take(','));
    return take(close) && !repeated(to.keys);
  }
  bool number(Node& to) {
    constexpr std::numeric_limits<std::int64_t> limits;
    if (!integer(to.integer, limits.min(), limits.max())) return false;
    to.kind = to.integer < 0 ? Kind::integer : Kind::natural;
    if (to.integer >= 0) to.natural = static_cast<std::uint64_t>(to.integer);
    return true;
  }
};

constexpr const char* words(Kind kind) {
  switch (kind) {
    case Kind::null:
      return "null";
    case Kind::boolean:
      return "a boolean";
    case Kind::integer:
    case Kind::natural:
      return "a whole number";
    case Kind::number:
      return "a number";
    case Kind::text:
      return "a text";
    case Kind::bytes:
      return "bytes";
    case Kind::list:
      return "a list";
    case Kind::map:
      return "a map";
  }
  return "nothing";
}

}  // namespace

Document::Document(Format format, std::string_view bytes) : node_(std::make_unique<Node>()) {
  if (format == Format::json) {
    if (PlainJson(bytes).read(*node_)) return;
    *node_ = Node();
  }
  Builder builder(node_.get());
  const auto with =
      format == Format::json ? nlohmann::json::input_format_t::json : nlohmann::json::input_format_t::cbor;
  if (!nlohmann::json::sax_parse(bytes.begin(), bytes.end(), &builder, with) || !builder.error.empty())
    throw SerializationError((format == Format::json ? "no JSON: " : "no CBOR: ") +
                             (builder.error.empty() ? std::string("it cannot be read") : builder.error));
}
Document::Document(Document&&) noexcept = default;
Document& Document::operator=(Document&&) noexcept = default;
Document::~Document() = default;
Reader Document::root() const { return Reader(node_.get()); }

Kind Reader::kind() const noexcept { return node_->kind; }

void Reader::fail(const std::string& expected) const {
  throw SerializationError((place_.empty() ? "the value" : place_) + ": expected " + expected + ", found " +
                           words(node_->kind));
}

bool Reader::boolean() const {
  if (node_->kind != Kind::boolean) fail("a boolean");
  return node_->boolean;
}

std::int64_t Reader::integer(std::int64_t least, std::int64_t most) const {
  const auto refuse = [&](const std::string& found) {
    throw SerializationError((place_.empty() ? "the value" : place_) + ": " + found + " is not between " +
                             std::to_string(least) + " and " + std::to_string(most));
  };
  if (node_->kind == Kind::natural) {
    if (node_->natural > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
      refuse(std::to_string(node_->natural));
    const auto n = static_cast<std::int64_t>(node_->natural);
    if (n < least || n > most) refuse(std::to_string(n));
    return n;
  }
  if (node_->kind != Kind::integer) fail("a whole number");
  if (node_->integer < least || node_->integer > most) refuse(std::to_string(node_->integer));
  return node_->integer;
}

std::uint64_t Reader::natural(std::uint64_t most) const {
  const auto refuse = [&](const std::string& found) {
    throw SerializationError((place_.empty() ? "the value" : place_) + ": " + found + " is not between 0 and " +
                             std::to_string(most));
  };
  if (node_->kind == Kind::integer) {
    if (node_->integer < 0) refuse(std::to_string(node_->integer));
    const auto n = static_cast<std::uint64_t>(node_->integer);
    if (n > most) refuse(std::to_string(n));
    return n;
  }
  if (node_->kind != Kind::natural) fail("a whole number");
  if (node_->natural > most) refuse(std::to_string(node_->natural));
  return node_->natural;
}

double Reader::number() const {
  switch (node_->kind) {
    case Kind::number:
      return node_->number;
    case Kind::integer:
      return static_cast<double>(node_->integer);
    case Kind::natural:
      return static_cast<double>(node_->natural);
    case Kind::text:
      if (node_->text == "NaN") return std::numeric_limits<double>::quiet_NaN();
      if (node_->text == "Infinity") return std::numeric_limits<double>::infinity();
      if (node_->text == "-Infinity") return -std::numeric_limits<double>::infinity();
      [[fallthrough]];
    default:
      fail("a number");
  }
}

std::string Reader::text() const {
  if (node_->kind == Kind::text || node_->kind == Kind::bytes) return node_->text;
  if (node_->kind == Kind::map && node_->keys.size() == 1 && node_->keys[0] == kBytesKey) {
    const auto raw = bytes();
    return {reinterpret_cast<const char*>(raw.data()), raw.size()};
  }
  fail("a text");
}

std::vector<std::byte> Reader::bytes() const {
  if (node_->kind == Kind::bytes) {
    const auto raw = std::as_bytes(std::span(node_->text));
    return {raw.begin(), raw.end()};
  }
  if (node_->kind == Kind::map && node_->keys.size() == 1 && node_->keys[0] == kBytesKey &&
      node_->items[0].kind == Kind::text)
    if (auto raw = from_base64(node_->items[0].text)) return *std::move(raw);
  fail("bytes");
}

std::size_t Reader::size() const {
  if (node_->kind != Kind::list && node_->kind != Kind::map) fail("a list or a map");
  return node_->items.size();
}

Reader Reader::item(std::size_t index) const {
  if (index >= size()) fail("an item " + std::to_string(index));
  return node_->kind == Kind::map ? child(&node_->items[index], "." + node_->keys[index])
                                  : child(&node_->items[index], "[" + std::to_string(index) + "]");
}

std::string_view Reader::key(std::size_t index) const {
  if (node_->kind != Kind::map || index >= node_->keys.size()) fail("a map");
  return node_->keys[index];
}

std::optional<Reader> Reader::find(std::string_view name) const {
  if (node_->kind != Kind::map) fail("a map");
  for (std::size_t i = 0; i < node_->keys.size(); ++i)
    if (node_->keys[i] == name) return item(i);
  return std::nullopt;
}

Reader Reader::at(std::string_view name) const {
  if (auto found = find(name)) return *found;
  fail("a map with the key \"" + std::string(name) + "\"");
}

}  // namespace caller::task
