// PendingTracker: who wants to know what a piece of code has started.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include <caller/caller.hpp>

namespace caller {

namespace detail {
struct TrackerState;
}

/// What a tracker is told. Functions are called in the thread that makes, or completes, the Pending; what they throw
/// goes to the error handler. One may still run while the tracker is destroyed: let them own what they use.
struct PendingTrackerOptions {
  std::function<void(const PendingBase&)> added{};  ///< before its work begins
  std::function<void(const PendingBase&)> done{};   ///< it is done; still registered
};

/// Registers every Pending that is made while a Scope of it is open, by the running code or by anything that code
/// starts, on other threads too, from the call until it is done. It only watches: it neither cancels nor waits by
/// itself, as a PendingGroup does.
///
/// When several are in force, groups included, each sees all. Calls opt out by ScheduleOptions::opt_out_of_groups, by
/// ScheduleOptions::trackers, or in an OptOut. Calls of queue_call and call_direct have no Pending; what they start is
/// seen. A Pending without a call (`Pending<T>()`) joins by add(). Use it as it is, as a member, or as a base.
///
/// Thread-safety: any thread; Scope and OptOut: the code that made them. Errors: see each function.
/// Source: async-kernel PendingTracker, PendingManager; differs: an inner tracker does not replace an outer one, as
/// there is no class of trackers to choose by: ScheduleOptions::trackers lists objects.
class CALLER_API PendingTracker {
public:
  /// A tracker in force nowhere yet: see Scope and add().
  explicit PendingTracker(PendingTrackerOptions options = {});
  PendingTracker(const PendingTracker&) = delete;
  PendingTracker& operator=(const PendingTracker&) = delete;
  ~PendingTracker();  ///< what is registered goes on, unseen

  /// While it lives, calls made by the running code (and what they start) are registered.
  class CALLER_API Scope {
  public:
    /// The tracker must outlive the scope.
    explicit Scope(PendingTracker& tracker);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

  private:
    detail::ContextNode* saved_;
  };

  /// While it lives, calls made by the running code (and what they start) join no tracker and no PendingGroup.
  class CALLER_API OptOut {
  public:
    OptOut();
    ~OptOut();
    OptOut(const OptOut&) = delete;
    OptOut& operator=(const OptOut&) = delete;

  private:
    detail::ContextNode* saved_;
  };

  /// Registers a Pending. False: it is done, or registered already. Errors: std::bad_alloc. Source: PendingTracker.add.
  bool add(const PendingBase& pending);
  /// Forgets a Pending before it is done. False: it was not registered. Errors: none. Source: PendingManager.remove.
  bool remove(const PendingBase& pending);

  std::size_t count() const noexcept;                        ///< registered now and not done
  bool contains(const PendingBase& pending) const noexcept;  ///< it is registered now
  /// Those registered now, in the order of their registration. Source: PendingTracker.pending.
  std::vector<PendingBase> list() const;

  /// Waits for a moment in which nothing is registered: true, or false on time-out. Looks at no outcome.
  /// Cancel-safety: what is registered is left alone. Units: any std::chrono duration; none: for ever.
  /// Errors: Error(deadlock) when the calling work is itself registered; PendingCancelled of the waiter.
  Coro<bool> async_wait_done(std::optional<Duration> timeout = {}) const;
  /// The same for plain code: blocks the thread; on a Caller's own thread its loop goes on turning.
  bool wait_done(std::optional<Duration> timeout = {}) const;

  /// For ScheduleOptions::trackers.
  operator std::shared_ptr<detail::Tracking>() const;

private:
  const std::shared_ptr<detail::TrackerState> state_;
};

}  // namespace caller
