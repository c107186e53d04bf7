// Where invocations live: queue, states, results and history. One interface, one contract suite, many stores.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <caller/export.hpp>
#include <caller/pending.hpp>
#include <caller/task/error.hpp>
#include <caller/task/status.hpp>

namespace caller::task {

/// Stored stamps: UTC wall time. Units: nanoseconds since 1970.
using Time = std::chrono::sys_time<std::chrono::nanoseconds>;

/// A call that is to be stored. One whose id is there already is left as it is and answered as if it had just been
/// added: what is asked for twice is done once, until the first is purged.
struct NewInvocation {
  /// Unique: the caller makes it.
  std::string id;
  /// What is to be executed.
  std::string task_id;
  std::string call_id;  ///< of task and arguments
  std::string args;     ///< as bytes of the application's format
  /// Whose task makes the call; empty: none.
  std::string parent_id;
  /// Which runners take it.
  std::string queue;
  /// Higher ones are taken first.
  int priority = 0;
  /// Until it may be taken; 0: at once.
  std::chrono::nanoseconds delay{0};
  std::string registration_key;  ///< one that waits with the same key is given instead; empty: none
  std::string running_key;       ///< one at work with the same key keeps it from running; empty: none
  bool reroute = true;           ///< then it waits; else it is refused
  /// With another call_id, the one that is there already is an error of the caller's: nothing is stored.
  bool refuse_other_call = false;
  /// The invocation its workflow began with; empty: its parent's workflow or, without a parent that is there, itself.
  std::string workflow_id{};
  std::vector<std::string> data{};  ///< hashes of what it refers to; see Store::put_data()
};

/// What became of a NewInvocation. Of one that was there already, `call_id` and `args` say which call it is.
struct Added {
  /// Of the invocation that stands for the call.
  std::string id;
  bool reused = false;   ///< it was there already
  bool refused = false;  ///< … and is another call: nothing of the list was stored
  /// Of the one that was there.
  std::string call_id;
  /// Of the one that was there.
  std::string args;
};

/// An invocation as it stands.
struct InvocationRecord {
  /// As of NewInvocation.
  std::string id, task_id, call_id, args, parent_id, queue;
  /// Where it stands.
  Status status = Status::registered;
  std::string owner;  ///< a runner's id while `is_owned(status)`
  /// As of NewInvocation.
  int priority = 0;
  /// How often it was tried again.
  int retries = 0;
  /// By the store's clock.
  Time created{}, changed{};
  std::string result;     ///< of SUCCESS: bytes of the application's format
  std::string exception;  ///< of FAILED: an ExceptionRecord as JSON
  /// As of NewInvocation.
  std::string registration_key, running_key;
  /// As of NewInvocation.
  bool reroute = true;
  /// The invocation its workflow began with.
  std::string workflow_id;
  /// Hashes of data that it refers to.
  std::vector<std::string> data;
};

/// The same call once more, as what is final stays so: with its keys, its workflow and its data, and without delay.
/// Thread-safety: any thread. Errors: none. Source: –
CALLER_API NewInvocation again(const InvocationRecord& record, std::string id);

/// Which invocations are meant: those that are all of what is said.
struct Selection {
  std::string task_id{};  ///< empty: of all tasks, and so with each of these
  /// None: of any status.
  std::optional<Status> status{};
  std::string parent_id{};    ///< its children
  std::string workflow_id{};  ///< what belongs to it, its beginning included
  /// None: at any time.
  std::optional<Time> from{}, until{};  ///< created at `from` or later, and before `until`
  std::string before{};                 ///< older than this invocation: the last one of the page before
};

/// One step of its life.
struct HistoryEntry {
  /// What it became.
  Status status;
  /// The runner's id, if it was one's.
  std::string owner;
  /// By the store's clock.
  Time at;
};

/// A change of state. It happens if the table of states allows it and `runner` owns the invocation where that is
/// required; else it is an error and nothing has changed.
struct Change {
  /// Of the invocation.
  std::string id;
  /// What it is to become.
  Status to;
  std::string runner;  ///< who asks; empty: nobody's runner, as for cancelling what waits
  /// As of InvocationRecord.
  std::string result, exception;
  std::chrono::nanoseconds delay{0};  ///< of RETRY: until it may be taken
  std::vector<std::string> data{};    ///< hashes that it refers to from now on, beside those it does already
  /// Added if, and only if, the change is made. `refuse_other_call` is not looked at.
  std::vector<NewInvocation> then{};
  /// Its code may still be at work, in a runner that has it no more: nothing with its running key begins before
  /// Store::code_ended(), or before the lease of `runner` is over. It itself waits for that, too, if it is to be tried
  /// again, also where it may not wait for others.
  bool code_goes_on = false;
};

/// A change of a value. It happens if the value is what is expected; then only are `then` added, in the same step.
struct ValueChange {
  /// What is expected of the value.
  enum class If { anything, absent, equal };
  std::string key;  ///< any bytes, at least one
  /// Which of these.
  If expect = If::anything;
  std::string expected{};                ///< If::equal: to these bytes
  std::optional<std::string> value{};    ///< none: there is no value from now on
  std::chrono::nanoseconds lifetime{0};  ///< after which there is none; 0: it stays
  std::vector<NewInvocation> then{};     ///< `refuse_other_call` is not looked at
};

/// Stores tell those who watch a task of its changes, whoever makes them. While there is a value under kWatchKey and
/// the task's id, a decimal number whose bit n stands for the status n, each change of an invocation of the task to one
/// of these is kept, in the same step, as a value of its own: for kChangeLifetime, or until somebody takes it away. Its
/// key is kChangeKey, the time in microseconds with 20 digits, `/c`, the status with two, `/` and the invocation's id,
/// so the oldest is listed first; it is the task's id behind its length: `6:t.task`. Source: –
inline constexpr std::string_view kWatchKey = "trigger/w/";
/// The beginning of the keys of changes that are kept; see kWatchKey.
inline constexpr std::string_view kChangeKey = "trigger/q/";
/// How long they are; see kWatchKey.
inline constexpr std::chrono::hours kChangeLifetime{24};

/// A runner as its heartbeats tell of it.
struct RunnerRecord {
  /// Unique; for people.
  std::string id, description;
  /// By the store's clock.
  Time started{}, last_heartbeat{}, lease_until{};
};

/// How an invocation ended, as those are told who wait for several. Source: –
struct Ended {
  std::size_t place = 0;               ///< of its id in what was asked for
  std::exception_ptr error{};          ///< of Store::ended(), as when it was purged; else null
  Status status = Status::registered;  ///< as of InvocationRecord
  /// As of InvocationRecord.
  std::string task_id, result, exception;
};

/// What a runner wants to be told, in any thread, with no lock held.
struct Listener {
  std::function<void()> work;                            ///< there may be something to take
  std::function<void(const std::string& id)> cancelled;  ///< somebody wants it to end
  /// A value was changed whose key begins with `values`, by whichever process; told once or more often. With an empty
  /// key: any of them may have been, as when a connection was lost. What is over its lifetime is not told.
  std::function<void(const std::string& key)> value{};
  /// The beginning of keys; none are told where `value` is not set.
  std::string values{};
};

/// What Store::change_and_take() gives. Source: –
struct ChangeAndTake {
  Pending<void> changed;                         ///< of the change
  Pending<std::vector<InvocationRecord>> taken;  ///< of what is next
};

/// Thread-safety: any thread. Cancel-safety: a cancelled Pending does not take back what was asked for.
/// Errors: arrive in the Pending: StateBackendError when the store cannot be used, InvocationNotFoundError, and what is
/// said below. Source: pynenc's BaseBroker, BaseOrchestrator and BaseStateBackend; differs: one, since what they do for
/// one step must happen together.
class CALLER_API Store {
public:
  virtual ~Store();
  /// For messages and monitors: kind and place of the store.
  virtual std::string description() const = 0;

