// How values of C++ become bytes and come back: JSON, or CBOR (RFC 8949). Reading bytes of strangers never executes
// anything, and never goes deeper than kDeepest.
//
// Known are arithmetic types, enumerations, strings, bytes, optional, variant, pairs and tuples, sequences, sets, maps
// and chrono. A type of the user's own is told of by its members, or by two functions that argument-dependent lookup
// finds:
//
//   struct Point { double x, y; };
//   CALLER_TASK_FIELDS(Point, x, y)
//
//   void task_encode(caller::task::Writer&, const Money&);      // writes exactly one value
//   void task_decode(const caller::task::Reader&, Money&);
#pragma once

#include <array>
#include <chrono>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <ratio>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <caller/export.hpp>
#include <caller/task/detail/codec_types.hpp>
#include <caller/task/error.hpp>

namespace caller::task {

/// Of stored bytes. Source: pynenc's JsonSerializer and PickleSerializer.
enum class Format : std::uint8_t { json, cbor };

/// Nesting that a reader accepts.
inline constexpr int kDeepest = 128;

/// Appends one value to a text. Containers are begun with their size, and end by themselves when they are full.
///
/// Thread-safety: one thread. Errors: those of key(); a value more than a container holds is the user's error
/// (assertion). Source: –
class CALLER_API Writer {
public:
  /// Appends to `into`, which must outlive it.
  explicit Writer(Format format, std::string* into) : out_(*into), format_(format) {}
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
  /// What it writes.
  Format format() const noexcept { return format_; }

  /// No value.
  void null();
  /// True or false.
  void boolean(bool value);
  /// A whole number.
  void integer(std::int64_t value);
  /// A whole number that is not negative.
  void natural(std::uint64_t value);
  /// JSON has no infinities and no NaN: they become the texts `Infinity`, `-Infinity` and `NaN`.
  void number(double value);
  /// Bytes that are no UTF-8 are kept, as bytes().
  void text(std::string_view value);
  /// In JSON a map `{"$bytes": "base64"}`.
  void bytes(std::span<const std::byte> value);
  /// `size` values follow
  void list(std::size_t size);
  /// `size` times key() and a value follow
  void map(std::size_t size);
  /// One value that is written already, in the same format.
  void raw(std::string_view value);
  /// Before each value of a map. Errors: SerializationError for a name that is no UTF-8.
  void key(std::string_view name);

private:
  struct Level {
    std::size_t left = 0;
    bool map = false;
    bool first = true;
  };
  void begin_value();
  void end_value();
  void head(unsigned major, std::uint64_t n);

  /// What is open, the innermost last. Few values need more than these.
  class Levels {
  public:
    bool empty() const noexcept { return size_ == 0; }
    Level& back() noexcept { return size_ <= near_.size() ? near_[size_ - 1] : far_.back(); }
    void push_back(Level level) {
      if (size_ < near_.size())
        near_[size_] = level;
      else
        far_.push_back(level);
      ++size_;
    }
    void pop_back() noexcept {
      if (size_-- > near_.size()) far_.pop_back();
    }

  private:
    std::array<Level, 4> near_;
    std::size_t size_ = 0;
    std::vector<Level> far_;
  };

  std::string& out_;
  Format format_;
  Levels levels_;
};

namespace detail {
struct Node;
}

/// One value of a Document. Cheap to copy; valid while the Document lives.
///
/// Thread-safety: immutable. Errors: SerializationError names the place and what was found. Source: –
class CALLER_API Reader {
public:
  /// What a value is.
  enum class Kind : std::uint8_t { null, boolean, integer, natural, number, text, bytes, list, map };
  /// For Document and decoders: `place` is how messages name the value.
  explicit Reader(const detail::Node* node, std::string place = {}) : node_(node), place_(std::move(place)) {}

