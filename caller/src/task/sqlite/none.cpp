// Where there is no SQLite.
#include <caller/task/sqlite.hpp>

namespace caller::task {

std::shared_ptr<Store> make_sqlite_store(const std::string& path, SqliteOptions) {
  throw StateBackendError("cannot open " + path + ": this library was built without SQLite");
}

}  // namespace caller::task
