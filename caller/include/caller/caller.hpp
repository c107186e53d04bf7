// Caller: one executor per thread.
#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <ranges>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <caller/context.hpp>
#include <caller/coro.hpp>
#include <caller/detail/call.hpp>
#include <caller/export.hpp>
#include <caller/generator.hpp>
#include <caller/options.hpp>
#include <caller/pending.hpp>

namespace caller {

class Caller;
class PendingGroup;
struct PendingGroupOptions;

template <class T>
class CompletionStream;

namespace detail {

struct CompletionQueue;
struct AsioTag {};  // finds asio_executor of caller/asio.hpp

CALLER_API void retain_core(Core& core, bool owner) noexcept;
CALLER_API void release_core(Core& core, bool owner) noexcept;
CALLER_API Core& find_core(Modifier which, const CallerOptions& options);
/// Gives the state its context and groups, and queues it; a stopped core cancels it.
CALLER_API void launch_slow(Core& core, PendingState& s, const ScheduleOptions* options) noexcept;
inline void launch(Core& core, PendingState& s) noexcept {
  const ThreadState& ts = this_thread();
  ContextNode* const context = ts.context;
  LoopQueue* const queue = ts.queue;
  if (ts.core != &core || !queue->unhindered() || (context && context->group)) [[unlikely]]
    return launch_slow(core, s, nullptr);
  if (context) s.context = retain(context);
  s.set_first_word(queue->own_call);
  queue->push_local(&s);
}
CALLER_API void launch_later(Core& core, PendingState& s, DelayNode& node, Duration delay) noexcept;
CALLER_API void launch_on_worker(Core& core, PendingState& s) noexcept;
CALLER_API bool accepts_calls(Core& core) noexcept;
CALLER_API bool queue_item(Core& core, const LaneKey& key, LaneItem* item);  // takes the item in any case
CALLER_API PendingBase lane_pending(Core& core, const LaneKey& key);
CALLER_API bool close_lane(Core& core, const LaneKey& key, std::string message);
CALLER_API Coro<void> wait_for_items(std::vector<PendingBase> items, WaitSetOptions options);

CALLER_API std::shared_ptr<CompletionQueue> make_completion_queue(std::size_t limit, bool cancel_unfinished);
CALLER_API bool completion_add(CompletionQueue& q,
                               PendingBase item);  // false: it waits for itself (reported at the end)
CALLER_API Coro<bool> completion_room(std::shared_ptr<CompletionQueue> q);  // false: nobody consumes any more
CALLER_API void completion_end(CompletionQueue& q, std::exception_ptr error) noexcept;
CALLER_API Coro<PendingBase> completion_next(std::shared_ptr<CompletionQueue> q);  // empty at the end
CALLER_API void completion_leave(CompletionQueue& q, PendingBase feeder) noexcept;

/// What wait() and as_completed() take besides Pendings and coroutines.
template <class A>
concept OtherAwaitable = !is_pending_v<A> && !std::is_same_v<std::remove_cvref_t<A>, PendingBase> && !is_coro_v<A> &&
                         Awaitable<std::remove_cvref_t<A>>;
template <class Item>
struct ItemPending {
  static_assert(OtherAwaitable<Item>, "an item is something to co_await: a Pending, a Coro or another awaitable");
  using Raw = await_result_t<Item&&>;
  using type = Pending<std::conditional_t<std::is_lvalue_reference_v<Raw>, Raw, std::remove_cvref_t<Raw>>>;
};
template <class T>
struct ItemPending<Pending<T>> {
  using type = Pending<T>;
};
template <>
struct ItemPending<PendingBase> {
  using type = PendingBase;
};
template <class T>
struct ItemPending<Coro<T>> {
  using type = Pending<T>;
};
template <class Item>
using item_pending_t = typename ItemPending<std::remove_cvref_t<Item>>::type;
/// The coroutine around an awaitable that is to be a Pending.
template <class A>
Coro<typename item_pending_t<A>::value_type> await_item(A item) {
  co_return co_await std::move(item);
}

template <class F, class... A>
using result_of_call = typename CallTraits<std::decay_t<F>, std::decay_t<A>...>::Result;

template <class>
inline constexpr bool is_std_function = false;
template <class S>
inline constexpr bool is_std_function<std::function<S>> = true;

}  // namespace detail

/// One executor, bound to one thread: it runs calls one at a time, in the order made, and resumes coroutines there.
///
/// A Caller object is a cheap shared handle. Handles copied from a constructor with `new_thread`, `manual` or `guest`
/// own the executor: when the last one goes it is stopped (and its thread joined; the destructor's own loop turns
/// meanwhile). Handles from current(), get(), parent() and children() do not; a child lives until it or its parent
/// stops.
///
/// Thread-safety: any thread, unless a function says otherwise.
/// Errors: see each function.
/// Source: async-kernel Caller; differs: arguments are typed, states are a C++ enumeration.
class CALLER_API Caller {
public:
  /// The calling thread's. Errors: NoRunningCaller, naming the thread.
  Caller() : Caller(Modifier::current_thread) {}