  /// What it is.
  Kind kind() const noexcept;
  /// Kind() is null.
  bool is_null() const noexcept { return kind() == Kind::null; }
  /// True or false. Errors: SerializationError for another kind.
  bool boolean() const;
  /// A whole number from `least` to `most`.
  std::int64_t integer(std::int64_t least = std::numeric_limits<std::int64_t>::min(),
                       std::int64_t most = std::numeric_limits<std::int64_t>::max()) const;
  /// A whole number from 0 to `most`.
  std::uint64_t natural(std::uint64_t most = std::numeric_limits<std::uint64_t>::max()) const;
  /// Any number; also the texts that stand for what JSON cannot write.
  double number() const;
  /// A text. Errors: SerializationError for another kind.
  std::string text() const;
  /// Bytes, or a map that stands for them in JSON. Errors: SerializationError for another kind.
  std::vector<std::byte> bytes() const;
  /// Of a list or map.
  std::size_t size() const;
  /// A value of a list or map, by its number. Errors: SerializationError when there are fewer.
  Reader item(std::size_t index) const;
  /// A key of a map, by its number.
  std::string_view key(std::size_t index) const;
  /// A value of a map. find: none when it is missing.
  std::optional<Reader> find(std::string_view name) const;
  /// A value of a map. Errors: SerializationError when it is missing.
  Reader at(std::string_view name) const;
  /// What went wrong here, for decoders of one's own.
  [[noreturn]] void fail(const std::string& expected) const;

private:
  Reader child(const detail::Node* node, const std::string& step) const { return Reader(node, place_ + step); }
  const detail::Node* node_;
  std::string place_;
};

/// Bytes, read. Thread-safety: immutable. Errors: SerializationError for what is no such format, goes too deep, or has
/// something behind it. Source: –
class CALLER_API Document {
public:
  /// Reads all of it at once.
  Document(Format format, std::string_view bytes);
  Document(Document&&) noexcept;
  Document& operator=(Document&&) noexcept;
  ~Document();
  /// The value that was written; valid as long as the document is.
  Reader root() const;

private:
  std::unique_ptr<detail::Node> node_;
};

namespace detail {

/// Takes a value of JSON as this library writes most: whole numbers, booleans, texts of ASCII without escapes, in a map
/// with its keys in the order in which they are asked for. What it does not take may be right all the same: a Document
/// says. Each is true if it has taken what it is asked for.
class CALLER_API PlainReader {
public:
  explicit PlainReader(std::string_view text) noexcept : at_(text.data()), end_(at_ + text.size()) {}
  bool take(char c) noexcept {
    if (at_ == end_ || *at_ != c) return false;
    ++at_;
    return true;
  }
  bool key(std::string_view name) noexcept;
  bool integer(std::int64_t& to, std::int64_t least, std::int64_t most) noexcept;
  bool boolean(bool& to) noexcept;
  bool text(std::string& to);
  bool at_end() const noexcept { return at_ == end_; }

protected:
  const char* at_;         ///< what comes next
  const char* const end_;  ///< behind all of it
};

/// Which types it knows.
template <class T>
inline constexpr bool kPlain = std::is_same_v<T, std::string> || (std::integral<T> && sizeof(T) <= 8);
template <class T>
bool take_plain(PlainReader& r, T& to) {
  if constexpr (std::is_same_v<T, std::string>) {
    return r.text(to);
  } else if constexpr (std::is_same_v<T, bool>) {
    return r.boolean(to);
  } else {
    using Limits = std::numeric_limits<T>;
    constexpr bool fits = std::signed_integral<T> || sizeof(T) < 8;  // all of them in std::int64_t
    std::int64_t n = 0;
    const bool taken =
        r.integer(n, static_cast<std::int64_t>(Limits::min()),
                  fits ? static_cast<std::int64_t>(Limits::max()) : std::numeric_limits<std::int64_t>::max());
    to = static_cast<T>(n);
    return taken;
  }
}

}  // namespace detail

template <class T>
void encode(Writer& w, const T& value);
template <class T>
T decode(const Reader& r);

namespace detail {

/// As RFC 3629 has it: no overlong forms, no surrogates.
CALLER_API bool is_utf8(std::string_view text) noexcept;

/// Whether texts can be the keys of a map; else it is a list of pairs.
template <class Map>
bool has_plain_keys(const Map& map) {
  for (const auto& entry : map)
    if (!is_utf8(entry.first)) return false;
  return true;
}

/// In nanoseconds or, further away than those reach, a list of seconds and the nanoseconds behind them.
template <class T>
void encode_time(Writer& w, const T& value) {
  using namespace std::chrono;
  const auto since = value.time_since_epoch();
  if constexpr (std::ratio_less_v<std::nano, typename T::period>) {
    constexpr std::int64_t kReach = duration_cast<seconds>(nanoseconds::max()).count();
    const seconds whole = floor<seconds>(since);
    if (whole.count() < -kReach || whole.count() >= kReach) {
      w.list(2);
      w.integer(whole.count());
      return w.integer(duration_cast<nanoseconds>(since - whole).count());
    }
  }
  w.integer(duration_cast<nanoseconds>(since).count());
}
template <class T>
T decode_time(const Reader& r) {
  using namespace std::chrono;
  using D = typename T::duration;
  if (r.kind() != Reader::Kind::list) return T(duration_cast<D>(nanoseconds(r.integer())));
  if (r.size() != 2) r.fail("a list of seconds and nanoseconds");
  const std::int64_t whole = r.item(0).integer(), rest = r.item(1).integer(0, 999'999'999);
  const auto far = static_cast<double>(whole);
  if (far + 1 >= duration<double>(D::max()).count() || far - 1 <= duration<double>(D::min()).count())
    r.fail("a time that its type can hold");
  return T(duration_cast<D>(seconds(whole)) + duration_cast<D>(nanoseconds(rest)));
}

template <class V, std::size_t I = 0>
V decode_alternative(const Reader& r, std::size_t index) {
  if constexpr (I == std::variant_size_v<V>) {
    r.fail("an alternative of a variant");
  } else {
    if (index == I) return V(std::in_place_index<I>, decode<std::variant_alternative_t<I, V>>(r));
    return decode_alternative<V, I + 1>(r, index);
  }
}

}  // namespace detail

/// Writes one value. Errors: none. Source: pynenc BaseSerializer.serialize.
template <class T>
void encode(Writer& w, const T& value) {
  using namespace detail;
  if constexpr (HasOwnCodec<T>) {
    task_encode(w, value);
  } else if constexpr (HasFields<const T>) {
    const auto fields = caller_task_fields(value);
    w.map(std::tuple_size_v<decltype(fields)>);
    std::apply([&](const auto&... f) { ((w.key(f.first), encode(w, f.second)), ...); }, fields);
  } else if constexpr (std::is_same_v<T, bool>) {
    w.boolean(value);
  } else if constexpr (std::is_enum_v<T>) {
    encode(w, static_cast<std::underlying_type_t<T>>(value));
  } else if constexpr (std::unsigned_integral<T>) {
    w.natural(value);
  } else if constexpr (std::integral<T>) {
    w.integer(value);
  } else if constexpr (std::floating_point<T>) {
    w.number(static_cast<double>(value));
  } else if constexpr (std::is_convertible_v<const T&, std::string_view>) {
    w.text(value);
  } else if constexpr (std::is_same_v<T, std::monostate> || std::is_same_v<T, std::nullopt_t>) {
    w.null();
  } else if constexpr (IsByteVector<T>::value) {
    w.bytes(value);
  } else if constexpr (IsOptional<T>::value) {
    // What may be null itself is wrapped, so that nothing and "nothing inside" differ.
    if (!value) return w.null();
    using E = typename T::value_type;
    if constexpr (IsOptional<E>::value || std::is_same_v<E, std::monostate>) w.list(1);
    encode(w, *value);
  } else if constexpr (IsVariant<T>::value) {
    w.list(2);
    w.natural(value.index());
    std::visit([&](const auto& v) { encode(w, v); }, value);
  } else if constexpr (IsDuration<T>::value) {
    encode(w, value.count());
  } else if constexpr (IsTimePoint<T>::value) {
    encode_time(w, value);
  } else if constexpr (IsTuple<T>::value) {
    w.list(std::tuple_size_v<T>);
    std::apply([&](const auto&... v) { (encode(w, v), ...); }, value);
  } else if constexpr (MapLike<T>) {
    if constexpr (std::is_convertible_v<const typename T::key_type&, std::string_view>) {
      if (has_plain_keys(value)) {
        w.map(value.size());
        for (const auto& [k, v] : value) {
          w.key(k);
          encode(w, v);
        }
        return;
      }
    }
    w.list(value.size());
    for (const auto& [k, v] : value) {
      w.list(2);
      encode(w, k);
      encode(w, v);
    }
  } else if constexpr (Range<T>) {
    w.list(value.size());
    for (const auto& v : value) encode<typename T::value_type>(w, v);  // also of std::vector<bool>
  } else {
    static_assert(kNever<T>, "the type cannot cross processes: CALLER_TASK_FIELDS, or task_encode and task_decode");
  }
}

/// Reads one value. Errors: SerializationError; what decoders of one's own throw. Source: pynenc
/// BaseSerializer.deserialize.
template <class T>
T decode(const Reader& r) {
  using namespace detail;
  if constexpr (HasOwnCodec<T>) {
    T value{};
    task_decode(r, value);
    return value;
  } else if constexpr (HasFields<T>) {
    T value{};
    std::apply([&](auto... f) { ((f.second = decode<std::remove_cvref_t<decltype(f.second)>>(r.at(f.first))), ...); },
               caller_task_fields(value));
    return value;
  } else if constexpr (std::is_same_v<T, bool>) {
    return r.boolean();
  } else if constexpr (std::is_enum_v<T>) {
    return static_cast<T>(decode<std::underlying_type_t<T>>(r));
  } else if constexpr (std::unsigned_integral<T>) {
    return static_cast<T>(r.natural(std::numeric_limits<T>::max()));
  } else if constexpr (std::integral<T>) {
    return static_cast<T>(r.integer(std::numeric_limits<T>::min(), std::numeric_limits<T>::max()));
  } else if constexpr (std::floating_point<T>) {
    return static_cast<T>(r.number());
  } else if constexpr (std::is_same_v<T, std::string>) {
    return r.text();
  } else if constexpr (std::is_same_v<T, std::monostate>) {
    if (!r.is_null()) r.fail("null");
    return {};
  } else if constexpr (IsByteVector<T>::value) {
    return r.bytes();
  } else if constexpr (IsOptional<T>::value) {
    if (r.is_null()) return std::nullopt;
    using E = typename T::value_type;
    if constexpr (IsOptional<E>::value || std::is_same_v<E, std::monostate>) {
      if (r.size() != 1) r.fail("a list of one value");
      return T(decode<E>(r.item(0)));
    } else {
      return T(decode<E>(r));
    }
  } else if constexpr (IsVariant<T>::value) {
    if (r.size() != 2) r.fail("a list of index and value");
    return decode_alternative<T>(r.item(1), decode<std::size_t>(r.item(0)));
  } else if constexpr (IsDuration<T>::value) {
    return T(decode<typename T::rep>(r));
  } else if constexpr (IsTimePoint<T>::value) {
    return decode_time<T>(r);
  } else if constexpr (IsTuple<T>::value) {
    if (r.size() != std::tuple_size_v<T>) r.fail("a list of " + std::to_string(std::tuple_size_v<T>) + " values");
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return T{decode<std::tuple_element_t<I, T>>(r.item(I))...};
    }(std::make_index_sequence<std::tuple_size_v<T>>());
  } else if constexpr (MapLike<T>) {
    T out;
    const std::size_t n = r.size();
    if constexpr (std::is_same_v<typename T::key_type, std::string>) {
      if (r.kind() == Reader::Kind::map) {
        for (std::size_t i = 0; i < n; ++i)
          out.emplace(std::string(r.key(i)), decode<typename T::mapped_type>(r.item(i)));
        return out;
      }
    }
    for (std::size_t i = 0; i < n; ++i) {
      const Reader pair = r.item(i);
      if (pair.size() != 2) pair.fail("a list of key and value");
      out.emplace(decode<typename T::key_type>(pair.item(0)), decode<typename T::mapped_type>(pair.item(1)));
    }
    return out;
  } else if constexpr (Range<T>) {
    T out;
    const std::size_t n = r.size();
    if constexpr (requires { out.reserve(n); }) out.reserve(n);
    for (std::size_t i = 0; i < n; ++i) out.insert(out.end(), decode<typename T::value_type>(r.item(i)));
    return out;
  } else {
    static_assert(kNever<T>, "the type cannot cross processes: CALLER_TASK_FIELDS, or task_encode and task_decode");
  }
}

