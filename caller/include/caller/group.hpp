// PendingGroup: a scope that waits for everything started in it.
#pragma once

#include <exception>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <caller/caller.hpp>

namespace caller {

namespace detail {
struct GroupState;
}

/// How a group behaves.
///
/// | mode | a member is cancelled | exit                    |
/// |------|-----------------------|-------------------------|
/// | 0    | ignored               | quiet                   |
/// | 1    | group cancelled       | throws PendingCancelled |
/// | 2    | group cancelled       | quiet                   |
/// | 3    | ignored               | throws PendingCancelled |
struct PendingGroupOptions {
  int mode = 0;                       ///< 0 to 3, a row of the table above
  std::optional<Duration> timeout{};  ///< then the members are cancelled and the group ends, by its mode
  bool shield = false;                ///< a cancellation from outside is held back until the group ends
};

/// Members of a group failed. Source: Python ExceptionGroup, as async-kernel raises it from a PendingGroup.
class CALLER_API PendingGroupError : public Error {
public:
  /// `errors`: at least one, in the order in which they happened.
  explicit PendingGroupError(std::vector<std::exception_ptr> errors);
  ~PendingGroupError() override;
  /// In the order in which they happened; at least one.
  const std::vector<std::exception_ptr>& errors() const noexcept { return errors_; }

private:
  std::vector<std::exception_ptr> errors_;
};

/// A scope for calls: every Pending made inside it is a member, also those made by members on other threads, and it
/// ends when all of them have. An error of a member cancels the others and leaves as PendingGroupError.
///
/// Used as `co_await with_pending_group(options, body)`, or as an object: calls made while a Scope of it is open (or
/// given to add()) are members, and `co_await g.join()` waits. A group destroyed unjoined cancels its members.
///
/// Thread-safety: any thread for add, cancel and size; join: one coroutine. Cancel-safety: an outer cancellation
/// cancels the members and leaves after their end. Source: async-kernel PendingGroup.
class CALLER_API PendingGroup {
public:
  /// A group in force nowhere yet: see Scope and add().
  explicit PendingGroup(const PendingGroupOptions& options = {});
  PendingGroup(PendingGroup&&) noexcept = default;
  PendingGroup& operator=(PendingGroup&&) noexcept = delete;
  ~PendingGroup();

  /// While it lives, calls made by the running code (and what they start) join the group.
  class CALLER_API Scope {
  public:
    /// The group must outlive the scope.
    explicit Scope(PendingGroup& group);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

  private:
    detail::ContextNode* saved_;
  };

  /// Makes a Pending a member. False: the group has ended. Errors: none.
  bool add(const PendingBase& member);
  /// Cancels every member and refuses new ones' work (they are cancelled when they join).
  void cancel(std::string message = "the group was cancelled");
  bool cancelled() const noexcept;    ///< cancel() was called, or a member's failure has cancelled the rest
  std::size_t size() const noexcept;  ///< members not done

  /// Waits for the members, by the options. Errors: PendingGroupError; PendingCancelled by mode or from outside.
  Coro<void> join();

  /// For ScheduleOptions::trackers.
  operator std::shared_ptr<detail::Tracking>() const;

  /// For the runtime.
  const std::shared_ptr<detail::GroupState>& state() const noexcept { return state_; }

private:
  std::shared_ptr<detail::GroupState> state_;
};

namespace detail {
CALLER_API void group_set_body(GroupState& group, PendingBase body);
CALLER_API Coro<void> group_run(std::shared_ptr<GroupState> group, PendingBase body);
CALLER_API Context group_context(const std::shared_ptr<GroupState>& group);
}  // namespace detail

/// Runs `body(group)` and waits for everything it started; gives the body's value.
///
/// An error of the body cancels the members and leaves unchanged; an error of a member cancels the body and the other
/// members and leaves as PendingGroupError; nested groups both see the members of the inner one. An error that the body
/// throws when it is cancelled leaves as well, after those of members: in their PendingGroupError if there are any,
/// else unchanged.
///
/// Thread-safety: a coroutine of a Caller. Cancel-safety: see PendingGroup.
/// Errors: the body's; PendingGroupError; PendingCancelled. Source: `async with Caller().create_pending_group()`.
template <class Body>
auto with_pending_group(PendingGroupOptions options, Body body)
    -> Coro<detail::result_of_call<Body, std::reference_wrapper<PendingGroup>>> {
  using T = detail::result_of_call<Body, std::reference_wrapper<PendingGroup>>;
  PendingGroup group(options);
  ScheduleOptions schedule;
  schedule.context = detail::group_context(group.state());
  schedule.opt_out_of_groups = true;
  Pending<T> work = Caller::current().schedule_call(schedule, std::move(body), std::ref(group));
  detail::group_set_body(*group.state(), work);
  co_await detail::group_run(group.state(), work);
  if constexpr (std::is_void_v<T>) {
    if (!work.cancelled()) work.result();
  } else {
    co_return work.wait();
  }
}
/// The same with the default options.
template <class Body>
auto with_pending_group(Body body) {
  return with_pending_group(PendingGroupOptions{}, std::move(body));
}

}  // namespace caller
