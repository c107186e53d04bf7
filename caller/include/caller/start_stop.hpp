// StartStopTask: a long-lived coroutine with an orderly start and an orderly end.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <tuple>
#include <utility>

#include <caller/caller.hpp>

namespace caller {

namespace detail {

/// What a StartStopTask, its function and the callbacks of both share.
class CALLER_API StartStopState : public std::enable_shared_from_this<StartStopState> {
public:
  StartStopState(const Caller& on, PendingBase end);
  StartStopState(const StartStopState&) = delete;
  StartStopState& operator=(const StartStopState&) = delete;
  virtual ~StartStopState();

  void listen();  // to the Caller's stopping; once it is shared
  void start();
  void stop();
  void require_started(const char* operation) const;  // Error(not_started)
  void enter();                                       // run(): not_started, already_running, wrong_thread
  bool ended_early() const noexcept { return stopped.done() && !stopping.done(); }
  [[noreturn]] void throw_ended_early() const;

  const Caller caller;  // does not own the executor
  const Pending<> started, stopping;
  const PendingBase stopped;

private:
  virtual PendingBase launch() = 0;
  virtual void pass_value(const PendingBase& work) = 0;
  void work_done(const PendingBase& work);
  void fail(const std::exception_ptr& error);

  mutable std::mutex mutex_;
  PendingBase work_;
  bool begun_ = false;         // start() was called
  bool refused_ = false;       // stop() came first
  bool caller_stops_ = false;  // the work ends by itself; the Caller's stop must not cancel it
  bool entered_ = false;
  CallbackId on_caller_ = 0;
};

/// Waits for its end, also when cancelled meanwhile; gives that cancellation.
CALLER_API Coro<std::exception_ptr> wait_for_end(PendingBase pending);

}  // namespace detail

/// What the function of a StartStopTask calls when it is up: from then on `started` is done.
/// Thread-safety: any thread; further calls do nothing. Errors: none.
/// Source: async-kernel StartStopTask, the function's first argument.
class CALLER_API StartSignal {
public:
  /// For StartStopTask.
  explicit StartSignal(std::weak_ptr<detail::StartStopState> state) noexcept : state_(std::move(state)) {}
  void operator()() const;  ///< the function has started: `started()` is done

private:
  std::weak_ptr<detail::StartStopState> state_;
};

/// A function that runs from start() until it is asked to stop, and then ends by itself.
///
/// The function is `fn(started, stopping, args…)`, a coroutine function as a rule: it calls `started()` when it is up,
/// and ends in its own time once the Pending `stopping` is done. It is not cancelled, neither by stop() nor by the stop
/// of its Caller, which waits for it. A task is started once; stopped before that it never runs.
///
/// | Pending    | done when                                                       | otherwise                         |
/// |------------|-----------------------------------------------------------------|-----------------------------------|
/// | `started`  | the function said so                                            | its error, when it failed before; |
/// |            |                                                                 | cancelled, when stopped before    |
/// | `stopping` | stop() was called, the Caller stops, or the last handle is gone |                                   |
/// | `stopped`  | the function has ended: its value                               | its error; cancelled, when it was,|
/// |            |                                                                 | or when it never ran              |
///
/// All three are protected: whoever waits with a time-out cancels nothing. A cheap shared handle.
///
/// Thread-safety: any thread, run() excepted. Cancel-safety: awaiting it and being cancelled leaves the task alone.
/// Errors: see each function; the function's own error, unless somebody looks at it, goes to the error handler.
/// Source: async-kernel StartStopTask; differs: function and arguments are bound when it is made; `started` fails when
/// the function ends before it called started(); destroying the last handle asks it to stop.
template <class T = void>
class [[nodiscard]] StartStopTask {
public:
  using value_type = T;
  using caller_awaitable = void;

  /// Queues the function on its Caller; a second call, or one after stop(), does nothing.
  /// Thread-safety: any thread. Errors: none; when the Caller has stopped, `started` and `stopped` are cancelled.
  /// Source: async-kernel StartStopTask.start.
  StartStopTask& start() {
    state().start();
    return *this;
  }

  /// Asks the function to end; gives `stopped()`, to wait for that. Once asked, further calls do nothing.
  /// Thread-safety: any thread. Errors: none. Source: async-kernel StartStopTask.stop.
  Pending<T> stop() const {
    state().stop();
    return stopped();
  }

  /// done when the function has called its StartSignal
  Pending<> started() const { return state().started; }
  /// done when stop() was called
  Pending<> stopping() const { return state().stopping; }
  /// done with the function's result when it has returned
  Pending<T> stopped() const { return Pending<T>::share(state().stopped.state()); }
  /// where it runs
  Caller caller() const { return state().caller; }

