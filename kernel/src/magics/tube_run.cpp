#include "magics/tube_run.hpp"

#include <signal.h>

#include <condition_variable>
#include <exception>
#include <limits>
#include <mutex>
#include <thread>
#include <utility>
#include <variant>

#include <caller/caller.hpp>
#include <caller/error.hpp>
#include <caller/tube/cluster.hpp>

#include "interpreter/faults.hpp"
#include "session/kernel.hpp"
#include "session/line_hold.hpp"

namespace caller::kernel::magics {
namespace {

using Clock = std::chrono::steady_clock;
using tube::Firing;
using tube::Result;

constexpr std::chrono::milliseconds kSlice{20};  // until the cell's loop gets a turn

/// A runner that counts, that a stop of the cell ends, and whose nodes may fault.
template <class Base>
class Watched : public Base {
public:
  explicit Watched(TubeRun& run) : Base(run.tube), watch_(*run.watch) {}

protected:
  bool filter_ready(Firing& firing) override {
    watch_.check();
    watch_.fired(firing.node_id());
    return Base::filter_ready(firing);
  }
  void call_node(Firing& firing) override {
    faults::guarded([&] { this->Base::call_node(firing); });
  }
  void after_call_node(Firing& firing) override {
    Base::after_call_node(firing);
    std::uint64_t emitted = 0;
    for (const tube::Value& v : firing.call().out()) emitted += !v.is_no_event();
    watch_.events.fetch_add(emitted, std::memory_order_relaxed);
  }
  void after_process() override {
    Base::after_process();
    watch_.epoch_ended();
  }

  TubeWatch& watch_;
};

/// The same for nodes that run on other threads than the cell's.
template <class Base>
class WatchedElsewhere : public Watched<Base> {
public:
  using Watched<Base>::Watched;

protected:
  void call_node(Firing& firing) override {
    if (firing.node().is_coroutine()) {
      // A call of its own: that can be cancelled, and lost in a fault.
      auto call = Caller::current().call_soon([&firing] { return firing.node().process_async(firing.call()); });
      TubeWatch::AtNode here(this->watch_, call);
      if (this->watch_.stopped()) call.cancel("the cell was stopped");
      call.wait();
    } else {
      TubeWatch::AtNode here(this->watch_);
      this->watch_.check();
      const LineHold lines;  // other nodes print meanwhile
      Watched<Base>::call_node(firing);
    }
  }
};

class WatchedAsync final : public WatchedElsewhere<tube::AsyncRunner> {
public:
  using WatchedElsewhere<tube::AsyncRunner>::WatchedElsewhere;

protected:
  /// In a call of its own: a fault ends that, and not the runner's.
  Coro<void> call_node_async(Firing& firing) override {
    Pending<void> call = Caller::current().call_soon([&firing] { return firing.node().process_async(firing.call()); });
    co_await call;
  }
};

/// Takes the result of one more call. Returns whether another one is wanted.
template <class F>
bool take_one(TubeRun& run, F&& process) {
  try {
    if (!run.done()) run.add(process());
  } catch (const tube::EndOfStream&) {
    run.ended = true;
  }
  return !run.ended && !run.done();
}

/// Calls `f` as code of the cell on its own thread.
template <class F>
void as_cell(MagicContext& c, F&& f) {
  const Interrupts::Plain interruptible(c.active->thread);
  if (c.active->stop.load() != ActiveCell::Stop::none) throw PendingCancelled("the cell was stopped");
  faults::guarded(f);
}

Coro<void> give_a_turn() {
  Pending<void> turn = Caller::current().call_soon([] {});
  co_await turn;
}

Coro<void> run_sync(MagicContext& c, std::shared_ptr<TubeRun> run) {
  Watched<tube::SynchronousRunner> runner(*run);
  for (bool more = !run->done(); more;) {
    as_cell(c, [&] {
      runner.init();
      const Clock::time_point until = Clock::now() + kSlice;
      do more = take_one(*run, [&] { return runner.process(run->inputs); });
      while (more && Clock::now() < until);
    });
    if (more) co_await give_a_turn();
  }
  runner.deinit();
}

Coro<void> run_async(MagicContext& c, std::shared_ptr<TubeRun> run) {
  WatchedAsync runner(*run);
  as_cell(c, [&] { runner.init(); });
  Clock::time_point turn = Clock::now() + kSlice;
  while (!run->done() && !run->ended) {
    try {
      Coro<Result> next = runner.process_async(run->inputs);
      Result result = co_await std::move(next);
      run->add(std::move(result));
    } catch (const tube::EndOfStream&) {
      run->ended = true;
    }
    if (Clock::now() < turn) continue;
    co_await give_a_turn();  // nodes that are quick never let the loop turn
    turn = Clock::now() + kSlice;
  }
  runner.deinit();
}

/// In a worker: it waits for the threads of its own in a way that no interrupt ends.
void run_threads(TubeRun& run) {
  WatchedElsewhere<tube::ThreadRunner> runner(run);
  {
    TubeWatch::AtNode here(*run.watch);
    faults::guarded([&] { runner.init(); });
  }
  if (run.inputs.empty()) {
    // A cell can be interrupted; a limit would only refuse long windows.
    runner.max_iter_loops = std::numeric_limits<std::size_t>::max();
    for (const Result& result : runner.iter(run.n)) run.add(result);
    run.ended = !run.done();
  } else {
    while (take_one(run, [&] { return runner.process(run.inputs); })) {
    }
  }
  runner.deinit();
}

/// Ends processes that have not left half a second after a stop: a node that never returns would keep its runner.
class Killer {
public:
  explicit Killer(std::vector<int> pids)
      : thread_([this, pids = std::move(pids)] {
          std::unique_lock lock(mutex_);
          if (gone_.wait_for(lock, kPatience, [this] { return ended_; })) return;
          for (const int pid : pids) ::kill(pid, SIGKILL);
        }) {}
  ~Killer() {
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    gone_.notify_all();
    thread_.join();
  }
  Killer(const Killer&) = delete;
  Killer& operator=(const Killer&) = delete;

private:
  static constexpr std::chrono::milliseconds kPatience{500};
  std::mutex mutex_;
  std::condition_variable gone_;
  bool ended_ = false;
  std::thread thread_;
};

class WatchedCluster final : public tube::ClusterRunner {
public:
  /// `killer` outlives it.
  WatchedCluster(TubeRun& run, std::optional<Killer>& killer)
      : tube::ClusterRunner(run.tube, run.cluster), watch_(*run.watch), killer_(killer) {
    (void)add_callback([this](const tube::Notice& notice) {
      if (const auto* event = std::get_if<tube::Event>(&notice))
        watch_.events.fetch_add(!event->value.is_no_event(), std::memory_order_relaxed);
      else if (const auto& meta = std::get<tube::MetaEvent>(notice); meta.type == tube::MetaEvent::Type::node_ready)
        watch_.fired(meta.node_id);
    });
  }

