// Runners that execute in processes of their own.
//
// All state belongs to the engine's loop; the pool's thread posts what it hears there, in its order. Which process gets
// an invocation: the busiest that has room, so that others may end. An invocation that waits for another one still
// occupies its process, unless several share one: then only what is at work counts.
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <list>
#include <map>
#include <set>
#include <thread>

#include "../engine.hpp"
#include "pool.hpp"
#include "worker.hpp"

namespace caller::task::detail {
namespace {

using std::chrono::milliseconds;
using Steady = std::chrono::steady_clock;

/// What makes the kinds differ.
struct Manner {
  std::size_t threads = 1;  // at work at once in one process
  std::size_t least = 0;    // processes that stay
  bool single_use = false;
  bool shared = false;  // what waits leaves room for others
};

std::string end_of(const Link& link) {
  if (!link.nonsense().empty()) return link.nonsense();
  if (link.signal() == 0) return "exit code " + std::to_string(link.exit_code());
  const char* name = ::sigabbrev_np(link.signal());
  return name ? "SIG" + std::string(name) : "signal " + std::to_string(link.signal());
}

class ProcessExecutor final : public Executor {
public:
  explicit ProcessExecutor(Manner manner) : manner_(manner) {}

  void open(Engine& engine) override {
    engine_ = &engine;
    command_ = engine.options().worker;
    if (command_.empty()) command_.emplace_back("/proc/self/exe");
    command_.push_back(std::string(kWorkerArgument) + engine.app()->options.app_id);
    // The pool's thread ends with us, and what it posts is done, or dropped, before the engine goes.
    Pool::Events events;
    events.said = [this](const LinkPtr& link, Frame kind, std::string_view bytes) { hear(link, kind, bytes); };
    events.ended = [this](const LinkPtr& link) { engine_->on_loop([this, link] { lost(link); }); };
    pool_.emplace(engine.app()->shared_store(), std::move(events));
    engine.on_loop([this] {
      try {
        for (std::size_t n = std::max<std::size_t>(manner_.least, 1); n > 0; --n) start_process();
      } catch (...) {
        first_.set_exception(std::current_exception());
      }
    });
    const auto timeout = engine.options().start_timeout;
    std::string wrong;
    if (!first_.wait_done({.timeout = timeout}))
      wrong = too_late();
    else if (const auto error = first_.exception())
      wrong = ExceptionRecord::of(error).message;
    if (wrong.empty()) return;
    engine.on_loop([this] {
      closing_ = true;
      for (const auto& [link, process] : processes_) link->kill();
    });
    throw RunnerError("a worker's process cannot be started: " + wrong);
  }

  Coro<Worked> work(InvocationRecord record) override {
    const std::string id = record.id, task_id = record.task_id;
    DefinitionPtr definition;
    try {
      definition = engine_->app()->find(task_id);
    } catch (const UnknownTaskError&) {  // the worker's program may know more; it says so if it does not
    }
    Job& job = jobs_[id];
    job.record = std::move(record);
    const Pending<void> begun = job.begun;
    const Pending<Change> ended = job.ended;
    waiting_.push_back(id);
    assign();
    co_await begun;
    WaitOptions in_time;
    in_time.protect = true;
    if (definition && definition->options.timeout.count() > 0) in_time.timeout = definition->options.timeout;
    if (!co_await ended.async_wait_done(in_time)) ask(id, Why::timed_out);
    WaitOptions to_the_end;
    to_the_end.protect = true;
    (void)co_await ended.async_wait_done(to_the_end);
    const Job done = std::move(jobs_.at(id));
    jobs_.erase(id);
    Worked out;
    out.left_waiting = true;  // only its process knows
    out.change = ended.result();
    const bool crashed = done.crashed.has_value();
    if (done.why == Why::timed_out) {
      const std::exception_ptr error = std::make_exception_ptr(timeout_error(*definition, id));
      out.change = outcome(*definition, done.record, engine_->id(), error, {});
    } else if (crashed && done.why == Why::none) {
      const std::exception_ptr error = std::make_exception_ptr(WorkerCrashedError(id, task_id, *done.crashed));
      engine_->app()->log(ExceptionRecord::of(error).message);
      static const TaskDefinition unknown;
      out.change = outcome(definition ? *definition : unknown, done.record, engine_->id(), error, {});
    }
    if (done.code && !done.record.running_key.empty()) {
      out.change.code_goes_on = true;
      out.code = done.code;
    }
    co_return out;
  }