  /// The one the modifier names, or a new one.
  /// Errors: NoRunningCaller; Error(caller_exists) for a second one in a thread, or in a host; Error(mismatch) when an
  /// existing one has another name or backend than asked for, or a host is given to anything but a guest;
  /// Error(unsupported_backend) for a backend that is not built in.
  explicit Caller(Modifier which, const CallerOptions& options = {});

  Caller(const Caller& other) noexcept;
  Caller(Caller&& other) noexcept : core_(std::exchange(other.core_, nullptr)), owner_(other.owner_) {}
  Caller& operator=(Caller other) noexcept {
    std::swap(core_, other.core_);
    std::swap(owner_, other.owner_);
    return *this;
  }
  ~Caller();

  /// The Caller of this thread. Thread-safety: any thread. Errors: NoRunningCaller. Source: async-kernel Caller().
  static Caller current() { return Caller(Modifier::current_thread); }
  /// The Caller of the main thread. Thread-safety: any thread. Errors: NoRunningCaller. Source: async-kernel
  /// Caller("MainThread").
  static Caller main_thread() { return Caller(Modifier::main_thread); }
  /// The Caller of a thread, if it has one. Source: async-kernel Caller.get_existing.
  static std::optional<Caller> find(std::thread::id thread);
  /// Every Caller that has not stopped, oldest first.
  static std::vector<Caller> all_callers();

  /// The child of that name, created if there is none; without a name a new child. A stopping child is never returned.
  /// Errors: CallerStopped; Error(mismatch) when the child has another backend. Source: async-kernel Caller.get.
  Caller get(const CallerOptions& options = {});

  std::vector<Caller> children() const;     ///< those not stopping, workers included, oldest first
  std::optional<Caller> parent() const;     ///< none for one that no other has made
  std::string name() const;                 ///< as given, or made from the number
  std::uint64_t id() const noexcept;        ///< unique in the process, rising
  std::thread::id thread() const noexcept;  ///< of its loop
  std::string thread_name() const;          ///< what the system calls its thread
  Backend backend() const noexcept;         ///< what its loop was asked to run on; children inherit it
  CallerState state() const noexcept;       ///< as of now: another thread may change it at once
  /// neither ending nor ended
  bool running() const noexcept { return state() == CallerState::running; }
  bool is_protected() const noexcept;  ///< stop() without force is ignored
  void protect() noexcept;             ///< from now on stop() needs force
  bool is_current() const noexcept;    ///< this thread's

  /// Pendings that are done when the state is reached. Source: async-kernel Caller.started, stopping, stopped.
  Pending<void> started() const;
  Pending<void> stopping() const;  ///< done when its end has begun
  Pending<void> stopped() const;   ///< done when its thread has nothing of it left

  /// Starts the end: children first, then queued calls are cancelled, running coroutines cancelled and awaited, a
  /// running plain function waited for, and so is work whose Pending is protected. Returns the state it leaves;
  /// `stopped()` tells the end. Ignored when this Caller is protected, unless forced. Thread-safety: any thread.
  /// Errors: none. Source: async-kernel Caller.stop.
  CallerState stop(bool force = false);

  // ---- pumping a manual Caller; its own thread only. Errors: Error(wrong_thread, already_running), CallerStopped ----
  // A guest is driven by its host: poll and run_until turn it, too, run and run_once are Error(already_running).

