// How a Value is made of any type and converted to one: the templates that value.hpp declares.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include <caller/tube/value.hpp>

namespace caller::tube {
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
