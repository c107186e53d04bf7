// What travels between nodes: a value of any type, shared and immutable.
#pragma once

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include <caller/detail/memory.hpp>
#include <caller/export.hpp>
#include <caller/tube/error.hpp>

namespace caller::tube {

class Value;

/// What a node returns instead of a value when a signal has none this time: consumers that require it do not run,
/// optional ones see that it is absent. A type of its own: no value can be mistaken for it, and it is never delivered
/// to a slot. Source: noob MetaSignal.NoEvent; differs: noob delivers its sentinel as a value.
struct NoEvent {
  friend constexpr bool operator==(NoEvent, NoEvent) noexcept { return true; }
};
/// What a node returns or emits to say that a signal is silent.
inline constexpr NoEvent no_event{};

/// A list of values of any types. Source: a Python list in noob.
using List = std::vector<Value>;

/// What a value is, as far as YAML, JSON and conversions know it. `list` is any sequence, `map` any map with strings as
/// keys.
enum class Kind : std::uint8_t { none, absent, boolean, integer, unsigned_integer, real, string, list, map, object };
/// The kind in words, for messages. Thread-safety: any thread. Errors: none.
CALLER_API std::string_view kind_name(Kind kind) noexcept;

/// Keys and values in the order they were written; look-up is linear, for the short maps of specifications and results.
///
/// Thread-safety: distinct objects: safe; shared objects: unsafe while one changes.
/// Errors: at() throws Error(no_such_key).
/// Source: a Python dict in noob.
class CALLER_API Map {
public:
  using Entry = std::pair<std::string, Value>;  ///< a key and its value
  Map() noexcept;
  /// In this order; of equal keys the last value counts.
  Map(std::initializer_list<Entry> entries);
  Map(const Map&);
  Map(Map&&) noexcept;
  Map& operator=(const Map&);
  Map& operator=(Map&&) noexcept;
  ~Map();

