// How Callers are made, and how their calls and waits are tuned.
#pragma once

#include <any>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <caller/context.hpp>
#include <caller/export.hpp>
#include <caller/pending.hpp>

namespace caller {

class HostLoop;

/// Which Caller a constructor gives. Source: async-kernel Caller(modifier); `manual` is CallerOptions there.
enum class Modifier : unsigned char {
  current_thread,  ///< the calling thread's
  main_thread,     ///< the process's main thread's
  new_thread,      ///< always a new thread with its own loop, usable at once
  manual,          ///< a new one for this thread, not started: pumped by run(), run_once(), poll()
  guest,           ///< a new one for this thread, driven by a loop that somebody else owns: CallerOptions::host
};

/// The loop that drives a Caller. Source: async-kernel Backend (asyncio, trio).
enum class Backend : unsigned char {
  asio,    ///< Boost.Asio (the default): sockets, timers, signals by caller/asio.hpp, made when first asked for
  manual,  ///< nothing but the queue and the timers
  uv,      ///< libuv: its handles by caller/uv.hpp, made when first asked for
};
/// The name, for people. Thread-safety: any thread. Errors: none. Source: –
CALLER_API const char* to_string(Backend backend) noexcept;

inline constexpr Modifier current_thread = Modifier::current_thread;  ///< as of Modifier
inline constexpr Modifier main_thread = Modifier::main_thread;        ///< as of Modifier
inline constexpr Modifier new_thread = Modifier::new_thread;          ///< as of Modifier
inline constexpr Modifier manual = Modifier::manual;                  ///< as of Modifier
inline constexpr Modifier guest = Modifier::guest;                    ///< as of Modifier

/// The life of a Caller; it only moves forward.
enum class CallerState : unsigned char { initial, starting, running, stopping, stopped };
/// The name, for people. Thread-safety: any thread. Errors: none. Source: –
CALLER_API const char* to_string(CallerState state) noexcept;

/// A clock that moves when told to, for tests. Thread-safety: any thread.
class CALLER_API ManualClock {
public:
  /// Moves time forward; timers that became due fire when their Caller is next pumped. Units: nanoseconds.
  void advance(Duration by) noexcept { now_.fetch_add(by.count(), std::memory_order_relaxed); }
  /// nanoseconds since it was made
  std::int64_t now() const noexcept { return now_.load(std::memory_order_relaxed); }

private:
  std::atomic<std::int64_t> now_{0};
};

/// What is told of an error nobody can observe: where it happened, and the error.
using ErrorHandler = std::function<void(const std::string& where, const std::exception_ptr& error)>;

/// How much a message matters. Source: Python's logging levels, as async-kernel Caller.log uses them.
enum class LogLevel : unsigned char {
  debug,    ///< life: started, stopped, a child or worker made and retired, a lane opened and closed; cancellations
  warning,  ///< something was given up that somebody may miss
  error,    ///< an error that nobody can observe; an ErrorHandler is told of it, too
};
/// The name, for people. Thread-safety: any thread. Errors: none. Source: –
CALLER_API const char* to_string(LogLevel level) noexcept;

/// Is given one line, without its end. Called in the thread where it happens, from several threads at once, outside of
/// locks; what it throws is dropped. Source: async-kernel Caller.log.
using LogHandler = std::function<void(LogLevel level, std::string_view text)>;

/// How a Caller is made. Zero limits mean: none.
struct CallerOptions {
  std::string name{};                                       ///< empty: a name is made from the thread
  std::optional<Backend> backend{};                         ///< none: asio; for a child: the parent's
  bool protect = false;                                     ///< stop() without force is ignored
  std::size_t max_idle_workers = 10;                        ///< to_thread keeps at most so many idle workers
  Duration worker_idle_timeout = std::chrono::seconds(60);  ///< an idle worker stops after this; zero: never
  std::size_t max_workers = 0;  ///< to_thread runs at most so many at once and queues the rest; 0: no limit
  /// With nothing to do, the loop looks for calls of other threads for so long before it sleeps: a call then costs no
  /// wake-up. It takes a core meanwhile, and its backend's events wait; worth it only if there are cores to spare.
  Duration spin{};
  ErrorHandler error_handler{};      ///< none: the parent's, else the process's
  LogHandler log{};                  ///< none: the parent's, else the process's
  ManualClock* clock = nullptr;      ///< tests: time for this Caller's timers; must outlive it
  std::shared_ptr<HostLoop> host{};  ///< with Modifier::guest, and only there: the loop that drives it; caller/host.hpp
};

namespace detail {
struct Tracking;
}

/// PendingTrackers and PendingGroups: `Trackers{tracker, group}`. It keeps their states, not them.
using Trackers = std::vector<std::shared_ptr<detail::Tracking>>;

/// Options of schedule_call, the base of call_soon and call_later.
struct ScheduleOptions {
  Duration delay{};                    ///< counts from the call; zero: as soon as possible
  std::optional<Context> context{};    ///< none: the calling code's
  bool opt_out_of_groups = false;      ///< do not join the PendingGroups and PendingTrackers in force
  std::optional<Trackers> trackers{};  ///< exactly these, for it and what it starts; none: the context's; `{}`: no one
  std::optional<Backend> backend{};    ///< none, or the Caller's own: its loop; another: see call_using_backend
  std::map<std::string, std::any> metadata{};  ///< kept in the Pending, for whoever made the call
};

/// When wait() returns. Source: asyncio.wait.
enum class ReturnWhen : unsigned char { FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED };
inline constexpr ReturnWhen FIRST_COMPLETED = ReturnWhen::FIRST_COMPLETED;  ///< when one has ended
inline constexpr ReturnWhen FIRST_EXCEPTION = ReturnWhen::FIRST_EXCEPTION;  ///< when one has failed, else all
inline constexpr ReturnWhen ALL_COMPLETED = ReturnWhen::ALL_COMPLETED;      ///< when all have ended

/// Options of Caller::wait. Source: async-kernel Caller.wait.
struct WaitSetOptions {
  std::optional<Duration> timeout{};                   ///< on expiry wait returns what it has; nothing is cancelled
  ReturnWhen return_when = ReturnWhen::ALL_COMPLETED;  ///< which of the items ends the wait
  bool shield = false;  ///< ignore a cancellation of the waiter until the condition is met
};

/// Both in the order of the items given.
template <class P>
struct WaitResult {
  std::vector<P> done;     ///< those that ended, also cancelled or failed
  std::vector<P> pending;  ///< the others
};

/// Options of Caller::as_completed. Source: async-kernel Caller.as_completed.
struct AsCompletedOptions {
  /// How many items of a generator may be pulled and not yet consumed; 0: no limit. A container has none.
  std::size_t max_concurrent = 10;
  bool cancel_unfinished = true;  ///< leaving early cancels what is not done
};

}  // namespace caller
