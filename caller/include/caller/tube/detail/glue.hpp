// From a C++ function or class to a node: how arguments are converted and results become signals.
#pragma once

#include <concepts>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <caller/coro.hpp>
#include <caller/generator.hpp>
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

// ------------------------------------------------------------------ a result
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

// ------------------------------------------------------------------ calling
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

template <class Tuple, class R, class F>
void run_plain(F&& f, Call& call) {
  ArgumentsOf<Tuple> arguments;
  if constexpr (std::is_void_v<R>)
    arguments.apply(std::forward<F>(f), call);
  else
    emit_result(call, arguments.apply(std::forward<F>(f), call));
}
/// The arguments live in this coroutine's frame as long as the node's own coroutine uses them. Its type must not depend
/// on that of the function: a lambda's has no linkage, and g++ warns of frames that have one inside.
template <class Tuple, class R>
Coro<void> run_coroutine(void* node, R (*begin)(void* node, ArgumentsOf<Tuple>&, Call&), Call& call) {
  ArgumentsOf<Tuple> arguments;
  if constexpr (std::is_void_v<typename Inner<R>::type>) {
    co_await begin(node, arguments, call);
  } else {
    auto result = co_await begin(node, arguments, call);
    emit_result(call, std::move(result));
  }
}

/// Pulls from a generator: a value a call, then the end of the stream.
template <class G>
void pull(G& generator, Call& call) {
  auto value = generator.next();
  if (!value) {
    call.end_stream();
    return;
  }
  emit_result(call, std::move(*value));
}

template <class F>
class FunctionNode final : public Node {
  using S = Signature<F>;
  using R = typename S::Result;
  using Tuple = typename S::Arguments;

public:
  explicit FunctionNode(F f) : f_(std::move(f)) {}
  void process(Call& call) override {
    if constexpr (is_coro<R>)
      run_to_end(call);
    else
      run_plain<Tuple, R>(f_, call);
  }
  bool is_coroutine() const noexcept override { return is_coro<R>; }
  Coro<void> process_async(Call& call) override {
    if constexpr (is_coro<R>)
      return run_coroutine<Tuple, R>(
          this,
          [](void* node, ArgumentsOf<Tuple>& a, Call& c) -> R {
            return a.apply(static_cast<FunctionNode*>(node)->f_, c);
          },
          call);
    else
      return Node::process_async(call);
  }

private:
  F f_;
};

/// Arguments from params by name, for what is made once: generators and objects.
template <class Tuple, std::size_t... I, class F>
decltype(auto) with_params(const std::vector<Slot>& slots, const Params& params, std::index_sequence<I...>, F&& f) {
  std::tuple<Argument<std::tuple_element_t<I, Tuple>>...> holders;
  [[maybe_unused]] const auto value = [&](std::size_t i) -> const Value* {
    if (const Value* v = params.find(slots[i].name)) return v;
    return slots[i].fallback ? &*slots[i].fallback : nullptr;
  };
  return std::forward<F>(f)(std::get<I>(holders).get(value(I))...);
}

template <class F>
class GeneratorNode final : public Node {
  using S = Signature<F>;
  using Tuple = typename S::Arguments;
  using G = typename S::Result;

public:
  // The generator may keep references to its arguments: they live as long as the node.
  GeneratorNode(F f, std::vector<Slot> slots, Params params)
      : f_(std::move(f)), slots_(std::move(slots)), params_(std::move(params)) {
    generator_.emplace(make(std::make_index_sequence<std::tuple_size_v<Tuple>>()));
  }
  void process(Call& call) override { pull(*generator_, call); }

private:
  template <std::size_t... I>
  G make(std::index_sequence<I...>) {
    return f_(std::get<I>(holders_).get(value(I))...);
  }
  const Value* value(std::size_t i) const {
    if (const Value* v = params_.find(slots_[i].name)) return v;
    return slots_[i].fallback ? &*slots_[i].fallback : nullptr;
  }
  template <class T>
  struct Holders;
  template <class... A>
  struct Holders<std::tuple<A...>> {
    using type = std::tuple<Argument<A>...>;
  };
  F f_;
  std::vector<Slot> slots_;
  Params params_;
  typename Holders<Tuple>::type holders_;
  std::optional<G> generator_;
};

template <class C>
concept HasInit = requires(C& c) { c.init(); };
template <class C>
concept HasInitContext = requires(C& c, const RunnerContext& context) { c.init(context); };
template <class C>
concept HasDeinit = requires(C& c) { c.deinit(); };
template <class C>
concept HasDeinitContext = requires(C& c, const RunnerContext& context) { c.deinit(context); };

template <class C>
void init_object(C& object, const RunnerContext& context) {
  if constexpr (HasInitContext<C>)
    object.init(context);
  else if constexpr (HasInit<C>)
    object.init();
  (void)object, (void)context;
}
template <class C>
void deinit_object(C& object, const RunnerContext& context) {
  if constexpr (HasDeinitContext<C>)
    object.deinit(context);
  else if constexpr (HasDeinit<C>)
    object.deinit();
  (void)object, (void)context;
}

template <class C, class M>
class ClassNode final : public Node {
  using S = Signature<M>;
  using R = typename S::Result;
  using Tuple = typename S::Arguments;

public:
  ClassNode(std::unique_ptr<C> object, M method) : object_(std::move(object)), method_(method) {}
  void init(const RunnerContext& context) override { init_object(*object_, context); }
  void deinit(const RunnerContext& context) override { deinit_object(*object_, context); }
  void process(Call& call) override {
    if constexpr (is_generator<R>) {
      if (!generator_) generator_.emplace(((*object_).*method_)());
      pull(*generator_, call);
    } else if constexpr (is_coro<R>) {
      run_to_end(call);
    } else {
      run_plain<Tuple, R>(bound(), call);
    }
  }
  bool is_coroutine() const noexcept override { return is_coro<R>; }
  Coro<void> process_async(Call& call) override {
    if constexpr (is_coro<R>)
      return run_coroutine<Tuple, R>(
          this,
          [](void* node, ArgumentsOf<Tuple>& a, Call& c) -> R {
            return a.apply(static_cast<ClassNode*>(node)->bound(), c);
          },
          call);
    else
      return Node::process_async(call);
  }

private:
  auto bound() {
    return [this]<class... A>(A&&... a) -> decltype(auto) { return ((*object_).*method_)(std::forward<A>(a)...); };
  }
  std::unique_ptr<C> object_;
  M method_;
  std::optional<std::conditional_t<is_generator<R>, R, int>> generator_;
};

/// A class whose next() returns an optional: a source.
template <class C>
class SourceNode final : public Node {
public:
  explicit SourceNode(std::unique_ptr<C> object) : object_(std::move(object)) {}
  void init(const RunnerContext& context) override { init_object(*object_, context); }
  void deinit(const RunnerContext& context) override { deinit_object(*object_, context); }
  void process(Call& call) override { pull(*object_, call); }

private:
  std::unique_ptr<C> object_;
};

template <class T, class Make>
class ObjectAsset final : public AssetInstance {
public:
  explicit ObjectAsset(Make make) : make_(std::move(make)) {}
  Value open(const RunnerContext& context) override {
    std::shared_ptr<T> object = make_();
    init_object(*object, context);
    context_ = context;
    return Value(std::move(object));
  }
  void close(const Value& object) noexcept override {
    try {
      deinit_object(*object.shared<T>(), context_);
    } catch (...) {  // the end of a scope has nobody to tell
    }
  }

private:
  Make make_;
  RunnerContext context_;
};

}  // namespace caller::tube::detail
