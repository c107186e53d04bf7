// One block per call: queue entry, state, callable and result.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stop_token>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include <caller/coro.hpp>
#include <caller/detail/value_state.hpp>
#include <caller/pending.hpp>

namespace caller::detail {

/// How `f` is called with `args`: as it is, or with a std::stop_token before them.
template <class F, class... A>
struct CallTraits {
  static_assert(!is_coro_v<F>,
                "a Coro was given: give the coroutine function and its arguments, call_soon(f, args...)");
  static constexpr bool plain = std::is_invocable_v<F, A...>;
  static constexpr bool takes_stop_token = !plain && std::is_invocable_v<F, std::stop_token, A...>;
  static_assert(
      is_coro_v<F> || plain || takes_stop_token,
      "the function cannot be called with these arguments (they are kept as values: std::ref for a reference)");

  static auto result_type() {
    if constexpr (plain)
      return std::type_identity<std::invoke_result_t<F, A...>>{};
    else if constexpr (takes_stop_token)
      return std::type_identity<std::invoke_result_t<F, std::stop_token, A...>>{};
    else
      return std::type_identity<void>{};  // has been refused above
  }
  using Raw = typename decltype(result_type())::type;
  static constexpr bool is_coroutine = is_coro_v<Raw>;

  static auto unwrap() {
    if constexpr (is_coroutine)
      return std::type_identity<typename std::remove_cvref_t<Raw>::value_type>{};
    else if constexpr (std::is_lvalue_reference_v<Raw> || std::is_void_v<Raw>)
      return std::type_identity<Raw>{};
    else
      return std::type_identity<std::decay_t<Raw>>{};
  }
  using Result = typename decltype(unwrap())::type;
};

template <class F, class... A>
struct Bound {
  [[no_unique_address]] F fn;
  [[no_unique_address]] std::tuple<A...> args;

  decltype(auto) operator()() {
    return std::apply([this](A&... a) -> decltype(auto) { return std::invoke(fn, std::move(a)...); }, args);
  }
  decltype(auto) operator()(std::stop_token token) {
    return std::apply([&](A&... a) -> decltype(auto) { return std::invoke(fn, std::move(token), std::move(a)...); },
                      args);
  }
};

/// A call: its Pending's state, its function and its arguments, in one block.
template <class F, class... A>
struct CallState : ValueState<typename CallTraits<F, A...>::Result> {
  using Traits = CallTraits<F&, A...>;
  using Result = typename CallTraits<F, A...>::Result;
  using Base = ValueState<Result>;
  using Call = Bound<F, A...>;
  static_assert(alignof(Call) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__,
                "over-aligned functions and arguments are not supported");
  union {
    Call call;
  };

  template <class G, class... B>
  explicit CallState(Core& on, G&& g, B&&... b)
      : Base(&on_act, &on, magazine_of(sizeof(CallState))),
        call{std::forward<G>(g), std::tuple<A...>(std::forward<B>(b)...)} {}
  ~CallState() {}  // the call ends with the work

  decltype(auto) invoke() {
    if constexpr (Traits::takes_stop_token)
      return call(stop_token_of(*this));
    else
      return call();
  }

  static void on_act(Op* op, OpAct act) {
    auto* s = static_cast<CallState*>(op);
    if (act <= OpAct::proceed) {
      if (act == OpAct::proceed || begin_work(*s)) [[likely]]
        s->begin();
      else
        s->not_begun();
    } else if (act == OpAct::destroy) {
      s->free(sizeof(CallState));
    } else if (act == OpAct::finish) {
      s->finish_coroutine();
    } else {
      drop_work(*s);
      s->not_begun();
    }
  }

  void free(std::size_t size) noexcept {
    if (this->extra()) [[unlikely]]
      finish_state(*this);
    this->destroy_value();
    deallocate(this, size);
  }

  void not_begun() noexcept {
    std::destroy_at(std::addressof(call));
    release(std::exchange(this->context, nullptr));
    end_unwanted(*this);
  }

