// How values are shown: by `mime_bundle_repr` if the type has one, else by the printers here.
#pragma once

#include <cstddef>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include <caller/export.hpp>

namespace caller {

/// mime type → data. Text, except for types ending in `json`, whose data is a JSON document.
using MimeBundle = std::map<std::string, std::string>;

namespace kernel {

/// The written form of a value, as a cell's result shows it.
///
/// Thread-safety: any thread, as reading `x` is. Errors: what an `operator<<` of the type throws.
/// Units: containers show their first 1000 elements. Source: IPython's pretty printer; differs: C++ types.
template <class T>
std::string repr(const T& x);

namespace detail {

CALLER_API void put(std::string& out, bool v);
CALLER_API void put(std::string& out, long long v);
CALLER_API void put(std::string& out, unsigned long long v);
CALLER_API void put(std::string& out, double v, int digits);
CALLER_API void put(std::string& out, long double v);
CALLER_API void put_char(std::string& out, unsigned long v);
CALLER_API void put_quoted(std::string& out, std::string_view v);
CALLER_API void put_pointer(std::string& out, const volatile void* p);
CALLER_API void put_duration_unit(std::string& out, long long num, long long den);
CALLER_API void put_time(std::string& out, long double seconds_since_epoch);
CALLER_API std::string clean_type_name(std::string_view pretty_function);
CALLER_API std::string demangle_clean(const char* mangled);

inline constexpr std::size_t kMaxElements = 1000;

template <class T>
std::string type_name() {
  return clean_type_name(__PRETTY_FUNCTION__);
}

template <class T>
concept HasBundle = requires(const T& x) { MimeBundle(mime_bundle_repr(x)); };
template <class T>
concept HasMetadata = requires(const T& x) { MimeBundle(mime_metadata_repr(x)); };
template <class T>
concept Streams = requires(std::ostream& o, const T& x) { o << x; };
template <class T>
concept Text = std::is_convertible_v<const T&, std::string_view> && !std::is_null_pointer_v<T>;
template <class T>
concept Range = requires(T& x) {
  x.begin() != x.end();
  *x.begin();
};
template <class T>
concept Map = Range<T> && requires { typename T::mapped_type; };
template <class T>
concept Set = Range<T> && requires { typename T::key_type; };
template <class T>
concept Pair = requires(const T& x) {
  typename T::first_type;
  typename T::second_type;
  x.first;
  x.second;
};
template <class T>
concept Tuple = requires { std::tuple_size<T>::value; } && !Range<T>;
template <class T>
concept Optional = requires(const T& x) {
  x.has_value();
  *x;
  x.value();
};
template <class T>
concept Variant = requires(const T& x) {
  x.index();
  x.valueless_by_exception();
};
template <class T>
concept Duration = requires(const T& x) {
  typename T::rep;
  typename T::period;
  x.count();
};
template <class T>
concept TimePoint = requires(const T& x) {
  typename T::clock;
  x.time_since_epoch();
};
template <class T>
concept SystemTime = TimePoint<T> && requires(const T& x) { T::clock::to_time_t(x); };
template <class T>
concept SmartPointer = requires(const T& x) {
  typename T::element_type;
  x.get();
  static_cast<bool>(x);
};
template <class T>
concept WeakPointer = requires(const T& x) {
  x.lock();
  x.expired();
};

template <class T>
[[gnu::noinline]] void print(std::string& out, const T& x);

template <class T>
[[gnu::noinline]] void print_range(std::string& out, T& x, char open, char close) {
  out += open;
  std::size_t n = 0;
  for (auto&& e : x) {
    if (n) out += ", ";
    if (n++ == kMaxElements) {
      out += "…";
      break;
    }
    if constexpr (Map<std::remove_const_t<T>>) {
      print(out, e.first);
      out += ": ";
      print(out, e.second);
    } else {
      using E = std::remove_cvref_t<decltype(e)>;
      if constexpr (std::is_same_v<std::remove_cvref_t<decltype(*x.begin())>, E> || !requires { static_cast<bool>(e); })
        print(out, e);
      else
        print(out, static_cast<bool>(e));  // vector<bool>
    }
  }
  out += close;
}

template <class T, std::size_t... I>
void print_tuple(std::string& out, const T& x, std::index_sequence<I...>) {
  out += '(';
  if constexpr (sizeof...(I) == 0)
    (void)x;
  else if constexpr (requires { std::get<0>(x); })
    ((I ? (void)(out += ", ") : (void)0, print(out, std::get<I>(x))), ...);
  else {
    ((I ? (void)(out += ", ") : (void)0, print(out, get<I>(x))), ...);
  }
  out += ')';
}

template <std::size_t I, class T>
void print_alternative(std::string& out, const T& x) {
  if constexpr (I < std::variant_size<T>::value) {
    if (x.index() == I)
      print(out, *std::get_if<I>(&x));
    else
      print_alternative<I + 1>(out, x);
  }
}

template <class T>
void print_other(std::string& out, const T& x) {
  if constexpr (Streams<T>) {
    std::conditional_t<true, std::ostringstream, T> stream;
    stream << x;
    out += stream.str();
  } else {
    out += type_name<T>();
    out += " @ ";
    put_pointer(out, static_cast<const volatile void*>(__builtin_addressof(x)));
  }
}

template <class T>
void print(std::string& out, const T& x) {
  using U = std::remove_cv_t<T>;
  if constexpr (std::is_same_v<U, bool>) {
    put(out, x);
  } else if constexpr (std::is_same_v<U, char> || std::is_same_v<U, wchar_t> || std::is_same_v<U, char8_t> ||
                       std::is_same_v<U, char16_t> || std::is_same_v<U, char32_t>) {
    put_char(out, static_cast<unsigned long>(static_cast<std::make_unsigned_t<U>>(x)));
  } else if constexpr (std::is_integral_v<U>) {
    if constexpr (std::is_signed_v<U>)
      put(out, static_cast<long long>(x));
    else
      put(out, static_cast<unsigned long long>(x));
  } else if constexpr (std::is_same_v<U, long double>) {
    put(out, x);
  } else if constexpr (std::is_floating_point_v<U>) {
    put(out, static_cast<double>(x), std::is_same_v<U, float> ? 9 : 17);
  } else if constexpr (std::is_null_pointer_v<U>) {
    out += "nullptr";
  } else if constexpr (std::is_array_v<U> && std::is_same_v<std::remove_cv_t<std::remove_extent_t<U>>, char>) {
    std::string_view v(x, sizeof(x));
    put_quoted(out, v.substr(0, v.find('\0')));
  } else if constexpr (std::is_array_v<U> && std::is_same_v<std::remove_cv_t<std::remove_extent_t<U>>, char8_t>) {
    put_quoted(out, std::string_view(reinterpret_cast<const char*>(x), sizeof(x) - 1));
  } else if constexpr (std::is_same_v<U, char*> || std::is_same_v<U, const char*>) {
    if (x)
      put_quoted(out, x);
    else
      out += "nullptr";
  } else if constexpr (Text<U>) {
    put_quoted(out, std::string_view(x));
  } else if constexpr (std::is_array_v<U>) {
    out += '{';
    for (std::size_t i = 0; i < std::extent_v<U> && i < kMaxElements; ++i) {
      if (i) out += ", ";
      print(out, x[i]);
    }
    out += '}';
  } else if constexpr (std::is_pointer_v<U>) {
    if constexpr (std::is_function_v<std::remove_pointer_t<U>>)
      put_pointer(out, reinterpret_cast<const volatile void*>(x));
    else
      put_pointer(out, x);
  } else if constexpr (std::is_enum_v<U>) {
    if constexpr (Streams<U> && !std::is_convertible_v<U, int>) {
      print_other(out, x);
    } else {
      out += type_name<U>();
      out += '(';
      print(out, +static_cast<std::underlying_type_t<U>>(x));
      out += ')';
    }
  } else if constexpr (HasBundle<U>) {
    const MimeBundle b = mime_bundle_repr(x);
    const auto i = b.find("text/plain");
    if (i != b.end())
      out += i->second;
    else
      print_other(out, x);
  } else if constexpr (Optional<U>) {
    if (x.has_value())
      print(out, *x);
    else
      out += "nullopt";
  } else if constexpr (Variant<U>) {
    if (x.valueless_by_exception())
      out += "valueless";
    else
      print_alternative<0>(out, x);
  } else if constexpr (Pair<U>) {
    out += '(';
    print(out, x.first);
    out += ", ";
    print(out, x.second);
    out += ')';
  } else if constexpr (Duration<U>) {
    print(out, x.count());
    put_duration_unit(out, static_cast<long long>(U::period::num), static_cast<long long>(U::period::den));
  } else if constexpr (SystemTime<U>) {
    put_time(out, static_cast<long double>(x.time_since_epoch().count()) * U::period::num / U::period::den);
  } else if constexpr (TimePoint<U>) {
    print(out, x.time_since_epoch());
  } else if constexpr (SmartPointer<U>) {
    if (!x) {
      out += "nullptr";
    } else if constexpr (!std::is_void_v<typename U::element_type> && !std::is_array_v<typename U::element_type> &&
                         requires { *x; }) {
      out += "→ ";
      print(out, *x);
    } else {
      put_pointer(out, x.get());
    }
  } else if constexpr (WeakPointer<U>) {
    print(out, x.lock());
  } else if constexpr (Range<const U> && !Streams<U>) {
    print_range(out, x, '{', '}');
  } else if constexpr (Range<U> && !Streams<U> && std::is_copy_constructible_v<U>) {
    U copy(x);  // a view that only iterates when it may change
    print_range(out, copy, '{', '}');
  } else if constexpr (Tuple<U> && !Streams<U>) {
    print_tuple(out, x, std::make_index_sequence<std::tuple_size<U>::value>());
  } else {
    print_other(out, x);
  }
}

}  // namespace detail

template <class T>
std::string repr(const T& x) {
  std::string out;
  detail::print(out, x);
  return out;
}

/// All forms of a value; `text/plain` is never missing. Thread-safety, Errors, Source: as repr.
template <class T>
MimeBundle bundle(const T& x) {
  if constexpr (detail::HasBundle<T>) {
    MimeBundle out = mime_bundle_repr(x);
    if (!out.count("text/plain")) {
      std::string text;
      detail::print_other(text, x);
      out.emplace("text/plain", std::move(text));
    }
    return out;
  } else {
    return {{"text/plain", repr(x)}};
  }
}

/// The metadata of those forms, JSON objects by mime type; empty for most. Thread-safety, Errors, Source: as repr.
template <class T>
MimeBundle metadata(const T& x) {
  if constexpr (detail::HasMetadata<T>)
    return mime_metadata_repr(x);
  else
    return {};
}

}  // namespace kernel
}  // namespace caller