  void cancel(const std::string& invocation, bool give_up) override {
    ask(invocation, give_up ? Why::give_up : Why::cancelled);
  }

  Coro<void> close() override {
    closing_ = true;
    for (auto& [link, process] : processes_) retire(process);
    if (processes_.empty()) co_return;
    WaitOptions how;
    how.protect = true;
    how.timeout = engine_->options().grace;
    const Pending<void> left = all_left_;
    if (!co_await left.async_wait_done(how))
      for (auto& [link, process] : processes_) link->kill();
    co_await left;
  }

private:
  enum class Why : std::uint8_t { none, cancelled, give_up, timed_out };
  struct Process;
  struct Job {
    InvocationRecord record;
    Process* process = nullptr;
    Pending<void> begun;
    Pending<Change> ended;
    Why why = Why::none;
    bool has_slot = true;
    std::optional<Pending<void>> granting;  // its code wants a slot again
    std::optional<std::string> crashed;     // how its process ended
    std::optional<Pending<void>> code;      // was given up, and goes on until this is done
  };
  struct Process {
    LinkPtr link;
    bool ready = false, retired = false, used = false;
    std::set<std::string> jobs;  // in it, those that wait included
    bool alone = false;          // for one suspect
    std::string wrong;           // why it is not ready, and is killed
    // Of which nobody wants to know any more, but they go on: done when they do not.
    std::map<std::string, Pending<void>> abandoned;
    Steady::time_point idle_since{};
  };

  // ---- processes ----

  void start_process() {
    const LinkPtr link = pool_->start(command_);
    Process& process = processes_[link];
    process.link = link;
    (void)engine_->loop().call_later(engine_->options().start_timeout, [this, weak = std::weak_ptr(link)] {
      const LinkPtr there = weak.lock();
      const auto it = there ? processes_.find(there) : processes_.end();
      if (it == processes_.end() || it->second.ready || !it->second.wrong.empty()) return;
      it->second.wrong = too_late();  // its hello may be on its way: it is given nothing any more
      there->kill();
    });
  }
  std::string too_late() const {
    return "it did not call worker_main() within " + std::to_string(engine_->options().start_timeout.count()) +
           " ms: " + command_.front();
  }

  std::size_t at_work(const Process& process) const {
    if (!manner_.shared) return process.jobs.size();
    return static_cast<std::size_t>(std::count_if(process.jobs.begin(), process.jobs.end(),
                                                  [&](const std::string& id) { return jobs_.at(id).has_slot; }));
  }
  std::size_t room(const Process& process) const {
    if (process.retired || process.alone || (manner_.single_use && process.used)) return 0;
    const std::size_t busy = at_work(process);
    return busy < manner_.threads ? manner_.threads - busy : 0;
  }

  /// Gives what waits to processes, and starts more of them if there are too few.
  void assign() {
    for (auto it = waiting_.begin(); it != waiting_.end();) {
      const bool alone = suspects_.contains(*it);
      Process* best = nullptr;
      for (auto& [link, process] : processes_) {
        if (!process.ready || room(process) == 0 || (alone && !process.jobs.empty())) continue;
        if (!best || at_work(process) > at_work(*best)) best = &process;
      }
      if (!best) {
        ++it;
        continue;
      }
      give(*it, *best, alone);
      it = waiting_.erase(it);
    }
    std::size_t coming = 0;
    for (const auto& [link, process] : processes_)
      if (!process.ready && !process.retired) coming += manner_.threads;
    while (coming < waiting_.size()) {
      try {
        start_process();
      } catch (const std::exception& e) {
        if (coming == 0) start_failed(e.what());
        return;
      }
      coming += manner_.threads;
    }
  }