/// One value as bytes, and back. Thread-safety: any thread. Errors: as encode() and decode(). Source: –
template <class T>
std::string to_bytes(Format format, const T& value) {
  std::string out;
  Writer w(format, &out);
  encode(w, value);
  return out;
}
/// What to_bytes has written. Thread-safety: any thread. Errors: SerializationError. Source: –
template <class T>
T from_bytes(Format format, std::string_view bytes) {
  if constexpr (detail::kPlain<T>) {
    T value{};
    detail::PlainReader plain(bytes);
    if (format == Format::json && detail::take_plain(plain, value) && plain.at_end()) return value;
  }
  const Document document(format, bytes);
  return decode<T>(document.root());
}

}  // namespace caller::task

#define CALLER_TASK_PARENS ()
#define CALLER_TASK_EXPAND(...) \
  CALLER_TASK_EXPAND3(CALLER_TASK_EXPAND3(CALLER_TASK_EXPAND3(CALLER_TASK_EXPAND3(__VA_ARGS__))))
#define CALLER_TASK_EXPAND3(...) \
  CALLER_TASK_EXPAND2(CALLER_TASK_EXPAND2(CALLER_TASK_EXPAND2(CALLER_TASK_EXPAND2(__VA_ARGS__))))
#define CALLER_TASK_EXPAND2(...) \
  CALLER_TASK_EXPAND1(CALLER_TASK_EXPAND1(CALLER_TASK_EXPAND1(CALLER_TASK_EXPAND1(__VA_ARGS__))))
#define CALLER_TASK_EXPAND1(...) __VA_ARGS__
#define CALLER_TASK_FIELD(field) std::pair<const char*, decltype((value.field))>(#field, value.field)
#define CALLER_TASK_EACH(first, ...) \
  CALLER_TASK_FIELD(first) __VA_OPT__(, CALLER_TASK_EACH_AGAIN CALLER_TASK_PARENS(__VA_ARGS__))
#define CALLER_TASK_EACH_AGAIN() CALLER_TASK_EACH

/// Lets values of a class cross processes, member by member, under the members' names. At the class's namespace; up to
/// 64 members. Thread-safety: –. Errors: –. Source: –
#define CALLER_TASK_FIELDS(Type, ...)                                          \
  [[maybe_unused]] inline auto caller_task_fields(Type& value) {               \
    return std::make_tuple(CALLER_TASK_EXPAND(CALLER_TASK_EACH(__VA_ARGS__))); \
  }                                                                            \
  [[maybe_unused]] inline auto caller_task_fields(const Type& value) {         \
    return std::make_tuple(CALLER_TASK_EXPAND(CALLER_TASK_EACH(__VA_ARGS__))); \
  }
