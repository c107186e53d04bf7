// The processes of a runner, and the thread that reads what they say and sees them end.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "remote_store.hpp"
#include "runtime/process.hpp"

namespace caller::task::detail {

/// One process, as whoever sends to it knows it. Thread-safety: any thread, where nothing else is said.
class Link : public std::enable_shared_from_this<Link> {
public:
  explicit Link(caller::detail::Child child) : child_(std::move(child)), channel_(child_.channel()) {}
  /// What does not fit into the socket now is sent by the pool's thread, which `wake` wakes. Lost when it has gone.
  void send(std::string frame);
  void kill() noexcept { child_.kill(); }
  int pid() const noexcept { return child_.pid(); }
  /// After its end was told of.
  int signal() const noexcept { return child_.signal(); }
  int exit_code() const noexcept { return child_.exit_code(); }
  /// Why it was killed, if it said something that cannot be.
  const std::string& nonsense() const noexcept { return nonsense_; }

private:
  friend class Pool;
  void flush() noexcept;  // under the mutex
  caller::detail::Child child_;
  const int channel_;
  std::mutex mutex_;
  std::string out_;
  std::function<void()> wake_;
  bool gone_ = false;
  // Of the pool's thread:
  Deframer in_;
  std::unique_ptr<StoreServer> server_;
  std::string nonsense_;
};
using LinkPtr = std::shared_ptr<Link>;

class Pool {
public:
  struct Events {  // in the pool's thread
    std::function<void(const LinkPtr&, Frame, std::string_view)> said;
    std::function<void(const LinkPtr&)> ended;  // nothing more will come of it
  };
  Pool(std::shared_ptr<Store> store, Events events);
  /// Kills those that are there.
  ~Pool();
  /// Errors: std::system_error.
  LinkPtr start(const std::vector<std::string>& command);

private:
  void wake() const noexcept;
  void serve();
  /// All that can be read now. False: its end of the channel is closed, or what it said cannot be.
  bool read(const LinkPtr& link);

  const std::shared_ptr<Store> store_;
  const Events events_;
  caller::detail::Descriptor woken_;
  std::mutex mutex_;
  std::vector<LinkPtr> fresh_;  // to be watched, too
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace caller::task::detail
