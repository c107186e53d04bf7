// libuv: a loop in a thread, reached by uv_async. It has no queue of functions, so it is given the usual one.
#pragma once

#include <uv.h>

#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace bench {

class UvThread {
public:
  UvThread() {
    uv_loop_init(&loop_);
    async_.data = this;
    uv_async_init(&loop_, &async_, [](uv_async_t* a) { static_cast<UvThread*>(a->data)->run_queue(); });
    thread_ = std::thread([this] { uv_run(&loop_, UV_RUN_DEFAULT); });
  }
  UvThread(const UvThread&) = delete;
  UvThread& operator=(const UvThread&) = delete;
  ~UvThread() {
    post([this] { uv_close(reinterpret_cast<uv_handle_t*>(&async_), nullptr); });
    thread_.join();
    uv_loop_close(&loop_);
  }
  template <class F>
  void post(F&& fn) {
    {
      std::lock_guard lock(mutex_);
      queue_.emplace_back(std::forward<F>(fn));
    }
    uv_async_send(&async_);
  }

private:
  void run_queue() {
    {
      std::lock_guard lock(mutex_);
      running_.swap(queue_);
    }
    for (auto& fn : running_) fn();
    running_.clear();
  }

  uv_loop_t loop_;
  uv_async_t async_;
  std::mutex mutex_;
  std::vector<std::function<void()>> queue_, running_;
  std::thread thread_;
};

}  // namespace bench
