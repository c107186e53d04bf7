// What a runner does for triggers: it looks when something has happened, and sleeps until a clock is due. Internal to
// this folder.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include <caller/caller.hpp>
#include <caller/task/app.hpp>

namespace caller::task::detail {

/// Every runner that lives on a loop has one. Looking blocks, and calls functions of users, so a worker of the loop
/// does it. Nothing is asked of the store before there is a trigger. Thread-safety: any thread, where nothing else is
/// said.
class TriggerService : public std::enable_shared_from_this<TriggerService> {
public:
  TriggerService(AppPtr app, Caller loop, std::string runner_id);

  void start();
  /// At each heartbeat: clocks of the system are set, and what is known must not be forgotten.
  void beat();
  /// On the loop. Done when nothing is under way.
  Coro<void> stop();

  /// Something new is to be taken into account.
  void look_at_all();

private:
  void told(const std::string& key);
  void kick();
  void rounds();
  bool round();
  void set_timer();

  const AppPtr app_;
  const Caller loop_;
  const std::string runner_id_;
  std::mutex mutex_;
  std::set<std::string> keys_;     // told of, and not looked at
  std::set<std::string> settled_;  // changed here: what is told of them is no news
  bool all_ = false, running_ = false, again_ = false, stopping_ = false, started_ = false;
  std::optional<Time> next_;  // when a clock is due
  std::chrono::milliseconds after_error_{0};
  std::optional<Pending<void>> under_way_;
  std::shared_ptr<void> listener_;
  std::optional<Pending<void>> timer_;  // of the loop's thread
};

}  // namespace caller::task::detail