  /// `co_await task`: what the function returns. Errors: Error(not_started); as Pending::result().
  detail::PendingAwaiter<T, false> operator co_await() const {
    state().require_started("co_await");
    return detail::PendingAwaiter<T, false>(state().stopped.state());
  }

  /// Waits until it has started, runs `body()`, then stops it and waits for its end; gives the body's value.
  ///
  /// When the function ends in the meantime the body is cancelled. Once for each task, and only on its own Caller.
  ///
  /// Cancel-safety: the body is cancelled, the task is stopped, and both are awaited.
  /// Errors: Error(not_started, already_running, wrong_thread); the body's error; the function's; when that ended in
  /// the meantime without one, Error(stopped_early). Source: `async with task.start()` of async-kernel.
  template <class Body>
  Coro<detail::result_of_call<Body>> run(Body body) const {
    return run_inside(*this, std::move(body));
  }

  /// For the runtime: see Caller::create_start_stop_task.
  explicit StartStopTask(std::shared_ptr<detail::StartStopState> state)
      : owner_(std::make_shared<Owner>(std::move(state))) {}

private:
  struct Owner {
    std::shared_ptr<detail::StartStopState> state;
    explicit Owner(std::shared_ptr<detail::StartStopState> s) : state(std::move(s)) { state->listen(); }
    Owner(const Owner&) = delete;
    Owner& operator=(const Owner&) = delete;
    ~Owner() { state->stop(); }
  };
  detail::StartStopState& state() const noexcept { return *owner_->state; }

  template <class Body>
  static Coro<detail::result_of_call<Body>> run_inside(StartStopTask self, Body body) {
    using R = detail::result_of_call<Body>;
    self.state().enter();
    std::exception_ptr outside;
    try {
      co_await self.started().async_wait_done({.timeout = {}, .protect = true});
    } catch (const PendingCancelled&) {
      outside = std::current_exception();
    }
    Pending<R> work(PendingBase::Adopt{}, nullptr);
    if (!outside && !self.state().ended_early()) {
      ScheduleOptions options;
      options.opt_out_of_groups = true;
      work = self.caller().schedule_call(options, std::move(body));
      const CallbackId id = self.stopped().add_done_callback(
          [w = PendingBase(work)](const PendingBase&) { w.cancel("the task around it ended"); });
      try {
        co_await work.async_wait_done();
      } catch (const PendingCancelled&) {
        outside = std::current_exception();
      }
      self.stopped().remove_done_callback(id);
    }
    const bool early = self.state().ended_early();
    self.state().stop();
    if (work) {
      if (auto e = co_await detail::wait_for_end(work)) outside = e;
    }
    if (auto e = co_await detail::wait_for_end(self.stopped())) outside = e;
    if (early && (!work || work.cancelled())) self.state().throw_ended_early();
    if (outside) std::rethrow_exception(outside);
    if (!work) detail::throw_outcome(*self.stopped().state());
    detail::throw_outcome(*work.state());
    detail::throw_outcome(*self.stopped().state());
    co_return work.wait();
  }

  std::shared_ptr<Owner> owner_;
};

namespace detail {

template <class F, class... A>
using start_stop_result = result_of_call<F, StartSignal, Pending<>, A...>;

template <class F, class... A>
class StartStopCall final : public StartStopState {
public:
  using T = start_stop_result<F, A...>;
  template <class G, class... B>
  StartStopCall(const Caller& on, Pending<T> end, G&& fn, B&&... args)
      : StartStopState(on, end),
        end_(std::move(end)),
        call_(Call{std::forward<G>(fn), std::tuple<A...>(std::forward<B>(args)...)}) {}

private:
  struct Call {
    F fn;
    std::tuple<A...> args;
  };

  PendingBase launch() override {
    Call call = std::move(*call_);
    call_.reset();
    return std::apply(
        [&](A&... args) {
          return caller.call_soon(std::move(call.fn), StartSignal(weak_from_this()), stopping, std::move(args)...);
        },
        call.args);
  }
  void pass_value(const PendingBase& work) override {
    if constexpr (std::is_void_v<T>) {
      (void)work;
      end_.set_result();
    } else {
      // Nobody else has a typed handle of the work.
      auto& value = static_cast<ValueState<T>*>(work.state())->get();
      if constexpr (std::is_reference_v<T>)
        end_.set_result(value);
      else
        end_.set_result(std::move(value));
    }
  }
  const Pending<T> end_;
  std::optional<Call> call_;
};

}  // namespace detail

template <class F, class... A>
auto Caller::create_start_stop_task(F&& fn, A&&... args) const {
  using Call = detail::StartStopCall<std::decay_t<F>, std::decay_t<A>...>;
  using T = typename Call::T;
  return StartStopTask<T>(std::make_shared<Call>(*this, Pending<T>(), std::forward<F>(fn), std::forward<A>(args)...));
}

}  // namespace caller
