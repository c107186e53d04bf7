// What a function takes, and how the arguments of a call become that.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include <caller/tube/node.hpp>

namespace caller::tube::detail {

// ------------------------------------------------------------------ what a function looks like
template <class F>
struct Signature;
template <class R, class... A>
struct Signature<R (*)(A...)> {
  using Result = R;
  using Arguments = std::tuple<A...>;
};
template <class R, class... A>
struct Signature<R (*)(A...) noexcept> : Signature<R (*)(A...)> {};
template <class R, class C, class... A>
struct Signature<R (C::*)(A...)> : Signature<R (*)(A...)> {};
template <class R, class C, class... A>
struct Signature<R (C::*)(A...) const> : Signature<R (*)(A...)> {};
template <class R, class C, class... A>
struct Signature<R (C::*)(A...) noexcept> : Signature<R (*)(A...)> {};
template <class R, class C, class... A>
struct Signature<R (C::*)(A...) const noexcept> : Signature<R (*)(A...)> {};
template <class F>
  requires requires { &F::operator(); }
struct Signature<F> : Signature<decltype(&F::operator())> {};

template <class P>
using Bare = std::remove_cvref_t<P>;
template <class P>
inline constexpr bool injected =
    std::is_same_v<Bare<P>, Epoch> || std::is_same_v<Bare<P>, EventMap> || std::is_same_v<Bare<P>, RunnerContext> ||
    std::is_same_v<Bare<P>, Args> || std::is_same_v<Bare<P>, Kwargs>;
template <class P>
inline constexpr bool mutable_reference = std::is_lvalue_reference_v<P> && !std::is_const_v<std::remove_reference_t<P>>;

template <class... A>
constexpr std::size_t count_slots(std::type_identity<std::tuple<A...>>) {
  return (std::size_t{0} + ... + (injected<A> ? 0 : 1));
}
template <class Tuple>
inline constexpr std::size_t kSlots = count_slots(std::type_identity<Tuple>{});

/// The number of slots before parameter `I`.
template <class Tuple, std::size_t I>
constexpr std::size_t slot_number() {
  return []<std::size_t... J>(std::index_sequence<J...>) {
    return (std::size_t{0} + ... + (injected<std::tuple_element_t<J, Tuple>> ? 0 : 1));
  }(std::make_index_sequence<I>());
}

// ------------------------------------------------------------------ one argument
template <class P>
struct Argument {
  using T = Bare<P>;
  static_assert(!std::is_rvalue_reference_v<P>,
                "values are shared between nodes: take them by value or by const reference");
  std::optional<T> made;
  const T& get(const Value* v) {
    if constexpr (!is_optional<T>) {
      if constexpr (!std::is_arithmetic_v<T>)
        if (const T* found = v->find<T>()) return *found;
      return made.emplace(v->to<T>());
    } else {
      return made.emplace(v ? v->to<T>() : T());
    }
  }
};
template <class P>
  requires std::is_same_v<Bare<P>, Value>
struct Argument<P> {
  const Value& get(const Value* v) { return *v; }
};
template <class P>
  requires(std::is_same_v<Bare<P>, std::optional<Value>>)
struct Argument<P> {
  std::optional<Value> made;
  const std::optional<Value>& get(const Value* v) {
    if (v)
      made = *v;
    else
      made.reset();
    return made;
  }
};
template <class P>
  requires(mutable_reference<P> && !std::is_same_v<Bare<P>, Value>)
struct Argument<P> {
  std::shared_ptr<Bare<P>> object;
  Bare<P>& get(const Value* v) { return *(object = v->shared<Bare<P>>()); }
};
template <class P>
  requires(is_shared_ptr<Bare<P>>)
struct Argument<P> {
  Bare<P> object;
  const Bare<P>& get(const Value* v) { return object = v->to<Bare<P>>(); }
};

template <class P>
void check_argument(const Value& v) {
  using T = Bare<P>;
  if constexpr (std::is_same_v<T, Value> || std::is_same_v<T, std::optional<Value>>) {
    (void)v;
  } else if constexpr (mutable_reference<P>) {
    v.shared<T>();
  } else if constexpr (is_optional<T> || is_shared_ptr<T> || std::is_arithmetic_v<T>) {
    (void)v.to<T>();
  } else {
    if (!v.is<T>()) (void)v.to<T>();
  }
}

template <class P>
Slot make_slot(std::string name) {
  Slot slot;
  slot.name = std::move(name);
  using T = Bare<P>;
  slot.optional = is_optional<T>;
  slot.reference = mutable_reference<P> || is_shared_ptr<T>;
  if constexpr (std::is_same_v<T, Value>)
    slot.type = "any";
  else
    slot.type = type_name(typeid(T));
  slot.check = &check_argument<P>;
  return slot;
}

// ------------------------------------------------------------------ all arguments
template <class P>
auto inject(const Call& call) {
  using T = Bare<P>;
  if constexpr (std::is_same_v<T, Epoch>) {
    return call.epoch();
  } else if constexpr (std::is_same_v<T, EventMap>) {
    return call.events();
  } else if constexpr (std::is_same_v<T, RunnerContext>) {
    return std::cref(call.context());
  } else if constexpr (std::is_same_v<T, Args>) {
    Args args;
    for (const Value* v : call.positional()) args.values.push_back(v ? *v : Value());
    return args;
  }
}

template <class Tuple, class Indices>
struct Arguments;
template <class... A, std::size_t... I>
struct Arguments<std::tuple<A...>, std::index_sequence<I...>> {
  using Tuple = std::tuple<A...>;
  std::tuple<std::conditional_t<injected<A>, std::optional<Bare<A>>, Argument<A>>...> holders;

  template <std::size_t N>
  decltype(auto) get(Call& call) {
    using P = std::tuple_element_t<N, Tuple>;
    auto& holder = std::get<N>(holders);
    if constexpr (std::is_same_v<Bare<P>, RunnerContext>) {
      return call.context();
    } else if constexpr (std::is_same_v<Bare<P>, Kwargs>) {
      Kwargs& kwargs = holder.emplace();
      const auto names = call.slot_names();
      for (std::size_t s = kSlots<Tuple>; s < call.args().size(); ++s)
        if (const Value* v = call.arg(s)) kwargs.values.set(names[s], *v);
      return static_cast<const Kwargs&>(kwargs);
    } else if constexpr (injected<P>) {
      return static_cast<const Bare<P>&>(holder.emplace(inject<P>(call)));
    } else {
      return holder.get(call.arg(slot_number<Tuple, N>()));
    }
  }
  template <class F>
  decltype(auto) apply(F&& f, Call& call) {
    return std::forward<F>(f)(get<I>(call)...);
  }
};
template <class Tuple>
using ArgumentsOf = Arguments<Tuple, std::make_index_sequence<std::tuple_size_v<Tuple>>>;

}  // namespace caller::tube::detail
