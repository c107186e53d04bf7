#include "database.hpp"

namespace caller::task::sqlite {

namespace {

constexpr std::int64_t kApplication = 0x43414c4c;  // "CALL"
constexpr std::int64_t kVersion = 3;

/// `ticket`: the place in the queue of what may be taken; `held`: the place of what must wait for its kind; `due`: when
/// it may be taken; `ending`: its row of `ended`. What never changes and may be large, and what is written once, have
/// tables of their own, so that a step rewrites little. Statuses are stored by name.
constexpr const char* kSchema = R"(
CREATE TABLE invocation(
  number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, task_id TEXT NOT NULL, call_id TEXT NOT NULL,
  parent_id TEXT NOT NULL, queue TEXT NOT NULL, priority INTEGER NOT NULL, registration_key TEXT, running_key TEXT,
  reroute INTEGER NOT NULL, created INTEGER NOT NULL,
  status TEXT NOT NULL, owner TEXT, retries INTEGER NOT NULL DEFAULT 0, steps INTEGER NOT NULL DEFAULT 0,
  changed INTEGER NOT NULL, ticket INTEGER, held INTEGER, due INTEGER, taken INTEGER, ending INTEGER,
  cancel INTEGER NOT NULL DEFAULT 0, waiters INTEGER NOT NULL DEFAULT 0, waits INTEGER NOT NULL DEFAULT 0);
CREATE INDEX invocation_status ON invocation(status, task_id, number);
CREATE INDEX invocation_ready ON invocation(queue, priority DESC, ticket) WHERE ticket IS NOT NULL;
CREATE INDEX invocation_urgent ON invocation(waiters DESC, number)
  WHERE ticket IS NOT NULL AND waiters > 0 AND waits = 0;
CREATE INDEX invocation_held ON invocation(running_key, held) WHERE held IS NOT NULL;
CREATE INDEX invocation_due ON invocation(due) WHERE due IS NOT NULL;
CREATE INDEX invocation_owned ON invocation(owner) WHERE owner IS NOT NULL;
CREATE INDEX invocation_busy ON invocation(running_key) WHERE owner IS NOT NULL AND running_key IS NOT NULL;
CREATE INDEX invocation_kind ON invocation(registration_key, number)
  WHERE registration_key IS NOT NULL AND owner IS NULL AND ending IS NULL;
CREATE INDEX invocation_cancelling ON invocation(owner) WHERE cancel = 1 AND owner IS NOT NULL;
CREATE TABLE content(number INTEGER PRIMARY KEY, args BLOB NOT NULL);
CREATE TABLE ended(
  seq INTEGER PRIMARY KEY AUTOINCREMENT, number INTEGER NOT NULL, id TEXT NOT NULL, at INTEGER NOT NULL,
  result BLOB, exception BLOB);
CREATE TABLE history(
  number INTEGER, step INTEGER, status TEXT NOT NULL, owner TEXT, at INTEGER NOT NULL,
  PRIMARY KEY(number, step)) WITHOUT ROWID;
CREATE TABLE wait(waiter INTEGER, target INTEGER, PRIMARY KEY(waiter, target)) WITHOUT ROWID;
CREATE INDEX wait_target ON wait(target, waiter);
CREATE TABLE runner(
  id TEXT PRIMARY KEY, description TEXT NOT NULL, started INTEGER NOT NULL, last_heartbeat INTEGER NOT NULL,
  lease_until INTEGER NOT NULL, lease_uptime INTEGER NOT NULL, boot TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE state(one INTEGER PRIMARY KEY CHECK(one = 1), ticket INTEGER NOT NULL, purges INTEGER NOT NULL);
INSERT INTO state VALUES(1, 0, 0);
PRAGMA application_id = 1128352844;
PRAGMA user_version = 1;
)";

/// What version 2 has more. `workflow_id`: NULL where it is the invocation itself; `content.data`: hashes of the data
/// it names, in one; `data.unused`: since when nothing names it; `value_change`: the last keys that were changed, for
/// those who are to be told.
constexpr const char* kSecond = R"(
ALTER TABLE invocation ADD COLUMN workflow_id TEXT;
CREATE INDEX invocation_child ON invocation(parent_id, number) WHERE parent_id <> '';
CREATE INDEX invocation_workflow ON invocation(workflow_id, number) WHERE workflow_id IS NOT NULL;
ALTER TABLE content ADD COLUMN data BLOB;
CREATE TABLE value(key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, until INTEGER);
CREATE INDEX value_until ON value(until) WHERE until IS NOT NULL;
CREATE TABLE value_change(seq INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL);
CREATE TABLE data(number INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, named INTEGER NOT NULL, unused INTEGER);
CREATE INDEX data_unused ON data(unused) WHERE unused IS NOT NULL;
CREATE TABLE data_bytes(number INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
PRAGMA user_version = 2;
)";

/// What version 3 has more. `kept`: running keys of code that goes on though no runner has its invocation any more.
constexpr const char* kThird = R"(
CREATE TABLE kept(running_key TEXT PRIMARY KEY, id TEXT NOT NULL, runner TEXT NOT NULL) WITHOUT ROWID;
PRAGMA user_version = 3;
)";
static_assert(kApplication == 1128352844 && kVersion == 3);

}  // namespace

