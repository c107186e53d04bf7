// A thread that lets the process's own compiler follow the copy that compiles the cells. Internal to this folder.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "compiler.hpp"

namespace caller::kernel {

/// Thread-safety: one thread at a time; it must `settle` before it uses the compiler itself.
class Follower {
public:
  /// `failed` is told, by any thread, what went wrong when the compiler could not follow.
  Follower(Compiler& compiler, std::function<void(const std::string&)> failed)
      : compiler_(compiler), failed_(std::move(failed)) {}
  ~Follower();

  void push(CompileRequest request, std::vector<FollowedPart> parts);

  /// Something else to be done with the compiler, after what was pushed before.
  void push(std::function<void(Compiler&)> work);

  /// Waits until the compiler knows everything.
  void settle();
  /// The same, but false when that takes too long. Who asks while it is still busy does not wait for as long again.
  bool settle_within(std::chrono::milliseconds limit);

private:
  struct Work {
    CompileRequest request;
    std::vector<FollowedPart> parts;
    std::function<void(Compiler&)> other;  // instead, if set
  };
  void push(Work work);
  void run();

  Compiler& compiler_;
  const std::function<void(const std::string&)> failed_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Work> queue_;                // the first is being worked on
  std::chrono::milliseconds in_vain_{0};  // somebody has waited since it last knew everything
  bool ends_ = false;
  std::thread thread_;
};

}  // namespace caller::kernel
