// Invocations on Callers: coroutines on the runner's own, plain functions on its workers.
//
// All state belongs to the loop's thread. A slot is what an invocation occupies while its code is at work; one that
// waits for another gives its slot back, so that nested calls need no more slots than one, however deep.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>

#include "app.hpp"

namespace caller::task {

namespace detail {
namespace {

class Engine final : public SlotKeeper, public std::enable_shared_from_this<Engine> {
public:
  Engine(AppPtr app, RunnerOptions options)
      : app_(std::move(app)),
        options_(std::move(options)),
        slots_(options_.count()),
        id_(new_uuid()),
        loop_(caller::new_thread, CallerOptions{.name = "task-runner"}) {}

  const std::string& id() const noexcept { return id_; }
  std::size_t working() const noexcept { return working_.load(std::memory_order_relaxed); }

  void start() {
    listener_ = store().listen(id_, {[self = weak_from_this()] {
                                       if (const auto engine = self.lock()) engine->work_arrived();
                                     },
                                     [self = weak_from_this()](const std::string& invocation) {
                                       if (const auto engine = self.lock())
                                         engine->on_loop([engine, invocation] { engine->cancel(invocation); });
                                     }});
    store().heartbeat(told(), app_->options.lease).wait();
    beat_ = loop_.call_soon([self = shared_from_this()] { return self->keep_alive(); });
    (void)loop_.call_soon([self = shared_from_this()] { return self->serve(); });
  }

  Pending<void> stop(bool at_once) {
    on_loop([self = shared_from_this(), at_once] {
      self->stopping_ = true;
      if (at_once)
        for (auto& [invocation, work] : self->active_) {
          work.give_up = true;
          (void)work.pending.cancel("the runner was stopped");
        }
      self->kick();
    });
    return stopped_;
  }
  /// After stop() is done. Not on the loop's thread.
  void end() {
    loop_.stop(true);
    loop_.stopped().wait_done();
  }

  void give_back_slot() noexcept override {
    on_loop([self = shared_from_this()] { self->release_slot(); });
  }
  Pending<void> take_slot_again() override {
    Pending<void> granted;
    on_loop([self = shared_from_this(), granted] {
      self->resuming_.push_back(granted);
      self->grant();
    });
    return granted;
  }

private:
  struct Work {
    Pending<std::string> pending;
    bool give_up = false;  // to be done again by somebody else
  };

  Store& store() const { return store_of(*app_); }
  template <class F>
  void on_loop(F f) {
    loop_.post(std::move(f));
  }

  RunnerRecord told() const {
    RunnerRecord r;
    r.id = id_;
    r.description =
        options_.description.empty() ? "thread runner of process " + std::to_string(::getpid()) : options_.description;
    return r;
  }

  // ---- slots ----

  void grant() {
    while (!resuming_.empty() && used_ < slots_) {
      ++used_;
      resuming_.front().set_result();
      resuming_.pop_front();
    }
    working_.store(used_, std::memory_order_relaxed);
  }
  void release_slot() {
    --used_;
    grant();
    kick();
  }

  // ---- the loop ----

  /// Any thread. Only the first call since the queue was found empty has anything to do.
  void work_arrived() {
    if (idle_.exchange(false)) on_loop([self = shared_from_this()] { self->kick(); });
  }
  void kick() {
    ++kicks_;
    if (sleeping_) std::exchange(sleeping_, std::nullopt)->set_result();
  }

  Coro<void> serve() {
    while (!stopping_) {
      const std::uint64_t seen = kicks_;
      if (used_ < slots_ && resuming_.empty()) {
        idle_ = true;  // before we look: what arrives afterwards wakes us
        const Pending<std::vector<InvocationRecord>> asked = store().take(id_, slots_ - used_, options_.queues);
        (void)co_await asked.async_wait_done();
        if (const auto error = asked.exception()) {
          app_->log("the runner cannot take invocations: " + ExceptionRecord::of(error).message);
          co_await sleep_for(kAfterError);
          continue;
        }
        std::vector<InvocationRecord> list = asked.result();
        const bool some = !list.empty();
        for (auto& record : list) begin(std::move(record));
        if (some) continue;
      }
      if (seen != kicks_) continue;
      sleeping_.emplace();
      const Pending<void> sleep = *sleeping_;
      co_await sleep;
    }
    while (!active_.empty()) {
      sleeping_.emplace();
      const Pending<void> sleep = *sleeping_;
      co_await sleep;
    }
    (void)beat_.cancel();
    listener_.reset();
    const Pending<void> forgotten = store().forget_runner(id_);
    (void)co_await forgotten.async_wait_done();
    stopped_.set_result();
  }

  Coro<void> keep_alive() {
    // A purge may look at everything there is, so not at every heartbeat.
    const std::chrono::milliseconds kept = app_->options.auto_final_invocation_purge;
    auto next_purge = std::chrono::steady_clock::now();
    for (;;) {
      co_await sleep_for(app_->options.lease / 3);
      const Pending<void> beat = store().heartbeat(told(), app_->options.lease);
      (void)co_await beat.async_wait_done();
      if (beat.exception())
        app_->log("the runner's heartbeat failed: " + ExceptionRecord::of(beat.exception()).message);
      const Pending<std::vector<std::string>> back = store().recover(app_->options.max_pending);
      (void)co_await back.async_wait_done();
      if (kept.count() > 0 && std::chrono::steady_clock::now() >= next_purge) {
        next_purge = std::chrono::steady_clock::now() + kept / 24;
        const Pending<std::size_t> purged = store().purge(kept);
        (void)co_await purged.async_wait_done();
        co_await forget_ended_workflows(app_);
      }
    }
  }

