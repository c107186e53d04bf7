// Every store there is, a fresh one each time.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include <caller/task/all.hpp>
#ifdef CALLER_TEST_REDIS
#include "redis_server.hpp"
#endif

#include "support/temporary_folder.hpp"

#ifdef CALLER_TASK_SQLITE
/// A file of its own each time. What a power failure takes is not what these tests are about.
inline std::shared_ptr<caller::task::Store> make_fresh_sqlite_store() {
  static const caller::test::TemporaryFolder folder;
  static std::atomic<int> count{0};
  return caller::task::make_sqlite_store(folder.file(std::to_string(++count) + ".db"),
                                         {.sync = caller::task::SqliteSync::none});
}
#endif
#ifdef CALLER_TEST_REDIS
/// An application of its own on a server of this process's.
inline std::shared_ptr<caller::task::Store> make_redis() {
  static RedisServer server;
  static std::atomic<int> last{0};
  return caller::task::make_redis_store(server.url(), "contract-" + std::to_string(++last));
}
#endif

struct StoreKind {
  const char* name;
  std::shared_ptr<caller::task::Store> (*make)();
};
inline constexpr StoreKind kStores[] = {
    {"memory", &caller::task::make_memory_store},
#ifdef CALLER_TEST_REDIS
    {"redis", &make_redis},
#endif
#ifdef CALLER_TASK_SQLITE
    {"sqlite", &make_fresh_sqlite_store},
#endif
};
