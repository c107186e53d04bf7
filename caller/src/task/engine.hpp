// What every runner does that executes: takes invocations, has them executed, tells of itself, and counts slots.
//
// A slot is what an invocation occupies while its code is at work; one that waits for another gives its slot back, so
// that nested calls need no more slots than one, however deep.
//
// Where the code is executed elsewhere, in other processes, the loop takes and tells. In this process each slot in use
// has a worker of the loop that takes an invocation, executes it, tells its end and takes the next one, so that no
// other thread need wake; what it cannot execute as a plain function, the loop does for it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include <caller/caller.hpp>

#include "app.hpp"
#include "local.hpp"
#include "trigger/service.hpp"

namespace caller::task::detail {

class Engine;

/// How the code of an invocation has ended.
struct Worked {
  Change change{};
  std::optional<PendingBase> code{};  // done when the code has really ended, as it goes on (Change::code_goes_on)
  bool left_waiting = false;          // a thread that it has left may wait for another invocation
};

/// Where the code of invocations runs. All functions but open() are called on the engine's loop.
class Executor {
public:
  virtual ~Executor();
  /// Before anything is taken, in the thread that starts the runner. Errors: RunnerError.
  virtual void open(Engine& engine) = 0;
  /// Executes an invocation that is RUNNING; what it gives is the change that its end is. Throws nothing.
  virtual Coro<Worked> work(InvocationRecord record) = 0;
  /// Asks its code to end. `give_up`: somebody else will do it again.
  virtual void cancel(const std::string& invocation, bool give_up) = 0;
  /// Nothing is at work any more, and nothing will come.
  virtual Coro<void> close() = 0;
  /// Whether workers of the engine's loop may execute plain functions themselves.
  virtual bool is_here() const noexcept { return false; }
};

class Engine final : public SlotKeeper, public std::enable_shared_from_this<Engine> {
public:
  Engine(AppPtr app, RunnerOptions options, std::string description, std::size_t slots,
         std::unique_ptr<Executor> executor);

  const std::string& id() const noexcept { return id_; }
  std::size_t working() const noexcept {
    const std::lock_guard lock(mutex_);
    return static_cast<std::size_t>(std::max<std::ptrdiff_t>(used_ - looking_, 0));
  }
  const AppPtr& app() const noexcept { return app_; }
  const RunnerOptions& options() const noexcept { return options_; }
  const Caller& loop() const noexcept { return loop_; }

  void start();
  Pending<void> stop(bool at_once);
  /// After stop() is done. Not on the loop's thread.
  void end();

  void give_back_slot() noexcept override;
  Pending<void> take_slot_again() override;
  /// For an invocation whose end was not its own: it has the slot that its end will give back.
  void take_slot_unasked() noexcept {
    const Locked lock(*this);
    ++used_;
  }

  template <class F>
  void on_loop(F f) const {
    loop_.post(std::move(f));
  }
  Store& store() const { return store_of(*app_); }

private:
  struct Active {
    bool begun = false;  // its code
    bool cancelled = false, give_up = false;
    bool here = false;                            // a worker executes it as a plain function
    bool over = false;                            // … and its end is decided
    bool keyed = false;                           // nothing may run beside it that has its running key
    bool left_waiting = false;                    // a thread that its code has left may wait: it may be PAUSED
    LocalRef call;                                // of a store that shares its invocations: it is in `local_active_`
    std::size_t place = 0;                        // … there
    std::optional<Pending<std::string>> pending;  // of that function
  };
  using ActivePtr = std::shared_ptr<Active>;
  /// An end that is told.
  struct Ending {
    Change change;  // it may have to be told again
    Pending<void> told;
    ActivePtr active;
    std::optional<PendingBase> code{};  // goes on, and keeps the running key
  };
  /// One of a store that shares its invocations.
  struct Job {
    LocalTaken taken;
    ActivePtr active;
  };
  /// With the mutex. When it is left, `closed_` says what is so.
  class Locked {
  public:
    explicit Locked(Engine& engine) : engine_(engine), lock_(engine.mutex_) {}
    Locked(const Locked&) = delete;
    Locked& operator=(const Locked&) = delete;
    ~Locked() {
      const bool closed = engine_.closed_locked();
      if (closed != engine_.closed_.load(std::memory_order_relaxed)) engine_.closed_.store(closed);
    }

  private:
    Engine& engine_;
    const std::lock_guard<std::mutex> lock_;
  };
  /// One that is yet to be told.
  struct End {
    Change change;
    ActivePtr active;
  };

