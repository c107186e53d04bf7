// The states of an invocation, and which may follow which. docs/task_states.md is drawn from this table.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include <caller/export.hpp>

namespace caller::task {

/// Where an invocation stands. Source: pynenc InvocationStatus.
enum class Status : std::uint8_t {
  registered,                    ///< waits in the queue
  scheduled,                     ///< waits for its time
  concurrency_controlled,        ///< must not run now: others of its kind do
  rerouted,                      ///< back in the queue
  retry,                         ///< back in the queue after an error
  pending,                       ///< taken by a runner, not begun
  running,                       ///< at work
  paused,                        ///< waits for another invocation's result
  resumed,                       ///< at work again
  killed,                        ///< its runner was ended, or ended it
  pending_recovery,              ///< its runner vanished before it began
  running_recovery,              ///< its runner vanished while it was at work
  success,                       ///< its result is stored
  failed,                        ///< its error is stored
  concurrency_controlled_final,  ///< refused: others of its kind are there
  cancelled,                     ///< taken back
};
/// How many there are.
inline constexpr std::size_t kStatusCount = 16;

/// What holds of a status.
struct StatusRule {
  /// Which one.
  Status status;
  std::string_view name;  ///< as it is stored and shown, `RUNNING`
  bool runnable;          ///< a runner may take it
  bool owned;             ///< belongs to a runner: only that one may change it, or who recovers it
  bool final;             ///< nothing follows
  std::uint32_t next;     ///< bit n: the status n may follow
};

namespace detail {
template <class... S>
constexpr std::uint32_t any_of(S... s) {
  return (0u | ... | (1u << static_cast<unsigned>(s)));
}
constexpr std::array<StatusRule, kStatusCount> status_rules() {
  using enum Status;
  constexpr auto waiting = any_of(pending, concurrency_controlled, concurrency_controlled_final, cancelled);
  constexpr auto working = any_of(paused, killed, retry, success, failed, running_recovery, cancelled);
  return {{
      {registered, "REGISTERED", true, false, false, waiting},
      {scheduled, "SCHEDULED", false, false, false, any_of(registered, cancelled)},
      {concurrency_controlled, "CONCURRENCY_CONTROLLED", false, false, false,
       any_of(rerouted, concurrency_controlled_final, cancelled)},
      {rerouted, "REROUTED", true, false, false, waiting},
      {retry, "RETRY", true, false, false, waiting},
      {pending, "PENDING", false, true, false, any_of(running, killed, rerouted, pending_recovery, cancelled)},
      {running, "RUNNING", false, true, false, working},
      {paused, "PAUSED", false, true, false, any_of(resumed, killed, running_recovery, cancelled)},
      {resumed, "RESUMED", false, true, false, working},
      {killed, "KILLED", false, false, false, any_of(rerouted)},
      {pending_recovery, "PENDING_RECOVERY", false, false, false, any_of(rerouted)},
      {running_recovery, "RUNNING_RECOVERY", false, false, false, any_of(rerouted)},
      {success, "SUCCESS", false, false, true, 0},
      {failed, "FAILED", false, false, true, 0},
      {concurrency_controlled_final, "CONCURRENCY_CONTROLLED_FINAL", false, false, true, 0},
      {cancelled, "CANCELLED", false, false, true, 0},
  }};
}
}  // namespace detail

/// Every status, in the order of the enumeration. Differs from pynenc: whatever is not final can be cancelled.
inline constexpr std::array<StatusRule, kStatusCount> kStatusRules = detail::status_rules();

/// The row of a status. Thread-safety: any thread. Errors: none. Source: pynenc's status configuration.
constexpr const StatusRule& rule(Status s) noexcept { return kStatusRules[static_cast<std::size_t>(s)]; }
/// As it is stored and shown, `RUNNING`. Thread-safety: any thread. Errors: none. Source: –
constexpr std::string_view name(Status s) noexcept { return rule(s).name; }
/// Whether nothing follows. Thread-safety: any thread. Errors: none. Source: –
constexpr bool is_final(Status s) noexcept { return rule(s).final; }
/// Whether a runner may take it. Thread-safety: any thread. Errors: none. Source: –
constexpr bool is_runnable(Status s) noexcept { return rule(s).runnable; }
/// Whether it belongs to a runner. Thread-safety: any thread. Errors: none. Source: –
constexpr bool is_owned(Status s) noexcept { return rule(s).owned; }
/// Whether the table allows this step. Thread-safety: any thread. Errors: none. Source: –
constexpr bool may_follow(Status from, Status to) noexcept {
  return (rule(from).next >> static_cast<unsigned>(to)) & 1u;
}
/// A new invocation begins as one of these.
constexpr bool may_begin(Status s) noexcept { return s == Status::registered || s == Status::scheduled; }

/// The status of a stored name; none: there is no such status. Thread-safety: any thread. Errors: none. Source: –
constexpr std::optional<Status> status_of(std::string_view text) noexcept {
  for (const auto& r : kStatusRules)
    if (r.name == text) return r.status;
  return std::nullopt;
}

}  // namespace caller::task
