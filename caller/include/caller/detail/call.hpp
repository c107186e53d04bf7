// One block per call: queue entry, state, callable and result.
#pragma once

#include <cstddef>
#include <functional>
#include <stop_token>
#include <tuple>
#include <type_traits>
#include <utility>

#include <caller/coro.hpp>
#include <caller/detail/state.hpp>
#include <caller/pending.hpp>

namespace caller::detail {

/// How `f` is called with `args`: as it is, or with a std::stop_token before them.
template <class F, class... A>
struct CallTraits {
  static constexpr bool plain = std::is_invocable_v<F, A...>;
  static constexpr bool takes_stop_token = !plain && std::is_invocable_v<F, std::stop_token, A...>;
  static_assert(plain || takes_stop_token, "the function cannot be called with these arguments");

  static auto result_type() {
    if constexpr (plain)
      return std::type_identity<std::invoke_result_t<F, A...>>{};
    else
      return std::type_identity<std::invoke_result_t<F, std::stop_token, A...>>{};
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

template <class F, class... A>
struct CallState : ValueState<typename CallTraits<F, A...>::Result> {
  using Traits = CallTraits<F&, A...>;
  using Result = typename CallTraits<F, A...>::Result;
  static_assert(alignof(Bound<F, A...>) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__,
                "over-aligned functions and arguments are not supported");
  union {
    Bound<F, A...> call;
  };
  bool call_alive = true;

  template <class G, class... B>
  explicit CallState(G&& g, B&&... b) : call{std::forward<G>(g), std::tuple<A...>(std::forward<B>(b)...)} {
    this->act = &on_act;
    this->destroy = &on_destroy;
    this->flags.store(PendingState::kWork, std::memory_order_relaxed);
  }
  ~CallState() { release_call(); }

  void release_call() noexcept {
    if (std::exchange(call_alive, false)) std::destroy_at(std::addressof(call));
  }

  static void on_destroy(PendingState* p) noexcept {
    auto* s = static_cast<CallState*>(p);
    finish_state(*s);
    s->destroy_value();
    s->~CallState();
    deallocate(s, sizeof(CallState));
  }

  decltype(auto) invoke() {
    if constexpr (Traits::takes_stop_token)
      return call(stop_token_of(*this));
    else
      return call();
  }

  static void on_act(Op* op, OpAct act) {
    auto* s = static_cast<CallState*>(op);
    if (act == OpAct::drop) {
      end_work_cancelled(*s, "the caller stopped before the call began");
    } else if (begin_work(*s)) {
      if constexpr (Traits::is_coroutine)
        s->begin();
      else
        s->call_plain();
      return;
    }
    s->leave(act == OpAct::run, false);
  }

  /// The function has ended, or never began: frees what it held, and its worker; completes; gives up the work's
  /// reference.
  void leave(bool ran_on_thread, bool due) noexcept {
    release_call();
    release(std::exchange(this->context, nullptr));  // it may hold a group that holds us
    if (ran_on_thread && (this->flags.load(std::memory_order_relaxed) & PendingState::kWorker))
      work_of_worker_ended(*this);
    if (due) complete(*this);
    this->unref();
  }

  void call_plain() {
    bool due = false;
    {
      TaskScope scope(*this);
      try {
        if constexpr (std::is_void_v<Result>) {
          invoke();
          due = settle_value(*this);
        } else {
          due = settle_value(*this, invoke());
        }
      } catch (...) {
        due = settle_error(*this, std::current_exception());
      }
      release_call();
    }
    leave(true, due);
  }

  void begin() {
    bool due = false;
    {
      TaskScope scope(*this);  // on leaving it finishes, or keeps, the coroutine
      try {
        auto coro = invoke();
        auto h = coro.release();
        h.promise().root = this;
        this->frame = h;
        this->finish = &on_finish;
        h.resume();
        return;
      } catch (...) {
        due = settle_error(*this, std::current_exception());
      }
    }
    leave(true, due);
  }

  static void on_finish(PendingState* p) noexcept {
    auto* s = static_cast<CallState*>(p);
    bool due = false;  // an abandoned frame is gone already, and its outcome decided
    if (s->frame) {
      auto h = std::coroutine_handle<CoroPromise<Result>>::from_address(s->frame.address());
      due = h.promise().settle_into(*s);
      s->frame = {};
      h.destroy();
    }
    s->leave(true, due);
  }
};

/// Fire and forget, with the context of the call.
template <class F, class... A>
struct DirectOp : Op {
  ContextNode* context;
  Core* core;
  Bound<F, A...> call;

  template <class G, class... B>
  DirectOp(Core& c, ContextNode* ctx, G&& g, B&&... b)
      : context(ctx), core(&c), call{std::forward<G>(g), std::tuple<A...>(std::forward<B>(b)...)} {
    act = [](Op* op, OpAct why) {
      auto* self = static_cast<DirectOp*>(op);
      if (why == OpAct::run) self->run();
      release(self->context);
      self->~DirectOp();
      deallocate(self, sizeof(DirectOp));
    };
  }
  void run() {
    ContextNode* saved = retain(current_context());
    replace_current_context(std::exchange(context, nullptr));
    try {
      static_cast<void>(call());
    } catch (...) {
      report_error(core, "call_direct", std::current_exception());
    }
    replace_current_context(saved);
  }
};

/// The fast path: no Pending, no context.
template <class F>
struct PostOp : Op {
  Core* core;
  F fn;
  template <class G>
  PostOp(Core& c, G&& g) : core(&c), fn(std::forward<G>(g)) {
    act = [](Op* op, OpAct why) {
      auto* self = static_cast<PostOp*>(op);
      if (why == OpAct::run) {
        try {
          self->fn();
        } catch (...) {
          report_error(self->core, "post", std::current_exception());
        }
      }
      self->~PostOp();
      deallocate(self, sizeof(PostOp));
    };
  }
};

// ---- lanes of queue_call ----

/// What identifies a lane, exactly: a kind and the bytes of the key.
struct LaneKey {
  const std::type_info* type = nullptr;
  std::string bytes;
  friend bool operator==(const LaneKey& a, const LaneKey& b) noexcept {
    return *a.type == *b.type && a.bytes == b.bytes;
  }
};

struct LaneItem {
  LaneItem* next = nullptr;
  ContextNode* context = nullptr;
  virtual ~LaneItem() { release(context); }
  virtual void run() {}  // a plain function …
  virtual bool is_coroutine() const noexcept { return false; }
  virtual Coro<void> start() { co_return; }  // … or a coroutine
};

template <class F, class... A>
struct LaneCall final : LaneItem {
  using Raw = std::invoke_result_t<F&, A...>;
  Bound<F, A...> call;
  template <class G, class... B>
  explicit LaneCall(G&& g, B&&... b) : call{std::forward<G>(g), std::tuple<A...>(std::forward<B>(b)...)} {}
  void run() override {
    if constexpr (!is_coro_v<Raw>) static_cast<void>(call());
  }
  bool is_coroutine() const noexcept override { return is_coro_v<Raw>; }
  Coro<void> start() override {
    if constexpr (is_coro_v<Raw>) (void)co_await call();
    co_return;
  }
  static void* operator new(std::size_t n) { return allocate(n); }
  static void operator delete(void* p, std::size_t n) noexcept { deallocate(p, n); }
};

template <class K>
LaneKey make_lane_key(const K& key) {
  using D = std::decay_t<const K&>;
  if constexpr (std::is_convertible_v<const K&, std::string_view>)
    return {&typeid(std::string), std::string(std::string_view(key))};
  else if constexpr (std::is_integral_v<K> || std::is_enum_v<K> || std::is_pointer_v<D> ||
                     std::is_member_pointer_v<D>) {
    const D value = key;
    return {&typeid(D), std::string(reinterpret_cast<const char*>(&value), sizeof value)};
  } else {
    static_assert(std::is_class_v<K>, "a lane key is a string, an integer, an enumerator, a pointer or a function");
    return {&typeid(K), {}};
  }
}

}  // namespace caller::detail