  /// Whether what arrives has no worker to start.
  bool closed_locked() const noexcept { return stopping_ || used_ >= slots_ || !resuming_.empty() || spinning_ > 0; }
  RunnerRecord told() const;
  std::vector<Pending<void>> grants_locked();
  void grant();
  void release_slot();
  void work_arrived();
  void kick();
  void ask_to_end(const std::string& invocation, bool give_up);
  Coro<void> serve();
  Coro<void> serve_elsewhere();
  Coro<void> sleep_unless_kicked(std::uint64_t seen);
  static constexpr std::chrono::milliseconds kAfterError{200};
  void cannot_take(const std::exception_ptr& error) const;
  void cannot_take_now(const std::exception_ptr& error) noexcept;
  Coro<void> keep_alive();
  static Coro<void> purge_old(std::shared_ptr<Engine> self);
  void know_locked(const InvocationRecord& record, bool has_slot);
  void begin(InvocationRecord record);
  static Coro<void> execute(std::shared_ptr<Engine> self, InvocationRecord record);
  Ending ending(Change end, ActivePtr active, std::optional<PendingBase> code = {}) const;
  static Coro<void> conclude(std::shared_ptr<Engine> self, Ending ending);
  void conclude_later(Ending ending);
  void forget(const Ending& ending);
  void await_code(const std::string& invocation, const PendingBase& code);
  static Coro<void> tell_code_ended(std::shared_ptr<Engine> self, std::string invocation);
  static Coro<std::exception_ptr> insist(std::shared_ptr<Engine> self, Pending<void> told, const Ending& ending);
  void finished() noexcept;

  // Workers that take: each has a slot, with an invocation or, while it looks for one, without.
  void start_puller();
  void look();
  bool looked(const Pending<std::vector<InvocationRecord>>& asked, std::size_t most, std::uint64_t seen);
  std::optional<std::size_t> begin_taking_or_leave();
  std::optional<std::size_t> begin_taking();
  std::exception_ptr taken(const Pending<std::vector<InvocationRecord>>& asked, std::size_t most,
                           std::vector<InvocationRecord>& list);
  void puller_left();
  template <auto Pull, auto Instead, class Taken>
  void launch(Taken taken) noexcept;
  void launch_puller(InvocationRecord record) noexcept;
  bool keep_slot();
  bool arrives_soon(std::uint64_t seen);
  static Coro<void> pull(std::shared_ptr<Engine> self, InvocationRecord first);
  static Coro<std::vector<InvocationRecord>> pull_some(std::shared_ptr<Engine> self, std::optional<End> last);
  static Coro<std::optional<End>> run_here(std::shared_ptr<Engine> self, InvocationRecord record);

  // The same where the store shares its invocations.
  class LocalRun;
  struct Home;
  struct Executed;
  void look_locally();
  bool take_locally(std::size_t most, std::vector<LocalTaken>& taken);
  void know_taken_locked(std::size_t most, std::vector<LocalTaken>& taken, std::vector<Job>& jobs, ActivePtr spare);
  std::optional<std::size_t> begin_taking_locked();
  void forget_local_locked(Active& active) noexcept;
  void launch_local(Job job) noexcept;
  void begin_elsewhere(Job job);
  const TaskDefinition* definition_of(Home& home, const LocalCall& call) const;
  std::optional<Pending<std::string>> begin_here(const std::shared_ptr<Home>& home, const Job& job);
  Executed executed_here(Home& home, Job job, const Pending<std::string>& running, const std::exception_ptr& error);
  bool tell_and_take(Executed last, std::optional<std::size_t> most, std::vector<LocalTaken>& taken,
                     std::vector<Job>& jobs);
  static Coro<void> pull_locally(std::shared_ptr<Engine> self, Job first);

  const AppPtr app_;
  const RunnerOptions options_;
  const std::string description_;
  const std::ptrdiff_t slots_;
  const std::string id_;
  Caller loop_;
  const std::unique_ptr<Executor> executor_;  // goes before the loop, which its threads post to
  std::shared_ptr<void> listener_;
  std::shared_ptr<TriggerService> triggers_;
  // Where tasks run on the loop the lease is renewed elsewhere: one that computes without awaiting must not cost all
  // that the runner has.
  std::optional<Caller> heart_;
  Pending<void> beat_, stopped_;
  std::optional<Pending<void>> purging_;  // the beat's, and once that has ended the loop's
  std::atomic<bool> idle_{false};
  alignas(64) std::atomic<std::uint64_t> arrivals_{0};
  std::atomic<bool> closed_{false};  // read after `arrivals_` was raised: who opens looks at `arrivals_` afterwards
  LocalStore* local_ = nullptr;      // since start(): the store, if it shares its invocations

