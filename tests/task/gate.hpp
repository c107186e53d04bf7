// A gate that tests open; what waits there is at work.
#pragma once

#include <atomic>
#include <future>

struct Gate {
  std::promise<void> open_promise;
  std::shared_future<void> open = open_promise.get_future().share();
  std::atomic<int> entered{0};
  std::atomic<bool> opened{false};
  void pass() {
    ++entered;
    entered.notify_all();
    open.wait();
  }
  /// Any number of times; instead of what `open_promise` does.
  void let_pass() {
    if (!opened.exchange(true)) open_promise.set_value();
  }
  void await_entered(int n) {
    for (int e = entered; e < n; e = entered) entered.wait(e);
  }
};