  void run();              ///< until it is stopped
  std::size_t run_once();  ///< waits until something is ready and runs a batch; the number run
  std::size_t poll();      ///< runs what is ready, and some of what that queues; waits for nothing; the number run
  /// Runs until the Pending is done.
  void run_until(const PendingBase& pending);

  // ---- calls ----

  /// Runs `fn(args…)` on this Caller's thread as a task of its own; `fn` is a function or a coroutine function.
  ///
  /// Calls from one thread run in the order made; `fn` never runs inside this call. Arguments are decayed and moved;
  /// use std::ref for references. A function that takes a std::stop_token first is given the Pending's.
  ///
  /// Thread-safety: any thread. Cancel-safety: cancelled before start, `fn` never runs.
  /// Errors: what `fn` throws arrives in the Pending; after stop() the Pending is already cancelled.
  /// Source: async-kernel Caller.call_soon.
  template <class F, class... A>
  Pending<detail::result_of_call<F, A...>> call_soon(F&& fn, A&&... args) const {
    auto* s = make_state(std::forward<F>(fn), std::forward<A>(args)...);
    detail::launch(*core_, *s);
    return {PendingBase::Adopt{}, s};
  }

  /// As call_soon, `delay` after this call. Units: nanoseconds, or any std::chrono duration that converts to them
  /// without loss; negative counts as zero. Cancel-safety: cancelled while waiting, the timer is removed and `fn` never
  /// runs.
  template <class F, class... A>
  Pending<detail::result_of_call<F, A...>> call_later(Duration delay, F&& fn, A&&... args) const {
    using State = detail::LaterState<std::decay_t<F>, std::decay_t<A>...>;
    auto* s = detail::make_pooled<State>(*core_, std::forward<F>(fn), std::forward<A>(args)...);
    detail::launch_later(*core_, *s, s->node, delay);
    return {PendingBase::Adopt{}, s};
  }

  /// The base of call_soon and call_later, with everything settable. Source: async-kernel Caller.schedule_call.
  template <class F, class... A>
  Pending<detail::result_of_call<F, A...>> schedule_call(const ScheduleOptions& options, F&& fn, A&&... args) const {
    if (options.backend) require_backend(*options.backend);
    auto* s = make_state(std::forward<F>(fn), std::forward<A>(args)...);
    detail::launch_slow(*core_, *s, &options);
    return {PendingBase::Adopt{}, s};
  }

  /// Runs `fn(args…)` inline in the scheduler, fire and forget, in the calling context. Errors of `fn` go to the error
  /// handler and the next item runs. Only what cannot suspend is accepted: a coroutine function does not compile.
  /// Returns false when the Caller has stopped and nothing was queued. Source: async-kernel Caller.call_direct.
  template <class F, class... A>
  bool call_direct(F&& fn, A&&... args) const {
    using Raw = std::invoke_result_t<std::decay_t<F>&, std::decay_t<A>...>;
    static_assert(!detail::is_coro_v<Raw>, "call_direct cannot run a coroutine function: use call_soon or queue_call");
    using Op = detail::DirectOp<std::decay_t<F>, std::decay_t<A>...>;
    auto* op = detail::make_pooled<Op>(*core_, std::forward<F>(fn), std::forward<A>(args)...);
    op->context = detail::retain(detail::this_thread().context);
    return detail::submit_or_drop(*core_, op);
  }

  /// The fast path: no Pending, no context. Returns false when nothing was queued.
  template <class F>
  bool post(F&& fn) const {
    using Op = detail::PostOp<std::decay_t<F>>;
    static_assert(!detail::is_coro_v<std::invoke_result_t<std::decay_t<F>&>>, "post cannot run a coroutine function");
    return detail::submit_or_drop(*core_, detail::make_pooled<Op>(*core_, std::forward<F>(fn)));
  }

