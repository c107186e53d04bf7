// The store as a whole: how it is made and how it goes.
#include "store.hpp"

#include <algorithm>
#include <thread>

#include "../app.hpp"

namespace caller::task::redis {

RedisStore::RedisStore(const RedisOptions& options, const std::string& app_id, nanoseconds patience)
    : prefix_("caller:{" + escaped(app_id) + "}:"),
      name_(detail::new_uuid().substr(0, 13)),
      again_for_(std::chrono::ceil<std::chrono::milliseconds>(
                     std::clamp<nanoseconds>(patience, nanoseconds::zero(), std::chrono::hours(24))) +
                 std::chrono::seconds(10)),
      client_(std::make_unique<Client>(parse_address(options), patience)) {
  client_->start({[this](const std::string& channel) { subscribed(channel); },
                  [this](const std::string& channel, const std::string& m) { message(channel, m); }});
  client_->subscribe(prefix_ + "all");
  client_->subscribe(prefix_ + "c:" + name_);
}

RedisStore::~RedisStore() {
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->store = nullptr;
  }
  if (client_->is_here()) {  // the last handle went in one of our callbacks: this thread cannot wait for itself
    client_->mute();
    std::thread([client = std::move(client_)] { client->stop(); }).detach();
  } else {
    client_->stop();
  }
  AwaitingById left;
  {
    const std::lock_guard lock(mutex_);
    left.swap(ends_);
  }
  detail::fail_closed(left);
}

}  // namespace caller::task::redis

namespace caller::task {

namespace {
std::shared_ptr<Store> made(const RedisOptions& options, const std::string& app_id, std::chrono::nanoseconds patience) {
  if (app_id.empty()) throw ConfigError("app_id: empty");
  auto store = std::make_shared<redis::RedisStore>(options, app_id, patience);
  store->share();
  return store;
}
}  // namespace

std::shared_ptr<Store> make_redis_store(const std::string& url, const std::string& app_id,
                                        std::chrono::nanoseconds patience) {
  RedisOptions options;
  options.url = url;
  return made(options, app_id, patience);
}
std::shared_ptr<Store> make_redis_store(const RedisOptions& options, const std::string& app_id) {
  return made(options, app_id, options.patience);
}

}  // namespace caller::task