  /// The function has ended and what it held is freed: now the result may be seen.
  void leave() noexcept {
    using P = PendingState;
    const std::uint32_t holding = this->holders();
    const P::Word w = this->word.load(std::memory_order_acquire);
    if (w == (P::kWork | P::kOwned)) {
      if (holding != 1 && end_owned(*this)) [[likely]]
        return;
    } else if (holding == 2 && (w & P::kSole) && hand_over(*this, w)) {
      return;
    }
    if (holding == 1 && !(w & ~(P::kWork | P::kOwned)))
      return this->act == &on_act ? free(sizeof(CallState)) : this->act(this, OpAct::destroy);  // nobody will look
    if (publish(*this)) [[likely]]
      return;
    this->destroy_value();
    end_unwanted(*this);
  }

  void begin() noexcept {
    enter_work(*this);
    [[maybe_unused]] std::coroutine_handle<> root;
    try {
      if constexpr (Traits::is_coroutine) {
        const auto h = invoke().release();
        h.promise().root = this;
        this->begun.store(h.address(), std::memory_order_release);  // who cancels elsewhere reads it
        root = h;
      } else if constexpr (std::is_void_v<Result>) {
        invoke();
      } else {
        this->emplace(invoke());
      }
    } catch (...) {
      return failed();
    }
    if constexpr (Traits::is_coroutine) {
      root.resume();
      if (ended_at_once(*this)) [[likely]]
        finish_coroutine();
      else
        coroutine_returned(*this);
    } else {
      std::destroy_at(std::addressof(call));
      leave_work();
      leave();
    }
  }

  [[gnu::cold]] void failed() noexcept {
    auto error = std::current_exception();
    std::destroy_at(std::addressof(call));
    this->context = std::exchange(this_thread().context, nullptr);  // the error is reported in it
    leave_work();
    end_work_failed(*this, std::move(error));
  }

  [[gnu::cold]] void coroutine_failed(std::coroutine_handle<CoroPromise<Result>> h) noexcept {
    auto error = std::move(h.promise().error);
    h.destroy();
    std::destroy_at(std::addressof(call));
    end_work_failed(*this, std::move(error));
  }

  void finish_coroutine() noexcept {
    if constexpr (Traits::is_coroutine) {
      if (const auto frame = this->frame()) [[likely]] {  // else it was abandoned, and its outcome decided
        auto h = std::coroutine_handle<CoroPromise<Result>>::from_address(frame.address());
        h.promise().move_into(*this);
        if (h.promise().error) [[unlikely]]
          return coroutine_failed(h);
        h.destroy();
      }
      std::destroy_at(std::addressof(call));
      if (this->context) [[unlikely]]
        release(std::exchange(this->context, nullptr));
      leave();
    }
  }
};

/// A call that waits for its time first: the place in the timer heap is in the same block.
template <class F, class... A>
struct LaterState : CallState<F, A...> {
  DelayNode node;
  template <class... B>
  explicit LaterState(B&&... b) : CallState<F, A...>(std::forward<B>(b)...) {
    this->magazine.store(magazine_of(sizeof(LaterState)), std::memory_order_relaxed);
    this->act = [](Op* op, OpAct why) {
      if (why == OpAct::destroy)
        static_cast<LaterState*>(op)->free(sizeof(LaterState));
      else
        CallState<F, A...>::on_act(op, why);
    };
  }
};

/// Makes a State in a pooled block.
template <class State, class... A>
State* make_pooled(A&&... args) {
  void* const block = allocate(sizeof(State));
  if constexpr (std::is_nothrow_constructible_v<State, A...>) {
    return ::new (block) State(std::forward<A>(args)...);
  } else {
    try {
      return ::new (block) State(std::forward<A>(args)...);
    } catch (...) {  // copying the function or an argument failed
      deallocate(block, sizeof(State));
      throw;
    }
  }
}

/// Fire and forget, with the context of the call.
template <class F, class... A>
struct DirectOp : Op {
  ContextNode* context;
  Core* core;
  Bound<F, A...> call;

