#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include <caller/caller.hpp>
#include <caller/error.hpp>
#include <caller/pending.hpp>
#include <caller/tube/runner.hpp>

#include "runner_impl.hpp"
#include "runtime/shielded_wait.hpp"

namespace caller::tube {

using detail::Frame;
using detail::Instance;
using detail::Ready;
using Clock = std::chrono::steady_clock;

namespace {

/// A node at work, in a call of its own. Reused once that call has ended.
struct Task {
  explicit Task(TubeRunner::Impl& r) : frame(r, r.core), firing(frame) {}
  Frame frame;
  Firing firing;
  Pending<void> call;
  bool at_work = false;
};

}  // namespace

/// Everything happens on one thread, the Caller's, so there are no locks. Tasks tell process_async() by `wake` that
/// they have ended.
struct AsyncRunner::Work {
  Work(AsyncRunner& owner, AsyncOptions given)
      : runner(owner),
        options(given),
        inline_task(owner.impl()),
        quick(new std::atomic<bool>[owner.impl().graph.nodes.size()] {}) {}

  void start(const Ready& ready) {
    TubeRunner::Impl& r = runner.impl();
    const detail::NodePlan& plan = r.graph.nodes[ready.node];
    const bool plain = r.core.is_special(ready.node) ||
                       (!r.nodes[ready.node]->is_coroutine() && quick[ready.node].load(std::memory_order_relaxed));
    Task& task = plain ? inline_task : free_task();
    task.frame.reset(ready);
    try {
      if (!r.callbacks.empty()) r.notify_ready(task.frame);
      if (!runner.filter_ready(task.firing)) {
        r.core.finish(ready, {});
        return;
      }
      if (r.core.is_special(ready.node)) {
        r.core.run_special(ready);
        return;
      }
      task.frame.node = &runner.get_node(task.firing);
      if (!plan.node_assets.empty()) r.open_node_assets(task.frame);
      runner.collect_input(task.firing);
      runner.before_call_node(task.firing);
      if (plain) {
        timed_call(task.firing);
        runner.after_call_node(task.firing);
        settle(task, nullptr);
        return;
      }
    } catch (...) {
      settle(task, std::current_exception());
      return;
    }
    task.at_work = true;
    ++at_work;
    Task* at = &task;
    task.call = Caller().call_soon([this, at] { return run(at); });
  }

  Coro<void> run(Task* task) {
    std::exception_ptr error;
    try {
      if (task->frame.node->is_coroutine()) {
        co_await runner.call_node_async(task->firing);
      } else {
        Pending<void> worker = Caller().to_thread([this, task] { timed_call(task->firing); });
        // Also when this is cancelled: the worker uses the frame until it is through.
        (void)co_await worker.async_wait_done({.protect = true, .shield = true});
        co_await worker;
      }
      runner.after_call_node(task->firing);
    } catch (...) {
      error = std::current_exception();
    }
    settle(*task, error);
    task->at_work = false;
    --at_work;
    wake.set_result();
  }

  /// Calls a plain node. Whether it was quick decides where its next call runs.
  void timed_call(Firing& firing) {
    if (options.run_inline_below.count() == 0) {
      runner.call_node(firing);
      return;
    }
    const Clock::time_point begin = Clock::now();
    runner.call_node(firing);
    quick[firing.frame().ready.node].store(Clock::now() - begin < options.run_inline_below, std::memory_order_relaxed);
  }

  /// A node has returned, or thrown `error`.
  void settle(Task& task, std::exception_ptr error) {
    TubeRunner::Impl& r = runner.impl();
    Frame& f = task.frame;
    Instance* root = f.ready.instance->root;
    if (!error && !root->error && f.call->stream_ended()) {
      r.exhausted = true;
      error = std::make_exception_ptr(
          EndOfStream("the source \"" + f.plan->id + "\" of the tube " + r.graph.spec.id + " has ended"));
    } else if (error && !root->error) {
      error = located(r, f, std::move(error));
    } else if (!root->error) {
      try {
        runner.handle_events(task.firing);
        r.close_node_assets(f);
        return;
      } catch (...) {
        error = std::current_exception();
      }
    }
    r.close_node_assets(f);
    r.core.abandon(root, std::move(error));
    r.core.drop(f.ready);
  }
  static std::exception_ptr located(TubeRunner::Impl& r, const Frame& f, std::exception_ptr error) {
    try {
      try {
        std::rethrow_exception(std::move(error));
      } catch (...) {
        r.rethrow_of(f);
      }
    } catch (...) {
      return std::current_exception();
    }
  }

  Task& free_task() {
    for (const std::unique_ptr<Task>& t : tasks)
      if (!t->at_work && (!t->call || t->call.done())) return *t;
    return *tasks.emplace_back(std::make_unique<Task>(runner.impl()));
  }