  const Value* find(std::string_view key) const noexcept;  ///< null: there is none
  /// Errors: Error(no_such_key).
  const Value& at(std::string_view key) const;
  /// there is a value of that key
  bool contains(std::string_view key) const noexcept { return find(key) != nullptr; }
  /// Sets the value of `key`, at its old place if there is one.
  void set(std::string key, Value value);
  /// The same for a key that is known to be new: without looking for it.
  void append(std::string key, Value value);
  /// Whether there was one.
  bool erase(std::string_view key);
  std::size_t size() const noexcept;  ///< how many
  /// there is none
  bool empty() const noexcept { return size() == 0; }
  const Entry* begin() const noexcept;  ///< in their order
  const Entry* end() const noexcept;    ///< behind the last one

private:
  std::vector<Entry> entries_;
};

namespace detail {

using caller::detail::allocate;
using caller::detail::deallocate;

struct Block {
  std::atomic<std::uint32_t> refs{1};
};
template <class T>
struct Box : Block {
  template <class U>
  explicit Box(U&& v) : value(std::forward<U>(v)) {}
  T value;
};

using Visit = void (*)(void* context, Value item);
using VisitEntry = void (*)(void* context, std::string_view key, Value item);

/// What is known of the type inside of a Value. One object per type and module: types are compared by `type`, not by
/// address.
struct Ops {
  const std::type_info* type = nullptr;
  Kind kind = Kind::none;
  bool boxed = false;      ///< in a block of its own, else in the Value itself
  bool reference = false;  ///< a shared object that nodes may change: an asset
  void (*destroy)(Block*) noexcept = nullptr;
  const void* (*object)(const Block*) noexcept = nullptr;
  Value (*copy)(const void*) = nullptr;                                  ///< null: cannot be copied
  bool (*equal)(const void*, const void*) = nullptr;                     ///< null: cannot be compared
  void (*each)(const void*, void* context, Visit) = nullptr;             ///< null: no sequence
  void (*each_entry)(const void*, void* context, VisitEntry) = nullptr;  ///< null: no map
  std::size_t (*size)(const void*) = nullptr;                            ///< of a sequence or map
};

template <class T>
const Ops& ops_of() noexcept;

template <class T>
inline constexpr bool is_tuple = false;
template <class... T>
inline constexpr bool is_tuple<std::tuple<T...>> = true;
template <class A, class B>
inline constexpr bool is_tuple<std::pair<A, B>> = true;
template <class T>
inline constexpr bool is_optional = false;
template <class T>
inline constexpr bool is_optional<std::optional<T>> = true;
template <class T>
inline constexpr bool is_shared_ptr = false;
template <class T>
inline constexpr bool is_shared_ptr<std::shared_ptr<T>> = true;

template <class T>
concept StringLike = std::is_convertible_v<const T&, std::string_view> && !std::is_same_v<T, std::nullptr_t>;
template <class T>
concept MapLike = requires(const T& t) {
  typename T::mapped_type;
  requires std::is_same_v<typename T::key_type, std::string>;
  { t.size() } -> std::convertible_to<std::size_t>;
};
template <class T>
concept SequenceLike = !StringLike<T> && !MapLike<T> && requires(const T& t) {
  typename T::value_type;
  t.begin();
  t.end();
  { t.size() } -> std::convertible_to<std::size_t>;
};
template <class T>
concept Comparable = requires(const T& a, const T& b) {
  { a == b } -> std::convertible_to<bool>;
};

[[noreturn]] CALLER_API void wrong_type(const Value& found, std::string_view expected);
[[noreturn]] CALLER_API void wrong_type(const Value& found, const std::type_info& expected);
[[noreturn]] CALLER_API void out_of_range(const Value& found, std::string_view expected);
CALLER_API bool same_type(const std::type_info& a, const std::type_info& b) noexcept;

}  // namespace detail

/// A value of any type, shared by reference count and never changed once made. Sixteen bytes; numbers and truth values
/// lie inside.
///
/// Integers become 64 bits wide, text becomes std::string, a tuple becomes a List; every other type is kept as it is
/// and found again by its type. `Value(std::shared_ptr<T>)` is the exception to "never changed": the object stays
/// shared between nodes.
///
/// Thread-safety: distinct objects: safe, also when they share their content; one object: unsafe while one changes it.
/// Errors: what copying or moving a T in throws; to() and as() throw Error(wrong_type) or Error(out_of_range).
/// Source: any Python object in noob; differs: immutable between nodes.
class CALLER_API Value {
public:
  /// None.
  Value() noexcept : Value(nullptr) {}
  /// None.
  Value(std::nullptr_t) noexcept;
  /// No event: the signal was silent.
  Value(NoEvent) noexcept;
  /// Holds a copy of `v`, or `v` itself if it is moved; small values without a block of memory.
  template <class T>
    requires(!std::is_same_v<std::remove_cvref_t<T>, Value> && !std::is_same_v<std::remove_cvref_t<T>, NoEvent> &&
             !std::is_same_v<std::remove_cvref_t<T>, std::nullptr_t>)
  Value(T&& v);
  Value(const Value& other) noexcept : ops_(other.ops_), data_(other.data_) {
    if (ops_->boxed) data_.block->refs.fetch_add(1, std::memory_order_relaxed);
  }
  Value(Value&& other) noexcept : ops_(other.ops_), data_(other.data_) { other.ops_ = none_ops(); }
  Value& operator=(const Value& other) noexcept {
    Value copy(other);
    swap(copy);
    return *this;
  }
  Value& operator=(Value&& other) noexcept {
    Value taken(std::move(other));
    swap(taken);
    return *this;
  }
  ~Value() {
    if (ops_->boxed) release();
  }
  /// exchanges the contents
  void swap(Value& other) noexcept {
    std::swap(ops_, other.ops_);
    std::swap(data_, other.data_);
  }

  /// what it is
  Kind kind() const noexcept { return ops_->kind; }
  /// nothing, as YAML's null
  bool is_none() const noexcept { return ops_->kind == Kind::none; }
  /// the signal was silent
  bool is_no_event() const noexcept { return ops_->kind == Kind::absent; }
  /// An integer or a real number.
  bool is_number() const noexcept {
    return ops_->kind == Kind::integer || ops_->kind == Kind::unsigned_integer || ops_->kind == Kind::real;
  }
  /// Whether nodes share one object that they may change: an asset.
  bool is_reference() const noexcept { return ops_->reference; }
  /// of the content as it is held
  const std::type_info& type() const noexcept { return *ops_->type; }

