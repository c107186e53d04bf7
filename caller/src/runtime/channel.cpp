// The parts of a channel that wait. detail/channel.hpp states the protocol.
#include <caller/detail/channel.hpp>

#include <algorithm>
#include <chrono>
#include <thread>

#include "core.hpp"

namespace caller::detail {

ChannelBase::ChannelBase(void (*end)(ChannelBase*) noexcept, std::size_t capacity)
    : destroy(end), bounds(capacity ? std::make_unique<ChannelBounds>(capacity) : nullptr) {}
ChannelBase::~ChannelBase() = default;

void ChannelBase::refuse(const char* operation) {
  throw Error(Errc::receiver_exists, std::string(operation) + ": a channel has one receiver at a time");
}

void ChannelBase::wake() noexcept {
  waiting->wake(*waiting);
  kicks_done.fetch_add(1, std::memory_order_release);
}

namespace {

/// Of the receiver: sleep. False: something is there or under way, or the channel was closed.
bool leave_mark(ChannelBase& c, ChannelReceiver& r) noexcept {
  c.waiting = &r;
  ChannelBase::Word empty = c.head;
  return c.tail.compare_exchange_strong(empty, c.head | ChannelBase::kIdle, std::memory_order_acq_rel);
}

bool take_mark_back(ChannelBase& c) noexcept {
  ChannelBase::Word mark = c.head | ChannelBase::kIdle;
  return c.tail.compare_exchange_strong(mark, c.head, std::memory_order_acq_rel);
}

/// The same; if somebody else has it, on return he no longer uses the receiver.
bool give_up_mark(ChannelBase& c) noexcept {
  if (take_mark_back(c)) return true;
  ++c.kicks_owed;
  while (c.kicks_done.load(std::memory_order_acquire) != c.kicks_owed) std::this_thread::yield();
  return false;
}

/// A receiver that waits for its turn, or for a value under way.
void look_again(Op* op, OpAct why) {
  auto& w = *static_cast<ChannelWait*>(static_cast<Suspension*>(op));
  if (why != OpAct::run) return;
  if (w.channel.full()) return resume_op(op, why);
  std::this_thread::yield();
  w.home->submit(op);
}

bool detach_receive(Suspension* s) noexcept { return take_mark_back(static_cast<ChannelWait*>(s)->channel); }

}  // namespace

void ChannelBase::stay_back(const ChannelSlot& ahead) noexcept {
  constexpr std::chrono::microseconds kWhile{2};
  constexpr std::uint32_t kInVain = 64, kStridesMeanwhile = 8;
  if (unhindered != 0) {
    --unhindered;
    return;
  }
  const auto until = std::chrono::steady_clock::now() + kWhile;
  do relax();
  while (std::chrono::steady_clock::now() < until);
  strides -= std::min(strides, kStridesMeanwhile);  // the rest of the loop waits meanwhile
  if (!ahead.full.load(std::memory_order_acquire)) unhindered = kInVain;
}

void ChannelBase::await_slot() const noexcept {
  while (!full()) std::this_thread::yield();
}

bool ChannelBase::close() noexcept {
  Word t = 0;
  {
    std::unique_lock<std::mutex> lock;
    if (bounds) lock = std::unique_lock(bounds->mutex);
    t = tail.load(std::memory_order_relaxed);
    while (!(t & kClosed) && !tail.compare_exchange_weak(t, (t & ~kIdle) | kClosed, std::memory_order_acq_rel)) {
    }
    if (t & kClosed) return false;
    if (bounds) {
      for (ChannelSend* s = std::exchange(bounds->first, nullptr); s;) {
        ChannelSend* const next = s->newer;
        s->linked = false;
        s->home->submit(s);  // from here on it may be gone when the mutex is free
        s = next;
      }
      bounds->last = nullptr;
    }
  }
  if (t & kIdle) wake();
  return true;
}

// ---- receiving ----

bool ChannelWait::suspend(std::coroutine_handle<> h) {
  ChannelBase& c = channel;
  c.check_alone("Channel::receive");
  c.ready();
  if (!begin_suspend(*this, h)) return false;
  if (c.receiving.exchange(true, std::memory_order_acq_rel)) {
    abort_suspend(*this);
    ChannelBase::refuse("Channel::receive");  // somebody on another thread, this moment
  }
  if (!c.full()) {
    wake = [](ChannelReceiver& r) noexcept {
      auto& w = static_cast<ChannelWait&>(r);
      w.home->submit(&w);
    };
    detach = &detach_receive;
    marked = leave_mark(c, *this);
    if (!marked && (c.empty() || c.full())) {  // closed, or something has come
      abort_suspend(*this);
      c.receiving.store(false, std::memory_order_release);
      return false;
    }
  }
  c.stride = ChannelBase::kStride;
  c.strides = ChannelBase::kStrides;
  holds = true;
  c.ref();
  if (!marked) {
    act = &look_again;
    detach = nullptr;
    home->submit(this);
  }
  return true;
}

void ChannelWait::resumed() noexcept {
  handle = {};
  if (marked && !cancelled) ++channel.kicks_owed;
  channel.receiving.store(false, std::memory_order_release);
  // Cancelled when a value had come already. What would be taken now might have nobody to go to: a work that was
  // cancelled has no result.
  if (!cancelled && cancellation_due()) {
    clear_flag(*task, PendingState::kUndelivered);
    cancelled = true;
  }
}

void ChannelWait::release() noexcept {
  if (handle) {  // the frame dies while it waits
    if (marked && !cancelled) give_up_mark(channel);
    channel.receiving.store(false, std::memory_order_release);
  }
  channel.unref();
}

namespace {

/// A thread that waits.
struct BlockedReceiver : ChannelReceiver {
  Pending<> woken;
  BlockedReceiver() {
    wake = [](ChannelReceiver& r) noexcept { static_cast<BlockedReceiver&>(r).woken.set_result(); };
  }
};

}  // namespace

void ChannelBase::block(std::optional<Duration> timeout) {
  if (receiving.exchange(true, std::memory_order_acq_rel)) refuse("Channel::receive_wait");
  struct End {
    ChannelBase& c;
    ~End() { c.receiving.store(false, std::memory_order_release); }
  } const end{*this};
  if (ready()) return;
  BlockedReceiver r;
  if (!leave_mark(*this, r)) {
    if (!empty()) await_slot();
    return;
  }
  bool woken = false;
  try {
    woken = r.woken.wait_done({.timeout = timeout, .protect = true});
  } catch (...) {
    give_up_mark(*this);
    throw;
  }
  if (give_up_mark(*this) && !woken) throw TimedOut("Channel::receive_wait");
}

// ---- channels with a capacity ----

void ChannelBase::let_in() {
  while (bounds->room && bounds->first) {
    ChannelSend& s = *bounds->first;
    s.hand_over(s);
    --bounds->room;
    if (!(bounds->first = s.newer)) bounds->last = nullptr;
    if (bounds->first) bounds->first->older = nullptr;
    s.linked = false;
    s.home->submit(&s);
  }
}

bool ChannelBase::ready() {
  if (!full() && bounds) {
    const std::lock_guard lock(bounds->mutex);
    let_in();
  }
  return full();
}

void ChannelBase::give_room() noexcept {
  const std::lock_guard lock(bounds->mutex);
  ++bounds->room;
  try {
    let_in();
  } catch (...) {  // no memory: tried again before the receiver sleeps
  }
}

/// False: the channel has no room.
bool ChannelSend::attempt_locked() {
  ChannelBounds& b = *channel.bounds;
  if (!channel.closed()) {
    if (b.room == 0 || b.first) return false;
    hand_over(*this);
    --b.room;
  }
  return true;
}

bool ChannelSend::attempt() {
  if (!channel.bounds) {
    hand_over(*this);
    if (must_wake) channel.wake();
    return true;
  }
  {
    const std::lock_guard lock(channel.bounds->mutex);
    if (!attempt_locked()) return false;
  }
  if (must_wake) channel.wake();
  return true;
}

bool ChannelSend::detach_send(Suspension* s) noexcept {
  auto& self = *static_cast<ChannelSend*>(s);
  const std::lock_guard lock(self.channel.bounds->mutex);
  return self.unlink();
}

/// With the mutex held. False: it no longer waits.
bool ChannelSend::unlink() noexcept {
  if (!std::exchange(linked, false)) return false;
  ChannelBounds& b = *channel.bounds;
  (older ? older->newer : b.first) = newer;
  (newer ? newer->older : b.last) = older;
  return true;
}

bool ChannelSend::suspend(std::coroutine_handle<> h) {
  if (!begin_suspend(*this, h)) return false;
  detach = &detach_send;
  ChannelBounds& b = *channel.bounds;
  {
    const std::lock_guard lock(b.mutex);
    bool now = false;
    try {
      now = attempt_locked();
    } catch (...) {
      abort_suspend(*this);
      throw;
    }
    if (!now) {
      channel.ref();
      holds = linked = true;
      newer = nullptr;
      older = std::exchange(b.last, this);
      (older ? older->newer : b.first) = this;
      return true;  // from here on it may be resumed
    }
  }
  abort_suspend(*this);
  if (must_wake) channel.wake();
  return false;
}

void ChannelSend::release() noexcept {
  if (handle) {  // the frame dies while it waits
    const std::lock_guard lock(channel.bounds->mutex);
    unlink();
  }
  channel.unref();
}

}  // namespace caller::detail
