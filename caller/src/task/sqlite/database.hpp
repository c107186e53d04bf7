// A connection to the database, and its statements. Internal to this folder.
#pragma once

#include <sqlite3.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include <caller/task/error.hpp>

namespace caller::task::sqlite {

struct Blob {
  std::string_view bytes;
};

/// A statement at work; ready for the next use when it goes.
class Cursor {
public:
  template <class... A>
  Cursor(sqlite3* db, sqlite3_stmt* statement, const A&... values) : db_(db), statement_(statement) {
    int at = 0;
    (put(++at, values), ...);
    static_cast<void>(at);
  }
  Cursor(const Cursor&) = delete;
  Cursor& operator=(const Cursor&) = delete;
  ~Cursor() {
    sqlite3_reset(statement_);
    sqlite3_clear_bindings(statement_);
  }
  /// False: there are no more rows.
  bool next();

  std::int64_t integer(int column) const { return sqlite3_column_int64(statement_, column); }
  bool null(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }
  std::optional<std::int64_t> maybe(int column) const {
    return null(column) ? std::nullopt : std::optional(integer(column));
  }
  bool is_text(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_TEXT; }
  /// As bytes, whatever it is.
  std::string text(int column) const;

private:
  void put(int at, std::int64_t value) { check(sqlite3_bind_int64(statement_, at, value)); }
  void put(int at, int value) { check(sqlite3_bind_int64(statement_, at, value)); }
  void put(int at, bool value) { check(sqlite3_bind_int64(statement_, at, value)); }
  void put(int at, std::nullptr_t) { check(sqlite3_bind_null(statement_, at)); }
  void put(int at, const std::optional<std::int64_t>& value) { value ? put(at, *value) : put(at, nullptr); }
  void put(int at, const std::optional<std::string_view>& text) { text ? put(at, *text) : put(at, nullptr); }
  void put(int at, std::string_view text);
  void put(int at, const std::string& text) { put(at, std::string_view(text)); }
  void put(int at, const char* text) { put(at, std::string_view(text)); }  // which would be a bool
  void put(int at, const Blob& blob);
  void check(int code);

  sqlite3* db_;
  sqlite3_stmt* statement_;
};

/// Thread-safety: one thread at a time. Errors: StateBackendError, with the file's name.
class Database {
public:
  Database(const std::string& path, std::chrono::milliseconds busy_timeout);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  /// Makes what is missing, or refuses what is there. Only one process at a time.
  void prepare();

  /// `sql` must be a literal: its statement is kept by its address. Not twice at the same time.
  template <class... A>
  Cursor query(const char* sql, const A&... values) {
    return Cursor(db_, statement(sql), values...);
  }
  /// Returns how many rows it changed.
  template <class... A>
  int run(const char* sql, const A&... values) {
    Cursor cursor = query(sql, values...);
    while (cursor.next()) {
    }
    return sqlite3_changes(db_);
  }
  /// Text without values, as many statements as there are.
  void execute(const char* sql);
  /// One number, or none.
  template <class... A>
  std::optional<std::int64_t> number(const char* sql, const A&... values) {
    Cursor cursor = query(sql, values...);
    return cursor.next() ? cursor.maybe(0) : std::nullopt;
  }

  std::int64_t last_row() const { return sqlite3_last_insert_rowid(db_); }
  /// Of the last statement.
  int changes() const { return sqlite3_changes(db_); }
  int changes_so_far() const { return sqlite3_total_changes(db_); }
  bool in_transaction() const { return !sqlite3_get_autocommit(db_); }
  void roll_back() noexcept;

private:
  sqlite3_stmt* statement(const char* sql);

  std::string path_;
  sqlite3* db_ = nullptr;
  std::unordered_map<const char*, sqlite3_stmt*> statements_;
};

[[noreturn]] void fail(sqlite3* db, const std::string& what);

}  // namespace caller::task::sqlite
