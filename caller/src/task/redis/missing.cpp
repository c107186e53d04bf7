// In a build without hiredis or Boost.Asio.
#include <caller/task/store.hpp>

namespace caller::task {

std::shared_ptr<Store> make_redis_store(const std::string&, const std::string&, std::chrono::nanoseconds) {
  throw ConfigError(
      "this build of Caller has no store in Redis; install libhiredis-dev and Boost 1.74 or later, and build again");
}

}  // namespace caller::task
