// The members of an aggregate: how many, their names and values. As far as C++20 lets a program ask.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace caller::kernel::detail {

/// Stands for a value of any type where members are counted.
struct AnyValue {
  template <class T>
  operator T() const noexcept;
};

/// Stands for a value of any base class of T.
template <class T>
struct AnyBase {
  template <class B>
    requires(std::is_base_of_v<B, T> && !std::is_same_v<B, T>)
  operator B() const noexcept;
};

inline constexpr std::size_t kMaxMembers = 24;

template <class T, std::size_t... I>
constexpr bool takes(std::index_sequence<I...>) {
  return requires { T{((void)I, AnyValue{})...}; };
}

// Whether T can be made of `before` values, one list of `inner` values, and `after` values.
template <class T, std::size_t... B, std::size_t... I, std::size_t... A>
constexpr bool takes_list(std::index_sequence<B...>, std::index_sequence<I...>, std::index_sequence<A...>) {
  return requires { T{((void)B, AnyValue{})..., {((void)I, AnyValue{})...}, ((void)A, AnyValue{})...}; };
}

// How many values T takes when the elements of its member arrays count one by one. More are taken with every step up to
// the last, unless a member has no default: then the number is searched from above.
template <class T, std::size_t N = 0>
constexpr std::size_t count_values() {
  constexpr std::size_t kMost = sizeof(T) < 64 ? sizeof(T) : 64;
  if constexpr (takes<T>(std::make_index_sequence<N + 1>())) {
    return count_values<T, N + 1>();
  } else if constexpr (N > 0) {
    return N;
  } else {
    return []<std::size_t... I>(std::index_sequence<I...>) {
      std::size_t most = 0;
      ((takes<T>(std::make_index_sequence<I>()) ? (void)(most = I) : void()), ...);
      return most;
    }(std::make_index_sequence<kMost + 1>());
  }
}

// The elements of the array that begins at value `I` of `Total`; 1 where the member is no array.
template <class T, std::size_t I, std::size_t Total, std::size_t N>
constexpr std::size_t list_size() {
  if constexpr (N < 2)
    return 1;
  else if constexpr (takes_list<T>(std::make_index_sequence<I>(), std::make_index_sequence<N>(),
                                   std::make_index_sequence<Total - I - N>()) &&
                     !takes_list<T>(std::make_index_sequence<I>(), std::make_index_sequence<N>(),
                                    std::make_index_sequence<Total - I - N + 1>()))
    return N;
  else
    return list_size<T, I, Total, N - 1>();
}

template <class T, std::size_t I, std::size_t Total>
constexpr std::size_t count_from() {
  if constexpr (I >= Total)
    return 0;
  else
    return 1 + count_from<T, I + list_size<T, I, Total, Total - I>(), Total>();
}

/// Aggregates that can be taken apart; 0 for arrays, and for what has base classes, references or constants.
template <class T>
constexpr std::size_t member_count() {
  if constexpr (!std::is_class_v<T> || !std::is_aggregate_v<T> || std::is_empty_v<T> || std::is_polymorphic_v<T> ||
                !std::is_move_assignable_v<T>)
    return 0;
  else if constexpr (requires { T{AnyBase<T>{}}; })
    return 0;
  else
    return count_from<T, 0, count_values<T>()>();
}

