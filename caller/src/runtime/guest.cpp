// A Caller in a loop that somebody else owns: turns instead of a loop of its own.
//
// Between turns a guest is what a sleeping loop is: its mark lies in the inbox, and whoever takes it asks the host for
// a turn. What its own thread queues between turns (callbacks of the host do) asks for one, too, once.
#include <caller/host.hpp>

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <limits>
#include <system_error>

#include "core.hpp"

namespace caller::detail {

void Core::enter_host() {
  HostLoop& host = *options.host;
  if (host.core_) {
    unbind();
    throw Error(Errc::caller_exists, "Caller(guest): the host has the Caller \"" + host.core_->name + "\"");
  }
  host.core_ = this;
  if (const void* context = host.native(Backend::asio)) register_loop(context, *this);
  const Pump first(*this);  // leaves the mark
}

void Core::leave_host() noexcept {
  HostLoop& host = *options.host;
  if (host.core_ != this) return;
  if (const void* context = host.native(Backend::asio)) unregister_loop(context);
  tell_busy(false);
  host.core_ = nullptr;
  host.detached();
}

void Core::begin_turn() noexcept {
  if (turns_++ > 0) return;
  divert(closed_);
  driver_->resume();
  asked_ = false;
  rise();
}

void Core::end_turn() noexcept {
  if (--turns_ > 0) return;
  divert(true);  // what is queued from here on must ask for a turn
  finish_if_stopped();
  if (state() == CallerState::stopped) return;
  HostLoop& host = *options.host;
  std::optional<HostLoop::TimePoint> due;
  if (!timers.empty() && !options.clock) due = HostLoop::TimePoint(Duration(timers.next()));
  host.set_deadline(due);
  bool more = head != nullptr;
  if (!more) {
    Op* expected = nullptr;
    asleep_ = inbox.compare_exchange_strong(expected, asleep(), std::memory_order_acq_rel);
    more = !asleep_;
  }
  driver_->rest();
  tell_busy(more || tasks_ || !timers.empty() || state() == CallerState::stopping);
  if (more) ask_for_turn();
}

void Core::turn() noexcept {
  if (depth_ > 0 || state() == CallerState::stopped) return;
  const Pump pump(*this);
  enter_running();
  bool first = true;
  loop_until([&] { return !std::exchange(first, false); });
}

void Core::ask_for_turn() noexcept {
  if (turns_ > 0 || std::exchange(asked_, true)) return;
  options.host->request_turn();
  tell_busy(true);
}

void Core::tell_busy(bool busy) noexcept {
  if (std::exchange(told_busy_, busy) != busy) options.host->set_busy(busy);
}

}  // namespace caller::detail

namespace caller {

HostLoop::~HostLoop() = default;

void HostLoop::turn() noexcept {
  if (core_) core_->turn();
}

FdHost::FdHost() : descriptor_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (descriptor_ < 0) throw std::system_error(errno, std::generic_category(), "FdHost: eventfd");
}

FdHost::~FdHost() { ::close(descriptor_); }

int FdHost::timeout_ms() const noexcept {
  if (!deadline_) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline_ - std::chrono::steady_clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, std::numeric_limits<int>::max()));
}

void FdHost::turn() noexcept {
  std::uint64_t count = 0;
  (void)!::read(descriptor_, &count, sizeof count);
  HostLoop::turn();
}

void FdHost::request_turn() noexcept {
  const std::uint64_t one = 1;
  (void)!::write(descriptor_, &one, sizeof one);
}

void FdHost::detached() noexcept {
  deadline_.reset();
  std::uint64_t count = 0;
  (void)!::read(descriptor_, &count, sizeof count);
}

}  // namespace caller