  /// `queue_call(fn, args…)` or `queue_call(key, fn, args…)`: one first-in-first-out lane per function or per key,
  /// worked off strictly one after the other by one long-lived task. `fn` may be a coroutine function; each item runs
  /// in its own call's context; an error (a cancellation thrown by `fn` included) is reported and the lane goes on.
  ///
  /// A lane is identified exactly: by the function's address, a callable object's type, or the key's type and value.
  /// A std::function has no identity: give it a key.
  ///
  /// Returns false when the Caller has stopped and nothing was queued. Source: async-kernel Caller.queue_call.
  template <class First, class... Rest>
  bool queue_call(First&& first, Rest&&... rest) const {
    if constexpr (std::is_invocable_v<std::decay_t<First>&, std::decay_t<Rest>...>) {
      static_assert(!detail::is_std_function<std::decay_t<First>>, "a std::function has no identity: give a lane key");
      auto key = detail::make_lane_key(first);
      return queue_keyed(std::move(key), std::forward<First>(first), std::forward<Rest>(rest)...);
    } else {
      static_assert(!std::is_class_v<std::decay_t<First>> || std::is_convertible_v<const First&, std::string_view>,
                    "a lane key is a string, an integer, an enumerator or a pointer");
      return queue_keyed(detail::make_lane_key(first), std::forward<Rest>(rest)...);
    }
  }

  /// The lane's own Pending (done when the lane is closed), empty when there is no such lane. Source: queue_get.
  template <class K>
  PendingBase queue_get(const K& function_or_key) const {
    return detail::lane_pending(*core_, detail::make_lane_key(function_or_key));
  }
  /// Drops what waits in the lane and cancels what runs. False: no such lane. Source: async-kernel queue_close.
  template <class K>
  bool queue_close(const K& function_or_key, std::string message = "the lane was closed") const {
    return detail::close_lane(*core_, detail::make_lane_key(function_or_key), std::move(message));
  }

  /// Runs `fn(args…)` on a worker thread: the one idle for the shortest time, else a new child Caller. The worker is
  /// free again when its function ends, also when the Pending was cancelled before. Work that `fn` starts on the worker
  /// and does not wait for is cancelled when that one stops: idle for worker_idle_timeout, or one too many.
  /// Errors: CallerStopped; what `fn` throws arrives in the Pending. Source: async-kernel Caller.to_thread.
  template <class F, class... A>
  Pending<detail::result_of_call<F, A...>> to_thread(F&& fn, A&&... args) const {
    if (!detail::accepts_calls(*core_)) throw_stopped("to_thread");
    auto* s = make_state(std::forward<F>(fn), std::forward<A>(args)...);
    detail::launch_on_worker(*core_, *s);
    return {PendingBase::Adopt{}, s};
  }

  /// Runs `fn(args…)` in this Caller's thread on another backend: in it caller::uv_loop(), or executor(), gives the
  /// backend's own loop, made on first use and alive until stop.
  /// Errors: Error(unsupported_backend). Source: async-kernel Caller.call_using_backend.
  template <class F, class... A>
  Pending<detail::result_of_call<F, A...>> call_using_backend(Backend backend, F&& fn, A&&... args) const {
    ScheduleOptions options;
    options.backend = backend;
    return schedule_call(options, std::forward<F>(fn), std::forward<A>(args)...);
  }

  /// The executor of this Caller's io_context, made on first use; needs caller/asio.hpp. What runs on it runs in this
  /// Caller's thread while the Caller runs, and is dropped when it ends. Objects made with it must not outlive the last
  /// handle of the Caller; other threads may start operations with use_pending at any time, but plain handlers only
  /// while the Caller does not end (as with any io_context).
  /// Thread-safety: any thread. Errors: CallerStopped; Error(unsupported_backend) for a guest whose host is no
  /// io_context. Source: asyncio.get_running_loop, for what needs one.
  template <class Tag = detail::AsioTag>
  auto executor() const {
    static_assert(requires { asio_executor(*this, Tag{}); }, "include <caller/asio.hpp> to use executor()");
    return asio_executor(*this, Tag{});
  }

  // ---- waiting for several; each to be awaited by a coroutine ----

