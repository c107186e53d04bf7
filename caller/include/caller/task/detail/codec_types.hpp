// Which kinds of types the codec knows. For the library.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace caller::task {

class Reader;
class Writer;

namespace detail {

template <class T>
concept HasFields = requires(T& t) { caller_task_fields(t); };
template <class T>
concept HasOwnCodec = requires(Writer& w, const Reader& r, T& t) {
  task_encode(w, std::as_const(t));
  task_decode(r, t);
};
template <class T>
concept MapLike = requires {
  typename T::mapped_type;
  typename T::key_type;
};
template <class T>
concept Range = requires(T& t) {
  typename T::value_type;
  t.begin();
  t.end();
  t.size();
};
template <class T>
struct IsTuple : std::false_type {};
template <class... E>
struct IsTuple<std::tuple<E...>> : std::true_type {};
template <class A, class B>
struct IsTuple<std::pair<A, B>> : std::true_type {};
template <class T, std::size_t N>
struct IsTuple<std::array<T, N>> : std::true_type {};
template <class T>
struct IsOptional : std::false_type {};
template <class E>
struct IsOptional<std::optional<E>> : std::true_type {};
template <class T>
struct IsVariant : std::false_type {};
template <class... E>
struct IsVariant<std::variant<E...>> : std::true_type {};
template <class T>
struct IsDuration : std::false_type {};
template <class R, class P>
struct IsDuration<std::chrono::duration<R, P>> : std::true_type {};
template <class T>
struct IsTimePoint : std::false_type {};
template <class D>
struct IsTimePoint<std::chrono::time_point<std::chrono::system_clock, D>> : std::true_type {};
template <class T>
struct IsByteVector : std::false_type {};
template <>
struct IsByteVector<std::vector<std::byte>> : std::true_type {};
template <class T>
inline constexpr bool kNever = false;

}  // namespace detail

}  // namespace caller::task
