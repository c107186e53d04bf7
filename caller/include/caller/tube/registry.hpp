// The registry: which C++ functions and classes a specification may name.
#pragma once

#include <concepts>
#include <cstddef>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <caller/export.hpp>
#include <caller/tube/detail/glue.hpp>
#include <caller/tube/node.hpp>

namespace caller::tube {

/// The name of a parameter, and what stands there when nothing fills it: `"left"` or `{"right", 2}`.
struct SlotName {
  /// A parameter that must be filled.
  SlotName(const char* slot) : name(slot) {}
  /// A parameter that must be filled.
  SlotName(std::string slot) : name(std::move(slot)) {}
  /// A parameter with a default.
  template <class T>
  SlotName(const char* slot, T&& value) : name(slot), fallback(Value(std::forward<T>(value))) {}
  std::string name;               ///< of the parameter
  std::optional<Value> fallback;  ///< what stands there when nothing fills it
};
/// The names of the parameters of a function, those of injected types left out.
class Slots {
public:
  Slots() = default;
  /// In the order of the parameters.
  Slots(std::initializer_list<SlotName> names) : names_(names) {}
  /// In the order of the parameters.
  explicit Slots(std::vector<SlotName> names) : names_(std::move(names)) {}
  /// in the order of the parameters
  const std::vector<SlotName>& names() const noexcept { return names_; }

private:
  std::vector<SlotName> names_;
};
/// The names of the signals of a node; without any, a node that returns something has the signal `value`.
class Signals {
public:
  Signals() = default;
  /// In the order of the values of a tuple.
  Signals(std::initializer_list<const char*> names) : names_(names.begin(), names.end()) {}
  /// in the order of the values
  const std::vector<std::string>& names() const noexcept { return names_; }

private:
  std::vector<std::string> names_;
};
/// `slots("left", SlotName("right", 2))`, `signals("value")`: the same, spelled as functions.
template <class... N>
Slots slots(N&&... names) {
  return Slots{SlotName(std::forward<N>(names))...};
}
/// The names of signals; see slots().
template <class... N>
Signals signals(N... names) {
  return Signals{names...};
}

/// Types of nodes and assets by name. A name that is registered again, by a notebook cell run twice, replaces the type
/// for tubes built from then on, if `replace` says so.
///
/// Thread-safety: any thread.
/// Errors: Error(already_registered), Error(invalid_specification) when names and parameters do not match in number.
/// Source: Python's import system, by which noob finds its types.
class CALLER_API Registry {
public:
  Registry();
  ~Registry();
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  /// A function as a node type: plain (stateless), a coroutine function, or one that returns a Generator (a source).
  ///
  /// The result is the signal, or a tuple of as many values as there are signals; std::optional and MaybeEvent say that
  /// a signal is silent. Parameters of type Epoch, EventMap, `const RunnerContext&`, Args and Kwargs are filled by the
  /// runner and not named.
  template <class F>
    requires(!std::is_class_v<F> || requires { &F::operator(); })
  void add(std::string name, F f, Slots slots = {}, Signals signals = {}) {
    add_function<F>(std::move(name), std::move(f), slots, signals);
  }
  /// The same, with the function as a template argument.
  template <auto F>
  void add(std::string name, Slots slots = {}, Signals signals = {}) {
    add_function<decltype(F)>(std::move(name), F, slots, signals);
  }

  /// A class as a node type, stateful: constructed with `A...` from the params named in `params`, called by `method`.
  ///
  /// `init` and `deinit` are called with the runner, if the class has them.
  template <class C, class... A, class M>
  void add_class(std::string name, Slots params, M method, Slots slots = {}, Signals signals = {}) {
    using S = detail::Signature<M>;
    using R = typename S::Result;
    NodeType type = shaped<typename S::Arguments, R>(std::move(name), slots, signals);
    type.stateful = true;
    type.source = detail::is_generator<R>;
    if (type.source && !type.slots.empty()) wrong(type, "a generator is a source: it has no slots");
    type.params = made_slots<std::tuple<A...>>(type, params);
    type.make = [constructor = type.params, method](const Params& given) -> std::unique_ptr<Node> {
      return std::make_unique<detail::ClassNode<C, M>>(construct<C, A...>(constructor, given), method);
    };
    insert(std::move(type));
  }
  /// A class with `std::optional<T> next()` as a source.
  template <class C, class... A>
    requires requires(C& c) { c.next().has_value(); }
  void add_source(std::string name, Slots params = {}, Signals signals = {}) {
    using R = typename decltype(std::declval<C&>().next())::value_type;
    NodeType type = shaped<std::tuple<>, R>(std::move(name), {}, signals);
    type.stateful = type.source = true;
    type.params = made_slots<std::tuple<A...>>(type, params);
    type.make = [constructor = type.params](const Params& given) -> std::unique_ptr<Node> {
      return std::make_unique<detail::SourceNode<C>>(construct<C, A...>(constructor, given));
    };
    insert(std::move(type));
  }

  /// A class as an asset: an object that nodes share and may change, taken by `C&` or std::shared_ptr<C>.
  template <class C, class... A>
  void add_asset(std::string name, Slots params = {}) {
    AssetType type;
    type.name = std::move(name);
    type.type = type_name(typeid(C));
    NodeType shape;
    shape.name = type.name;
    type.params = made_slots<std::tuple<A...>>(shape, params);
    type.make = [constructor = type.params](const Params& given) -> std::unique_ptr<AssetInstance> {
      auto make = [constructor, given] { return std::shared_ptr<C>(construct<C, A...>(constructor, given)); };
      return std::make_unique<detail::ObjectAsset<C, decltype(make)>>(std::move(make));
    };
    insert(std::move(type));
  }

