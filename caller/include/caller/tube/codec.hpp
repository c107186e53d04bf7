// Values as bytes: how they cross from one process to another.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include <caller/export.hpp>
#include <caller/tube/value.hpp>

namespace caller::tube {

/// `value` in CBOR (RFC 8949). Vectors of numbers become typed arrays (RFC 8746): their bytes as they are. Objects need
/// a codec, see add_codec(). Text that is no UTF-8 becomes a byte string.
///
/// Thread-safety: any thread. Errors: Error(wrong_type) for an object without codec, Error(out_of_range) if nested more
/// than 200 deep. Source: pickle in noob; differs: reading executes nothing.
CALLER_API std::string to_cbor(const Value& value);
/// Reads what to_cbor() writes: a list as List, a map as Map, a typed array as a vector of its numbers.
///
/// Thread-safety: any thread. Errors: Error(wrong_type) for bytes that are no such value, or not all of one.
/// Source: pickle in noob; differs: hostile bytes give an error, nothing else.
CALLER_API Value from_cbor(std::string_view bytes);

namespace detail {
/// How objects of one type are made of simpler values.
struct Codec {
  std::string name;
  std::function<Value(const Value&)> encode, decode;
};
CALLER_API void insert_codec(const std::type_info& type, Codec codec);
}  // namespace detail

/// Lets objects of type T cross processes: `encode` makes of a T what JSON could say, `decode` a T of that. `name` is
/// the same in all processes; a name that is there already is replaced.
///
///     add_codec<Point>("my.Point", [](const Point& p) { return List{p.x, p.y}; },
///                      [](const Value& v) { return Point{v[0].to<int>(), v[1].to<int>()}; });
///
/// Thread-safety: any thread. Errors: what `encode` and `decode` throw comes out of to_cbor() and from_cbor().
/// Source: `__reduce__` of Python's pickle.
template <class T, class Encode, class Decode>
  requires std::is_invocable_v<Encode, const T&> && std::is_invocable_v<Decode, const Value&>
void add_codec(std::string name, Encode encode, Decode decode) {
  detail::insert_codec(typeid(T), {std::move(name), [encode](const Value& v) { return Value(encode(v.as<T>())); },
                                   [decode](const Value& v) { return Value(T(decode(v))); }});
}
/// Whether objects of the type have a codec. Thread-safety: any thread. Errors: none. Source: none.
CALLER_API bool has_codec(const std::type_info& type);

}  // namespace caller::tube
