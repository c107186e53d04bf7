// Where invocations live: queue, states, results and history. One interface, one contract suite, many stores.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <caller/export.hpp>
#include <caller/pending.hpp>
#include <caller/task/error.hpp>
#include <caller/task/status.hpp>

namespace caller::task {

/// Stored stamps: UTC wall time. Units: nanoseconds since 1970.
using Time = std::chrono::sys_time<std::chrono::nanoseconds>;

/// A call that is to be stored.
struct NewInvocation {
  std::string id;
  std::string task_id;
  std::string call_id;  ///< of task and arguments
  std::string args;     ///< as bytes of the application's format
  std::string parent_id;
  std::string queue;
  int priority = 0;
  std::chrono::nanoseconds delay{0};
  std::string registration_key;  ///< one that waits with the same key is given instead; empty: none
  std::string running_key;       ///< one at work with the same key keeps it from running; empty: none
  bool reroute = true;           ///< then it waits; else it is refused
  /// With another call_id, the one that is there already is an error of the caller's: nothing is stored.
  bool refuse_other_call = false;
};

/// What became of a NewInvocation. Of one that was there already, `call_id` and `args` say which call it is.
struct Added {
  std::string id;
  bool reused = false;   ///< it was there already
  bool refused = false;  ///< … and is another call: nothing of the list was stored
  std::string call_id;
  std::string args;
};

/// An invocation as it stands.
struct InvocationRecord {
  std::string id, task_id, call_id, args, parent_id, queue;
  Status status = Status::registered;
  std::string owner;  ///< a runner's id while `is_owned(status)`
  int priority = 0;
  int retries = 0;
  Time created{}, changed{};
  std::string result;     ///< of SUCCESS: bytes of the application's format
  std::string exception;  ///< of FAILED: an ExceptionRecord as JSON
};

/// One step of its life.
struct HistoryEntry {
  Status status;
  std::string owner;
  Time at;
};

/// A change of state. It happens if the table of states allows it and `runner` owns the invocation where that is
/// required; else it is an error and nothing has changed.
struct Change {
  std::string id;
  Status to;
  std::string runner;  ///< who asks; empty: nobody's runner, as for cancelling what waits
  std::string result, exception;
  std::chrono::nanoseconds delay{0};  ///< of RETRY: until it may be taken
};

/// A runner as its heartbeats tell of it.
struct RunnerRecord {
  std::string id, description;
  Time started{}, last_heartbeat{}, lease_until{};
};

/// What a runner wants to be told, in any thread, with no lock held.
struct Listener {
  std::function<void()> work;                            ///< there may be something to take
  std::function<void(const std::string& id)> cancelled;  ///< somebody wants it to end
};

/// Thread-safety: any thread. Cancel-safety: a cancelled Pending does not take back what was asked for.
/// Errors: arrive in the Pending: StateBackendError when the store cannot be used, InvocationNotFoundError, and what is
/// said below. Source: pynenc's BaseBroker, BaseOrchestrator and BaseStateBackend; differs: one, since what they do for
/// one step must happen together.
class CALLER_API Store {
public:
  virtual ~Store();
  virtual std::string description() const = 0;

  /// All of them or, when one is refused, none.
  virtual Pending<std::vector<Added>> add(std::vector<NewInvocation> calls) = 0;

  /// Takes up to `most` invocations for `runner`, which become PENDING: first those that most others wait for, then by
  /// priority, then by age. What must not run now becomes CONCURRENCY_CONTROLLED (or _FINAL) in the same step.
  /// `queues`: only of these; empty: of all.
  virtual Pending<std::vector<InvocationRecord>> take(std::string runner, std::size_t most,
                                                      std::vector<std::string> queues) = 0;

  /// Errors: InvocationStatusTransitionError, InvocationStatusOwnershipError.
  virtual Pending<void> change(Change change) = 0;

  virtual Pending<InvocationRecord> get(std::string id) = 0;
  virtual Pending<std::vector<HistoryEntry>> history(std::string id) = 0;
  /// Done when the invocation is final.
  virtual Pending<void> ended(std::string id) = 0;
  /// Newest first; `task_id` empty: of all tasks.
  virtual Pending<std::vector<InvocationRecord>> list(std::string task_id, std::optional<Status> status,
                                                      std::size_t offset, std::size_t most) = 0;
  /// By status.
  virtual Pending<std::vector<std::pair<Status, std::size_t>>> counts() = 0;

  /// `waiter` waits for `ids` from now on, so they go first. Errors: CycleDetectedError when one of them waits for it.
  virtual Pending<void> wait_for(std::string waiter, std::vector<std::string> ids) = 0;
  /// Errors: CycleDetectedError when `call_id` is that of `parent_id` or of one above it.
  virtual Pending<void> check_cycle(std::string parent_id, std::string task_id, std::string call_id) = 0;

  /// Cancels what waits; of what a runner has, tells that runner. False: it is final.
  virtual Pending<bool> cancel(std::string id) = 0;

  /// Tells of a runner and extends its lease. What belongs to a runner whose lease is over goes back to the queue when
  /// anybody next calls recover().
  virtual Pending<void> heartbeat(RunnerRecord runner, std::chrono::nanoseconds lease) = 0;
  virtual Pending<void> forget_runner(std::string runner) = 0;
  virtual Pending<std::vector<RunnerRecord>> runners() = 0;
  /// Puts back what vanished runners had, and what was PENDING for longer than `max_pending`. Returns their ids.
  virtual Pending<std::vector<std::string>> recover(std::chrono::nanoseconds max_pending) = 0;

  /// Forgets everything (`older_than` none), or what has been final for that long. Returns how many.
  virtual Pending<std::size_t> purge(std::optional<std::chrono::nanoseconds> older_than) = 0;

  /// Until the returned token is gone.
  virtual std::shared_ptr<void> listen(std::string runner, Listener listener) = 0;
};

/// Everything in the process's memory. Thread-safety: any thread. Errors: none. Source: pynenc MemBroker,
/// MemOrchestrator, MemStateBackend.
CALLER_API std::shared_ptr<Store> make_memory_store();

/// In a Redis server of version 7 or later, shared by every process that gives the same address and application.
///
/// `url` is `redis://[user:password@]host[:port][/database]` or `unix:///path[?db=database]`. Nothing is asked of the
/// server before the first step. One that was there and is gone is waited for, as long as `patience`. What it accepted
/// survives its restart if it keeps an AOF with `appendfsync always`; with `everysec` what it was told in the last
/// seconds may be lost, and is executed again or forgotten. Times and leases are those of the server's clock.
/// Thread-safety: any thread. Errors: ConfigError when the address makes no sense, or this build knows no Redis; later,
/// in each Pending, StateBackendError. Source: pynenc RedisBroker, RedisOrchestrator, RedisStateBackend.
CALLER_API std::shared_ptr<Store> make_redis_store(const std::string& url, const std::string& app_id,
                                                   std::chrono::nanoseconds patience = std::chrono::seconds(10));

}  // namespace caller::task