  /// A type written out by hand. Errors: already_registered.
  void insert(NodeType type, bool replace = false);
  /// The same for an asset.
  void insert(AssetType type, bool replace = false);
  /// Forgets a type; tubes built from it go on. Returns whether there was one.
  bool erase(std::string_view name);

  std::shared_ptr<const NodeType> find(std::string_view name) const;         ///< null: there is none
  std::shared_ptr<const AssetType> find_asset(std::string_view name) const;  ///< null: there is none
  /// All names, sorted.
  std::vector<std::string> names() const;
  std::vector<std::string> asset_names() const;  ///< all names of assets, sorted
  /// Registered names like `name`, nearest first, at most `limit`.
  std::vector<std::string> similar(std::string_view name, bool assets, std::size_t limit = 3) const;

  /// Loads a shared object that registers types: its `extern "C" void caller_tube_plugin(caller::tube::Registry&)` is
  /// called. It stays loaded. Errors: Error(plugin) with the loader's reason.
  void load_plugin(const std::filesystem::path& path);
  /// The plugins that are loaded, in their order, as absolute paths.
  std::vector<std::filesystem::path> plugins() const;

private:
  template <class F>
  void add_function(std::string name, F f, const Slots& slots, const Signals& signals) {
    using S = detail::Signature<F>;
    using R = typename S::Result;
    NodeType type = shaped<typename S::Arguments, R>(std::move(name), slots, signals);
    type.coroutine = detail::is_coro<R>;
    if constexpr (detail::is_generator<R>) {
      type.stateful = type.source = true;
      type.params = std::move(type.slots);
      type.slots.clear();
      type.make = [f, constructor = type.params](const Params& given) -> std::unique_ptr<Node> {
        return std::make_unique<detail::GeneratorNode<F>>(f, constructor, given);
      };
    } else {
      type.params_are_slots = true;
      type.make = [f](const Params&) -> std::unique_ptr<Node> { return std::make_unique<detail::FunctionNode<F>>(f); };
    }
    insert(std::move(type));
  }
  template <class Tuple, class R>
  static NodeType shaped(std::string name, const Slots& slots, const Signals& signals) {
    NodeType type;
    type.name = std::move(name);
    type.slots = made_slots<Tuple>(type, slots);
    []<class... A>(NodeType& t, std::type_identity<std::tuple<A...>>) {
      t.takes_args = (false || ... || std::is_same_v<detail::Bare<A>, Args>);
      t.takes_kwargs = (false || ... || std::is_same_v<detail::Bare<A>, Kwargs>);
    }(type, std::type_identity<Tuple>{});
    using V = typename detail::Inner<R>::type;
    type.coroutine = detail::is_coro<R>;
    add_signals(type, signals.names(), detail::result_signals<V>(), detail::open_signals<V>,
                std::is_void_v<V> ? std::string("void") : result_name<V>());
    if (type.signals.size() == 1) {
      type.signals.front().object = detail::object_in<V>();
    } else if constexpr (!detail::open_signals<V>) {
      const std::vector<const std::type_info*> objects = detail::objects_in<V>();
      for (std::size_t i = 0; i < type.signals.size() && i < objects.size(); ++i) type.signals[i].object = objects[i];
    }
    return type;
  }
  template <class V>
  static std::string result_name() {
    if constexpr (std::is_void_v<V>)
      return "void";
    else
      return type_name(typeid(V));
  }
  template <class Tuple>
  static std::vector<Slot> made_slots(const NodeType& type, const Slots& names) {
    std::vector<Slot> made;
    if (names.names().size() != detail::kSlots<Tuple>) wrong_count(type, names.names().size(), detail::kSlots<Tuple>);
    std::size_t i = 0;
    [&]<class... A>(std::type_identity<std::tuple<A...>>) {
      [[maybe_unused]] const auto one = [&]<class P>(std::type_identity<P>) {
        if constexpr (!detail::injected<P>) {
          made.push_back(detail::make_slot<P>(names.names()[i].name));
          made.back().fallback = names.names()[i].fallback;
          ++i;
        }
      };
      (one(std::type_identity<A>{}), ...);
    }(std::type_identity<Tuple>{});
    check_slots(type, made);
    return made;
  }
  template <class C, class... A>
  static std::unique_ptr<C> construct(const std::vector<Slot>& slots, const Params& given) {
    return detail::with_params<std::tuple<A...>>(
        slots, given, std::index_sequence_for<A...>(),
        []<class... V>(V&&... v) { return std::make_unique<C>(std::forward<V>(v)...); });
  }
  [[noreturn]] static void wrong(const NodeType& type, const std::string& message);
  [[noreturn]] static void wrong_count(const NodeType& type, std::size_t named, std::size_t parameters);
  static void check_slots(const NodeType& type, const std::vector<Slot>& slots);
  static void add_signals(NodeType& type, const std::vector<std::string>& names, std::size_t returned, bool open,
                          const std::string& result);

  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The registry of the process: the one specifications are resolved in. Thread-safety: any thread.
CALLER_API Registry& registry();

}  // namespace caller::tube