  alignas(64) mutable std::mutex mutex_;
  // Slots. Fewer than none for the moment in which the end of one that waits, and has no slot, was decided by others:
  // its code takes one again.
  std::ptrdiff_t used_ = 0;
  std::ptrdiff_t looking_ = 0;          // those of them without an invocation
  std::size_t pullers_ = 0;             // workers that take
  std::size_t spinning_ = 0;            // those of them that see what arrives without being woken
  std::deque<Pending<void>> resuming_;  // have waited, and want a slot again
  std::unordered_map<std::string, ActivePtr> active_;
  std::vector<ActivePtr> local_active_;
  std::unordered_set<std::string> early_;  // asked to end while it was not known what was taken
  std::size_t taking_ = 0;
  std::size_t codes_ = 0;  // that go on though the end of their invocation was told, and keep its running key
  bool stopping_ = false;
  // Of the loop's thread:
  std::optional<Pending<void>> sleeping_;
  std::uint64_t kicks_ = 0;
};

/// What a worker begins with; called `lost` if there was none to begin.
template <class Taken, class Lost>
class Ticket {
public:
  Ticket(Taken taken, Lost lost) : taken_(std::move(taken)), lost_(std::move(lost)) {}
  Ticket(const Ticket&) = delete;
  Ticket& operator=(const Ticket&) = delete;
  ~Ticket() {
    if (!used_) lost_(std::move(taken_));
  }
  Taken take() noexcept {
    used_ = true;
    return std::move(taken_);
  }

private:
  Taken taken_;
  Lost lost_;
  bool used_ = false;
};

/// A worker that begins with what was taken, by `Pull`; it is counted already, and so is its slot. Where there is none,
/// the loop does it, by `Instead`.
template <auto Pull, auto Instead, class Taken>
void Engine::launch(Taken taken) noexcept {
  try {
    auto lost = [self = shared_from_this()](Taken left) {
      self->app_->log("the runner has no thread for what it could execute");
      (self.get()->*Instead)(std::move(left));
      {
        const Locked lock(*self);
        --self->pullers_;
      }
      self->on_loop([self] { self->kick(); });
    };
    auto ticket = std::make_shared<Ticket<Taken, decltype(lost)>>(std::move(taken), std::move(lost));
    (void)loop_.to_thread([self = shared_from_this(), ticket] { return Pull(self, ticket->take()); });
  } catch (...) {  // the loop has stopped: nobody is waited for any more
  }
}

/// A runner with an engine.
class EngineRunner final : public Runner {
public:
  explicit EngineRunner(std::shared_ptr<Engine> engine) : engine_(std::move(engine)) {}
  ~EngineRunner() override;
  const std::string& id() const noexcept override { return engine_->id(); }
  std::size_t working() const noexcept override { return engine_->working(); }
  void start() override;
  Pending<void> stop(bool at_once) override;

protected:
  /// With the time in which processes are killed, and their invocations handed back.
  std::chrono::milliseconds patience() const noexcept override {
    return engine_->options().grace + std::chrono::seconds(1);
  }

private:
  std::shared_ptr<Engine> engine_;
  std::atomic<bool> started_{false};  // there is something to stop
  std::atomic<bool> used_{false};
};

/// Code in this process: coroutines on the loop, plain functions on its workers. On the loop's thread.
class LocalWork {
public:
  LocalWork(AppPtr app, Caller loop) : app_(std::move(app)), loop_(std::move(loop)) {}
  /// `timed`: the task's time-out is this one's business.
  Coro<Worked> work(InvocationRecord record, std::string runner, std::shared_ptr<SlotKeeper> slots, bool timed);
  void cancel(const std::string& invocation, bool give_up);

private:
  struct Work {
    PendingBase pending;  // the search for its task, then its code
    bool cancelled = false;
    bool give_up = false;  // to be done again by somebody else
  };
  Coro<DefinitionPtr> find(Work& work, std::string task_id, std::exception_ptr& error) const;
  void leave(const std::string& invocation, const Work& work);
  Pending<std::string> start(const DefinitionPtr& definition, const std::string& args) const;

  AppPtr app_;
  Caller loop_;
  std::unordered_map<std::string, std::shared_ptr<Work>> active_;
};

std::unique_ptr<Runner> make_thread_runner(AppPtr app, RunnerOptions options);
/// `kind`: one of those with processes.
std::unique_ptr<Runner> make_process_runner(AppPtr app, RunnerKind kind, RunnerOptions options);

}  // namespace caller::task::detail
