// Invocations in a file of SQLite, which several processes of one machine share.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include <caller/export.hpp>
#include <caller/task/store.hpp>

namespace caller::task {

/// What a power failure may take. The death of a process takes nothing, whichever is chosen.
enum class SqliteSync {
  none,      ///< the last moments: the system writes when it likes
  accepted,  ///< no accepted call and no result: these are on the disk when their Pending is done
  every,     ///< nothing: every step is on the disk when its Pending is done
};

/// What make_sqlite_store is made with.
struct SqliteOptions {
  /// When a step counts as done.
  SqliteSync sync = SqliteSync::accepted;
  /// How long a step waits for a foreign program that keeps the database locked, before it is an error. Processes of
  /// this library take turns and do not count.
  std::chrono::milliseconds busy_timeout{10'000};
};

/// A store in the file `path`, made if it is missing; beside it the folder `path-wake`, by which the processes that use
/// the file take turns and wake each other. The file must be on a disk of this machine, not on one of the network.
///
/// Steps that arrive while others are written are written together, in one transaction; those that must be on the disk
/// are brought there together, too. What is read may be younger than what a failing machine would leave. A step that
/// fails undoes itself alone. Leases are measured by the machine's own time since its start, so a clock that is set
/// changes none; delays are measured by the wall clock. Thread-safety: any thread; reads are made in the calling
/// thread, all else in one of the store's. Errors: StateBackendError when the file cannot be opened, is none of ours,
/// or is of another version, and where the library was built without SQLite. Source: pynenc SQLiteBroker,
/// SQLiteOrchestrator, SQLiteStateBackend; differs: one file, nothing polls.
CALLER_API std::shared_ptr<Store> make_sqlite_store(const std::string& path, SqliteOptions options = {});

}  // namespace caller::task