  void init() override {
    const bool first = pids_.empty();
    tube::ClusterRunner::init();
    if (!first) return;
    for (const tube::ClusterProcess& p : processes()) pids_.push_back(p.pid);
  }
  /// Of a cell that was stopped it waits for nothing that takes its time.
  void deinit() override {
    hasten();
    tube::ClusterRunner::deinit();
  }
  void hasten() {
    if (watch_.stopped() && !killer_) killer_.emplace(pids_);
  }

protected:
  void after_process() override {
    tube::ClusterRunner::after_process();
    watch_.epoch_ended();
  }

private:
  TubeWatch& watch_;
  std::optional<Killer>& killer_;
  std::vector<int> pids_;
};

/// In a worker, too.
void run_processes(TubeRun& run) {
  std::optional<Killer> killer;  // outlives the runner, whose end it hastens
  WatchedCluster runner(run, killer);
  try {
    TubeWatch::AtNode here(*run.watch);  // its waits end when the cell is stopped; those of its destructor do not
    if (run.inputs.empty()) {            // as many epochs at once as the processes can have
      runner.max_iter_loops = std::numeric_limits<std::size_t>::max();
      for (const Result& result : runner.iter(run.n)) {
        run.add(result);
        run.watch->check();
      }
      run.ended = !run.done();
    } else {
      while (take_one(run, [&] {
        run.watch->check();
        return runner.process(run.inputs);
      })) {
      }
    }
  } catch (...) {
    runner.hasten();
    throw;
  }
  runner.deinit();
}

Coro<void> run_in_worker(std::shared_ptr<TubeRun> run, void (*body)(TubeRun&)) {
  Pending<void> work = Caller::current().to_thread([run, body] { body(*run); });
  bool stopped = false;
  try {
    co_await work.async_wait_done({.protect = true});
  } catch (const PendingCancelled&) {
    stopped = true;  // the nodes end soon
  }
  if (stopped) co_await work.async_wait_done({.protect = true, .shield = true});
  co_await work;
}

}  // namespace

void TubeRun::add(Result result) {
  if (tube.has_return() && !result) return;
  ++count;
  watch->results.store(count, std::memory_order_relaxed);
  if (!result) return;
  if (first.size() < kKept) {
    first.push_back(std::move(result));
    return;
  }
  last.push_back(std::move(result));
  if (last.size() > kKept) last.pop_front();
}

const std::vector<std::string>& tube_runners() {
  static const std::vector<std::string> names{"sync", "async", "thread", "cluster"};
  return names;
}

Coro<void> run_tube_with(MagicContext& c, std::string runner, std::shared_ptr<TubeRun> run) {
  if (runner == "async") return run_async(c, std::move(run));
  if (runner == "thread") return run_in_worker(std::move(run), &run_threads);
  if (runner == "cluster") return run_in_worker(std::move(run), &run_processes);
  return run_sync(c, std::move(run));
}

}  // namespace caller::kernel::magics
