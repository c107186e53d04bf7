// PendingTracker, and the links by which contexts carry trackers and groups.
#include <caller/tracker.hpp>

#include <algorithm>

#include "core.hpp"
#include "tracking.hpp"

namespace caller {
namespace detail {

// ---- links ----

namespace {
struct ReleaseNode {
  void operator()(ContextNode* node) const noexcept { release(node); }
};
using OwnedNode = std::unique_ptr<ContextNode, ReleaseNode>;
}  // namespace

ContextNode* push_tracker(std::shared_ptr<Tracking> tracking, ContextNode* next) {
  if (!tracking) return without_trackers(next);
  TrackerLink* const outer = next ? next->group : nullptr;
  // Work that opens a scope and calls itself again inherits the scope each time.
  bool there = false, stale = false;
  for (const TrackerLink* l = outer; l; l = l->outer) {
    there = there || l->tracking == tracking;
    stale = stale || l->tracking->over();
  }
  if (stale) {
    Trackers left;
    for (const TrackerLink* l = outer; l; l = l->outer)
      if (!l->tracking->over()) left.insert(left.begin(), l->tracking);
    if (!there) left.push_back(std::move(tracking));
    return with_trackers(retain(next), left);
  }
  if (there) return retain(next);
  auto link = std::make_shared<TrackerLink>(std::move(tracking), outer);
  auto node = new_link(kGroupKey, link);
  node->group = link.get();
  node->next = retain(next);
  return node.release();
}

Context tracking_context(std::shared_ptr<Tracking> tracking) {
  return Context(push_tracker(std::move(tracking), current_context()));
}

ContextNode* with_trackers(ContextNode* context, const Trackers& trackers) {
  const OwnedNode taken(context);
  OwnedNode top(without_trackers(context));
  for (const auto& tracking : trackers) top.reset(push_tracker(tracking, top.get()));
  return top.release();
}

ContextNode* without_trackers(ContextNode* context) { return without_links(context, kGroupKey); }

void group_add(TrackerLink& innermost, PendingState& s) noexcept {
  const PendingBase p = PendingBase::share(&s);
  for (TrackerLink* link = &innermost; link; link = link->outer) link->tracking->track(p);
}

// ---- the tracker ----

struct TrackerState final : Tracking, std::enable_shared_from_this<TrackerState> {
  struct Entry {
    std::uint64_t number = 0;
    CallbackId callback = 0;
  };
  mutable std::mutex mutex;
  const PendingTrackerOptions options;
  std::map<PendingBase, Entry> entries;
  std::uint64_t last_number = 0;
  Pending<> empty{PendingBase::Adopt{}, nullptr};  // somebody waits for it
  bool closed = false;

  explicit TrackerState(PendingTrackerOptions o) : options(std::move(o)) {}

  void track(const PendingBase& p) noexcept override {
    try {
      add(p);
    } catch (...) {  // no memory: it runs unseen
    }
  }

  bool over() noexcept override {
    const std::lock_guard lock(mutex);
    return closed;
  }

  static void tell(const std::function<void(const PendingBase&)>& fn, const char* where,
                   const PendingBase& p) noexcept {
    if (!fn) return;
    try {
      fn(p);
    } catch (...) {
      report_error(nullptr, where, std::current_exception());
    }
  }

  bool add(const PendingBase& p) {
    if (p.done()) return false;
    std::uint64_t number = 0;
    {
      std::lock_guard lock(mutex);
      if (closed || !entries.try_emplace(p, Entry{last_number + 1, 0}).second) return false;
      number = ++last_number;
    }
    tell(options.added, "PendingTracker added", p);
    CallbackId id = 0;
    try {
      id = p.add_done_callback([self = shared_from_this()](const PendingBase& d) { self->ended(d); });
    } catch (...) {
      remove(p);
      throw;
    }
    {
      std::lock_guard lock(mutex);
      if (auto it = entries.find(p); it != entries.end() && it->second.number == number) {
        it->second.callback = id;
        return true;
      }
    }
    p.remove_done_callback(id);  // it is done, or was taken out meanwhile
    return true;
  }

