// A store in this very process, as the process's own callers and workers use it: they share its invocations instead of
// copying them, and wait for no Pending where there is nothing to wait for. Internal to this folder.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <caller/pending.hpp>
#include <caller/task/detail/calls.hpp>
#include <caller/task/store.hpp>

namespace caller::task::detail {

/// What is known of a call before it is stored. Views: whoever makes it keeps the texts.
struct LocalDraft {
  std::string_view id, call_id, task_id, parent_id, queue, registration_key, running_key, args;
  int priority = 0;
  bool reroute = true;
};

/// An invocation of such a store: what never changes of it, which its holders read without a lock, and how it ended.
/// The store and each LocalRef hold it; what is held is readable also when the store has forgotten it.
class LocalCall {
public:
  LocalCall(const LocalCall&) = delete;
  LocalCall& operator=(const LocalCall&) = delete;

  std::string_view id() const noexcept { return text(0); }
  std::string_view call_id() const noexcept { return text(1); }
  std::string_view task_id() const noexcept { return text(2); }
  std::string_view parent_id() const noexcept { return text(3); }
  std::string_view queue() const noexcept { return text(4); }
  std::string_view registration_key() const noexcept { return text(5); }
  std::string_view running_key() const noexcept { return text(6); }
  std::string_view args() const noexcept { return {texts_ + ends_.back(), args_size_}; }

  /// Whether it has ended, or was forgotten.
  bool ended() const noexcept { return outcome_.load(std::memory_order_acquire) != kOpen; }
  /// Whether the store knows it no more.
  bool forgotten() const noexcept { return outcome_.load(std::memory_order_acquire) == kForgotten; }
  /// How, once it has: as Store::all_ended() tells it, but for its place.
  Ended end() const;

  void ref() noexcept { refs_.fetch_add(1, std::memory_order_relaxed); }
  void unref() noexcept {
    if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy(this);
  }

protected:
  static constexpr std::size_t kTexts = 7;  // beside the arguments
  static constexpr std::uint8_t kOpen = 0xff, kForgotten = 0xfe;
  LocalCall() noexcept = default;
  ~LocalCall() = default;
  static void destroy(LocalCall* call) noexcept;  // by the store's own part

  std::string_view text(std::size_t i) const noexcept {
    const std::size_t begin = i ? ends_[i - 1] : 0;
    return {texts_ + begin, ends_[i] - begin};
  }

  std::atomic<std::uint32_t> refs_{1};
  std::atomic<std::uint8_t> outcome_{kOpen};  // else a final status
  std::array<std::uint32_t, kTexts> ends_{};
  std::size_t args_size_ = 0;
  const char* texts_ = nullptr;
};

/// What a worker has taken: it is RUNNING.
struct LocalTaken {
  LocalRef call;
  int retries = 0;
  std::string workflow_id{};  // empty: its own id
};

/// Thread-safety: any thread. Calls given to it are its own.
class LocalStore {
public:
  /// Adds calls with ids that nobody else has, without keys, and gives a reference on each.
  virtual void add_new(std::span<const LocalDraft> calls, LocalRef* out) = 0;
  /// As Store::take() with `begin`, at the end of `out`.
  virtual void take_some(const std::string& runner, std::size_t most, const std::vector<std::string>& queues,
                         std::vector<LocalTaken>& out) = 0;
  /// As Store::change_and_take(), of `call`, whose id is not looked at again. Gives why the change was refused, if so;
  /// then it is left as it was.
  virtual std::exception_ptr change_and_take_some(const LocalCall& call, Change& change, const std::string& runner,
                                                  std::size_t most, const std::vector<std::string>& queues,
                                                  std::vector<LocalTaken>& out) = 0;
  /// As Store::get().
  virtual InvocationRecord record_of(const LocalCall& call) = 0;
  /// Done when all have ended: their places in the order in which they ended, those first that had ended before.
  virtual Pending<std::vector<std::uint32_t>> ends_of(std::span<const LocalCall* const> calls) = 0;

protected:
  ~LocalStore() = default;
};

}  // namespace caller::task::detail