  void give(const std::string& id, Process& process, bool alone) {
    Job& job = jobs_.at(id);
    job.process = &process;
    process.used = true;
    process.alone = alone;
    process.jobs.insert(id);
    process.link->send(Packer(Frame::run).put(engine_->id()).put(job.record).take());
    job.begun.set_result();
  }

  /// What waits goes back to the queue, after a pause: it is not its fault.
  void start_failed(const std::string& why) {
    engine_->app()->log("a worker's process cannot be started: " + why);
    (void)engine_->loop().call_later(milliseconds(200), [this] {
      for (const std::string& id : std::exchange(waiting_, {})) give_back(id);
    });
  }
  void give_back(const std::string& id) {
    Job& job = jobs_.at(id);
    job.begun.set_result();
    end(id, Change{id, job.why == Why::cancelled ? Status::cancelled : Status::killed, engine_->id(), {}, {}, {}});
  }

  /// Gets nothing more, and leaves when it has nothing left.
  void retire(Process& process) {
    process.retired = true;
    if (!process.jobs.empty()) return;
    if (process.abandoned.empty())
      process.link->send(Packer(Frame::stop).take());
    else
      process.link->kill();
  }

  void became_idle(Process& process) {
    if (process.alone || (manner_.single_use && process.used) || process.retired || !process.abandoned.empty())
      return retire(process);
    process.idle_since = Steady::now();
    (void)engine_->loop().call_later(engine_->options().idle_timeout, [this, weak = std::weak_ptr(process.link)] {
      const LinkPtr there = weak.lock();
      const auto it = there ? processes_.find(there) : processes_.end();
      if (it == processes_.end()) return;
      Process& idle = it->second;
      const auto staying =
          std::count_if(processes_.begin(), processes_.end(), [](const auto& p) { return !p.second.retired; });
      if (idle.jobs.empty() && !idle.retired && static_cast<std::size_t>(staying) > manner_.least &&
          Steady::now() - idle.idle_since >= engine_->options().idle_timeout)
        retire(idle);
    });
  }

  // ---- what processes say ----

  /// In the pool's thread. Errors: SerializationError, which ends the process.
  void hear(const LinkPtr& link, Frame kind, std::string_view bytes) {
    Unpacker frame(bytes);
    switch (kind) {
      case Frame::hello:
        return engine_->on_loop([this, link, wrong = mismatch_in(frame)] { ready(link, wrong); });
      case Frame::released:
        return engine_->on_loop([this, link, id = frame.get<std::string>()] { released(link, id); });
      case Frame::wants:
        return engine_->on_loop([this, link, id = frame.get<std::string>()] { wants(link, id); });
      case Frame::ended:
        return engine_->on_loop([this, link, change = frame.get<Change>()] { ended(link, change); });
      default:
        throw SerializationError("a worker sent what only its runner sends");
    }
  }

  /// An invocation that is in that process.
  Job* job_in(const LinkPtr& link, const std::string& id) {
    const auto process = processes_.find(link);
    const auto job = jobs_.find(id);
    if (process == processes_.end() || job == jobs_.end() || job->second.process != &process->second) return nullptr;
    return &job->second;
  }

  void ready(const LinkPtr& link, const std::string& wrong) {
    const auto it = processes_.find(link);
    if (it == processes_.end() || !it->second.wrong.empty()) return;
    if (!wrong.empty()) {
      it->second.wrong = wrong;
      return link->kill();
    }
    it->second.ready = true;
    first_.set_result();
    if (it->second.retired) return retire(it->second);
    assign();
    if (it->second.jobs.empty()) became_idle(it->second);
  }

