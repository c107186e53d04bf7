// How a context tells PendingGroups and PendingTrackers of the calls made under it.
#pragma once

#include <memory>

#include <caller/options.hpp>

namespace caller::detail {

/// The state of a PendingGroup or PendingTracker. Thread-safety: any thread.
struct Tracking {
  virtual ~Tracking() = default;
  /// A call was made, or a Pending given by hand. The work behind it has not begun when it is a call.
  virtual void track(const PendingBase& p) noexcept = 0;
  /// It will never take anything again.
  virtual bool over() noexcept = 0;
};

/// One tracker in force. The context's node that introduced it owns it, as a node further down the same chain owns
/// `outer`: so a raw pointer is enough, and no link keeps a context.
struct TrackerLink {
  std::shared_ptr<Tracking> tracking;
  TrackerLink* outer = nullptr;
};

/// A link in no chain yet.
std::unique_ptr<ContextNode> new_link(std::uint64_t key, std::shared_ptr<void> value);
/// A chain without its links of `key`: those above the last of them made anew, those below shared. A new reference.
ContextNode* without_links(ContextNode* chain, std::uint64_t key);

/// A chain (a new reference) with `tracking` in force above those of `next`, once, without those that are over; null:
/// none is.
ContextNode* push_tracker(std::shared_ptr<Tracking> tracking, ContextNode* next);
/// The running code's context with `tracking` in force above those that are.
Context tracking_context(std::shared_ptr<Tracking> tracking);
/// Replaces the trackers of a context, whose reference it takes over, by those listed.
ContextNode* with_trackers(ContextNode* context, const Trackers& trackers);
/// The same variables with no tracker anywhere in the chain: may be kept by what a tracker may keep.
ContextNode* without_trackers(ContextNode* context);

}  // namespace caller::detail
