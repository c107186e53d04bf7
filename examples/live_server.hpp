// What the program live_server and whoever attaches to it know of each other.
#pragma once

#include <algorithm>
#include <atomic>
#include <mutex>
#include <string>
#include <vector>

namespace live {

/// A server that greets. Its members may be used from any thread.
class Server {
public:
  std::string answer(const std::string& name) {
    ++served_;
    const std::lock_guard lock(mutex_);
    return greeting_ + ", " + name;
  }
  void set_greeting(std::string greeting) {
    const std::lock_guard lock(mutex_);
    greeting_ = std::move(greeting);
  }
  long served() const { return served_; }

  /// Notes how long a request took, in microseconds.
  void note(double us) {
    const std::lock_guard lock(mutex_);
    times_.push_back(us);
  }
  /// The p-th part (0 to 1) of the times noted since the last call of `forget`.
  double quantile(double p) {
    const std::lock_guard lock(mutex_);
    if (times_.empty()) return 0;
    std::sort(times_.begin(), times_.end());
    return times_[static_cast<std::size_t>(p * static_cast<double>(times_.size() - 1))];
  }
  void forget() {
    const std::lock_guard lock(mutex_);
    times_.clear();
  }

private:
  std::atomic<long> served_{0};
  std::mutex mutex_;
  std::string greeting_ = "Hello";
  std::vector<double> times_;
};

}  // namespace live
