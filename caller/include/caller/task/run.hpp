// One execution of a task, as the code of the task and its runner see it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include <caller/coro.hpp>
#include <caller/export.hpp>
#include <caller/pending.hpp>
#include <caller/task/codec.hpp>
#include <caller/task/options.hpp>
#include <caller/task/store.hpp>

namespace caller::task::detail {

/// A task as an application knows it. Immutable once registered.
struct TaskDefinition {
  std::string id;
  std::vector<std::string> parameters;
  /// Of a parameter that a call leaves out; empty: it must not.
  std::vector<std::function<std::string(Format)>> fallbacks;
  std::string signature;  ///< of the function, in C++
  TaskOptions options;
  /// Of a function of a notebook: all that another process needs to make it again, as JSON. The id is made from it.
  std::string source{};
  bool replaces = false;  ///< takes the place of an earlier one of the id that does so, too: a cell that runs again
  /// Exactly one of them. Both read the arguments and give the result as bytes.
  std::function<std::string(Format, std::string_view args, std::stop_token)> plain;
  bool stops = true;  ///< it looks at its token
  std::function<Coro<std::string>(Format, std::string args)> coroutine;
};
using DefinitionPtr = std::shared_ptr<const TaskDefinition>;

/// Whoever counts what is at work at once.
class CALLER_API SlotKeeper {
public:
  virtual ~SlotKeeper();
  /// What runs waits for another invocation, so something else may run. Any thread.
  virtual void give_back_slot() noexcept = 0;
  /// Done when it may go on. Any thread.
  virtual Pending<void> take_slot_again() = 0;
};

/// How often the code of a run has done what must be the same when it is run again.
class CALLER_API Operations {
public:
  /// 1, 2, … of a kind. Thread-safety: any thread. Errors: none. Source: pynenc DeterministicExecutor's counters.
  std::uint64_t next(const std::string& kind);

private:
  std::mutex mutex_;
  std::map<std::string, std::uint64_t> counts_;
};

class AppCore;
/// Travels with the work of one invocation. Made by make_run().
struct Run {
  std::weak_ptr<AppCore> app;
  std::string id, task_id, call_id, parent_id, workflow_id, runner_id;
  int retries = 0;
  std::shared_ptr<SlotKeeper> slots;  // null: nothing is counted
  mutable Operations operations;

  /// Its code waits for another invocation. None: its end is decided, so that this wait is not its business; else
  /// whether nothing of it waited before, so that it is to be PAUSED.
  std::optional<bool> begin_wait() const noexcept {
    std::int64_t n = waits_.load();
    bool first = false;
    do {
      if (n & kOver) return std::nullopt;
      first = n % kPaused == 0;
    } while (!waits_.compare_exchange_weak(n, n + 1 + (first ? kPaused : 0)));
    return first;
  }
  /// True: nothing of it waits any more. Then it is to be RESUMED, and when the store was told, resumed() is to be
  /// called.
  bool end_wait() const noexcept { return waits_.fetch_sub(1) % kPaused == 1; }
  void resumed() const noexcept { waits_.fetch_sub(kPaused); }
  bool over() const noexcept { return (waits_.load() & kOver) != 0; }
  /// Its end is decided. True: a thread that its code left behind waits, or has waited just now: it may be PAUSED.
  bool end() const noexcept { return (waits_.fetch_or(kOver) & ~kOver) != 0; }

private:
  /// One of those that wait is 1, a PAUSED behind which no RESUMED was sent kPaused.
  static constexpr std::int64_t kPaused = std::int64_t{1} << 32, kOver = std::int64_t{1} << 62;
  mutable std::atomic<std::int64_t> waits_{0};
};

CALLER_API std::shared_ptr<Run> make_run(const std::shared_ptr<AppCore>& app, const InvocationRecord& record,
                                         std::string runner_id, std::shared_ptr<SlotKeeper> slots);

/// Of the running code; null outside of tasks. Thread-safety: any thread. Errors: none. Source: pynenc's context.
CALLER_API std::shared_ptr<const Run> current_run() noexcept;
/// For runners: `body` and what it starts belong to `run`.
CALLER_API void with_run(std::shared_ptr<const Run> run, const std::function<void()>& body);

}  // namespace caller::task::detail