  /// All of them or, when one is refused, none. See NewInvocation for an id that is there already.
  virtual Pending<std::vector<Added>> add(std::vector<NewInvocation> calls) = 0;

  /// Takes up to `most` invocations for `runner`, which become PENDING: first those that most others wait for, then by
  /// priority, then by age. What must not run now becomes CONCURRENCY_CONTROLLED (or _FINAL) in the same step.
  /// `queues`: only of these; empty: of all whose name does not begin with a dot. `begin`: they become RUNNING in the
  /// same step, as their code is about to.
  virtual Pending<std::vector<InvocationRecord>> take(std::string runner, std::size_t most,
                                                      std::vector<std::string> queues, bool begin = false) = 0;

  /// Errors: InvocationStatusTransitionError, InvocationStatusOwnershipError.
  virtual Pending<void> change(Change change) = 0;

  /// The code of which `runner` said that it goes on (Change::code_goes_on) has ended: what waits with its running key
  /// may begin. Done also if nothing is known of it, so it may be said twice.
  virtual Pending<void> code_ended(std::string runner, std::string id) = 0;

  /// change() of an invocation of a runner, then take() for that runner, `begin` set: what a worker does between two
  /// invocations. One may fail without the other. Errors: those of both.
  virtual ChangeAndTake change_and_take(Change change, std::size_t most, std::vector<std::string> queues);

