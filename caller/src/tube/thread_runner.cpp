#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>

#include <caller/caller.hpp>
#include <caller/tube/runner.hpp>

#include "runner_impl.hpp"

namespace caller::tube {

using detail::Frame;
using detail::Instance;
using detail::Ready;

namespace {
/// What run() has asked for. Whoever ends an epoch takes its result and begins the next: the thread that waits for all
/// of them would have to share a processor with the nodes.
struct Run {
  std::size_t to_begin, to_take;
  std::vector<Result>* results;  ///< null: nobody wants them
  std::exception_ptr error{};
  bool over = false;
};
constexpr std::size_t kNoLimit = std::numeric_limits<std::size_t>::max();
}  // namespace

/// Workers take what is ready from the core, under one lock; they call nodes without it.
struct ThreadRunner::Pool {
  Pool(ThreadRunner& owner, ThreadOptions given) : runner(owner), options(given) {
    if (options.threads == 0) options.threads = std::max(1U, std::thread::hardware_concurrency());
    if (options.max_pending == 0) options.max_pending = 16 * options.threads;
    runner.impl().core.share_among(options.threads);
    // The lock is held for less than falling asleep for it takes: who finds it held looks a few times more before.
    pthread_mutexattr_t adaptive;
    pthread_mutexattr_init(&adaptive);
    pthread_mutexattr_settype(&adaptive, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(mutex.native_handle(), &adaptive);
    pthread_mutexattr_destroy(&adaptive);
  }
  ~Pool() { stop(); }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  /// The threads stay until the runner is destroyed: to start them takes longer than many a run.
  void start() {
    if (!workers.empty()) return;
    stopping = false;
    idle = called = 0;
    for (std::size_t i = 0; i < options.threads; ++i) {
      workers.emplace_back(new_thread, CallerOptions{.name = "tube worker " + std::to_string(i)});
      done.push_back(workers.back().call_soon([this, i] { work(i); }));
    }
  }
  void stop() {
    if (workers.empty()) return;
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    work_there.notify_all();
    for (Pending<void>& p : done) p.wait();
    done.clear();
    for (Caller& w : workers) w.stop(true);
    workers.clear();
  }

  void work(std::size_t self) {
    TubeRunner::Impl& r = runner.impl();
    Frame frame(r, r.core);
    Firing firing(frame);
    std::unique_lock lock(mutex);
    for (;;) {
      Ready ready;
      r.core.turned_by(self);
      if (!r.core.next(ready)) {
        if (run && !run->over) {
          go_on();  // nodes that were passed over may have ended epochs
          if (r.core.has_ready()) continue;
        } else {
          ended.notify_all();
        }
        if (stopping) return;
        ++idle;
        work_there.wait(lock, [this] { return called > 0 || stopping; });
        if (called > 0) --called;
        continue;
      }
      frame.reset(ready);
      run_one(self, r, frame, firing, lock);
    }
  }

  /// Wakes a worker that sleeps if there is anything for it. It calls the next one.
  void call_one() {
    if (idle == 0 || !runner.impl().core.has_ready()) return;
    --idle;
    ++called;
    work_there.notify_one();
  }

  void run_one(std::size_t self, TubeRunner::Impl& r, Frame& frame, Firing& firing,
               std::unique_lock<std::mutex>& lock) {
    const Ready ready = frame.ready;
    Instance* root = ready.instance->root;
    try {
      if (!r.callbacks.empty()) r.notify_ready(frame);
      if (!runner.filter_ready(firing)) {
        r.core.finish(ready, {});
      } else if (r.core.is_special(ready.node)) {
        r.core.run_special(ready);
      } else {
        frame.node = &runner.get_node(firing);
        if (!frame.plan->node_assets.empty()) r.open_node_assets(frame);
        runner.collect_input(firing);
        call_one();  // for what else is ready: it may be what this thread has made so, and has taken one of
        lock.unlock();
        try {
          runner.before_call_node(firing);
          runner.call_node(firing);
          runner.after_call_node(firing);
        } catch (...) {
          lock.lock();
          r.core.turned_by(self);
          throw;
        }
        lock.lock();
        r.core.turned_by(self);
        if (root->error) {
          r.close_node_assets(frame);
          r.core.drop(ready);
        } else if (frame.call->stream_ended()) {
          r.close_node_assets(frame);
          end_stream(r, ready, frame);
        } else {
          runner.handle_events(firing);
          if (!frame.assets.empty()) r.close_node_assets(frame);
        }
      }
    } catch (...) {
      std::exception_ptr error;
      try {
        r.rethrow_of(frame);
      } catch (...) {
        error = std::current_exception();
      }
      r.close_node_assets(frame);
      r.core.abandon(root, std::move(error));
      r.core.drop(ready);
    }
    if (run)
      go_on();
    else if (root->closed && worth_waking())
      ended.notify_all();
  }
  static bool is_over(const Instance* root) { return root->closed && root->busy == 0; }
  /// Takes the results that are there, in their order, and begins as many epochs as may be at work. The lock is held.
  void go_on() {
    if (run->over || (!epochs.empty() && !is_over(epochs.front()))) return;
    try {
      TubeRunner::Impl& r = runner.impl();
      for (;;) {
        for (; run->to_take > 0 && !epochs.empty() && is_over(epochs.front()); run->to_take -= run->to_take != kNoLimit)
          if (Result result = take_front(); result && run->results) run->results->push_back(std::move(result));
        if (run->to_take == 0) break;
        bool begun = false;
        for (; run->to_begin > 0 && may_begin(); run->to_begin -= run->to_begin != kNoLimit, begun = true)
          begin(r.take_inputs({}));
        if (epochs.empty()) break;
        if (!begun || !is_over(epochs.front())) return;
      }
    } catch (const EndOfStream&) {
    } catch (...) {
      run->error = std::current_exception();
    }
    run->over = true;
    ended.notify_all();
  }
  /// Until `asked` is over. Errors: those of the first epoch that has failed.
  void wait_for(Run& asked) {
    std::unique_lock lock(mutex);
    // Epochs that were begun before count.
    if (asked.to_begin != kNoLimit) asked.to_begin -= std::min(asked.to_begin, epochs.size());
    run = &asked;
    go_on();
    call_one();
    ended.wait(lock, [&] { return asked.over; });
    run = nullptr;
    if (asked.error) std::rethrow_exception(asked.error);
  }
  /// Whoever takes results and begins epochs shares the processors with the workers: for a moment it waits for several
  /// at once. A worker that finds nothing to do wakes it in any case.
  bool worth_waking() const {
    if (!patient || epochs.empty()) return true;
    const Instance* middle = epochs[(epochs.size() - 1) / 2];
    return middle->closed && middle->busy == 0;
  }

  /// A source has ended: its epoch, and those after it, have no result.
  void end_stream(TubeRunner::Impl& r, const Ready& ready, const Frame& frame) {
    Instance* root = ready.instance->root;
    r.exhausted = true;
    const auto end = std::make_exception_ptr(
        EndOfStream("the source \"" + frame.plan->id + "\" of the tube " + r.graph.spec.id + " has ended"));
    for (std::size_t e = epochs.size(); e-- > 0;) {
      if (epochs[e]->number <= root->number) break;
      epochs[e]->ended_stream = true;
      r.core.abandon(epochs[e], end);
    }
    root->ended_stream = true;
    r.core.abandon(root, end);
    r.core.drop(ready);
  }

  /// Begins an epoch. The lock is held. Who is no worker calls one.
  void begin(std::vector<std::optional<Value>> inputs) {
    TubeRunner::Impl& r = runner.impl();
    Instance* root = r.core.begin(std::move(inputs));
    epochs.push_back(root);
    try {
      r.open_process_assets(root);
    } catch (...) {
      r.core.abandon(root, std::current_exception());
    }
  }
  bool may_begin() const {
    const TubeRunner::Impl& r = runner.impl();
    return !r.exhausted && epochs.size() < (r.graph.sequential ? 1 : options.max_pending);
  }
  /// Waits for the oldest epoch and takes its result. Errors: those of its nodes; EndOfStream.
  Result take(std::unique_lock<std::mutex>& lock) {
    const auto over = [&] { return is_over(epochs.front()); };
    call_one();
    if (!over()) {
      patient = true;
      ended.wait_for(lock, kTogether, over);
      patient = false;
      ended.wait(lock, over);
    }
    return take_front();
  }
  /// The result of the oldest epoch, which has ended. Errors: as take().
  Result take_front() {
    TubeRunner::Impl& r = runner.impl();
    Instance* root = epochs.front();
    epochs.pop_front();
    r.current = root;
    struct Leave {
      TubeRunner::Impl& impl;
      Instance* instance;
      ~Leave() {
        impl.close_process_assets(instance);
        if (instance->ended_stream)
          impl.core.release(instance);
        else
          impl.keep(instance);
        impl.current = nullptr;
      }
    } leave{r, root};
    if (root->error) {
      r.taken.clear();
      std::rethrow_exception(root->error);
    }
    runner.after_process();
    return runner.collect_return();
  }
  /// Waits until nothing runs; results stay where they are.
  void drain(std::unique_lock<std::mutex>& lock) {
    ended.wait(lock, [&] {
      return std::all_of(epochs.begin(), epochs.end(), [](const Instance* e) { return e->closed && e->busy == 0; });
    });
  }

  ThreadRunner& runner;
  ThreadOptions options;
  std::mutex mutex;
  std::condition_variable work_there, ended;
  std::size_t idle = 0;    ///< workers that sleep and nobody has called
  std::size_t called = 0;  ///< those that were called and have not come
  Run* run = nullptr;      ///< the run at work, if one is
  bool stopping = false;
  static constexpr auto kTogether = std::chrono::microseconds(500);
  bool patient = false;          ///< who takes results looks again after that time
  std::deque<Instance*> epochs;  ///< begun and not taken, oldest first
  std::vector<Caller> workers;
  std::vector<Pending<void>> done;
};

ThreadRunner::ThreadRunner(Tube tube, ThreadOptions options)
    : TubeRunner(std::move(tube)), pool_(std::make_unique<Pool>(*this, options)) {}
ThreadRunner::~ThreadRunner() { deinit(); }
const char* ThreadRunner::class_name() const noexcept { return "ThreadRunner"; }

void ThreadRunner::init() {
  TubeRunner::init();
  pool_->start();
}
void ThreadRunner::deinit() {
  if (!running()) return;
  {
    std::unique_lock lock(pool_->mutex);
    pool_->drain(lock);
  }
  TubeRunner::deinit();
}

Result ThreadRunner::process(const Map& inputs) {
  Impl& r = impl();
  const Processing processing(r);
  const Map checked = validate_input(inputs);
  before_process();
  std::unique_lock lock(pool_->mutex);
  if (pool_->epochs.empty()) {
    r.check_stream();
    pool_->begin(r.take_inputs(checked));
  }
  return pool_->take(lock);
}

Generator<Result> ThreadRunner::iter(std::optional<std::size_t> n) {
  Impl& r = impl();
  const Iteration iteration(impl());
  const bool returns = r.graph.return_node != detail::kNone;
  for (std::size_t i = 0; !n || i < *n; ++i) {
    Result result;
    bool over = false;
    try {
      std::unique_lock lock(pool_->mutex);
      std::size_t calls = 0;
      do {
        if (returns && calls++ == max_iter_loops) r.no_result();
        // Each result that is still wanted needs one epoch at least: never more than are sure to be used.
        while (pool_->may_begin() && (!n || pool_->epochs.size() < *n - i)) pool_->begin(r.take_inputs({}));
        if (pool_->epochs.empty())
          over = true;
        else
          result = pool_->take(lock);
      } while (!over && returns && !result);
    } catch (const EndOfStream&) {
      over = true;
    }
    if (over) co_return;
    co_yield std::move(result);
  }
}

std::vector<Result> ThreadRunner::run(std::size_t n) {
  impl().check_inputs_for_iteration();
  std::vector<Result> results;
  results.reserve(std::min(n, detail::kReserved));
  init();
  const CloseAtEnd close{*this};
  Run asked{n, n, &results};
  pool_->wait_for(asked);
  return results;
}

void ThreadRunner::run() {
  impl().check_inputs_for_iteration();
  init();
  const CloseAtEnd close{*this};
  Run asked{kNoLimit, kNoLimit, nullptr};
  pool_->wait_for(asked);
}

void ThreadRunner::disable_node(std::string_view node) {
  std::unique_lock lock(pool_->mutex);
  pool_->drain(lock);
  TubeRunner::disable_node(node);
}
void ThreadRunner::enable_node(std::string_view node) {
  std::unique_lock lock(pool_->mutex);
  pool_->drain(lock);
  TubeRunner::enable_node(node);
}

}  // namespace caller::tube
