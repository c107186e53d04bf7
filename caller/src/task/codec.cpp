#include <caller/task/codec.hpp>

#include <bit>
#include <cassert>
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>

namespace caller::task {

namespace {

constexpr std::string_view kBytesKey = "$bytes";
constexpr char kBase64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void append_base64(std::string& out, std::span<const std::byte> bytes) {
  std::size_t i = 0;
  for (; i + 3 <= bytes.size(); i += 3) {
    const auto n = std::to_integer<unsigned>(bytes[i]) << 16 | std::to_integer<unsigned>(bytes[i + 1]) << 8 |
                   std::to_integer<unsigned>(bytes[i + 2]);
    for (const int shift : {18, 12, 6, 0}) out += kBase64[n >> shift & 63];
  }
  if (const std::size_t left = bytes.size() - i) {
    unsigned n = std::to_integer<unsigned>(bytes[i]) << 16;
    if (left == 2) n |= std::to_integer<unsigned>(bytes[i + 1]) << 8;
    out += kBase64[n >> 18 & 63];
    out += kBase64[n >> 12 & 63];
    out += left == 2 ? kBase64[n >> 6 & 63] : '=';
    out += '=';
  }
}

std::optional<std::vector<std::byte>> from_base64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  static const auto values = [] {
    std::array<int, 256> v;
    v.fill(-1);
    for (int i = 0; i < 64; ++i) v[static_cast<unsigned char>(kBase64[i])] = i;
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

/// As RFC 3629 has it: no overlong forms, no surrogates.
bool is_utf8(std::string_view s) noexcept {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(s[i]); };
  for (std::size_t i = 0; i < s.size();) {
    const unsigned char c = at(i);
    if (c < 0x80) {
      ++i;
      continue;
    }
    const int more = c >= 0xc2 && c <= 0xdf ? 1 : c >= 0xe0 && c <= 0xef ? 2 : c >= 0xf0 && c <= 0xf4 ? 3 : 0;
    if (!more || i + static_cast<std::size_t>(more) >= s.size()) return false;
    const unsigned char second = at(i + 1);
    if ((c == 0xe0 && second < 0xa0) || (c == 0xed && second > 0x9f) || (c == 0xf0 && second < 0x90) ||
        (c == 0xf4 && second > 0x8f))
      return false;
    for (int k = 1; k <= more; ++k)
      if ((at(i + static_cast<std::size_t>(k)) & 0xc0) != 0x80) return false;
    i += static_cast<std::size_t>(more) + 1;
  }
  return true;
}

void append_quoted(std::string& out, std::string_view text) {
  out += '"';
  std::size_t plain = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c != '"' && c != '\\') continue;
    out.append(text, plain, i - plain);
    plain = i + 1;
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\r':
        out += "\\r";
        break;
      default:
        out += "\\u00";
        out += "0123456789abcdef"[c >> 4];
        out += "0123456789abcdef"[c & 15];
    }
  }
  out.append(text, plain);
  out += '"';
}

template <class N>
void append_number(std::string& out, N n) {
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, n).ptr;
  out.append(digits, end);
}

}  // namespace

// ---- writing ----

void Writer::begin_value() {
  if (levels_.empty()) return;
  Level& level = levels_.back();
  assert(level.left > 0 && "more values than the container was begun with");
  if (format_ == Format::json && !level.map) {
    if (!level.first) out_ += ',';
    level.first = false;
  }
}

void Writer::end_value() {
  while (!levels_.empty()) {
    if (--levels_.back().left > 0) return;
    if (format_ == Format::json) out_ += levels_.back().map ? '}' : ']';
    levels_.pop_back();
  }
}

/// The first byte of an item and its number, of CBOR.
void Writer::head(unsigned major, std::uint64_t n) {
  const auto byte = [&](std::uint64_t b) { out_ += static_cast<char>(b); };
  const unsigned kind = major << 5;
  int size = 0;
  if (n < 24) {
    byte(kind | n);
  } else if (n <= 0xff) {
    byte(kind | 24);
    size = 1;
  } else if (n <= 0xffff) {
    byte(kind | 25);
    size = 2;
  } else if (n <= 0xffff'ffff) {
    byte(kind | 26);
    size = 4;
  } else {
    byte(kind | 27);
    size = 8;
  }
  while (size-- > 0) byte(n >> (8 * size) & 255);
}

void Writer::null() {
  begin_value();
  if (format_ == Format::json)
    out_ += "null";
  else
    head(7, 22);
  end_value();
}

void Writer::boolean(bool value) {
  begin_value();
  if (format_ == Format::json)
    out_ += value ? "true" : "false";
  else
    head(7, value ? 21 : 20);
  end_value();
}

void Writer::integer(std::int64_t value) {
  begin_value();
  if (format_ == Format::json)
    append_number(out_, value);
  else if (value >= 0)
    head(0, static_cast<std::uint64_t>(value));
  else
    head(1, static_cast<std::uint64_t>(-(value + 1)));
  end_value();
}

void Writer::natural(std::uint64_t value) {
  begin_value();
  if (format_ == Format::json)
    append_number(out_, value);
  else
    head(0, value);
  end_value();
}

void Writer::number(double value) {
  begin_value();
  if (format_ == Format::cbor) {
    out_ += static_cast<char>(0xfb);
    const auto bits = std::bit_cast<std::uint64_t>(value);
    for (int shift = 56; shift >= 0; shift -= 8) out_ += static_cast<char>(bits >> shift & 255);
  } else if (std::isfinite(value)) {
    append_number(out_, value);
  } else {
    out_ += std::isnan(value) ? "\"NaN\"" : value > 0 ? "\"Infinity\"" : "\"-Infinity\"";
  }
  end_value();
}

void Writer::text(std::string_view value) {
  if (!is_utf8(value)) return bytes(std::as_bytes(std::span(value)));
  begin_value();
  if (format_ == Format::json) {
    append_quoted(out_, value);
  } else {
    head(3, value.size());
    out_ += value;
  }
  end_value();
}

void Writer::bytes(std::span<const std::byte> value) {
  begin_value();
  if (format_ == Format::json) {
    out_ += "{\"$bytes\":\"";
    append_base64(out_, value);
    out_ += "\"}";
  } else {
    head(2, value.size());
    out_.append(reinterpret_cast<const char*>(value.data()), value.size());
  }
  end_value();
}

void Writer::list(std::size_t size) {
  begin_value();
  if (format_ == Format::json)
    out_ += size ? "[" : "[]";
  else
    head(4, size);
  if (size)
    levels_.push_back({size, false});
  else
    end_value();
}

void Writer::map(std::size_t size) {
  begin_value();
  if (format_ == Format::json)
    out_ += size ? "{" : "{}";
  else
    head(5, size);
  if (size)
    levels_.push_back({size, true});
  else
    end_value();
}

void Writer::raw(std::string_view value) {
  begin_value();
  out_ += value;
  end_value();
}

void Writer::key(std::string_view name) {
  assert(!levels_.empty() && levels_.back().map && "a key outside of a map");
  if (format_ == Format::json) {
    if (!levels_.back().first) out_ += ',';
    levels_.back().first = false;
    append_quoted(out_, name);
    out_ += ':';
  } else {
    head(3, name.size());
    out_ += name;
  }
}

// ---- reading ----

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

using detail::Node;
using Kind = Reader::Kind;

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
    for (const auto& known : open_.back()->keys)
      if (known == k) return refuse("the key \"" + k + "\" stands there twice");
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
    open_.pop_back();
    return true;
  }

  Node* root_;
  std::vector<Node*> open_;
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