  void released(const LinkPtr& link, const std::string& id) {
    Job* const job = job_in(link, id);
    if (!job || !job->has_slot) return;
    job->has_slot = false;
    engine_->give_back_slot();
    if (manner_.shared) assign();
  }

  void wants(const LinkPtr& link, const std::string& id) {
    Job* const job = job_in(link, id);
    if (!job) {
      // Code that was given up has no slot that anybody counts: it goes on, and so comes to its end.
      const auto it = processes_.find(link);
      if (it != processes_.end() && it->second.abandoned.contains(id)) grant(*link, id);
      return;
    }
    if (job->has_slot || job->granting) return;
    const Pending<void> granting = engine_->take_slot_again();
    job->granting = granting;
    (void)granting.add_done_callback([this, link, id](const PendingBase& granted) {  // on the loop
      if (granted.cancelled()) return;
      Job* const there = job_in(link, id);
      if (!there) return;
      there->has_slot = true;
      there->granting.reset();
      grant(*link, id);
    });
  }
  static void grant(Link& link, const std::string& id) { link.send(Packer(Frame::granted).put(id).take()); }

  void ended(const LinkPtr& link, const Change& change) {
    if (const auto it = processes_.find(link); it != processes_.end()) {
      if (const auto code = it->second.abandoned.extract(change.id)) {
        code.mapped().set_result();
        if (it->second.jobs.empty() && it->second.abandoned.empty()) became_idle(it->second);
        return;
      }
    }
    Job* const job = job_in(link, change.id);
    if (!job) return;
    Change end = change;
    end.runner = engine_->id();
    const bool asked = job->why == Why::cancelled || job->why == Why::give_up;
    // What ended by its own at the last moment has ended.
    if (asked && end.to != Status::success) end.to = job->why == Why::give_up ? Status::killed : Status::cancelled;
    suspects_.erase(change.id);
    leave(change.id);
    this->end(change.id, std::move(end));
  }

  /// The invocation is no more in its process.
  void leave(const std::string& id) {
    Process& process = *std::exchange(jobs_.at(id).process, nullptr);
    process.jobs.erase(id);
    if (process.jobs.empty()) became_idle(process);
  }

  /// Its code is at work no more. The slot that the engine takes back is one it has.
  void end(const std::string& id, Change change) {
    Job& job = jobs_.at(id);
    if (!job.has_slot && !(job.granting && !job.granting->cancel("ended"))) engine_->take_slot_unasked();
    job.has_slot = true;
    job.granting.reset();
    job.ended.set_result(std::move(change));
    if (manner_.shared || !waiting_.empty()) assign();
  }

  // ---- ends that are not its own ----

  void ask(const std::string& id, Why why) {
    const auto it = jobs_.find(id);
    if (it == jobs_.end() || it->second.ended.done()) return;
    Job& job = it->second;
    const bool first = job.why == Why::none;
    if (first || (why == Why::give_up && job.why == Why::cancelled)) job.why = why;
    if (!job.process) {
      std::erase(waiting_, id);
      return give_back(id);
    }
    job.process->link->send(Packer(Frame::cancel).put(id).put(job.why == Why::give_up).take());
    if (!first) return;
    (void)engine_->loop().call_later(engine_->options().grace, [this, id, link = std::weak_ptr(job.process->link)] {
      const LinkPtr there = link.lock();
      Job* const stubborn = there ? job_in(there, id) : nullptr;
      if (!stubborn || stubborn->ended.done()) return;
      Process& process = *std::exchange(stubborn->process, nullptr);
      process.jobs.erase(id);
      stubborn->code = process.abandoned[id];
      if (stubborn->granting) grant(*there, id);  // as in wants()
      retire(process);
      end(id,
          Change{id, stubborn->why == Why::give_up ? Status::killed : Status::cancelled, engine_->id(), {}, {}, {}});
    });
  }

