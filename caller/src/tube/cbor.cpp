#include "cbor.hpp"

#include <atomic>
#include <bit>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <typeindex>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include <caller/tube/codec.hpp>

namespace caller::tube {

using detail::ByteReader;

static_assert(std::endian::native == std::endian::little, "typed arrays are written as they lie in memory");

namespace {

constexpr int kMaxDepth = 200;
constexpr std::uint64_t kObject = 27;  // the registered tag of "an object by its type's name and arguments"
enum Major : std::uint8_t { natural, negative, bytes, text, array, map, tag, simple };

std::atomic<bool> foreign_kept = false;  // see keep_foreign()

struct Codecs {
  std::shared_mutex mutex;
  std::unordered_map<std::type_index, std::shared_ptr<const detail::Codec>> by_type;
  std::map<std::string, std::shared_ptr<const detail::Codec>, std::less<>> by_name;
};
Codecs& codecs() {
  static Codecs* const shared = new Codecs;  // values may cross until the process ends
  return *shared;
}
std::shared_ptr<const detail::Codec> codec_of(const std::type_info& type) {
  Codecs& c = codecs();
  const std::shared_lock lock(c.mutex);
  const auto found = c.by_type.find(type);
  return found == c.by_type.end() ? nullptr : found->second;
}

void head(std::string& out, Major major, std::uint64_t n) {
  const auto first = static_cast<std::uint8_t>(major << 5);
  int length = 0;
  if (n < 24) {
    out += static_cast<char>(first | n);
    return;
  }
  if (n <= 0xff)
    length = 1;
  else if (n <= 0xffff)
    length = 2;
  else if (n <= 0xffffffff)
    length = 4;
  else
    length = 8;
  char all[9];
  char* end = all;
  *end++ = static_cast<char>(first | (length == 1 ? 24 : length == 2 ? 25 : length == 4 ? 26 : 27));
  for (int i = length - 1; i >= 0; --i) *end++ = static_cast<char>(n >> (8 * i));
  out.append(all, static_cast<std::size_t>(end - all));
}

bool is_utf8(std::string_view s) noexcept {
  for (std::size_t i = 0; i < s.size();) {
    const auto lead = static_cast<unsigned char>(s[i]);
    if (lead < 0x80) {
      ++i;
      continue;
    }
    const std::size_t n = lead >> 5 == 6 ? 1 : lead >> 4 == 14 ? 2 : lead >> 3 == 30 ? 3 : 0;
    if (n == 0 || i + n >= s.size()) return false;
    std::uint32_t code = lead & (0x3fU >> n);
    for (std::size_t k = 1; k <= n; ++k) {
      const auto next = static_cast<unsigned char>(s[i + k]);
      if (next >> 6 != 2) return false;
      code = code << 6 | (next & 0x3fU);
    }
    if (code < (n == 1 ? 0x80U : n == 2 ? 0x800U : 0x10000U) || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
      return false;
    i += n + 1;
  }
  return true;
}

using WriteArray = void (*)(std::string& out, const Value& v);
template <class T, std::uint64_t Tag>
void write_array(std::string& out, const Value& v) {
  const std::vector<T>& numbers = v.as<std::vector<T>>();
  const std::size_t size = numbers.size() * sizeof(T);
  out.reserve(out.size() + size + 16);
  head(out, tag, Tag);
  head(out, bytes, size);
  if (size) out.append(reinterpret_cast<const char*>(numbers.data()), size);
}
/// The vectors that travel as bytes. Tags: RFC 8746.
const std::unordered_map<std::type_index, WriteArray>& arrays() {
  static const std::unordered_map<std::type_index, WriteArray> table{
      {typeid(std::vector<std::uint8_t>), &write_array<std::uint8_t, 64>},
      {typeid(std::vector<std::uint16_t>), &write_array<std::uint16_t, 69>},
      {typeid(std::vector<std::uint32_t>), &write_array<std::uint32_t, 70>},
      {typeid(std::vector<unsigned long>), &write_array<unsigned long, 71>},
      {typeid(std::vector<unsigned long long>), &write_array<unsigned long long, 71>},
      {typeid(std::vector<std::int8_t>), &write_array<std::int8_t, 72>},
      {typeid(std::vector<std::int16_t>), &write_array<std::int16_t, 77>},
      {typeid(std::vector<std::int32_t>), &write_array<std::int32_t, 78>},
      {typeid(std::vector<long>), &write_array<long, 79>},
      {typeid(std::vector<long long>), &write_array<long long, 79>},
      {typeid(std::vector<float>), &write_array<float, 85>},
      {typeid(std::vector<double>), &write_array<double, 86>},
  };
  static_assert(sizeof(long) == 8);
  return table;
}

void object_head(std::string& out, const std::string& name) {
  head(out, tag, kObject);
  head(out, array, 2);
  head(out, text, name.size());
  out += name;
}

void write(std::string& out, const Value& v, int depth) {
  if (depth > kMaxDepth) throw Error(Errc::out_of_range, "nested more than 200 deep");
  switch (v.kind()) {
    case Kind::none:
      out += '\xf6';
      return;
    case Kind::absent:
      out += '\xf7';
      return;
    case Kind::boolean:
      out += v.as<bool>() ? '\xf5' : '\xf4';
      return;
    case Kind::integer: {
      const std::int64_t n = v.as<std::int64_t>();
      if (n >= 0)
        head(out, natural, static_cast<std::uint64_t>(n));
      else
        head(out, negative, ~static_cast<std::uint64_t>(n));
      return;
    }
    case Kind::unsigned_integer:
      head(out, natural, v.to<std::uint64_t>());
      return;
    case Kind::real: {
      const auto bits = std::bit_cast<std::uint64_t>(v.as<double>());
      out += '\xfb';
      for (int i = 7; i >= 0; --i) out += static_cast<char>(bits >> (8 * i));
      return;
    }
    case Kind::string: {
      const std::string& s = v.as<std::string>();
      head(out, is_utf8(s) ? text : bytes, s.size());
      out += s;
      return;
    }
    case Kind::list: {
      if (!v.is<List>()) {
        if (const auto found = arrays().find(v.type()); found != arrays().end()) {
          found->second(out, v);
          return;
        }
        const List items = v.items();
        head(out, array, items.size());
        for (const Value& item : items) write(out, item, depth + 1);
        return;
      }
      const List& items = v.as<List>();
      head(out, array, items.size());
      for (const Value& item : items) write(out, item, depth + 1);
      return;
    }
    case Kind::map: {
      const Map entries = v.entries();
      head(out, map, entries.size());
      for (const auto& [key, item] : entries) {
        head(out, is_utf8(key) ? text : bytes, key.size());
        out += key;
        write(out, item, depth + 1);
      }
      return;
    }
    case Kind::object:
      break;
  }
  if (const detail::Foreign* foreign = v.find<detail::Foreign>()) {
    object_head(out, foreign->name);
    write(out, foreign->content, depth + 1);
    return;
  }
  const auto codec = v.is_reference() ? nullptr : codec_of(v.type());
  if (!codec)
    throw Error(Errc::wrong_type, (v.is_reference() ? "a shared object of type " : "an object of type ") +
                                      type_name(v.type()) + " cannot cross to another process" +
                                      (v.is_reference() ? "" : ": it has no codec (add_codec)"));
  object_head(out, codec->name);
  write(out, codec->encode(v), depth + 1);
}

template <class T>
Value read_array(std::string_view raw) {
  if (raw.size() % sizeof(T) != 0) ByteReader::malformed("a typed array ends within a number");
  std::vector<T> numbers(raw.size() / sizeof(T));
  if (!raw.empty()) std::memcpy(numbers.data(), raw.data(), raw.size());
  return Value(std::move(numbers));
}

}  // namespace

namespace detail {

void keep_foreign() noexcept { foreign_kept.store(true, std::memory_order_relaxed); }

void insert_codec(const std::type_info& type, Codec codec) {
  Codecs& c = codecs();
  const std::unique_lock lock(c.mutex);
  const auto shared = std::make_shared<const Codec>(std::move(codec));
  c.by_type.insert_or_assign(type, shared);
  c.by_name.insert_or_assign(shared->name, shared);
}

void write_cbor(std::string& out, const Value& value) { write(out, value, 0); }

void ByteReader::malformed(const char* why) { throw Error(Errc::wrong_type, std::string("malformed bytes: ") + why); }

std::uint32_t ByteReader::word() {
  const std::string_view raw = take(4);
  std::uint32_t n = 0;
  std::memcpy(&n, raw.data(), 4);
  return n;
}
std::uint64_t ByteReader::varint() {
  std::uint64_t n = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    const std::uint8_t b = byte();
    if (shift == 63 && b > 1) break;
    n |= static_cast<std::uint64_t>(b & 0x7f) << shift;
    if (b < 0x80) return n;
  }
  malformed("a number is too large");
}
std::uint64_t ByteReader::big_endian(std::size_t n) {
  std::uint64_t value = 0;
  for (const char c : take(n)) value = value << 8 | static_cast<unsigned char>(c);
  return value;
}
std::uint64_t ByteReader::head(std::uint8_t low) {
  if (low < 24) return low;
  if (low > 27) malformed("a length that is not known beforehand");
  return big_endian(std::size_t{1} << (low - 24));
}

Value ByteReader::value(int depth) {
  if (depth > kMaxDepth) malformed("nested more than 200 deep");
  const std::uint8_t first = byte();
  const std::uint8_t low = first & 0x1f;
  switch (first >> 5) {
    case natural:
      return Value(head(low));
    case negative: {
      const std::uint64_t n = head(low);
      if (n > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
        malformed("a number below all that fit 64 bits");
      return Value(static_cast<std::int64_t>(~n));
    }
    case bytes:
    case text:
      return Value(std::string(take(head(low))));
    case array: {
      const std::uint64_t n = head(low);
      if (n > left()) malformed("a list is longer than what is there");
      List items;
      items.reserve(n);
      for (std::uint64_t i = 0; i < n; ++i) items.push_back(value(depth + 1));
      return Value(std::move(items));
    }
    case map: {
      const std::uint64_t n = head(low);
      if (n > left() / 2) malformed("a map is longer than what is there");
      Map entries;
      std::unordered_set<std::string_view> seen;  // the keys' bytes outlive it
      for (std::uint64_t i = 0; i < n; ++i) {
        const std::uint8_t key = byte();
        if (key >> 5 != text && key >> 5 != bytes) malformed("a key that is no text");
        const std::string_view name = take(head(key & 0x1f));
        if (!seen.insert(name).second) malformed("a key stands twice");
        entries.append(std::string(name), value(depth + 1));
      }
      return Value(std::move(entries));
    }
    case tag:
      return tagged(head(low), depth);
    default:
      break;
  }
  switch (low) {
    case 20:
      return Value(false);
    case 21:
      return Value(true);
    case 22:
      return Value();
    case 23:
      return Value(no_event);
    case 26:
      return Value(static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(big_endian(4)))));
    case 27:
      return Value(std::bit_cast<double>(big_endian(8)));
    default:
      malformed("an unknown simple value");
  }
}

Value ByteReader::tagged(std::uint64_t tag_number, int depth) {
  if (tag_number == kObject) {
    if (byte() != 0x82) malformed("an object that is no pair");
    const Value name = value(depth + 1);
    Value content = value(depth + 1);
    if (!name.is<std::string>()) malformed("an object without a name");
    std::shared_ptr<const Codec> codec;
    {
      Codecs& c = codecs();
      const std::shared_lock lock(c.mutex);
      if (const auto found = c.by_name.find(name.as<std::string>()); found != c.by_name.end()) codec = found->second;
    }
    if (!codec && foreign_kept.load(std::memory_order_relaxed))
      return Value(Foreign{name.as<std::string>(), std::move(content)});
    if (!codec)
      throw Error(Errc::wrong_type, "an object of " + name.repr() + ", of which this process has no codec (add_codec)");
    return codec->decode(content);
  }
  const std::uint8_t first = byte();
  if (first >> 5 != bytes) malformed("an unknown tag");
  const std::string_view raw = take(head(first & 0x1f));
  switch (tag_number) {
    case 64:
      return read_array<std::uint8_t>(raw);
    case 69:
      return read_array<std::uint16_t>(raw);
    case 70:
      return read_array<std::uint32_t>(raw);
    case 71:
      return read_array<std::uint64_t>(raw);
    case 72:
      return read_array<std::int8_t>(raw);
    case 77:
      return read_array<std::int16_t>(raw);
    case 78:
      return read_array<std::int32_t>(raw);
    case 79:
      return read_array<std::int64_t>(raw);
    case 85:
      return read_array<float>(raw);
    case 86:
      return read_array<double>(raw);
    default:
      malformed("an unknown tag");
  }
}

}  // namespace detail

bool has_codec(const std::type_info& type) { return codec_of(type) != nullptr; }

std::string to_cbor(const Value& value) {
  std::string out;
  detail::write_cbor(out, value);
  return out;
}

Value from_cbor(std::string_view bytes) {
  ByteReader reader(bytes);
  Value value = reader.value();
  if (!reader.empty()) ByteReader::malformed("there is more behind the value");
  return value;
}

}  // namespace caller::tube
