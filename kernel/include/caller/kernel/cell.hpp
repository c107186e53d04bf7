// What the kernel writes around the text of a cell. Not for direct use.
#pragma once

#include <new>
#include <type_traits>
#include <utility>

#include <caller/export.hpp>
#include <caller/kernel/display.hpp>

namespace caller::kernel::detail {

/// Non-zero while some thread is asked to interrupt its cell.
extern "C" CALLER_API int caller_interrupt_pending;
/// Throws Interrupted when the calling thread is asked to.
extern "C" CALLER_API void caller_safepoint();

/// Called once per turn of every loop of a cell.
[[gnu::always_inline]] constexpr inline void safepoint() {
  if (!std::is_constant_evaluated())
    if (__builtin_expect(__atomic_load_n(&caller_interrupt_pending, __ATOMIC_RELAXED) != 0, 0)) caller_safepoint();
}

/// Shows a value. Not inlined, so that a cell needs no code for the types that are compiled in advance.
template <class T>
[[gnu::noinline]] void show_value(const T& x) {
  if constexpr (std::is_base_of_v<std::ios_base, T>) {
    // `std::cout << x` has shown what there was to show
  } else if constexpr (HasBundle<T>) {
    publish_bundle(x, nullptr, false);
  } else {
    std::string text;
    print(text, x);
    publish_text_result(text);
  }
}

/// `Show<7>{} , (expression)` shows the value; of a void expression nothing is shown. The number is the cell's: what a
/// class can do is asked anew in each, as an earlier cell's answer would stand for ever.
template <int Cell>
struct Show {
  template <class T>
  void operator,(T&& x) const {
    using U = std::remove_cvref_t<T>;
    if constexpr (std::is_class_v<U> || std::is_enum_v<U>) {
      if constexpr (requires { MimeBundle(mime_bundle_repr(x)); }) {
        BundleOf metadata = nullptr;
        if constexpr (requires { MimeBundle(mime_metadata_repr(x)); })
          metadata = [](const void* p) -> MimeBundle { return mime_metadata_repr(*static_cast<const U*>(p)); };
        publish_forms(
            __builtin_addressof(x),
            [](const void* p) -> MimeBundle { return mime_bundle_repr(*static_cast<const U*>(p)); }, metadata,
            [](std::string& out, const void* p) { print_other(out, *static_cast<const U*>(p)); }, nullptr, false);
        return;
      } else if constexpr (!std::is_base_of_v<std::ios_base, U> && std::is_class_v<U> &&
                           requires(std::ostream& o) { o << x; }) {
        if constexpr (!Streams<U>) {
          std::conditional_t<true, std::ostringstream, T> stream;
          stream << x;
          publish_text_result(stream.str());
          return;
        } else {
          show_value<U>(x);
        }
      } else {
        show_value<U>(x);
      }
    } else if constexpr (std::is_volatile_v<std::remove_reference_t<T>> && std::is_scalar_v<U>) {
      show_value<U>(static_cast<U>(x));
    } else {
      show_value<U>(x);
    }
  }
};

template <class A>
decltype(auto) awaiter_of(A&& a) {
  if constexpr (requires { static_cast<A&&>(a).operator co_await(); })
    return static_cast<A&&>(a).operator co_await();
  else if constexpr (requires { operator co_await(static_cast<A&&>(a)); })
    return operator co_await(static_cast<A&&>(a));
  else
    return static_cast<A&&>(a);
}

/// `awaited ->* x` has, unevaluated, the type of `co_await x`; the operator binds nearly as tightly.
struct Awaited {
  template <class A>
  auto operator->*(A&& a) const -> decltype(awaiter_of(static_cast<A&&>(a)).await_resume());
};
inline constexpr Awaited awaited{};

/// The types that `auto`, `auto&`, `auto&&` and `auto*` stand for, given the initialiser's.
template <class T>
using auto_value = std::decay_t<T>;
template <class T>
using auto_reference = std::remove_reference_t<T>;
template <class T>
using auto_forward = std::conditional_t<std::is_lvalue_reference_v<T>, T, std::remove_reference_t<T>>;
template <class T>
using auto_pointer = std::remove_pointer_t<std::decay_t<T>>;

/// Makes a global from inside a coroutine, as `T x = init;` does.
template <class T>
struct Late {
  T value;
};

}  // namespace caller::kernel::detail
