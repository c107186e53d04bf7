// What the kernel writes into a cell of its own so that objects of the cells' types can cross to other processes, where
// the same text is compiled. Not for direct use.
#pragma once

#include <chrono>
#include <complex>
#include <concepts>
#include <cstddef>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <variant>
#include <vector>

#include <caller/kernel/reflect.hpp>
#include <caller/kernel/values.hpp>
#include <caller/tube/codec.hpp>
#include <caller/tube/registry.hpp>

namespace caller::kernel::detail {

/// Types that say themselves how they cross, by functions found by their arguments:
///
///     caller::tube::Value tube_encode(const Money& m) { return m.cents(); }
///     void tube_decode(const caller::tube::Value& v, Money& m) { m = Money(v.to<long>()); }
template <class T>
concept HasTubeCodec = std::default_initializable<T> && requires(const T& from, T& to, const tube::Value& value) {
  { tube_encode(from) } -> std::convertible_to<tube::Value>;
  tube_decode(value, to);
};

template <class T>
inline constexpr bool is_variant = false;
template <class... T>
inline constexpr bool is_variant<std::variant<T...>> = true;
template <class T>
inline constexpr bool is_duration = false;
template <class R, class P>
inline constexpr bool is_duration<std::chrono::duration<R, P>> = true;
template <class T>
inline constexpr bool is_time_point = false;
template <class C, class D>
inline constexpr bool is_time_point<std::chrono::time_point<C, D>> = true;
template <class T>
inline constexpr bool is_complex = false;
template <class T>
inline constexpr bool is_complex<std::complex<T>> = true;

// A member of an aggregate; arrays are no values.
template <class M>
tube::Value member_value(const M& member) {
  if constexpr (std::is_array_v<M>) {
    tube::List items;
    for (const auto& item : member) items.push_back(member_value(item));
    return items;
  } else {
    return tube::Value(member);
  }
}
template <class M>
void take_member(M& member, const tube::Value& value) {
  if constexpr (std::is_array_v<M>) {
    std::size_t i = 0;
    for (auto& item : member) take_member(item, value[i++]);
  } else {
    member = value.to<M>();
  }
}

/// Makes codecs for types and all they consist of: aggregates, enumerations, what says itself how it crosses, and the
/// types of the standard library that are no numbers, texts or containers. Others have none, and a tube whose signals
/// need one is refused.
class CodecMaker {
public:
  template <class T>
  void add() {
    using namespace tube::detail;
    if constexpr (std::is_void_v<T> || std::is_arithmetic_v<T> || std::is_same_v<T, tube::Value> ||
                  std::is_same_v<T, tube::NoEvent> || std::is_same_v<T, tube::Map> || std::is_pointer_v<T> ||
                  injected<T> || is_shared_ptr<T>) {
      // nothing to do: it crosses as it is, or never
    } else if constexpr (std::is_array_v<T>) {
      add<std::remove_cv_t<std::remove_extent_t<T>>>();
    } else if constexpr (is_coro<T> || is_generator<T>) {
      add<typename Inner<T>::type>();
    } else if constexpr (is_optional<T>) {
      add<typename T::value_type>();
    } else if constexpr (is_maybe<T>) {
      add<std::remove_cvref_t<decltype(*std::declval<T&>())>>();
    } else if constexpr (is_tuple<T>) {
      add_parts<T>(std::make_index_sequence<std::tuple_size_v<T>>());
    } else if constexpr (HasTubeCodec<T>) {
      if (!is_new<T>()) return;
      make<T>([](const T& v) { return tube::Value(tube_encode(v)); },
              [](const tube::Value& v) {
                T made{};
                tube_decode(v, made);
                return made;
              });
    } else if constexpr (StringLike<T>) {
      // a text
    } else if constexpr (MapLike<T>) {
      add<std::remove_cv_t<typename T::mapped_type>>();
    } else if constexpr (SequenceLike<T>) {
      add<std::remove_cv_t<typename T::value_type>>();
    } else {
      add_object<T>();
    }
  }

private:
  template <class T>
  bool is_new() {
    for (const std::type_info* known : seen_)
      if (*known == typeid(T)) return false;
    seen_.push_back(&typeid(T));
    return true;
  }
  template <class T, class Encode, class Decode>
  void make(Encode encode, Decode decode) {
    tube::add_codec<T>("cell " + demangle_clean(typeid(T).name()), encode, decode);
  }
  template <class T, std::size_t... I>
  void add_parts(std::index_sequence<I...>) {
    (add<std::remove_cvref_t<std::tuple_element_t<I, T>>>(), ...);
  }

