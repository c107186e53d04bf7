// Looks at the store while somebody watches, and tells the Feed. Internal to this folder.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include <caller/caller.hpp>

#include "api.hpp"
#include "http.hpp"

namespace caller::monitor {

/// Thread-safety: the loop's thread. Errors: told as events `trouble`, until the store answers again.
class Watch : public std::enable_shared_from_this<Watch> {
public:
  Watch(Caller loop, std::shared_ptr<Api> api, Feed& feed, std::chrono::nanoseconds interval)
      : loop_(std::move(loop)), api_(std::move(api)), feed_(feed), interval_(interval) {}
  /// So many watch from now on.
  void watching(std::size_t n);
  /// Something was just changed from here.
  void look_soon();

private:
  struct Look {
    std::string json, digest, trouble;
  };
  static Coro<void> run(std::shared_ptr<Watch> self);
  static Coro<Look> look(std::shared_ptr<Watch> self);
  void tell(Look found);

  Caller loop_;
  const std::shared_ptr<Api> api_;
  Feed& feed_;
  const std::chrono::nanoseconds interval_;
  std::size_t watchers_ = 0;
  bool running_ = false, told_ = false;
  std::string digest_, trouble_;
  Pending<void> soon_;
};

}  // namespace caller::monitor
