// The Pending of an Asio operation. Included by caller/asio.hpp; docs/ARCHITECTURE.md, "Operations".
#pragma once

#include <exception>
#include <mutex>
#include <new>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

#include <boost/asio/async_result.hpp>
#include <boost/asio/execution/context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/query.hpp>
#include <boost/system/error_code.hpp>
#include <boost/system/system_error.hpp>
#include <boost/version.hpp>
#if BOOST_VERSION >= 107700
#include <boost/asio/cancellation_signal.hpp>
#else
#include <boost/asio/execution/execute.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/require.hpp>
#endif

#include <caller/detail/event_loop.hpp>
#include <caller/detail/operation.hpp>
#include <caller/pending.hpp>

namespace caller::detail {

template <class A>
inline constexpr bool is_asio_error_v =
    std::is_same_v<std::decay_t<A>, boost::system::error_code> || std::is_same_v<std::decay_t<A>, std::exception_ptr>;

template <class... V>
struct AsioValue {
  using type = std::tuple<std::decay_t<V>...>;
};
template <class V>
struct AsioValue<V> {
  using type = std::decay_t<V>;
};
template <>
struct AsioValue<> {
  using type = void;
};

/// The type of the Pending of an operation that completes with A….
template <class... A>
struct AsioResult : AsioValue<A...> {};
template <class First, class... Rest>
  requires is_asio_error_v<First>
struct AsioResult<First, Rest...> : AsioValue<Rest...> {};

struct NoExecutor {};

/// The executor of the object that is asked for an operation; adapters of tokens (as_tuple …) hide it one level deeper.
template <class Initiation>
auto executor_of(const Initiation& initiation) {
  if constexpr (requires { initiation.get_executor(); })
    return initiation.get_executor();
  else if constexpr (requires { initiation.initiation_; })
    return executor_of(initiation.initiation_);
  else
    return NoExecutor{};
}

/// Whose io_context an executor runs on: null for a thread pool, or an io_context without a Caller.
template <class Executor>
Core* core_of_executor(const Executor& executor) noexcept {
  if constexpr (boost::asio::can_query<const Executor&, boost::asio::execution::context_t>::value) {
    const boost::asio::execution_context& context = boost::asio::query(executor, boost::asio::execution::context);
    return core_of_loop(&context);
  } else {
    return nullptr;
  }
}

/// What runs in its Core's io_context is completed and cancelled on that thread. Otherwise, or where nobody can tell,
/// both may meet anywhere, and `mutex` keeps them apart.
template <class T, class Executor>
struct AsioOperation final : ValueState<T> {
  struct Hook : Suspension {
    AsioOperation* operation = nullptr;
  } hook;
#if BOOST_VERSION >= 107700
  boost::asio::cancellation_signal signal;
#else
  bool forsaken = false;  // of a Core's own io_context only, on its thread
#endif
  const std::optional<Executor> elsewhere;
  std::recursive_mutex mutex;  // an operation may end in the call that cancels it
  bool ended = false;

  bool anywhere() const noexcept { return std::is_same_v<Executor, NoExecutor> || elsewhere; }

  explicit AsioOperation(std::optional<Executor> not_home)
      : ValueState<T>(&on_act, nullptr, 0, 1), elsewhere(std::move(not_home)) {
    hook.operation = this;
    hook.detach = [](Suspension* s) noexcept {
      static_cast<Hook*>(s)->operation->pass_cancel_on();
      return false;
    };
    this->suspended = &hook;
  }
  static void on_act(Op* op, OpAct why) {
    if (why != OpAct::destroy) return operation_act(op, why);
    auto* self = static_cast<AsioOperation*>(op);
    finish_state(*self);
    self->destroy_value();
    std::destroy_at(self);
    deallocate(self, sizeof(AsioOperation));
  }

#if BOOST_VERSION >= 107700
  void emit() noexcept {
    const PendingBase keep = PendingBase::share(this);
    std::unique_lock<std::recursive_mutex> lock(mutex, std::defer_lock);
    if (anywhere()) lock.lock();
    if (ended) return;  // what the slot refers to may be gone
    try {
      signal.emit(boost::asio::cancellation_type::terminal);
    } catch (...) {  // the operation goes on to its own end
    }
  }
  void pass_cancel_on() noexcept {
    if constexpr (!std::is_same_v<Executor, NoExecutor>) {
      if (elsewhere) {
        try {
          boost::asio::post(*elsewhere, [this, keep = PendingBase::share(this)] { emit(); });
        } catch (...) {  // no memory: the operation goes on to its own end
        }
        return;
      }
    }
    emit();
  }
#else
  void pass_cancel_on() noexcept { forsake_operation(*this, forsaken); }
#endif

  void end(bool due) noexcept {
    if (anywhere()) {
      const std::lock_guard lock(mutex);
      ended = true;
    } else {
      ended = true;
    }
    end_operation(*this, due);
  }
  template <class... V>
  bool settle_values(V&&... values) noexcept {
    if constexpr (std::is_void_v<T> || sizeof...(V) == 1)
      return settle_value(*this, std::forward<V>(values)...);
    else
      return settle_value(*this, std::tuple<std::decay_t<V>...>(std::forward<V>(values)...));
  }
  template <class... A>
  bool settle_with(A&&... values) noexcept {
    return settle_values(std::forward<A>(values)...);
  }
  template <class... V>
  bool settle_with(boost::system::error_code failure, V&&... values) noexcept {
    if (failure) return settle_error(*this, std::make_exception_ptr(boost::system::system_error(failure)));
    return settle_values(std::forward<V>(values)...);
  }
  template <class... V>
  bool settle_with(std::exception_ptr failure, V&&... values) noexcept {
    if (failure) return settle_error(*this, std::move(failure));
    return settle_values(std::forward<V>(values)...);
  }
};

#if BOOST_VERSION < 107700
/// Where the steps of an operation run: on the executor of its object, unless the operation is forsaken. A composed one
/// (read_until) would go on with its buffers when its object, which the coroutine owned as well, is closed.
template <class Operation, class Executor>
class AsioSteps {
public:
  AsioSteps(PendingBase operation, Executor executor) noexcept
      : operation_(std::move(operation)), executor_(std::move(executor)) {}