  template <class T>
  void add_object() {
    if constexpr (std::is_enum_v<T>) {
      using U = std::underlying_type_t<T>;
      make<T>([](const T& v) { return tube::Value(static_cast<U>(v)); },
              [](const tube::Value& v) { return static_cast<T>(v.to<U>()); });
    } else if constexpr (std::is_same_v<T, std::monostate>) {
      make<T>([](const T&) { return tube::Value(); }, [](const tube::Value&) { return T(); });
    } else if constexpr (is_duration<T>) {
      make<T>([](const T& v) { return tube::Value(v.count()); },
              [](const tube::Value& v) { return T(v.to<typename T::rep>()); });
    } else if constexpr (is_time_point<T>) {
      make<T>([](const T& v) { return tube::Value(v.time_since_epoch().count()); },
              [](const tube::Value& v) { return T(typename T::duration(v.to<typename T::rep>())); });
    } else if constexpr (is_complex<T>) {
      make<T>(
          [](const T& v) { return tube::List{v.real(), v.imag()}; },
          [](const tube::Value& v) { return T(v[0].to<typename T::value_type>(), v[1].to<typename T::value_type>()); });
    } else if constexpr (is_variant<T>) {
      if (!is_new<T>()) return;
      add_alternatives<T>(std::make_index_sequence<std::variant_size_v<T>>());
    } else if constexpr (member_count<T>() > 0 && member_count<T>() <= kMaxMembers && std::default_initializable<T>) {
      if (!is_new<T>()) return;
      add_members<T>();
      make<T>(
          [](const T& v) {
            return with_members(v, [](const auto&... member) { return tube::List{member_value(member)...}; });
          },
          [](const tube::Value& v) {
            T made{};
            std::size_t i = 0;
            with_members(made, [&](auto&... member) { (take_member(member, v[i++]), ...); });
            return made;
          });
    } else if constexpr (std::is_empty_v<T> && std::is_aggregate_v<T> && std::default_initializable<T>) {
      make<T>([](const T&) { return tube::Value(); }, [](const tube::Value&) { return T{}; });
    }
  }
  template <class T>
  void add_members() {
    using Members = decltype(with_members(std::declval<T&>(), [](auto&... member) {
      return std::type_identity<std::tuple<std::type_identity<std::remove_reference_t<decltype(member)>>...>>();
    }));
    [this]<class... M>(std::type_identity<std::tuple<std::type_identity<M>...>>) {
      (add<std::remove_cv_t<M>>(), ...);
    }(Members());
  }
  template <class T, std::size_t... I>
  void add_alternatives(std::index_sequence<I...>) {
    (add<std::variant_alternative_t<I, T>>(), ...);
    make<T>(
        [](const T& v) {
          return tube::List{v.index(), std::visit([](const auto& held) { return member_value(held); }, v)};
        },
        [](const tube::Value& v) {
          const auto index = v[0].to<std::size_t>();
          std::optional<T> made;
          const tube::Value held = v[1];
          (void)((index == I &&
                  (made.emplace(std::in_place_index<I>, held.to<std::variant_alternative_t<I, T>>()), true)) ||
                 ...);
          if (!made) tube::detail::wrong_type(v, typeid(T));
          return *std::move(made);
        });
  }
  std::vector<const std::type_info*> seen_;
};

template <class R>
void add_codecs() {
  CodecMaker().add<std::remove_cvref_t<R>>();
}
/// For what a function, lambda or member function takes and gives.
template <class F>
void add_function_codecs() {
  using S = tube::detail::Signature<F>;
  CodecMaker maker;
  maker.add<std::remove_cvref_t<typename S::Result>>();
  [&]<class... P>(std::type_identity<std::tuple<P...>>) {
    (maker.template add<std::remove_cvref_t<P>>(), ...);
  }(std::type_identity<typename S::Arguments>());
}

}  // namespace caller::kernel::detail
