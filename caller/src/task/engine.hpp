// What every runner does that executes: takes invocations, has them executed, tells of itself, and counts slots.
//
// All state belongs to the loop's thread. A slot is what an invocation occupies while its code is at work; one that
// waits for another gives its slot back, so that nested calls need no more slots than one, however deep.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include <caller/caller.hpp>

#include "app.hpp"
#include "trigger/service.hpp"

namespace caller::task::detail {

class Engine;

/// Where the code of invocations runs. All functions but open() are called on the engine's loop.
class Executor {
public:
  virtual ~Executor();
  /// Before anything is taken, in the thread that starts the runner. Errors: RunnerError.
  virtual void open(Engine& engine) = 0;
  /// Executes an invocation that is RUNNING; what it gives is the change that its end is. Throws nothing.
  virtual Coro<Change> work(InvocationRecord record) = 0;
  /// Asks its code to end. `give_up`: somebody else will do it again.
  virtual void cancel(const std::string& invocation, bool give_up) = 0;
  /// Nothing is at work any more, and nothing will come.
  virtual Coro<void> close() = 0;
};

class Engine final : public SlotKeeper, public std::enable_shared_from_this<Engine> {
public:
  Engine(AppPtr app, RunnerOptions options, std::string description, std::size_t slots,
         std::unique_ptr<Executor> executor);

  const std::string& id() const noexcept { return id_; }
  std::size_t working() const noexcept { return working_.load(std::memory_order_relaxed); }
  const AppPtr& app() const noexcept { return app_; }
  const RunnerOptions& options() const noexcept { return options_; }
  const Caller& loop() const noexcept { return loop_; }

  void start();
  Pending<void> stop(bool at_once);
  /// After stop() is done. Not on the loop's thread.
  void end();

  void give_back_slot() noexcept override;
  Pending<void> take_slot_again() override;
  /// For an invocation whose end was not its own: it has the slot that its end will give back. On the loop.
  void take_slot_unasked() noexcept { ++used_; }

  template <class F>
  void on_loop(F f) const {
    loop_.post(std::move(f));
  }
  Store& store() const { return store_of(*app_); }

private:
  struct Active {
    bool begun = false;  // its code
    bool cancelled = false, give_up = false;
  };

  RunnerRecord told() const;
  void grant();
  void release_slot();
  void work_arrived();
  void kick();
  void ask_to_end(const std::string& invocation, bool give_up);
  Coro<void> serve();
  Coro<void> keep_alive();
  void begin(InvocationRecord record);
  static Coro<void> execute(std::shared_ptr<Engine> self, InvocationRecord record);
  /// False: too late, the invocation is somebody else's by now.
  Coro<bool> told(Pending<void> change) const;
  void finished() noexcept;

  const AppPtr app_;
  const RunnerOptions options_;
  const std::string description_;
  const std::size_t slots_;
  const std::string id_;
  Caller loop_;
  const std::unique_ptr<Executor> executor_;  // goes before the loop, which its threads post to
  std::shared_ptr<void> listener_;
  std::shared_ptr<TriggerService> triggers_;
  Pending<void> beat_, stopped_;
  std::atomic<std::size_t> working_{0};
  std::atomic<bool> idle_{false};
  // Of the loop's thread:
  std::size_t used_ = 0;
  std::deque<Pending<void>> resuming_;  // have waited, and want a slot again
  std::unordered_map<std::string, Active> active_;
  std::unordered_set<std::string> early_;  // asked to end while it was not known what was taken
  bool taking_ = false;
  std::optional<Pending<void>> sleeping_;
  std::uint64_t kicks_ = 0;
  bool stopping_ = false;
};

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
  Coro<Change> work(InvocationRecord record, std::string runner, std::shared_ptr<SlotKeeper> slots, bool timed);
  void cancel(const std::string& invocation, bool give_up);

private:
  struct Work {
    Pending<std::string> pending;
    bool give_up = false;  // to be done again by somebody else
  };
  Pending<std::string> start(const DefinitionPtr& definition, const std::string& args) const;

  AppPtr app_;
  Caller loop_;
  std::unordered_map<std::string, Work> active_;
};

std::unique_ptr<Runner> make_thread_runner(AppPtr app, RunnerOptions options);
/// `kind`: one of those with processes.
std::unique_ptr<Runner> make_process_runner(AppPtr app, RunnerKind kind, RunnerOptions options);

}  // namespace caller::task::detail