  // ---- one invocation ----

  void begin(InvocationRecord record) {
    ++used_;
    working_.store(used_, std::memory_order_relaxed);
    const std::string invocation = record.id;
    active_.try_emplace(invocation);
    (void)loop_.call_soon([self = shared_from_this(), record = std::move(record)]() mutable {
      return execute(std::move(self), std::move(record));
    });
  }

  void cancel(const std::string& invocation) {
    if (const auto it = active_.find(invocation); it != active_.end()) (void)it->second.pending.cancel("cancelled");
  }

  static Coro<void> execute(std::shared_ptr<Engine> self, InvocationRecord record) {
    const AppPtr app = self->app_;
    Change running{record.id, Status::running, self->id_, {}, {}, {}};
    if (co_await self->tell(std::move(running))) {
      Change end = co_await work(self, record);
      const bool killed = end.to == Status::killed;
      if (!co_await self->tell(end) && end.to == Status::failed) {
        // It failed while it waited for another one, whose end it will not see.
        Change resumed{record.id, Status::resumed, self->id_, {}, {}, {}};
        if (co_await self->tell(std::move(resumed))) (void)co_await self->tell(std::move(end));
      }
      if (killed) {
        Change back{record.id, Status::rerouted, {}, {}, {}, {}};
        (void)co_await self->tell(std::move(back));
      }
    }
    self->active_.erase(record.id);
    self->release_slot();
  }

  static Coro<Change> work(std::shared_ptr<Engine> self, const InvocationRecord& record) {
    DefinitionPtr definition;
    std::exception_ptr error;
    try {
      definition = self->app_->find(record.task_id);
    } catch (...) {
      error = std::current_exception();
    }
    if (error) {
      Change unknown{record.id, Status::failed, self->id_, {}, ExceptionRecord::of(error).to_json(), {}};
      co_return unknown;
    }
    const auto run = make_run(self->app_, record, self->id_, self);
    Pending<std::string>& pending = self->active_.at(record.id).pending;
    with_run(run, [&] { pending = self->start(definition, record.args); });
    const Pending<std::string> running = pending;
    WaitOptions how;
    how.protect = true;
    if (definition->options.timeout.count() > 0) how.timeout = definition->options.timeout;
    std::string result;
    if (!co_await running.async_wait_done(how)) {
      (void)running.cancel("the task's time is over");
      error = std::make_exception_ptr(
          TaskTimeoutError(record.id, "invocation " + record.id + " of task " + record.task_id + " ran longer than " +
                                          std::to_string(definition->options.timeout.count()) + " ms"));
    } else if (running.cancelled()) {
      const bool give_up = self->active_.at(record.id).give_up;
      Change ended{record.id, give_up ? Status::killed : Status::cancelled, self->id_, {}, {}, {}};
      co_return ended;
    } else if (running.exception()) {
      error = running.exception();
    } else {
      result = running.result();
    }
    co_return outcome(*definition, record, self->id_, error, std::move(result));
  }

  Pending<std::string> start(const DefinitionPtr& definition, const std::string& args) {
    const Format format = app_->options.format;
    if (definition->coroutine)
      return loop_.call_soon([definition, format, args] { return definition->coroutine(format, args); });
    return loop_.to_thread(
        [definition, format, args](std::stop_token stop) { return definition->plain(format, args, std::move(stop)); });
  }

  /// False: too late, the invocation is somebody else's by now.
  Coro<bool> tell(Change change) {
    const Pending<void> told = store().change(std::move(change));
    (void)co_await told.async_wait_done();
    if (!told.exception()) co_return true;
    app_->log(ExceptionRecord::of(told.exception()).message);
    co_return false;
  }

  static constexpr auto kAfterError = std::chrono::milliseconds(200);

  const AppPtr app_;
  const RunnerOptions options_;
  const std::size_t slots_;
  const std::string id_;
  Caller loop_;
  std::shared_ptr<void> listener_;
  Pending<void> beat_, stopped_;
  std::atomic<std::size_t> working_{0};
  std::atomic<bool> idle_{false};
  // Of the loop's thread:
  std::size_t used_ = 0;
  std::deque<Pending<void>> resuming_;  // have waited, and want a slot again
  std::unordered_map<std::string, Work> active_;
  std::optional<Pending<void>> sleeping_;
  std::uint64_t kicks_ = 0;
  bool stopping_ = false;
};

class ThreadRunner final : public Runner {
public:
  ThreadRunner(AppPtr app, RunnerOptions options)
      : engine_(std::make_shared<Engine>(std::move(app), std::move(options))) {}
  ~ThreadRunner() override {
    if (started_) engine_->stop(true).wait_done();
    engine_->end();
  }
  const std::string& id() const noexcept override { return engine_->id(); }
  std::size_t working() const noexcept override { return engine_->working(); }
  void start() override {
    if (started_.exchange(true)) throw RunnerError("runner " + id() + " was started before");
    try {
      engine_->start();
    } catch (...) {
      started_ = false;
      throw;
    }
  }
  Pending<void> stop(bool at_once) override {
    if (!started_) {
      Pending<void> done;
      done.set_result();
      return done;
    }
    return engine_->stop(at_once);
  }

private:
  std::shared_ptr<Engine> engine_;
  std::atomic<bool> started_{false};
};

}  // namespace
}  // namespace detail

std::unique_ptr<Runner> App::thread_runner(RunnerOptions options) const {
  return std::make_unique<detail::ThreadRunner>(core_, core_->settle("thread_runner", std::move(options)));
}

}  // namespace caller::task