  template <class G, class... B>
  explicit DirectOp(Core& c, G&& g, B&&... b)
      : context(nullptr), core(&c), call{std::forward<G>(g), std::tuple<A...>(std::forward<B>(b)...)} {
    act = [](Op* op, OpAct why) {
      auto* self = static_cast<DirectOp*>(op);
      if (why == OpAct::run)
        self->run();
      else
        release(self->context);
      self->~DirectOp();
      deallocate(self, sizeof(DirectOp));
    };
  }
  void run() noexcept {
    this_thread().context = context;
    try {
      static_cast<void>(call());
    } catch (...) {
      report_error(core, "call_direct", std::current_exception());
    }
    leave_work();
  }
};

/// The fast path: no Pending, no context.
template <class F>
struct PostOp : Op {
  Core* core;
  F fn;
  template <class G>
  explicit PostOp(Core& c, G&& g) : core(&c), fn(std::forward<G>(g)) {
    act = [](Op* op, OpAct why) {
      auto* self = static_cast<PostOp*>(op);
      if (why == OpAct::run) {
        self->run();
        if (this_thread().context) [[unlikely]]
          return self->leave();
      }
      self->destroy();
    };
  }
  void destroy() noexcept {
    this->~PostOp();
    deallocate(this, sizeof(PostOp));
  }
  /// It has set variables.
  [[gnu::noinline, gnu::cold]] void leave() noexcept {
    leave_context();
    destroy();
  }
  void run() noexcept {
    try {
      fn();
    } catch (...) {
      report_error(core, "post", std::current_exception());
    }
  }
};

// ---- lanes of queue_call ----

/// What identifies a lane, exactly: the type of the key, and its value (in `word`, or `text` if it is longer).
struct LaneKey {
  const std::type_info* type;
  std::uint64_t word = 0;
  std::string_view text{};
};

/// One call in a lane. It is freed by run().
struct LaneItem {
  LaneItem* next;
  ContextNode* context = nullptr;
  void (*run)(LaneItem*, Core*) noexcept = nullptr;  // a plain function; without a core, and any other: only frees it
  Coro<void> (*start)(LaneItem*) = nullptr;          // a coroutine function
};

template <class F, class... A>
struct LaneCall : LaneItem {
  static constexpr bool is_coroutine = is_coro_v<std::invoke_result_t<F&, A...>>;
  Bound<F, A...> call;

  template <class G, class... B>
  explicit LaneCall(G&& g, B&&... b) : call{std::forward<G>(g), std::tuple<A...>(std::forward<B>(b)...)} {
    run = &run_item;
    if constexpr (is_coroutine) start = &start_item;
  }
  static void run_item(LaneItem* item, Core* core) noexcept {
    auto* self = static_cast<LaneCall*>(item);
    if constexpr (!is_coroutine) {
      if (core) {
        ThreadState& ts = this_thread();
        ts.context = std::exchange(self->context, nullptr);
        try {
          static_cast<void>(self->call());
        } catch (...) {
          report_error(core, "queue_call", std::current_exception());
        }
        if (ts.context) release(std::exchange(ts.context, nullptr));
      }
    }
    if (self->context) release(self->context);
    std::destroy_at(self);
    deallocate(self, sizeof(LaneCall));
  }
  static Coro<void> start_item(LaneItem* item) {
    if constexpr (is_coroutine) (void)co_await static_cast<LaneCall*>(item)->call();
    co_return;
  }
};

template <class K>
LaneKey make_lane_key(const K& key) {
  using D = std::decay_t<const K&>;
  if constexpr (std::is_convertible_v<const K&, std::string_view>) {
    return {&typeid(std::string), 0, std::string_view(key)};
  } else if constexpr (std::is_integral_v<K> || std::is_enum_v<K> || std::is_pointer_v<D>) {
    const D value = key;
    LaneKey made{&typeid(D)};
    std::memcpy(&made.word, &value, sizeof value);
    return made;
  } else if constexpr (std::is_member_pointer_v<D>) {
    return {&typeid(D), 0, std::string_view(reinterpret_cast<const char*>(std::addressof(key)), sizeof key)};
  } else {
    static_assert(std::is_class_v<K>, "a lane key is a string, an integer, an enumerator, a pointer or a function");
    return {&typeid(K)};
  }
}

}  // namespace caller::detail