void fail(sqlite3* db, const std::string& what) {
  const char* const file = db ? sqlite3_db_filename(db, "main") : nullptr;
  throw StateBackendError("the task database " + std::string(file ? file : "") + ": " + what +
                          (db ? std::string(": ") + sqlite3_errmsg(db) : ""));
}

bool Cursor::next() {
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  fail(db_, "a step failed");
}

std::string Cursor::text(int column) const {
  const void* const bytes = sqlite3_column_blob(statement_, column);
  const int size = sqlite3_column_bytes(statement_, column);
  return bytes ? std::string(static_cast<const char*>(bytes), static_cast<std::size_t>(size)) : std::string();
}

void Cursor::put(int at, std::string_view text) {
  check(
      sqlite3_bind_text64(statement_, at, text.data() ? text.data() : "", text.size(), SQLITE_TRANSIENT, SQLITE_UTF8));
}
void Cursor::put(int at, const Blob& blob) {
  check(sqlite3_bind_blob64(statement_, at, blob.bytes.data() ? blob.bytes.data() : "", blob.bytes.size(),
                            SQLITE_TRANSIENT));
}
void Cursor::check(int code) {
  if (code != SQLITE_OK) fail(db_, "a value was not accepted");
}

Database::Database(const std::string& path, std::chrono::milliseconds busy_timeout) : path_(path) {
  const int code =
      sqlite3_open_v2(path.c_str(), &db_, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  try {
    if (code != SQLITE_OK)
      throw StateBackendError("cannot open the task database " + path + ": " + sqlite3_errstr(code));
    sqlite3_busy_timeout(db_, static_cast<int>(busy_timeout.count()));
    sqlite3_extended_result_codes(db_, 1);
  } catch (...) {
    sqlite3_close(db_);
    throw;
  }
}

Database::~Database() {
  for (const auto& [sql, statement] : statements_) sqlite3_finalize(statement);
  sqlite3_close(db_);
}

void Database::prepare() {
  const auto application = number("PRAGMA application_id").value_or(0);
  const auto version = number("PRAGMA user_version").value_or(0);
  if (application != kApplication) {
    if (application != 0 || version != 0 || number("SELECT count(*) FROM sqlite_schema").value_or(0) != 0)
      throw StateBackendError(path_ + " is a database of another program, not one of tasks");
  } else if (version < 1 || version > kVersion) {
    throw StateBackendError("the task database " + path_ + " has version " + std::to_string(version) +
                            ", this library reads version " + std::to_string(kVersion));
  }
  {
    Cursor mode = query("PRAGMA journal_mode = WAL");
    if (!mode.next() || mode.text(0) != "wal")
      throw StateBackendError("the task database " + path_ + " cannot have a write-ahead log where it is");
  }
  execute("PRAGMA temp_store = MEMORY; PRAGMA wal_autocheckpoint = 4000");
  if (application == kApplication && version == kVersion) return;
  try {
    execute("BEGIN IMMEDIATE");
    // Another process may have brought it there meanwhile.
    const auto brought = number("PRAGMA user_version").value_or(0);
    if (brought < 1) execute(kSchema);
    if (brought < 2) execute(kSecond);
    if (brought < 3) execute(kThird);
    execute("COMMIT");
  } catch (...) {
    roll_back();
    throw;
  }
}

void Database::execute(const char* sql) {
  if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) fail(db_, "a statement failed");
}

void Database::roll_back() noexcept {
  if (in_transaction()) sqlite3_exec(db_, "ROLLBACK", nullptr, nullptr, nullptr);
}

sqlite3_stmt* Database::statement(const char* sql) {
  sqlite3_stmt*& kept = statements_[sql];
  if (!kept && sqlite3_prepare_v3(db_, sql, -1, SQLITE_PREPARE_PERSISTENT, &kept, nullptr) != SQLITE_OK) {
    statements_.erase(sql);
    fail(db_, "a statement was not understood");
  }
  return kept;
}

}  // namespace caller::task::sqlite