  /// `auto [done, pending] = co_await c.wait(items, options)`. A time-out neither throws nor cancels; no items give two
  /// empty sets. An item that is no Pending becomes one by call_soon: a Coro, or anything else to co_await, which is
  /// copied if it can be and else moved from.
  /// Cancel-safety: the items are left alone. Errors: PendingCancelled of the waiter. Source: asyncio.wait,
  /// Caller.wait.
  template <std::ranges::input_range Range>
  auto wait(Range&& items, WaitSetOptions options = {}) const
      -> Coro<WaitResult<detail::item_pending_t<std::ranges::range_value_t<Range>>>> {
    std::vector<detail::item_pending_t<std::ranges::range_value_t<Range>>> list;
    for (auto&& item : items) list.push_back(to_pending(std::forward<decltype(item)>(item)));
    return wait_list(std::move(list), options);
  }
  /// The same for a list written in place (which g++ 12 cannot compile inside of a co_await): Pendings or other
  /// awaitables of one type, but no Coro, which would have to be moved out of the list.
  template <class Item>
    requires(!detail::is_coro_v<Item>)
  auto wait(std::initializer_list<Item> items, WaitSetOptions options = {}) const
      -> Coro<WaitResult<detail::item_pending_t<Item>>> {
    return wait(std::vector<Item>(items), options);
  }
  /// The same for a list of Pendings of several types.
  Coro<WaitResult<PendingBase>> wait(std::initializer_list<PendingBase> items, WaitSetOptions options = {}) const {
    return wait_list(std::vector<PendingBase>(items), options);
  }

  /// A stream of the items' Pendings in the order in which they are done: `while (auto p = co_await s.next()) …`.
  ///
  /// A container is taken whole. A generator (Generator, AsyncGenerator, or a range that can be read only once) is
  /// pulled on this Caller, with at most `max_concurrent` items pulled and not consumed; what it throws surfaces at the
  /// end. An item that is the waiting task itself is Error(deadlock). Source: async-kernel Caller.as_completed.
  template <class Items>
  auto as_completed(Items&& items, AsCompletedOptions options = {}) const;
  /// The same for a list written in place; as for wait.
  template <class Item>
    requires(!detail::is_coro_v<Item>)
  auto as_completed(std::initializer_list<Item> items, AsCompletedOptions options = {}) const;

  /// A group that waits for all that is started in it; see with_pending_group. Source: Caller.create_pending_group.
  PendingGroup create_pending_group(const PendingGroupOptions& options) const;
  /// The same with the default options.
  PendingGroup create_pending_group() const;

  /// A task around `fn(started, stopping, args…)` that runs here from its start() until its stop(): see StartStopTask,
  /// in caller/start_stop.hpp. Thread-safety: any thread. Errors: none. Source: Caller.create_start_stop_task.
  template <class F, class... A>
  auto create_start_stop_task(F&& fn, A&&... args) const;

  friend bool operator==(const Caller& a, const Caller& b) noexcept { return a.core_ == b.core_; }

  /// For the runtime.
  detail::Core& core() const noexcept { return *core_; }
  /// For the runtime: marks the constructor that takes over a Core.
  struct Adopt {};
  /// For the runtime: a handle of `core`; `owner`: its end stops it.
  Caller(Adopt, detail::Core& core, bool owner) noexcept : core_(&core), owner_(owner) {}

private:
  template <class F, class... A>
  auto* make_state(F&& fn, A&&... args) const {
    static_assert(std::is_constructible_v<std::decay_t<F>, F> && (std::is_constructible_v<std::decay_t<A>, A> && ...),
                  "the function, or an argument, cannot be copied: std::move it");
    using State = detail::CallState<std::decay_t<F>, std::decay_t<A>...>;
    return detail::make_pooled<State>(*core_, std::forward<F>(fn), std::forward<A>(args)...);
  }
  template <class F, class... A>
  bool queue_keyed(const detail::LaneKey& key, F&& fn, A&&... args) const {
    using Item = detail::LaneCall<std::decay_t<F>, std::decay_t<A>...>;
    return detail::queue_item(*core_, key, detail::make_pooled<Item>(std::forward<F>(fn), std::forward<A>(args)...));
  }
  template <class T>
  Pending<T> to_pending(const Pending<T>& p) const {
    return p;
  }
  PendingBase to_pending(const PendingBase& p) const { return p; }
  template <class T>
  Pending<T> to_pending(Coro<T>&& coro) const {
    return call_soon([c = std::move(coro)]() mutable { return std::move(c); });
  }
  template <class T>
  Pending<T> to_pending(Coro<T>& coro) const {
    return to_pending(std::move(coro));
  }
  template <detail::OtherAwaitable A>
  auto to_pending(A&& item) const {
    using Item = std::remove_cvref_t<A>;
    if constexpr (std::is_constructible_v<Item, A>)
      return call_soon(&detail::await_item<Item>, std::forward<A>(item));
    else
      return call_soon(&detail::await_item<Item>, std::move(item));
  }
  template <class P>
  static Coro<WaitResult<P>> wait_list(std::vector<P> items, WaitSetOptions options) {
    co_await detail::wait_for_items(std::vector<PendingBase>(items.begin(), items.end()), options);
    WaitResult<P> result;
    for (auto& p : items) (p.done() ? result.done : result.pending).push_back(std::move(p));
    co_return result;
  }
  template <class T, class Items>
  static Coro<void> feed(Caller self, std::shared_ptr<detail::CompletionQueue> queue, Items items);
  [[noreturn]] void throw_stopped(const char* operation) const;
  void require_backend(Backend backend) const;