  void cancel_all() {
    for (const std::unique_ptr<Task>& t : tasks)
      if (t->at_work) t->call.cancel("the tube " + runner.impl().graph.spec.id + " gave the epoch up");
  }

  /// Frees the memory of given-up epochs whose nodes have ended since.
  void reap() {
    std::erase_if(given_up, [&](Instance* root) {
      if (!root->closed) return false;
      runner.impl().close_process_assets(root);
      runner.impl().core.release(root);
      return true;
    });
  }

  AsyncRunner& runner;
  AsyncOptions options;
  Task inline_task;
  std::unique_ptr<std::atomic<bool>[]> quick;  ///< by node; unknown ones are taken to be slow
  std::vector<std::unique_ptr<Task>> tasks;
  std::vector<Instance*> given_up;
  std::size_t at_work = 0;
  Pending<void> wake;
};

AsyncRunner::AsyncRunner(Tube tube, AsyncOptions options)
    : TubeRunner(std::move(tube)), work_(std::make_unique<Work>(*this, options)) {}
AsyncRunner::~AsyncRunner() {
  // Calls that an error or a time-out left behind still use the frames.
  for (const std::unique_ptr<Task>& t : work_->tasks)
    if (t->at_work) caller::detail::wait_to_the_end(t->call);
  deinit();
}
const char* AsyncRunner::class_name() const noexcept { return "AsyncRunner"; }

Coro<void> AsyncRunner::call_node_async(Firing& firing) { return firing.node().process_async(firing.call()); }

Coro<Result> AsyncRunner::process_async(Map inputs) {
  Impl& r = impl();
  Work& w = *work_;
  const Processing processing(r);
  r.check_stream();
  const Map checked = validate_input(inputs);
  before_process();
  r.taken.clear();
  w.reap();
  Instance* root = r.core.begin(r.take_inputs(checked));
  std::exception_ptr cancelled;
  try {
    r.open_process_assets(root);
    Ready ready;
    for (;;) {
      while (w.at_work < w.options.max_pending && !root->error && r.core.next(ready)) w.start(ready);
      if (root->closed || root->error) break;
      w.wake = Pending<void>();
      co_await w.wake;
    }
  } catch (...) {
    cancelled = std::current_exception();
    r.core.abandon(root, cancelled);
  }
  if (root->error && w.at_work > 0) {
    // Whoever still works is waited for, so that it finds what it uses.
    if (cancelled || w.options.cancel_on_error) w.cancel_all();
    const Clock::time_point until = Clock::now() + w.options.exception_timeout;
    while (w.at_work > 0) {
      const auto left = until - Clock::now();
      if (left.count() <= 0) break;
      w.wake = Pending<void>();
      (void)co_await w.wake.async_wait_done({.timeout = left, .protect = true, .shield = true});
    }
    if (w.at_work > 0) w.cancel_all();
  }
  if (!root->closed) {
    w.given_up.push_back(root);
    std::rethrow_exception(root->error);
  }
  struct Leave {
    Impl& impl;
    Instance* instance;
    ~Leave() {
      impl.close_process_assets(instance);
      impl.keep(instance);
      impl.current = nullptr;
    }
  } leave{r, root};
  r.current = root;
  if (root->error) std::rethrow_exception(root->error);
  after_process();
  co_return collect_return();
}

AsyncGenerator<Result> AsyncRunner::iter_async(std::optional<std::size_t> n) {
  Impl& r = impl();
  const Iteration iteration(impl());
  const bool returns = r.graph.return_node != detail::kNone;
  for (std::size_t i = 0; !n || i < *n; ++i) {
    Result result;
    bool over = false;
    std::size_t calls = 0;
    do {
      if (returns && calls++ == max_iter_loops) r.no_result();
      try {
        result = co_await process_async();
      } catch (const EndOfStream&) {
        over = true;
      }
    } while (!over && returns && !result);
    if (over) co_return;
    co_yield std::move(result);
  }
}

Coro<std::vector<Result>> AsyncRunner::run_async(std::size_t n) {
  impl().check_inputs_for_iteration();
  init();
  const CloseAtEnd close{*this};
  std::vector<Result> results;
  try {
    for (std::size_t i = 0; i < n; ++i) {
      Result result = co_await process_async();
      if (result) results.push_back(std::move(result));
    }
  } catch (const EndOfStream&) {  // the end is no error here
  }
  co_return results;
}

Result AsyncRunner::process(const Map& inputs) {
  return call_async_from_sync([this, &inputs] { return process_async(inputs); });
}
std::vector<Result> AsyncRunner::run(std::size_t n) {
  return call_async_from_sync([this, n] { return run_async(n); });
}
void AsyncRunner::run() {
  call_async_from_sync([this]() -> Coro<void> {
    impl().check_inputs_for_iteration();
    init();
    const CloseAtEnd close{*this};
    try {
      for (;;) (void)co_await process_async();
    } catch (const EndOfStream&) {
    }
  });
}

}  // namespace caller::tube