  /// The content if it is exactly a T (integers: std::int64_t, reals: double, text: std::string), else null.
  template <class T>
  const T* find() const noexcept;
  /// Whether find<T>() finds it.
  template <class T>
  bool is() const noexcept {
    return find<T>() != nullptr;
  }
  /// The content as a T: numbers are converted when nothing is lost, sequences item by item. Errors: wrong_type,
  /// out_of_range.
  template <class T>
  T to() const;
  /// The content, which must be exactly a T. Errors: wrong_type.
  template <class T>
  const T& as() const {
    if (const T* found = find<T>()) return *found;
    detail::wrong_type(*this, typeid(T));
  }
  /// The shared object of a reference. Errors: wrong_type if this is no reference to a T.
  template <class T>
  std::shared_ptr<T> shared() const;

  /// How many items a sequence, map or text (in code points) has; nothing for other kinds.
  std::optional<std::size_t> size() const;
  /// The items of a sequence, the code points of a text. Errors: wrong_type for other kinds.
  List items() const;
  /// The entries of a map. Errors: wrong_type for other kinds.
  Map entries() const;
  /// The item at `index`, the entry of `key`. Errors: wrong_type, no_such_key.
  Value operator[](std::size_t index) const;
  /// The entry of `key`. Errors: wrong_type, no_such_key.
  Value operator[](std::string_view key) const;
  /// The entry of `key`. Errors: wrong_type, no_such_key.
  Value operator[](const char* key) const { return (*this)[std::string_view(key)]; }
  /// The item at `index`. Errors: wrong_type, no_such_key.
  Value operator[](int index) const { return (*this)[static_cast<std::size_t>(index)]; }
  /// A copy that shares nothing. Errors: wrong_type if the type cannot be copied.
  Value deep_copy() const;

  /// A short text for messages: JSON-like, cut off after `limit` bytes.
  std::string repr(std::size_t limit = 80) const;

  /// By content: numbers by value whatever their kind, sequences item by item, maps regardless of order, objects by
  /// their own ==.
  friend CALLER_API bool operator==(const Value& a, const Value& b);

private:
  union Data {
    bool boolean;
    std::int64_t integer;
    std::uint64_t natural;
    double real;
    detail::Block* block;
  };
  static const detail::Ops* none_ops() noexcept;
  void release() noexcept {
    if (data_.block->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) ops_->destroy(data_.block);
  }
  const void* object() const noexcept {
    return ops_->boxed ? ops_->object(data_.block) : static_cast<const void*>(&data_);
  }
  template <class T, class U>
  void box(U&& v) {
    using B = detail::Box<T>;
    void* place = detail::allocate(sizeof(B));
    try {
      data_.block = ::new (place) B(std::forward<U>(v));
    } catch (...) {
      detail::deallocate(place, sizeof(B));
      throw;
    }
    ops_ = &detail::ops_of<T>();
  }
  template <class T>
  T number() const;
  double as_real() const;  // of any number, else throws

  const detail::Ops* ops_;
  Data data_{};
};

/// A value or no event: what a node returns for a signal that is silent at times. Source: noob NoEventable.
template <class T>
class MaybeEvent {
public:
  /// The signal is silent.
  MaybeEvent(NoEvent) noexcept {}
  /// The signal has this value.
  template <class U>
    requires std::is_constructible_v<T, U&&>
  MaybeEvent(U&& v) : value_(std::forward<U>(v)) {}
  /// it is a value
  bool has_value() const noexcept { return value_.has_value(); }
  /// only if there is one
  T& operator*() & noexcept { return *value_; }
  /// only if there is one
  const T& operator*() const& noexcept { return *value_; }

private:
  std::optional<T> value_;
};

/// The name of a type, as it is written in C++. Thread-safety: any thread. Errors: std::bad_alloc.
CALLER_API std::string type_name(const std::type_info& type);

}  // namespace caller::tube

// What the templates above are made of.
#include <caller/tube/detail/value_templates.hpp>