  void lost(const LinkPtr& link) {
    const auto it = processes_.find(link);
    if (it == processes_.end()) return;
    const std::set<std::string> jobs = it->second.jobs;
    const bool was_ready = it->second.ready;
    std::vector<std::string> suspects;
    for (const std::string& id : jobs)
      if (jobs_.at(id).has_slot) suspects.push_back(id);
    if (suspects.empty()) suspects.assign(jobs.begin(), jobs.end());
    for (const auto& [id, code] : it->second.abandoned) code.set_result();
    const std::string wrong = it->second.wrong;
    processes_.erase(it);
    const std::string how = end_of(*link);
    for (const std::string& id : jobs) {
      Job& job = jobs_.at(id);
      job.process = nullptr;
      const bool suspect = std::find(suspects.begin(), suspects.end(), id) != suspects.end();
      Change change{id, Status::killed, engine_->id(), {}, {}, {}};
      if (suspect && suspects.size() == 1) {
        job.crashed = how;
        suspects_.erase(id);
      } else if (suspect) {
        suspects_.insert(id);
      }
      if (job.why == Why::cancelled) change.to = Status::cancelled;
      end(id, std::move(change));
    }
    if (!was_ready) {
      const std::string why = wrong.empty() ? "it ended before it came to worker_main(): " + how : wrong;
      if (!first_.set_exception(RunnerError(why)) && !waiting_.empty()) start_failed(why);
    } else if (!closing_) {
      try {
        std::size_t staying = 0;
        for (const auto& [l, process] : processes_) staying += !process.retired;
        for (; staying < manner_.least; ++staying) start_process();
      } catch (const std::exception& e) {
        engine_->app()->log("a worker's process cannot be started: " + std::string(e.what()));
      }
      assign();
    }
    if (closing_ && processes_.empty()) all_left_.set_result();
  }

  const Manner manner_;
  Engine* engine_ = nullptr;
  std::vector<std::string> command_;
  Pending<void> first_;  // a process is ready
  // Of the loop's thread:
  std::map<LinkPtr, Process> processes_;
  std::unordered_map<std::string, Job> jobs_;
  std::deque<std::string> waiting_;  // for a process
  std::set<std::string> suspects_;   // may have ended the process that they shared with others: they get their own
  Pending<void> all_left_;
  bool closing_ = false;
  std::optional<Pool> pool_;  // last: its thread uses all of this
};

}  // namespace

std::unique_ptr<Runner> make_process_runner(AppPtr app, RunnerKind kind, RunnerOptions options) {
  if (in_worker(app->options.app_id))
    throw RunnerNotExecutableError("application " + app->options.app_id +
                                   ": this process is a worker of a runner; main() must call worker_main() before it "
                                   "makes runners");
  const std::size_t cores = std::max(1u, std::thread::hardware_concurrency());
  Manner manner;
  std::size_t slots = options.slots ? options.slots : cores;
  std::string what = "process runner";
  if (kind == RunnerKind::process) {
    manner.single_use = true;
  } else if (kind == RunnerKind::persistent_process) {
    manner.least = slots;
    what = "persistent process runner";
  } else {
    const std::size_t most = options.max_processes ? options.max_processes : cores;
    manner.threads = options.threads ? options.threads : cores;
    manner.least = std::min(std::max<std::size_t>(options.min_processes, 1), most);
    manner.shared = true;
    slots = most * manner.threads;
    if (options.slots) slots = std::min(slots, options.slots);
    what = "multi-thread runner";
  }
  return std::make_unique<EngineRunner>(std::make_shared<Engine>(std::move(app), std::move(options),
                                                                 what + " of process " + std::to_string(::getpid()),
                                                                 slots, std::make_unique<ProcessExecutor>(manner)));
}

}  // namespace caller::task::detail
