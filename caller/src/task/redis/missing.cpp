// In a build without hiredis or Boost.Asio.
#include <caller/task/redis.hpp>
#include <caller/task/store.hpp>

namespace caller::task {

std::shared_ptr<Store> make_redis_store(const std::string&, const std::string&, std::chrono::nanoseconds) {
  throw ConfigError(
      "this build of Caller has no store in Redis; install libhiredis-dev and Boost 1.74 or later, and build again");
}
std::shared_ptr<Store> make_redis_store(const RedisOptions& options, const std::string& app_id) {
  return make_redis_store(options.url, app_id, options.patience);
}

}  // namespace caller::task
