// What the steps of invocations are in the database. Internal to this folder.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <caller/task/store.hpp>

#include "database.hpp"

namespace caller::task::sqlite {

using std::chrono::nanoseconds;

Time now();
/// The same as the tables have it.
std::int64_t stamp();

/// Time since the machine's start, and which start that was: what leases are measured by.
std::int64_t uptime();
const std::string& boot();

/// What is to be told when the transaction stands.
struct News {
  std::vector<std::string> ended;                              // ids
  std::vector<std::pair<std::string, std::string>> cancelled;  // runner and id
  std::vector<std::pair<std::int64_t, std::string>> values;    // keys, behind the numbers of their changes
  bool work = false;                                           // there is something to take
  bool due = false;                                            // something waits for its time
  bool forgotten = false;                                      // everything is
  bool any() const { return work || due || forgotten || !ended.empty() || !cancelled.empty() || !values.empty(); }
  void append(const News& more);
};

/// The steps that write. Each is called inside of a transaction; one that throws after it has changed something must be
/// undone by who called it. May be called again with the same arguments after that.
class Ledger {
public:
  explicit Ledger(Database& db) : db_(db) {}

  /// Around the steps of one transaction.
  void begin();
  void end();

  std::vector<Added> add(const std::vector<NewInvocation>& calls, News& news);
  std::vector<InvocationRecord> take(const std::string& runner, std::size_t most,
                                     const std::vector<std::string>& queues, bool begin, News& news);
  void change(const Change& change, News& news);
  void code_ended(const std::string& runner, const std::string& id, News& news);
  void wait_for(const std::string& waiter, const std::vector<std::string>& ids);
  bool cancel(const std::string& id, News& news);
  void heartbeat(const RunnerRecord& told, nanoseconds lease);
  void forget_runner(const std::string& runner);
  std::vector<std::string> recover(nanoseconds max_pending, News& news);
  std::size_t purge_all(News& news);
  /// Some of them, and some of the data; call it until there are none.
  std::size_t purge_some(nanoseconds older_than, nanoseconds data_grace, bool& more);
  /// What waited for a time that has come.
  void release_due(News& news);

  bool set_value(const ValueChange& change, News& news);
  void put_data(const std::string& hash, const std::string& bytes);

private:
  struct Row {
    std::int64_t number;
    std::string id, task_id, status_text;
    Status status;
    std::string owner;
    bool has_owner;
    std::int64_t retries, steps;
    std::string running_key;  // empty: none
    bool reroute, cancel;
    std::int64_t waiters, waits;
    std::optional<std::int64_t> due;
  };
  static Row row_of(const Cursor& cursor);
  Row by_id(const std::string& id);
  std::optional<Row> by_number(std::int64_t number);

  // life.cpp
  struct Kind {  // one that waits with a registration key
    std::int64_t number;
    std::string id, call_id;
  };
  std::optional<Kind> waiting(const NewInvocation& call);
  Added add_one(const NewInvocation& call, News& news);
  Added known(const Kind& kind, bool refused);
  void insert(const NewInvocation& call, News& news);
  void set(Row& row, Status to, const std::string& owner, News& news, const Change* with = nullptr);
  void note(std::int64_t number, std::int64_t step, Status status, const std::string& owner, std::int64_t at);
  void admit_next(const std::string& running_key, News& news);
  bool is_busy(const std::string& running_key);
  bool is_kept(const std::string& running_key);
  void free_keys(const std::vector<std::string>& running_keys, News& news);
  std::optional<std::int64_t> next(const std::vector<std::string>& queues);

  // waits.cpp
  bool leads_to(std::int64_t from, std::int64_t to, std::vector<std::string>& path);
  void end_waits(const Row& row);

  // upkeep.cpp
  void know_runner(const std::string& runner);
  void disown(std::int64_t number, News& news);

  // values.cpp
  void name_data(const std::vector<std::string>& hashes, std::vector<std::string>& named);
  void release_data(const std::string& packed);
  void forget_values(std::int64_t most);
  void put_value(const std::string& key, const std::string& bytes, nanoseconds lifetime);
  void tell_value(const std::string& key, News& news);
  void read_watches();
  /// For those who watch its task.
  void keep_change(const std::string& id, const std::string& task_id, Status status, std::int64_t at, News& news);

  Database& db_;
  std::int64_t ticket_ = 0, stored_ticket_ = 0;
  std::unordered_map<std::string, std::string> watches_;  // of tasks; as of the beginning of the transaction
};

/// The steps that only read; on a connection of their own.
InvocationRecord read_record(Database& db, const std::string& id);
/// None: there is no such invocation.
std::optional<Status> read_status(Database& db, const std::string& id);
std::vector<HistoryEntry> read_history(Database& db, const std::string& id);
std::vector<InvocationRecord> read_list(Database& db, const Selection& selection, std::size_t offset, std::size_t most);
std::optional<std::string> read_value(Database& db, const std::string& key);
std::vector<std::pair<std::string, std::string>> read_values(Database& db, const std::string& prefix,
                                                             const std::string& after, std::size_t most);
std::optional<std::string> read_data(Database& db, const std::string& hash);
std::vector<std::pair<Status, std::size_t>> read_counts(Database& db);
std::vector<RunnerRecord> read_runners(Database& db);
void check_cycle(Database& db, std::string parent_id, const std::string& task_id, const std::string& call_id);

/// Hashes in one column, and back. What is no such list is none.
std::string packed(const std::vector<std::string>& hashes);
std::vector<std::string> hashes(const std::string& packed);

/// Errors: StateBackendError for one that is none.
Status status_named(const std::string& text, const std::string& id);

}  // namespace caller::task::sqlite
