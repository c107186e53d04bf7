// Who executes the calls that run where they are made. Internal to this folder.
#pragma once

#include <cstddef>
#include <mutex>
#include <optional>
#include <string>

#include <caller/caller.hpp>
#include <caller/task/runner.hpp>

namespace caller::task::detail {

class AppCore;

/// A runner of the application's in the store's eyes, with a lease that is renewed, as long as such a call is at work:
/// else others would take back what it has. Thread-safety: any thread.
class HereRunner {
public:
  explicit HereRunner(AppCore& app);
  HereRunner(const HereRunner&) = delete;
  HereRunner& operator=(const HereRunner&) = delete;
  ~HereRunner();
  const std::string& id() const noexcept { return id_; }

  /// As long as a call is at work. Errors: StateBackendError.
  class Stay {
  public:
    explicit Stay(HereRunner& runner) : runner_(runner) { runner_.enter(); }
    Stay(const Stay&) = delete;
    Stay& operator=(const Stay&) = delete;
    ~Stay() { runner_.leave(); }

  private:
    HereRunner& runner_;
  };

private:
  void enter();
  void leave() noexcept;
  void beat();
  void beat_later_locked();
  Pending<void> tell();

  AppCore& app_;
  const std::string id_;
  std::mutex mutex_;
  std::size_t at_work_ = 0;
  bool beats_ = false;           // a beat is to come
  std::optional<Caller> clock_;  // made for the first call
};

}  // namespace caller::task::detail
