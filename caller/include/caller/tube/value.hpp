// What travels between nodes: a value of any type, shared and immutable.
#pragma once

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
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

// ------------------------------------------------------------------------------------------------ implementation
namespace detail {

struct NumberOps {
  Ops none, absent, boolean, integer, natural, real;
};
extern CALLER_API const NumberOps number_table;
inline const NumberOps& number_ops() noexcept { return number_table; }

template <class T>
constexpr Kind kind_of() {
  if constexpr (std::is_same_v<T, std::string>)
    return Kind::string;
  else if constexpr (std::is_same_v<T, Map> || MapLike<T>)
    return Kind::map;
  else if constexpr (SequenceLike<T>)
    return Kind::list;
  else
    return Kind::object;
}

template <class T>
inline constexpr bool is_shared_object = false;
/// A shared object in a box: the Value refers to the T, not to the pointer.
template <class T>
struct Shared {
  std::shared_ptr<T> pointer;
};
template <class T>
inline constexpr bool is_shared_object<Shared<T>> = true;
template <class T>
struct Referred {
  using type = T;
};
template <class T>
struct Referred<Shared<T>> {
  using type = T;
};

template <class T>
void each_item(const void* p, void* context, Visit visit) {
  for (const auto& item : *static_cast<const T*>(p)) visit(context, Value(static_cast<typename T::value_type>(item)));
}
template <class T>
void each_map_entry(const void* p, void* context, VisitEntry visit) {
  for (const auto& [key, item] : *static_cast<const T*>(p)) visit(context, key, Value(item));
}

template <class Stored>
const Ops& ops_of() noexcept {
  using T = typename Referred<Stored>::type;
  using B = Box<Stored>;
  static constexpr Kind kind = is_shared_object<Stored> ? Kind::object : kind_of<T>();
  static const Ops ops = [] {
    Ops o{};
    o.type = &typeid(T);
    o.kind = kind;
    o.boxed = true;
    o.reference = is_shared_object<Stored>;
    o.destroy = [](Block* block) noexcept {
      auto* b = static_cast<B*>(block);
      b->~B();
      deallocate(b, sizeof(B));
    };
    o.object = [](const Block* block) noexcept -> const void* {
      if constexpr (is_shared_object<Stored>)
        return static_cast<const B*>(block)->value.pointer.get();
      else
        return &static_cast<const B*>(block)->value;
    };
    if constexpr (std::is_copy_constructible_v<T>) {
      if constexpr (is_shared_object<Stored>)
        o.copy = [](const void* p) { return Value(std::make_shared<T>(*static_cast<const T*>(p))); };
      else
        o.copy = [](const void* p) { return Value(T(*static_cast<const T*>(p))); };
    }
    if constexpr (Comparable<T> && kind == Kind::object)
      o.equal = [](const void* a, const void* b) -> bool {
        return *static_cast<const T*>(a) == *static_cast<const T*>(b);
      };
    if constexpr (kind == Kind::list) {
      o.each = &each_item<T>;
      o.size = [](const void* p) -> std::size_t { return static_cast<const T*>(p)->size(); };
    } else if constexpr (kind == Kind::map) {
      o.each_entry = &each_map_entry<T>;
      o.size = [](const void* p) -> std::size_t { return static_cast<const T*>(p)->size(); };
    }
    return o;
  }();
  return ops;
}

template <class Tuple>
List tuple_items(Tuple&& t) {
  return std::apply([]<class... I>(I&&... item) { return List{Value(std::forward<I>(item))...}; },
                    std::forward<Tuple>(t));
}

}  // namespace detail

inline const detail::Ops* Value::none_ops() noexcept { return &detail::number_ops().none; }
inline Value::Value(std::nullptr_t) noexcept : ops_(&detail::number_ops().none) {}
inline Value::Value(NoEvent) noexcept : ops_(&detail::number_ops().absent) {}

template <class T>
  requires(!std::is_same_v<std::remove_cvref_t<T>, Value> && !std::is_same_v<std::remove_cvref_t<T>, NoEvent> &&
           !std::is_same_v<std::remove_cvref_t<T>, std::nullptr_t>)
Value::Value(T&& v) : ops_(nullptr) {
  using D = std::decay_t<T>;
  const detail::NumberOps& numbers = detail::number_ops();
  if constexpr (std::is_same_v<D, bool>) {
    ops_ = &numbers.boolean;
    data_.boolean = v;
  } else if constexpr (std::is_same_v<D, char>) {
    box<std::string>(std::string(1, v));
  } else if constexpr (std::is_enum_v<D>) {
    box<D>(std::forward<T>(v));
  } else if constexpr (std::is_integral_v<D>) {
    if constexpr (std::is_unsigned_v<D> && sizeof(D) >= sizeof(std::int64_t)) {
      if (v > static_cast<D>(std::numeric_limits<std::int64_t>::max())) {
        ops_ = &numbers.natural;
        data_.natural = v;
        return;
      }
    }
    ops_ = &numbers.integer;
    data_.integer = static_cast<std::int64_t>(v);
  } else if constexpr (std::is_floating_point_v<D>) {
    ops_ = &numbers.real;
    data_.real = static_cast<double>(v);
  } else if constexpr (std::is_same_v<D, std::string>) {
    box<std::string>(std::forward<T>(v));
  } else if constexpr (detail::StringLike<D>) {
    box<std::string>(std::string(std::string_view(v)));
  } else if constexpr (detail::is_optional<D>) {
    ops_ = &numbers.none;
    if (v) *this = Value(*std::forward<T>(v));
  } else if constexpr (detail::is_shared_ptr<D>) {
    if (v)
      box<detail::Shared<typename D::element_type>>(detail::Shared<typename D::element_type>{std::forward<T>(v)});
    else
      ops_ = &numbers.none;
  } else if constexpr (detail::is_tuple<D>) {
    box<List>(detail::tuple_items(std::forward<T>(v)));
  } else {
    static_assert(std::is_move_constructible_v<D>, "a value that travels between nodes must be movable");
    box<D>(std::forward<T>(v));
  }
}