/// Calls `visit` with all members of the object.
// clang-format off
template <class T, class F>
constexpr decltype(auto) with_members(T& object, F&& visit) {
  constexpr std::size_t kCount = member_count<std::remove_const_t<T>>();
  static_assert(kCount > 0 && kCount <= kMaxMembers, "not an aggregate of at most 24 members");
  if constexpr (kCount == 1) { auto& [a] = object; return visit(a); }
  if constexpr (kCount == 2) { auto& [a, b] = object; return visit(a, b); }
  if constexpr (kCount == 3) { auto& [a, b, c] = object; return visit(a, b, c); }
  if constexpr (kCount == 4) { auto& [a, b, c, d] = object; return visit(a, b, c, d); }
  if constexpr (kCount == 5) { auto& [a, b, c, d, e] = object; return visit(a, b, c, d, e); }
  if constexpr (kCount == 6) { auto& [a, b, c, d, e, f] = object; return visit(a, b, c, d, e, f); }
  if constexpr (kCount == 7) { auto& [a, b, c, d, e, f, g] = object; return visit(a, b, c, d, e, f, g); }
  if constexpr (kCount == 8) { auto& [a, b, c, d, e, f, g, h] = object; return visit(a, b, c, d, e, f, g, h); }
  if constexpr (kCount == 9) { auto& [a, b, c, d, e, f, g, h, i] = object; return visit(a, b, c, d, e, f, g, h, i); }
  if constexpr (kCount == 10) {
    auto& [a, b, c, d, e, f, g, h, i, j] = object;
    return visit(a, b, c, d, e, f, g, h, i, j);
  }
  if constexpr (kCount == 11) {
    auto& [a, b, c, d, e, f, g, h, i, j, k] = object;
    return visit(a, b, c, d, e, f, g, h, i, j, k);
  }
  if constexpr (kCount == 12) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l] = object;
    return visit(a, b, c, d, e, f, g, h, i, j, k, l);
  }
  if constexpr (kCount == 13) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m] = object;
    return visit(a, b, c, d, e, f, g, h, i, j, k, l, m);
  }
  if constexpr (kCount == 14) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = object;
    return visit(a, b, c, d, e, f, g, h, i, j, k, l, m, n);
  }
  if constexpr (kCount == 15) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o] = object;
    return visit(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o);
  }
  if constexpr (kCount == 16) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = object;
    return visit(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p);
  }
  if constexpr (kCount == 17) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q] = object;
    return visit(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q);
  }
  if constexpr (kCount == 18) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r] = object;
    return visit(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r);
  }
  if constexpr (kCount == 19) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s] = object;
    return visit(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s);
  }
  if constexpr (kCount == 20) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t] = object;
    return visit(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t);
  }
  if constexpr (kCount == 21) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u] = object;
    return visit(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u);
  }
  if constexpr (kCount == 22) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v] = object;
    return visit(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v);
  }
  if constexpr (kCount == 23) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w] = object;
    return visit(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w);
  }
  if constexpr (kCount == 24) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x] = object;
    return visit(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x);
  }
}
// clang-format on

template <class T>
struct Named {
  T value;
};
#pragma GCC diagnostic push
#ifdef __clang__
#pragma clang diagnostic ignored "-Wundefined-var-template"
#endif
/// Never defined: only the addresses of its members are looked at, by the compiler.
template <class T>
extern const Named<T> named;

template <auto* P>
constexpr std::string_view member_name() {
  std::string_view text = __PRETTY_FUNCTION__;  // clang: "… [P = &named<T>.value.x]"
#ifndef __clang__
  text = text.substr(0, text.find(");"));  // g++: "… [with auto* P = (& named<T>.Named<T>::value.T::x); …]"
#endif
  const auto in_name = [](char c) {
    return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (static_cast<unsigned char>(c) >= 0x80);
  };
  std::size_t end = text.size();
  while (end > 0 && !in_name(text[end - 1])) --end;
  std::size_t begin = end;
  while (begin > 0 && in_name(text[begin - 1])) --begin;
  return text.substr(begin, end - begin);
}

template <class T>
inline constexpr auto member_pointers =
    with_members(named<T>.value, [](auto&... member) { return std::tuple(__builtin_addressof(member)...); });

/// The names of the members, in order.
template <class T>
constexpr auto member_names() {
  return []<std::size_t... I>(std::index_sequence<I...>) {
    return std::array<std::string_view, sizeof...(I)>{member_name<std::get<I>(member_pointers<T>)>()...};
  }(std::make_index_sequence<member_count<T>()>());
}
#pragma GCC diagnostic pop

}  // namespace caller::kernel::detail
