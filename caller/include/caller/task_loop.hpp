// TaskLoop: a small single-thread loop.
#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

#include <caller/caller.hpp>

namespace caller {

namespace detail {

struct HandleState {
  bool cancelled = false;
  bool finished = false;
};

template <class F, class... A>
struct HandleOp : Op {
  std::shared_ptr<HandleState> state;
  Core* core;
  ContextNode* context = retain(current_context());
  Bound<F, A...> call;

  template <class G, class... B>
  HandleOp(std::shared_ptr<HandleState> s, Core& c, G&& g, B&&... b)
      : state(std::move(s)), core(&c), call{std::forward<G>(g), std::tuple<A...>(std::forward<B>(b)...)} {
    act = [](Op* op, OpAct why) {
      auto* self = static_cast<HandleOp*>(op);
      if (why == OpAct::run && !self->state->cancelled) {
        this_thread().context = std::exchange(self->context, nullptr);
        try {
          static_cast<void>(self->call());
        } catch (...) {
          report_error(self->core, "TaskLoop handle", std::current_exception());
        }
        leave_work();
        self->state->finished = true;
      }
      release(self->context);
      self->~HandleOp();
      deallocate(self, sizeof(HandleOp));
    };
  }
};

template <class T>
concept LoopWork = is_coro_v<T> || is_pending_v<T>;

}  // namespace detail

/// What TaskLoop::call_soon gives: a call that has not run yet.
/// Thread-safety: the loop's thread. Errors: none. Source: PyCoroutines Handle.
class Handle {
public:
  /// The call will never run; no effect when it has.
  void cancel() noexcept {
    if (!state_->finished) state_->cancelled = true;
  }
  /// cancel() came before it ran
  bool is_cancelled() const noexcept { return state_->cancelled; }
  /// It ran, with or without an error.
  bool finished() const noexcept { return state_->finished; }

private:
  friend class TaskLoop;
  explicit Handle(std::shared_ptr<detail::HandleState> s) noexcept : state_(std::move(s)) {}
  std::shared_ptr<detail::HandleState> state_;
};

/// A loop on the Caller's queue for one thread that is not a Caller of its own: several may exist in a thread, and one
/// may run inside a Caller's function. While it runs, it is the thread's current Caller, so that everything of this
/// library works in its tasks.
///
/// Thread-safety: one thread; stop() from any.
/// Errors: what a handle throws is reported and the loop goes on.
/// Source: PyCoroutines TaskLoop; differs: the oldest handle runs first, waiting does not spin.
class CALLER_API TaskLoop {
public:
  TaskLoop();
  ~TaskLoop();
  TaskLoop(const TaskLoop&) = delete;
  TaskLoop& operator=(const TaskLoop&) = delete;

  /// Queues a plain function. Errors: NotRegularFunction for a coroutine function (use add_task).
  template <class F, class... A>
  Handle call_soon(F&& fn, A&&... args) {
    using Raw = std::invoke_result_t<std::decay_t<F>&, std::decay_t<A>...>;
    auto state = std::make_shared<detail::HandleState>();
    if constexpr (detail::is_coro_v<Raw>) {
      throw NotRegularFunction("TaskLoop::call_soon: a coroutine function; use add_task");
    } else {
      using Op = detail::HandleOp<std::decay_t<F>, std::decay_t<A>...>;
      auto* op = ::new (detail::allocate(sizeof(Op))) Op(state, *core_, std::forward<F>(fn), std::forward<A>(args)...);
      if (!detail::submit(*core_, op)) op->act(op, detail::OpAct::drop);
      return Handle(std::move(state));
    }
    return Handle(std::move(state));
  }

  /// Makes a task of a coroutine; it begins when the loop turns.
  template <class T>
  Pending<T> add_task(Coro<T> coro) {
    ScheduleOptions options;
    return caller().schedule_call(options, [c = std::move(coro)]() mutable { return std::move(c); });
  }

  /// A Pending of this loop with no call behind it, to be completed by set_result.
  template <class T = void>
  Pending<T> create_future() {
    Pending<T> p;
    make_ours(p);
    return p;
  }

  /// A Pending of this loop as it is, a Coro as a new task. Anything else does not compile.
  /// Errors: Error(wrong_loop). Source: PyCoroutines transform_future.
  template <detail::LoopWork W>
  auto transform_future(W&& work) {
    if constexpr (detail::is_coro_v<W>) {
      return add_task(std::forward<W>(work));
    } else {
      check_loop(work);
      return std::remove_cvref_t<W>(std::forward<W>(work));
    }
  }

  /// Runs the oldest ready entry (a handle, or one step of a task). False: there was none.
  bool run_once();
  /// Runs until stop(); waits when nothing is ready. Errors: Error(already_running).
  void run_forever();
  /// Runs until the task or Pending is done and gives its value.
  /// Errors: Error(already_running, wrong_loop); what the work threw; PendingCancelled.
  template <detail::LoopWork W>
  auto run_until_complete(W&& work) {
    check_not_running("TaskLoop::run_until_complete");
    auto pending = transform_future(std::forward<W>(work));
    drive(pending);
    return pending.wait();
  }
  /// Ends run_forever after what was queued before. Thread-safety: any thread.
  void stop();
  /// Entries ready to run.
  std::size_t total_tasks() const;
  /// a run_ function is on the stack
  bool running() const noexcept { return running_; }

private:
  class Entered;
  Caller caller() const;
  void check_loop(const PendingBase& p) const;
  void make_ours(const PendingBase& p) const;
  void check_not_running(const char* operation) const;
  void drive(const PendingBase& p);
  detail::Core* core_;
  bool running_ = false;
  bool stopped_ = false;
};

}  // namespace caller
