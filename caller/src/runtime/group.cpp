// PendingGroup: membership, failure, time-out, join.
#include <caller/group.hpp>

#include <algorithm>

#include "core.hpp"
#include "tracking.hpp"

namespace caller {
namespace detail {

struct GroupState final : Tracking, std::enable_shared_from_this<GroupState> {
  std::mutex mutex;
  const PendingGroupOptions options;
  std::map<PendingBase, CallbackId> members;
  std::vector<std::exception_ptr> errors;
  PendingBase body;
  bool cancelled = false;         // the members are being cancelled
  bool member_cancelled = false;  // by somebody else than us
  bool body_left = false;         // the body threw PendingCancelled by itself
  bool ended = false;
  int joins = 0;  // under way
  Suspension* joiner = nullptr;

  explicit GroupState(const PendingGroupOptions& o) : options(o) {}

  void track(const PendingBase& p) noexcept override;
  bool over() noexcept override {
    const std::lock_guard lock(mutex);
    return ended;
  }
  bool idle() const { return members.empty() && (!body || body.done()); }
};

namespace {

/// Members that were cancelled before are left to their clean-up, unless `again`.
void cancel_members(GroupState& g, const std::string& message, bool body_too, bool again = false) {
  std::vector<PendingBase> victims;
  {
    std::lock_guard lock(g.mutex);
    g.cancelled = true;
    for (auto& [p, id] : g.members) victims.push_back(p);
    if (body_too && g.body) victims.push_back(g.body);
  }
  for (auto& p : victims)
    if (again || !p.cancelled()) p.cancel(message);
}

/// Of members, which nobody will be given.
void report_errors(GroupState& g) noexcept {
  std::vector<std::exception_ptr> errors;
  {
    const std::lock_guard lock(g.mutex);
    errors.swap(g.errors);
  }
  for (const auto& e : errors) report_error(nullptr, "a member of a PendingGroup", e);
}

void member_done(GroupState& g, const PendingBase& p) {
  bool cancel_others = false;
  {
    std::lock_guard lock(g.mutex);
    g.members.erase(p);
    if (p.cancelled()) {
      if (!g.cancelled) {
        g.member_cancelled = true;
        cancel_others = g.options.mode == 1 || g.options.mode == 2;
      }
    } else if (!g.ended && p.state()->is(PendingState::kFailed) && !p.state()->is(PendingState::kOperation)) {
      // Later ones are reported as anybody's are; that of an operation is for its awaiter, as the end of a file is.
      g.errors.push_back(p.exception());
      cancel_others = !g.cancelled;
    }
    if (g.idle()) wake(g.joiner);
  }
  if (cancel_others) cancel_members(g, "another member of the group failed or was cancelled", true);
}

bool add_member(GroupState& g, const PendingBase& p) {
  {
    std::lock_guard lock(g.mutex);
    if (g.ended) return false;
    if (p == g.body || !g.members.try_emplace(p, 0).second) return true;
  }
  CallbackId id = 0;
  try {
    id = p.add_done_callback([self = g.shared_from_this()](const PendingBase& done) { member_done(*self, done); });
  } catch (...) {  // it will not tell us of its end
    std::lock_guard lock(g.mutex);
    g.members.erase(p);
    if (g.idle()) wake(g.joiner);
    throw;
  }
  bool cancel_now = false, gone = false;
  {
    std::lock_guard lock(g.mutex);
    if (auto it = g.members.find(p); it != g.members.end())
      it->second = id;
    else
      gone = true;  // it is done, or the group was left meanwhile
    cancel_now = g.cancelled;
  }
  if (gone) p.remove_done_callback(id);
  if (cancel_now) p.cancel("the group was cancelled");
  return true;
}

/// Of a group that has ended, once no join needs them any more. Members may go on, for ever those that are protected:
/// each would keep a callback of the group, the context of whoever added it, and by them itself. And contexts that were
/// captured in the group keep the group, so it must not keep what its body gave.
void let_go(GroupState& g) noexcept {
  decltype(g.members) left;
  PendingBase body;
  {
    const std::lock_guard lock(g.mutex);
    if (!g.ended || g.joins > 0) return;
    left.swap(g.members);
    std::swap(body, g.body);
  }
  for (const auto& [p, id] : left)
    if (id) p.remove_done_callback(id);  // else add_member does
}

struct Joining {
  GroupState& group;