  template <class F>
  void execute(F&& f) const {
    boost::asio::execution::execute(executor_, [keep = operation_, f = std::forward<F>(f)]() mutable {
      if (!static_cast<Operation*>(keep.state())->forsaken) std::move(f)();
    });
  }
  template <class Property>
    requires boost::asio::can_query<const Executor&, Property>::value
  decltype(auto) query(const Property& property) const {
    return boost::asio::query(executor_, property);
  }
  template <class Property>
    requires boost::asio::can_require<const Executor&, Property>::value
  auto require(const Property& property) const {
    return with(boost::asio::require(executor_, property));
  }
  template <class Property>
    requires boost::asio::can_prefer<const Executor&, Property>::value
  auto prefer(const Property& property) const {
    return with(boost::asio::prefer(executor_, property));
  }
  friend bool operator==(const AsioSteps& a, const AsioSteps& b) noexcept {
    return a.operation_ == b.operation_ && a.executor_ == b.executor_;
  }
  friend bool operator!=(const AsioSteps& a, const AsioSteps& b) noexcept { return !(a == b); }

private:
  template <class Other>
  AsioSteps<Operation, Other> with(Other executor) const {
    return {operation_, std::move(executor)};
  }

  PendingBase operation_;
  Executor executor_;
};

/// What a handler tells of its executor: nothing, where that cannot be a Core's own.
template <class Operation, class Executor>
struct AsioStepsOf {
  AsioStepsOf(Operation&, const Executor&) noexcept {}
};
template <class Operation, class Executor>
  requires boost::asio::can_query<const Executor&, boost::asio::execution::context_t>::value
struct AsioStepsOf<Operation, Executor> {
  AsioStepsOf(Operation& operation, const Executor& executor) : steps(PendingBase::share(&operation), executor) {}
  using executor_type = AsioSteps<Operation, Executor>;
  executor_type get_executor() const noexcept { return steps; }
  executor_type steps;
};
#endif

/// What Asio calls, or drops, exactly once.
template <class Operation>
class AsioHandler {
public:
  explicit AsioHandler(Operation& operation) noexcept : operation_(&operation) {}
  AsioHandler(AsioHandler&& other) noexcept : operation_(std::exchange(other.operation_, nullptr)) {}
  AsioHandler& operator=(AsioHandler&& other) noexcept {
    std::swap(operation_, other.operation_);
    return *this;
  }
  ~AsioHandler() {
    if (!operation_) return;
    end_work_cancelled(*operation_, "the operation was dropped with its loop");
    operation_->end(false);
  }

  template <class... A>
  void operator()(A&&... values) noexcept {
    Operation& operation = *std::exchange(operation_, nullptr);
    operation.end(operation.settle_with(std::forward<A>(values)...));
  }

#if BOOST_VERSION >= 107700
  using cancellation_slot_type = boost::asio::cancellation_slot;
  cancellation_slot_type get_cancellation_slot() const noexcept { return operation_->signal.slot(); }
#endif

private:
  Operation* operation_;
};

#if BOOST_VERSION < 107700
template <class Operation, class Executor>
struct AsioSteppedHandler : AsioHandler<Operation>, AsioStepsOf<Operation, Executor> {
  AsioSteppedHandler(Operation& operation, const Executor& executor)
      : AsioHandler<Operation>(operation), AsioStepsOf<Operation, Executor>(operation, executor) {}
};
#endif

template <class... Values, class Initiation, class... A>
Pending<typename AsioResult<Values...>::type> start_asio(Initiation&& initiation, A&&... args) {
  using T = typename AsioResult<Values...>::type;
  auto executor = executor_of(initiation);
  using Executor = decltype(executor);
  using Operation = AsioOperation<T, Executor>;
  constexpr bool unknown = std::is_same_v<Executor, NoExecutor>;
  static_assert(alignof(Operation) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__, "over-aligned results are not supported");

  Core* core = core_of_executor(executor);
  std::optional<Executor> elsewhere;
  if (!core) {
    core = current_core();
    if (!unknown || !core) elsewhere.emplace(executor);
  }
  auto* operation = ::new (allocate(sizeof(Operation))) Operation(std::move(elsewhere));
  Pending<T> pending(PendingBase::Adopt{}, operation);
  if (!begin_operation(*operation, core, unknown || operation->elsewhere)) return pending;
  try {
#if BOOST_VERSION >= 107700
    AsioHandler<Operation> handler(*operation);
#else
    AsioSteppedHandler<Operation, Executor> handler(*operation, executor);
#endif
    std::forward<Initiation>(initiation)(std::move(handler), std::forward<A>(args)...);
  } catch (...) {  // the handler was dropped
    operation_begun(*operation);
    throw;
  }
  operation_begun(*operation);
  return pending;
}

}  // namespace caller::detail