  detail::Core* core_;
  bool owner_ = false;
};

/// `<Caller ⚫ running name="…">` for people. Errors: those of the stream.
CALLER_API std::ostream& operator<<(std::ostream& out, const Caller& caller);

/// Sets the handler of errors nobody can observe, for Callers that have none; none: the log, else a line on
/// standard error.
/// Thread-safety: any thread. Errors: none.
CALLER_API void set_error_handler(ErrorHandler handler);

/// Sets the handler of the debug log, for Callers that have none; none: nothing is logged (errors without an error
/// handler go to standard error). Thread-safety: any thread. Errors: none. Source: async-kernel Caller.log.
CALLER_API void set_log_handler(LogHandler handler);

namespace detail {
struct SleepAwaiter : TimedWait {
  std::int64_t duration_ns;
  explicit SleepAwaiter(std::int64_t ns) noexcept : duration_ns(ns) {}
  SleepAwaiter(const SleepAwaiter&) = delete;
  SleepAwaiter& operator=(const SleepAwaiter&) = delete;
  ~SleepAwaiter() {
    if (handle) forget_timed(*this);
  }
  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> h) { return suspend_timed(*this, h, duration_ns); }
  void await_resume() {
    handle = {};
    throw_if_cancelled(*this);
  }
};
}  // namespace detail

/// What sleep_for gives to `co_await`.
struct [[nodiscard]] Sleep {
  using caller_awaitable = void;
  Duration duration;  ///< at least this long; 0 or less: the rest of the queue goes first
  detail::SleepAwaiter operator co_await() const noexcept { return detail::SleepAwaiter(duration.count()); }
};

/// Suspends the running coroutine for a time. Units: nanoseconds, or any std::chrono duration that converts to them
/// without loss; zero or less: to the end of the queue.
/// Cancel-safety: the timer is removed; a sleep that is over ends as cancelled until the coroutine has gone on.
/// Errors: NoRunningCaller; PendingCancelled. Source: anyio.sleep.
inline Sleep sleep_for(Duration d) noexcept { return {d}; }
/// Lets everything else that is ready run first. Source: anyio.lowlevel.checkpoint.
inline Sleep yield_now() noexcept { return {Duration::zero()}; }

/// Calls a function or coroutine function from plain code and returns its value.
///
/// In a thread with a Caller the call runs there and the loop keeps turning until the result is there, nested to any
/// depth (a wait that began later must end first); elsewhere a Caller is made for the thread and driven to the result.
///
/// Thread-safety: any thread. Cancel-safety: when the surrounding work is cancelled, so is the call.
/// Errors: what the call throws; PendingCancelled. Source: pynenc's runner ("call async from sync"), asyncio.run.
template <class F, class... A>
auto call_async_from_sync(F&& fn, A&&... args) {
  if (detail::current_core()) return Caller().call_soon(std::forward<F>(fn), std::forward<A>(args)...).wait();
  Caller loop(Modifier::manual, {.name = "call_async_from_sync", .backend = Backend::asio});
  auto pending = loop.call_soon(std::forward<F>(fn), std::forward<A>(args)...);
  loop.run_until(pending);
  return pending.wait();
}

}  // namespace caller

#include <caller/completion_stream.hpp>  // what as_completed gives