  void ended(const PendingBase& p) {
    {
      std::lock_guard lock(mutex);
      if (!entries.contains(p)) return;
    }
    tell(options.done, "PendingTracker done", p);
    remove(p);
  }

  bool remove(const PendingBase& p) noexcept {
    CallbackId id = 0;
    Pending<> woken(PendingBase::Adopt{}, nullptr);
    {
      std::lock_guard lock(mutex);
      auto it = entries.find(p);
      if (it == entries.end()) return false;
      id = it->second.callback;
      entries.erase(it);
      if (entries.empty()) std::swap(woken, empty);
    }
    if (id) p.remove_done_callback(id);
    if (woken) woken.set_result();
    return true;
  }

  /// What to wait for; empty: nothing.
  Pending<> wait_for() {
    const PendingBase self = current_pending();
    std::lock_guard lock(mutex);
    if (self && entries.contains(self))
      throw Error(Errc::deadlock, "PendingTracker: the waiting work is itself registered");
    if (entries.empty()) return {PendingBase::Adopt{}, nullptr};
    if (!empty) empty = Pending<>();
    return empty;
  }

  void close() noexcept {
    decltype(entries) left;
    Pending<> woken(PendingBase::Adopt{}, nullptr);
    {
      std::lock_guard lock(mutex);
      closed = true;
      left.swap(entries);
      std::swap(woken, empty);
    }
    for (auto& [p, entry] : left)
      if (entry.callback) p.remove_done_callback(entry.callback);
    if (woken) woken.set_result();
  }
};

}  // namespace detail

PendingTracker::PendingTracker(PendingTrackerOptions options)
    : state_(std::make_shared<detail::TrackerState>(std::move(options))) {}
PendingTracker::~PendingTracker() { state_->close(); }

PendingTracker::Scope::Scope(PendingTracker& tracker) : saved_(detail::retain(detail::current_context())) {
  detail::replace_current_context(detail::tracking_context(tracker.state_).share());
}
PendingTracker::Scope::~Scope() { detail::replace_current_context(saved_); }

PendingTracker::OptOut::OptOut() : saved_(detail::retain(detail::current_context())) {
  detail::replace_current_context(detail::without_trackers(saved_));
}
PendingTracker::OptOut::~OptOut() { detail::replace_current_context(saved_); }

bool PendingTracker::add(const PendingBase& pending) { return state_->add(pending); }
bool PendingTracker::remove(const PendingBase& pending) { return state_->remove(pending); }

std::size_t PendingTracker::count() const noexcept {
  std::lock_guard lock(state_->mutex);
  return state_->entries.size();
}
bool PendingTracker::contains(const PendingBase& pending) const noexcept {
  std::lock_guard lock(state_->mutex);
  return state_->entries.contains(pending);
}
std::vector<PendingBase> PendingTracker::list() const {
  std::vector<std::pair<std::uint64_t, PendingBase>> numbered;
  {
    std::lock_guard lock(state_->mutex);
    for (const auto& [p, entry] : state_->entries) numbered.emplace_back(entry.number, p);
  }
  std::sort(numbered.begin(), numbered.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<PendingBase> out;
  for (auto& [number, p] : numbered) out.push_back(std::move(p));
  return out;
}

namespace {
Coro<bool> wait_until_empty(std::shared_ptr<detail::TrackerState> state, std::optional<Duration> timeout) {
  const Pending<> empty = state->wait_for();
  if (!empty) co_return true;
  co_return co_await empty.async_wait_done({.timeout = timeout, .protect = true});
}
}  // namespace

Coro<bool> PendingTracker::async_wait_done(std::optional<Duration> timeout) const {
  return wait_until_empty(state_, timeout);
}
bool PendingTracker::wait_done(std::optional<Duration> timeout) const {
  const Pending<> empty = state_->wait_for();
  return !empty || empty.wait_done({.timeout = timeout, .protect = true});
}

PendingTracker::operator std::shared_ptr<detail::Tracking>() const { return state_; }

}  // namespace caller
