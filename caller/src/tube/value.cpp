#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include <cxxabi.h>

#include <caller/tube/value.hpp>

#include "cbor.hpp"

namespace caller::tube {

std::string_view kind_name(Kind kind) noexcept {
  switch (kind) {
    case Kind::none:
      return "none";
    case Kind::absent:
      return "no event";
    case Kind::boolean:
      return "boolean";
    case Kind::integer:
    case Kind::unsigned_integer:
      return "integer";
    case Kind::real:
      return "real number";
    case Kind::string:
      return "text";
    case Kind::list:
      return "list";
    case Kind::map:
      return "map";
    case Kind::object:
      return "object";
  }
  return "unknown";
}

std::string type_name(const std::type_info& type) {
  if (detail::same_type(type, typeid(std::string))) return "std::string";
  int status = 0;
  char* demangled = abi::__cxa_demangle(type.name(), nullptr, nullptr, &status);
  std::string name = status == 0 && demangled ? demangled : type.name();
  std::free(demangled);
  return name;
}

namespace detail {

const NumberOps number_table{
    .none = {.type = &typeid(std::nullptr_t), .kind = Kind::none},
    .absent = {.type = &typeid(NoEvent), .kind = Kind::absent},
    .boolean = {.type = &typeid(bool), .kind = Kind::boolean},
    .integer = {.type = &typeid(std::int64_t), .kind = Kind::integer},
    .natural = {.type = &typeid(std::uint64_t), .kind = Kind::unsigned_integer},
    .real = {.type = &typeid(double), .kind = Kind::real},
};

bool same_type(const std::type_info& a, const std::type_info& b) noexcept {
  // A module loaded later (a cell, a plugin) may have its own copy of a type_info; names then decide, local ones
  // included.
  return &a == &b || std::strcmp(a.name(), b.name()) == 0;
}

void wrong_type(const Value& found, std::string_view expected) {
  std::string text = "expected " + std::string(expected) + ", found ";
  const Kind kind = found.kind();
  if (const Foreign* foreign = found.find<Foreign>())
    text += "an object of \"" + foreign->name + "\", of which this process has no codec (add_codec)";
  else if (kind == Kind::object)
    text += "an object of type " + type_name(found.type());
  else if (kind == Kind::none || kind == Kind::absent)
    text += kind_name(kind);
  else
    text += std::string(kind_name(kind)) + " " + found.repr();
  throw Error(Errc::wrong_type, text);
}
void wrong_type(const Value& found, const std::type_info& expected) { wrong_type(found, type_name(expected)); }
void out_of_range(const Value& found, std::string_view expected) {
  throw Error(Errc::out_of_range, "expected " + std::string(expected) + ", found " + found.repr());
}

}  // namespace detail

namespace {

// The length in bytes of the code point that starts with `lead`; a wrong byte counts as one.
std::size_t code_point_length(unsigned char lead) noexcept {
  if (lead < 0x80) return 1;
  if (lead >> 5 == 0x6) return 2;
  if (lead >> 4 == 0xe) return 3;
  if (lead >> 3 == 0x1e) return 4;
  return 1;
}
template <class Each>
void each_code_point(const std::string& text, Each&& each) {
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = std::min(code_point_length(static_cast<unsigned char>(text[i])), text.size() - i);
    each(text.substr(i, length));
    i += length;
  }
}

void append_quoted(std::string& out, std::string_view text, std::size_t limit) {
  out += '"';
  for (const char c : text) {
    if (out.size() > limit) break;
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
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          constexpr const char* digits = "0123456789abcdef";
          out += "\\u00";
          out += digits[(c >> 4) & 0xf];
          out += digits[c & 0xf];
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

void append_repr(std::string& out, const Value& v, std::size_t limit, int depth) {
  if (out.size() > limit) return;
  if (depth > 8) {
    out += "…";
    return;
  }
  switch (v.kind()) {
    case Kind::none:
      out += "null";
      break;
    case Kind::absent:
      out += "NoEvent";
      break;
    case Kind::boolean:
      out += v.as<bool>() ? "true" : "false";
      break;
    case Kind::integer:
      out += std::to_string(v.as<std::int64_t>());
      break;
    case Kind::unsigned_integer:
      out += std::to_string(v.to<std::uint64_t>());
      break;
    case Kind::real: {
      char digits[64];
      const auto end = std::to_chars(digits, digits + sizeof digits, v.as<double>()).ptr;
      const std::string_view text(digits, static_cast<std::size_t>(end - digits));
      out += text;
      if (text.find_first_of(".einf") == std::string_view::npos) out += ".0";
      break;
    }
    case Kind::string:
      append_quoted(out, v.as<std::string>(), limit);
      break;
    case Kind::list: {
      out += '[';
      bool first = true;
      for (const Value& item : v.items()) {
        if (!first) out += ", ";
        first = false;
        append_repr(out, item, limit, depth + 1);
        if (out.size() > limit) break;
      }
      out += ']';
      break;
    }
    case Kind::map: {
      out += '{';
      bool first = true;
      for (const auto& [key, item] : v.entries()) {
        if (!first) out += ", ";
        first = false;
        append_quoted(out, key, limit);
        out += ": ";
        append_repr(out, item, limit, depth + 1);
        if (out.size() > limit) break;
      }
      out += '}';
      break;
    }
    case Kind::object:
      out += "<" + type_name(v.type()) + ">";
      break;
  }
}

}  // namespace

std::optional<std::size_t> Value::size() const {
  if (kind() == Kind::string) {
    std::size_t n = 0;
    each_code_point(as<std::string>(), [&](const std::string&) { ++n; });
    return n;
  }
  if (ops_->size) return ops_->size(object());
  if (const Map* map = find<Map>()) return map->size();
  return std::nullopt;
}

List Value::items() const {
  if (const List* list = find<List>()) return *list;
  List made;
  if (kind() == Kind::string) {
    each_code_point(as<std::string>(), [&](std::string s) { made.emplace_back(std::move(s)); });
    return made;
  }
  if (!ops_->each) detail::wrong_type(*this, "list");
  made.reserve(ops_->size(object()));
  ops_->each(object(), &made,
             [](void* context, Value item) { static_cast<List*>(context)->push_back(std::move(item)); });
  return made;
}

Map Value::entries() const {
  if (const Map* map = find<Map>()) return *map;
  if (!ops_->each_entry) detail::wrong_type(*this, "map");
  Map made;
  ops_->each_entry(object(), &made, [](void* context, std::string_view key, Value item) {
    static_cast<Map*>(context)->append(std::string(key), std::move(item));
  });
  return made;
}

Value Value::operator[](std::size_t index) const {
  if (const List* list = find<List>()) {
    if (index < list->size()) return (*list)[index];
  } else {
    const List list_made = items();
    if (index < list_made.size()) return list_made[index];
  }
  throw Error(Errc::no_such_key, "no item " + std::to_string(index) + " in " + repr());
}

Value Value::operator[](std::string_view key) const {
  if (const Map* map = find<Map>()) return map->at(key);
  return entries().at(key);
}

Value Value::deep_copy() const {
  if (!ops_->boxed) return *this;
  if (const List* list = find<List>()) {
    List made;
    made.reserve(list->size());
    for (const Value& item : *list) made.push_back(item.deep_copy());
    return made;
  }
  if (const Map* map = find<Map>()) {
    Map made;
    for (const auto& [key, item] : *map) made.set(key, item.deep_copy());
    return made;
  }
  if (!ops_->copy) throw Error(Errc::wrong_type, "an object of type " + type_name(type()) + " cannot be copied");
  return ops_->copy(object());
}

double Value::as_real() const {
  switch (kind()) {
    case Kind::boolean:
      return data_.boolean ? 1.0 : 0.0;
    case Kind::integer:
      return static_cast<double>(data_.integer);
    case Kind::unsigned_integer:
      return static_cast<double>(data_.natural);
    case Kind::real:
      return data_.real;
    default:
      detail::wrong_type(*this, "a number");
  }
}

std::string Value::repr(std::size_t limit) const {
  std::string out;
  append_repr(out, *this, limit, 0);
  if (out.size() > limit) {
    out.resize(limit);
    while (!out.empty() && (static_cast<unsigned char>(out.back()) & 0xc0) == 0x80) out.pop_back();
    if (!out.empty() && static_cast<unsigned char>(out.back()) >= 0xc0) out.pop_back();
    out += "…";
  }
  return out;
}

namespace {

bool equal_numbers(const Value& a, const Value& b) {
  if (a.kind() == Kind::real || b.kind() == Kind::real) {
    const Value& real = a.kind() == Kind::real ? a : b;
    const Value& other = a.kind() == Kind::real ? b : a;
    if (other.kind() == Kind::real) return real.as<double>() == other.as<double>();
    // A whole number equals a real one only if the real one holds exactly it.
    if (other.kind() == Kind::integer) {
      const double d = real.as<double>();
      return d >= -0x1p63 && d < 0x1p63 && static_cast<double>(static_cast<std::int64_t>(d)) == d &&
             static_cast<std::int64_t>(d) == other.as<std::int64_t>();
    }
    const double d = real.as<double>();
    return d >= 0 && d < 0x1p64 && static_cast<double>(static_cast<std::uint64_t>(d)) == d &&
           static_cast<std::uint64_t>(d) == other.to<std::uint64_t>();
  }
  if (a.kind() != b.kind()) return false;  // natural ones are larger than any integer
  return a.kind() == Kind::integer ? a.as<std::int64_t>() == b.as<std::int64_t>()
                                   : a.to<std::uint64_t>() == b.to<std::uint64_t>();
}

}  // namespace

bool operator==(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return equal_numbers(a, b);
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::none:
    case Kind::absent:
      return true;
    case Kind::boolean:
      return a.as<bool>() == b.as<bool>();
    case Kind::string:
      return a.as<std::string>() == b.as<std::string>();
    case Kind::list:
      return a.items() == b.items();
    case Kind::map: {
      const Map left = a.entries(), right = b.entries();
      return left.size() == right.size() && std::all_of(left.begin(), left.end(), [&](const Map::Entry& entry) {
               const Value* other = right.find(entry.first);
               return other && *other == entry.second;
             });
    }
    default:
      if (a.object() == b.object()) return true;
      return detail::same_type(a.type(), b.type()) && a.ops_->equal && a.ops_->equal(a.object(), b.object());
  }
}

Map::Map() noexcept = default;
Map::Map(std::initializer_list<Entry> entries) {
  entries_.reserve(entries.size());
  for (const Entry& entry : entries) set(entry.first, entry.second);
}
Map::Map(const Map&) = default;
Map::Map(Map&&) noexcept = default;
Map& Map::operator=(const Map&) = default;
Map& Map::operator=(Map&&) noexcept = default;
Map::~Map() = default;

const Value* Map::find(std::string_view key) const noexcept {
  for (const Entry& entry : entries_)
    if (entry.first == key) return &entry.second;
  return nullptr;
}
const Value& Map::at(std::string_view key) const {
  if (const Value* found = find(key)) return *found;
  std::string text = "no key \"" + std::string(key) + "\"; there are:";
  for (const Entry& entry : entries_) text += " " + entry.first;
  throw Error(Errc::no_such_key, text);
}
void Map::set(std::string key, Value value) {
  for (Entry& entry : entries_) {
    if (entry.first == key) {
      entry.second = std::move(value);
      return;
    }
  }
  entries_.emplace_back(std::move(key), std::move(value));
}
void Map::append(std::string key, Value value) { entries_.emplace_back(std::move(key), std::move(value)); }
bool Map::erase(std::string_view key) {
  return std::erase_if(entries_, [&](const Entry& entry) { return entry.first == key; }) > 0;
}
std::size_t Map::size() const noexcept { return entries_.size(); }
const Map::Entry* Map::begin() const noexcept { return entries_.data(); }
const Map::Entry* Map::end() const noexcept { return entries_.data() + entries_.size(); }

}  // namespace caller::tube