  /// As it stands. Errors: InvocationNotFoundError.
  virtual Pending<InvocationRecord> get(std::string id) = 0;
  /// The steps of its life, oldest first. Errors: InvocationNotFoundError.
  virtual Pending<std::vector<HistoryEntry>> history(std::string id) = 0;
  /// Done when the invocation is final. Who cancels it leaves nothing of their own in the store. Errors:
  /// InvocationNotFoundError; StateBackendError if the store is closed before.
  virtual Pending<void> ended(std::string id) = 0;
  /// As get(), when the invocation is final. As ended() for the rest.
  virtual Pending<InvocationRecord> final_record(std::string id) = 0;
  /// The same of many, in their order.
  virtual std::vector<Pending<InvocationRecord>> final_records(const std::vector<std::string>& ids);
  /// Done when all of them are final, or not there: in the order in which this process learnt of their ends. `ids` are
  /// read before it returns. As ended() for the rest, with the errors in what it gives.
  virtual Pending<std::vector<Ended>> all_ended(std::span<const std::string_view> ids);
  /// Newest first. A page costs what is passed over: go on with `before`, not with `offset`, where there are many.
  virtual Pending<std::vector<InvocationRecord>> list(Selection selection, std::size_t offset, std::size_t most) = 0;
  /// The same for a task and a status.
  Pending<std::vector<InvocationRecord>> list(std::string task_id, std::optional<Status> status, std::size_t offset,
                                              std::size_t most) {
    return list({.task_id = std::move(task_id), .status = status}, offset, most);
  }
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
  /// It has left in good order.
  virtual Pending<void> forget_runner(std::string runner) = 0;
  /// All that have told of themselves and not left, those with a lease that is over included.
  virtual Pending<std::vector<RunnerRecord>> runners() = 0;
  /// Puts back what vanished runners had, and what was PENDING for longer than `max_pending`. Returns their ids.
  virtual Pending<std::vector<std::string>> recover(std::chrono::nanoseconds max_pending) = 0;

  /// Forgets everything (`older_than` none), values and data too, or what has been final for that long, and the data
  /// that nothing has referred to for `data_grace`. Returns how many invocations.
  virtual Pending<std::size_t> purge(std::optional<std::chrono::nanoseconds> older_than,
                                     std::chrono::nanoseconds data_grace = std::chrono::hours(1)) = 0;

  /// The value of a key, if there is one.
  virtual Pending<std::optional<std::string>> value(std::string key) = 0;
  /// Whether it happened. Errors: StateBackendError for an empty key.
  virtual Pending<bool> set_value(ValueChange change) = 0;
  /// Keys that begin with `prefix`, and their values, in the order of their bytes, behind the key `after` (empty: from
  /// the first). Fewer than `most`: there are no more.
  virtual Pending<std::vector<std::pair<std::string, std::string>>> values(std::string prefix, std::string after,
                                                                           std::size_t most) = 0;

  /// Keeps bytes under the hash of their content, which the caller made. An invocation that names the hash refers to
  /// them until it is purged; purge() drops what none has referred to for an hour.
  virtual Pending<void> put_data(std::string hash, std::string bytes) = 0;
  /// The bytes of a hash; none: nobody has put them, or they were dropped.
  virtual Pending<std::optional<std::string>> data(std::string hash) = 0;

  /// Until the returned token is gone.
  virtual std::shared_ptr<void> listen(std::string runner, Listener listener) = 0;
};

/// Everything in the process's memory. Thread-safety: any thread. Errors: none. Source: pynenc MemBroker,
/// MemOrchestrator, MemStateBackend.
CALLER_API std::shared_ptr<Store> make_memory_store();

/// In a Redis server of version 7 or later, shared by every process that gives the same address and application.
///
/// `url` is `redis://[user:password@]host[:port][/database]`, with `rediss://` by TLS (see RedisOptions), or
/// `unix:///path[?db=database]`. Nothing is asked of the server before the first step. One that was there and is gone
/// is waited for, as long as `patience`. What it accepted survives its restart if it keeps an AOF with `appendfsync
/// always`; with `everysec` what it was told in the last seconds may be lost, and is executed again or forgotten. Times
/// and leases are those of the server's clock.
///
/// Thread-safety: any thread. Errors: ConfigError when the address makes no sense, or this build knows no Redis; later,
/// in each Pending, StateBackendError. Source: pynenc RedisBroker, RedisOrchestrator, RedisStateBackend.
CALLER_API std::shared_ptr<Store> make_redis_store(const std::string& url, const std::string& app_id,
                                                   std::chrono::nanoseconds patience = std::chrono::seconds(10));

}  // namespace caller::task
