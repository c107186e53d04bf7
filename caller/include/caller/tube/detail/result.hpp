// How what a function returns becomes values of signals.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include <caller/coro.hpp>
#include <caller/generator.hpp>
#include <caller/tube/node.hpp>

namespace caller::tube::detail {

template <class T>
inline constexpr bool is_maybe = false;
template <class T>
inline constexpr bool is_maybe<MaybeEvent<T>> = true;
template <class T>
inline constexpr bool is_coro = false;
template <class T>
inline constexpr bool is_coro<Coro<T>> = true;
template <class T>
inline constexpr bool is_generator = false;
template <class T>
inline constexpr bool is_generator<Generator<T>> = true;
template <class T>
struct Inner {
  using type = T;
};
template <class T>
struct Inner<Coro<T>> {
  using type = T;
};
template <class T>
struct Inner<Generator<T>> {
  using type = T;
};

template <class R>
Value to_value(R&& result) {
  using T = std::remove_cvref_t<R>;
  if constexpr (is_optional<T> || is_maybe<T>) {
    if (!result.has_value()) return Value(no_event);
    return Value(*std::forward<R>(result));
  } else {
    return Value(std::forward<R>(result));
  }
}

template <class R>
void emit_result(Call& call, R&& result) {
  using T = std::remove_cvref_t<R>;
  if constexpr (is_tuple<T>) {
    if (call.signals() > 1) {
      std::apply(
          [&]<class... I>(I&&... item) {
            std::size_t i = 0;
            (call.emit(i++, to_value(std::forward<I>(item))), ...);
          },
          std::forward<R>(result));
      return;
    }
  } else if constexpr (is_optional<T>) {
    if (!result.has_value()) return;
    emit_result(call, *std::forward<R>(result));
    return;
  } else if constexpr (std::is_same_v<T, List> || std::is_same_v<T, Value>) {
    // Types whose signals depend on the specification return a list of as many values as they have signals.
    if (call.signals() > 1) {
      const Value whole(std::forward<R>(result));
      if (whole.is_no_event() || whole.is_none()) return;
      const List values = whole.items();
      if (values.size() != call.signals())
        throw std::length_error("returned " + std::to_string(values.size()) + " values for " +
                                std::to_string(call.signals()) + " signals");
      for (std::size_t i = 0; i < values.size(); ++i) call.emit(i, values[i]);
      return;
    }
  }
  if (call.signals() > 0) call.emit(0, to_value(std::forward<R>(result)));
}

template <class R>
constexpr std::size_t result_signals() {
  if constexpr (std::is_void_v<R>)
    return 0;
  else if constexpr (is_optional<R>)
    return result_signals<typename R::value_type>();
  else if constexpr (is_tuple<R>)
    return std::tuple_size_v<R>;
  else
    return 1;
}
/// The objects in what is returned: of types that are no numbers, texts, lists or maps of such.
template <class R>
const std::type_info* object_in() {
  if constexpr (std::is_void_v<R> || std::is_same_v<R, Value> || std::is_same_v<R, NoEvent> || std::is_same_v<R, Map> ||
                std::is_arithmetic_v<R>) {
    return nullptr;
  } else if constexpr (is_optional<R>) {
    return object_in<typename R::value_type>();
  } else if constexpr (is_maybe<R>) {
    return object_in<std::remove_cvref_t<decltype(*std::declval<R&>())>>();
  } else if constexpr (is_shared_ptr<R>) {
    return &typeid(R);
  } else if constexpr (StringLike<R>) {
    return nullptr;
  } else if constexpr (is_tuple<R>) {
    return []<std::size_t... I>(std::index_sequence<I...>) {
      const std::type_info* found = nullptr;
      (void)(... || (found = object_in<std::remove_cvref_t<std::tuple_element_t<I, R>>>()));
      return found;
    }(std::make_index_sequence<std::tuple_size_v<R>>());
  } else if constexpr (MapLike<R>) {
    return object_in<typename R::mapped_type>();
  } else if constexpr (SequenceLike<R>) {
    return object_in<typename R::value_type>();
  } else {
    return &typeid(R);
  }
}
/// The same for each of several signals.
template <class R>
std::vector<const std::type_info*> objects_in() {
  if constexpr (is_optional<R>) {
    return objects_in<typename R::value_type>();
  } else if constexpr (is_tuple<R>) {
    return []<std::size_t... I>(std::index_sequence<I...>) {
      return std::vector<const std::type_info*>{object_in<std::remove_cvref_t<std::tuple_element_t<I, R>>>()...};
    }(std::make_index_sequence<std::tuple_size_v<R>>());
  } else {
    return {object_in<R>()};
  }
}

/// Whether the number of signals is known only at run time.
template <class R>
inline constexpr bool open_signals = std::is_same_v<R, List> || std::is_same_v<R, Value>;

}  // namespace caller::tube::detail