  explicit Joining(GroupState& g) : group(g) {
    const std::lock_guard lock(g.mutex);
    ++g.joins;
  }
  Joining(const Joining&) = delete;
  Joining& operator=(const Joining&) = delete;
  ~Joining() {
    {
      const std::lock_guard lock(group.mutex);
      --group.joins;
    }
    let_go(group);
  }
};

}  // namespace

void GroupState::track(const PendingBase& p) noexcept {
  try {
    add_member(*this, p);
  } catch (...) {  // no memory to remember the member: it must not outlive the group unseen
    cancel(*p.state(), "the group could not take it");
  }
}

void group_set_body(GroupState& group, PendingBase body) {
  {
    std::lock_guard lock(group.mutex);
    group.body = body;
  }
  extras_of(*body.state()).keeps_dropped = true;  // nothing has run yet
  body.add_done_callback([self = group.shared_from_this()](const PendingBase& p) {
    bool failed = p.cancelled();
    if (failed) {
      std::lock_guard lock(self->mutex);
      self->body_left = !self->cancelled;
    }
    if (!failed) failed = p.state()->is(PendingState::kFailed);  // not looked at: with_pending_group hands it on
    if (failed) cancel_members(*self, "the body of the group failed or was cancelled", false);
    std::lock_guard lock(self->mutex);
    if (self->idle()) wake(self->joiner);
  });
}

Context group_context(const std::shared_ptr<GroupState>& group) { return tracking_context(group); }

Coro<void> group_run(std::shared_ptr<GroupState> group, PendingBase body) {
  if (PendingState* const task = current_task(); task && !body) {
    const std::lock_guard lock(group->mutex);
    if (group->members.contains(PendingBase::share(task)))
      throw Error(Errc::deadlock, "PendingGroup::join: a member cannot wait for its own group");
  }
  const Joining joining(*group);
  PendingBase timer;
  if (group->options.timeout) {
    ScheduleOptions options;
    options.delay = *group->options.timeout;
    options.context = Context();
    options.opt_out_of_groups = true;
    timer = Caller::current().schedule_call(options, [weak = std::weak_ptr<GroupState>(group)] {
      if (auto g = weak.lock()) cancel_members(*g, "the time of the group was over", true);
    });
  }
  const Core& core = require_core("PendingGroup::join");
  std::exception_ptr from_outside;
  for (;;) {
    const bool again = from_outside != nullptr;
    bool interrupted = false;
    {
      std::lock_guard lock(group->mutex);
      if (group->idle()) {
        group->ended = true;
        break;
      }
    }
    try {
      co_await GuardedWait(group->mutex, group->joiner, [&group] { return group->idle(); });
    } catch (const PendingCancelled&) {
      from_outside = std::current_exception();
      interrupted = true;
    }
    if (interrupted && !group->options.shield)
      cancel_members(*group, "the group was cancelled from outside", true, again);
    if (interrupted && core.forsaken()) {
      // A member may be of an abandoned Caller, which ends what it has only after us. The body is of this one: it ends.
      std::lock_guard lock(group->mutex);
      group->ended = !group->body || group->body.done();
      if (group->ended) break;
    }
  }
  if (timer) timer.cancel();
  // Errors before cancellations: nobody else will tell of them.
  if (body && !body.cancelled() && body.state()->is(PendingState::kFailed)) {
    report_errors(*group);
    co_return;  // the body's own error leaves unchanged
  }
  // What the body threw when it was cancelled.
  Extras* const extra = body ? body.state()->extra() : nullptr;
  const std::exception_ptr from_body = extra ? std::exchange(extra->dropped, nullptr) : nullptr;
  std::lock_guard lock(group->mutex);
  if (!group->errors.empty()) {
    if (from_body) group->errors.push_back(from_body);
    throw PendingGroupError(group->errors);
  }
  if (from_body) std::rethrow_exception(from_body);
  if (from_outside) std::rethrow_exception(from_outside);
  const bool loud = group->options.mode == 1 || group->options.mode == 3;
  if (loud && (group->member_cancelled || group->cancelled)) throw PendingCancelled("the group was cancelled");
  if (group->body_left) throw PendingCancelled(cancel_message(*body.state()));
}

}  // namespace detail

namespace {
std::string describe(const std::vector<std::exception_ptr>& errors) {
  std::string text =
      std::to_string(errors.size()) + (errors.size() == 1 ? " member" : " members") + " of the group failed: ";
  for (std::size_t i = 0; i < errors.size(); ++i) {
    if (i) text += "; ";
    try {
      std::rethrow_exception(errors[i]);
    } catch (const std::exception& e) {
      text += e.what();
    } catch (...) {
      text += "unknown exception";
    }
  }
  return text;
}
}  // namespace

PendingGroupError::PendingGroupError(std::vector<std::exception_ptr> errors)
    : Error(Errc::group_failed, describe(errors)), errors_(std::move(errors)) {}
PendingGroupError::~PendingGroupError() = default;

PendingGroup::PendingGroup(const PendingGroupOptions& options)
    : state_(std::make_shared<detail::GroupState>(options)) {}
PendingGroup::operator std::shared_ptr<detail::Tracking>() const { return state_; }

PendingGroup::~PendingGroup() {
  if (!state_) return;
  {
    std::lock_guard lock(state_->mutex);
    if (state_->ended) return;
    state_->ended = true;
  }
  detail::cancel_members(*state_, "the group was left", true);
  detail::report_errors(*state_);
  detail::let_go(*state_);
}

PendingGroup::Scope::Scope(PendingGroup& group) : saved_(detail::retain(detail::current_context())) {
  detail::replace_current_context(detail::group_context(group.state_).share());
}
PendingGroup::Scope::~Scope() { detail::replace_current_context(saved_); }

bool PendingGroup::add(const PendingBase& member) { return detail::add_member(*state_, member); }
void PendingGroup::cancel(std::string message) { detail::cancel_members(*state_, message, true, true); }
bool PendingGroup::cancelled() const noexcept {
  std::lock_guard lock(state_->mutex);
  return state_->cancelled;
}
std::size_t PendingGroup::size() const noexcept {
  std::lock_guard lock(state_->mutex);
  return state_->members.size();
}
Coro<void> PendingGroup::join() { return detail::group_run(state_, {}); }

}  // namespace caller
