// From a C++ function or class to a node.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <caller/coro.hpp>
#include <caller/tube/detail/argument.hpp>
#include <caller/tube/detail/result.hpp>
#include <caller/tube/node.hpp>

namespace caller::tube::detail {

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