template <class T>
const T* Value::find() const noexcept {
  static_assert(std::is_same_v<T, std::remove_cvref_t<T>>);
  const detail::NumberOps& numbers = detail::number_ops();
  if constexpr (std::is_same_v<T, bool>) {
    return ops_ == &numbers.boolean ? &data_.boolean : nullptr;
  } else if constexpr (std::is_same_v<T, std::int64_t>) {
    return ops_ == &numbers.integer ? &data_.integer : nullptr;
  } else if constexpr (std::is_same_v<T, double>) {
    return ops_ == &numbers.real ? &data_.real : nullptr;
  } else if constexpr (std::is_arithmetic_v<T>) {
    return nullptr;
  } else {
    if (ops_ == &detail::ops_of<T>() || (ops_->boxed && detail::same_type(*ops_->type, typeid(T))))
      return static_cast<const T*>(ops_->object(data_.block));
    return nullptr;
  }
}

template <class T>
std::shared_ptr<T> Value::shared() const {
  if (ops_->reference && detail::same_type(*ops_->type, typeid(T)))
    return static_cast<const detail::Box<detail::Shared<T>>*>(data_.block)->value.pointer;
  detail::wrong_type(*this, typeid(T));
}

template <class T>
T Value::number() const {
  if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(as_real());
  } else {
    switch (ops_->kind) {
      case Kind::boolean:
        return static_cast<T>(data_.boolean);
      case Kind::integer:
        if (!std::in_range<T>(data_.integer)) detail::out_of_range(*this, "an integer that fits");
        return static_cast<T>(data_.integer);
      case Kind::unsigned_integer:
        if (!std::in_range<T>(data_.natural)) detail::out_of_range(*this, "an integer that fits");
        return static_cast<T>(data_.natural);
      case Kind::real: {
        // Only a whole number that fits exactly; the bounds are powers of two, so they are exact as doubles.
        constexpr double low = static_cast<double>(std::numeric_limits<T>::min());
        constexpr double high = static_cast<double>(std::numeric_limits<T>::max() / 2 + 1) * 2.0;
        if (!(data_.real >= low && data_.real < high)) detail::out_of_range(*this, "an integer that fits");
        const T whole = static_cast<T>(data_.real);
        if (static_cast<double>(whole) != data_.real) detail::wrong_type(*this, "integer");
        return whole;
      }
      default:
        detail::wrong_type(*this, "integer");
    }
  }
}

template <class T>
T Value::to() const {
  if constexpr (std::is_same_v<T, Value>) {
    return *this;
  } else if constexpr (std::is_same_v<T, bool>) {
    if (ops_->kind != Kind::boolean) detail::wrong_type(*this, "boolean");
    return data_.boolean;
  } else if constexpr (std::is_same_v<T, char>) {
    const std::string* text = find<std::string>();
    if (!text || text->size() != 1) detail::wrong_type(*this, "a character");
    return text->front();
  } else if constexpr (std::is_arithmetic_v<T>) {
    return number<T>();
  } else if constexpr (std::is_same_v<T, std::string_view>) {
    return std::string_view(as<std::string>());
  } else if constexpr (detail::is_optional<T>) {
    if (is_none()) return std::nullopt;
    return to<typename T::value_type>();
  } else if constexpr (detail::is_shared_ptr<T>) {
    return shared<typename T::element_type>();
  } else if constexpr (detail::is_tuple<T>) {
    const List found = items();
    if (found.size() != std::tuple_size_v<T>) detail::wrong_type(*this, typeid(T));
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return T(found[I].template to<std::remove_cvref_t<std::tuple_element_t<I, T>>>()...);
    }(std::make_index_sequence<std::tuple_size_v<T>>());
  } else {
    if (const T* found = find<T>()) {
      if constexpr (std::is_copy_constructible_v<T>)
        return *found;
      else
        detail::wrong_type(*this, typeid(T));
    }
    if constexpr (std::is_same_v<T, List>) {
      return items();
    } else if constexpr (std::is_same_v<T, Map>) {
      return entries();
    } else if constexpr (detail::MapLike<T>) {
      T made;
      for (const auto& [key, item] : entries()) made.emplace(key, item.template to<typename T::mapped_type>());
      return made;
    } else if constexpr (detail::SequenceLike<T> && requires { std::tuple_size<T>::value; }) {  // std::array
      if (ops_->kind != Kind::list) detail::wrong_type(*this, "list");
      const List found = items();
      if (found.size() != std::tuple_size_v<T>)
        detail::wrong_type(*this, "a list of " + std::to_string(std::tuple_size_v<T>) + " items");
      T made{};
      for (std::size_t i = 0; i < found.size(); ++i) made[i] = found[i].template to<typename T::value_type>();
      return made;
    } else if constexpr (detail::SequenceLike<T> &&
                         requires(T t, typename T::value_type v) { t.insert(t.end(), std::move(v)); }) {
      if (ops_->kind != Kind::list) detail::wrong_type(*this, "list");
      T made;
      for (const Value& item : items()) made.insert(made.end(), item.template to<typename T::value_type>());
      return made;
    } else {
      detail::wrong_type(*this, typeid(T));
    }
  }
}

}  // namespace caller::tube
