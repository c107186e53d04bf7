#include "protocol/history.hpp"

#include <sqlite3.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <initializer_list>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>

#include "protocol/log.hpp"
#include "protocol/paths.hpp"

namespace caller::kernel {

using Value = std::variant<int, std::string>;

struct History::Database {
  sqlite3* handle = nullptr;
  bool warned = false;

  std::unordered_map<std::string_view, sqlite3_stmt*> statements;  // by their text, a literal

  ~Database() {
    for (const auto& [sql, statement] : statements) sqlite3_finalize(statement);
    sqlite3_close(handle);
  }

  void complain(const std::string& what) {
    if (std::exchange(warned, true)) return;
    log(LogLevel::warning, "history: " + what + ": " + (handle ? sqlite3_errmsg(handle) : "no memory"));
  }

  // Runs one statement; rows arrive in `row`. False on error.
  template <class Row>
  bool run(const char* sql, std::initializer_list<Value> values, Row row) {
    sqlite3_stmt*& statement = statements[sql];
    if (!statement && sqlite3_prepare_v2(handle, sql, -1, &statement, nullptr) != SQLITE_OK)
      return complain(sql), false;
    int index = 0;
    for (const Value& v : values) {
      ++index;
      if (const int* number = std::get_if<int>(&v))
        sqlite3_bind_int(statement, index, *number);
      else
        sqlite3_bind_text(statement, index, std::get<std::string>(v).c_str(),
                          static_cast<int>(std::get<std::string>(v).size()), SQLITE_STATIC);
    }
    const struct Used {  // for the next time, whatever `row` throws
      sqlite3_stmt* statement;
      ~Used() {
        sqlite3_reset(statement);
        sqlite3_clear_bindings(statement);
      }
    } used{statement};
    int state = SQLITE_ROW;
    while ((state = sqlite3_step(statement)) == SQLITE_ROW) row(statement);
    if (state != SQLITE_DONE) complain(sql);
    return state == SQLITE_DONE;
  }

  bool run(const char* sql, std::initializer_list<Value> values = {}) {
    return run(sql, values, [](sqlite3_stmt*) {});
  }

  std::vector<HistoryEntry> entries(const char* sql, std::initializer_list<Value> values) {
    std::vector<HistoryEntry> out;
    const auto text = [](sqlite3_stmt* s, int column) {
      const auto* p = reinterpret_cast<const char*>(sqlite3_column_text(s, column));
      return p ? std::string(p, static_cast<std::size_t>(sqlite3_column_bytes(s, column))) : std::string();
    };
    run(sql, values, [&](sqlite3_stmt* s) {
      out.push_back({sqlite3_column_int(s, 0), sqlite3_column_int(s, 1), text(s, 2), text(s, 3)});
    });
    return out;
  }

  bool open(const char* path) {
    if (sqlite3_open_v2(path, &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX, nullptr) !=
        SQLITE_OK)
      return complain(std::string("opening ") + path), false;
    sqlite3_busy_timeout(handle, 1000);  // milliseconds; other kernels write to the same file
    // A crash of the machine may lose the last inputs, never the file.
    run("PRAGMA journal_mode=WAL");
    run("PRAGMA synchronous=NORMAL");
    // Nor does anybody who ends wait for the disk: whoever writes much later puts the log into the file.
    sqlite3_db_config(handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
    return run("CREATE TABLE IF NOT EXISTS sessions(session INTEGER PRIMARY KEY AUTOINCREMENT, start TEXT)") &&
           run("CREATE TABLE IF NOT EXISTS history(id INTEGER PRIMARY KEY, session INTEGER, line INTEGER, "
               "input TEXT, output TEXT, UNIQUE(session, line))");
  }
};

History::History(const std::string& path) : db_(std::make_unique<Database>()) {
  persistent_ = !path.empty() && db_->open(path.c_str());
  if (persistent_) session_ = begin_session();
  if (session_ == 0) {  // a file that opens but cannot be written counts as none
    persistent_ = false;
    db_ = std::make_unique<Database>();
    db_->open(":memory:");
    session_ = begin_session();
  }
}

History::~History() = default;

int History::begin_session() {
  const std::lock_guard lock(mutex_);
  if (!db_->run("INSERT INTO sessions(start) VALUES(datetime('now'))")) return 0;
  return static_cast<int>(sqlite3_last_insert_rowid(db_->handle));
}

int History::newest_session() {
  const std::lock_guard lock(mutex_);
  int newest = session_;
  db_->run("SELECT MAX(session) FROM sessions", {}, [&](sqlite3_stmt* s) { newest = sqlite3_column_int(s, 0); });
  return newest;
}

void History::store(int session, int line, const std::string& input) {
  const std::lock_guard lock(mutex_);
  db_->run("INSERT OR REPLACE INTO history(session, line, input) VALUES(?, ?, ?)", {session, line, input});
}

void History::store_output(int session, int line, const std::string& output) {
  const std::lock_guard lock(mutex_);
  db_->run("UPDATE history SET output = ? WHERE session = ? AND line = ?", {output, session, line});
}

std::vector<HistoryEntry> History::tail(int n) {
  const std::lock_guard lock(mutex_);
  auto out = db_->entries("SELECT session, line, input, output FROM history ORDER BY session DESC, line DESC LIMIT ?",
                          {std::max(n, 0)});
  std::reverse(out.begin(), out.end());
  return out;
}

std::vector<HistoryEntry> History::range(int session, int start, int stop) {
  const std::lock_guard lock(mutex_);
  int wanted = session > 0 ? session : session_;
  if (session < 0) {  // counted among the sessions that exist before this one
    wanted = 0;
    db_->run("SELECT session FROM sessions WHERE session < ? ORDER BY session DESC LIMIT 1 OFFSET ?",
             {session_, -(session + 1)}, [&](sqlite3_stmt* s) { wanted = sqlite3_column_int(s, 0); });
  }
  if (stop < 0)
    return db_->entries(
        "SELECT session, line, input, output FROM history WHERE session = ? AND line >= ? ORDER BY line",
        {wanted, start});
  return db_->entries(
      "SELECT session, line, input, output FROM history WHERE session = ? AND line >= ? AND line < ? ORDER BY line",
      {wanted, start, stop});
}

std::vector<HistoryEntry> History::search(const std::string& pattern, int n, bool unique) {
  const std::lock_guard lock(mutex_);
  const int limit = n > 0 ? n : -1;
  auto out = unique ? db_->entries(
                          "SELECT session, line, input, output FROM history WHERE id IN (SELECT MAX(id) FROM history "
                          "WHERE input GLOB ? GROUP BY input) ORDER BY session DESC, line DESC LIMIT ?",
                          {pattern, limit})
                    : db_->entries(
                          "SELECT session, line, input, output FROM history WHERE input GLOB ? "
                          "ORDER BY session DESC, line DESC LIMIT ?",
                          {pattern, limit});
  std::reverse(out.begin(), out.end());
  return out;
}

std::string default_history_path() {
  namespace fs = std::filesystem;
  const fs::path base = jupyter_data_dir();
  if (base.empty()) return {};
  std::error_code error;
  fs::create_directories(base / "caller", error);
  return (base / "caller" / "history.sqlite").string();
}

}  // namespace caller::kernel
