// Who executes invocations.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <caller/export.hpp>
#include <caller/pending.hpp>

namespace caller::task {

class App;

/// How a runner executes. Source: pynenc's runner classes.
enum class RunnerKind : std::uint8_t {
  dummy,  ///< not at all: calls are registered, others execute them, and their ends are waited for
  sync,   ///< calls run where they are made, at once and without delays, from start() to stop()
  thread,
  process,             ///< a process for each invocation
  persistent_process,  ///< processes that stay, one invocation at a time in each
  multi_thread,        ///< processes that stay, several invocations in each; more of them while there is more to do
};

/// `ThreadRunner`, `MultiThreadRunner`, … Thread-safety: any thread. Errors: none. Source: pynenc's class names.
CALLER_API std::string_view name(RunnerKind kind) noexcept;
/// Of a name as above, or as the enumeration's, `multi_thread`. None: there is no such kind.
CALLER_API std::optional<RunnerKind> runner_kind_of(std::string_view name) noexcept;

/// What a runner is made with. Those with processes start this program again, or `worker`, whose main function then
/// comes to worker_main().
struct RunnerOptions {
  std::size_t slots = 0;              ///< invocations at work at once; 0: as many as the machine has cores
  std::vector<std::string> queues{};  ///< which it serves; empty: all but those whose name begins with a dot
  std::string description{};          ///< for people; empty: its kind and process
  std::function<void()> on_start{};   ///< before anything is taken, in start(); what it throws, start() throws
  std::function<void()> on_stop{};    ///< last of all, also if the start failed after on_start; in any thread
  std::size_t min_threads = 0;        ///< thread: that many are kept while they have nothing to do; 0: ten
  /// Code that was told to end may go on for so long: before its process is killed, and after the second signal of
  /// Runner::run().
  std::chrono::milliseconds grace{5'000};
  // Of those with processes:
  std::size_t min_processes = 1;                    ///< multi_thread: kept while they have nothing to do
  std::size_t max_processes = 0;                    ///< multi_thread; 0: as many as the machine has cores
  std::size_t threads = 0;                          ///< multi_thread: invocations at work at once in one; 0: as many
  std::chrono::milliseconds idle_timeout{4'000};    ///< processes that are too many end after so long without work
  std::chrono::milliseconds start_timeout{30'000};  ///< of a process, until it reaches worker_main()
  std::vector<std::string> worker{};                ///< program and arguments; empty: this program, without any
};

/// How Runner::run() ended.
enum class RunEnd : std::uint8_t {
  drained,      ///< what was at work has ended
  handed_back,  ///< what was at work was given up, for somebody else to do
  abandoned,    ///< something did not end when it was asked to: the process should end at once
};

/// Takes invocations and executes them, from start() to stop().
///
/// Code that waits for another invocation occupies no slot, in any runner. In the kinds with processes a crash, an exit
/// or a kill of the system's is the failure (WorkerCrashedError), or another try, of the invocation whose code did it.
/// Others in the same process go back to the queue, and where it is not known which one did it, each of those at work
/// then runs in a process of its own. Code that ignores its stop token ends with its process, when no other invocation
/// is in there. Processes end with the runner's, whatever ended that.
/// Thread-safety: any thread. Errors: RunnerError for a second start(), and when processes cannot be started.
/// Source: pynenc BaseRunner.
class CALLER_API Runner {
public:
  virtual ~Runner();
  /// As its records in the store name it.
  virtual const std::string& id() const noexcept = 0;
  /// Begins to take invocations. Errors: RunnerError when it was started already.
  virtual void start() = 0;
  /// Takes no more; done when what is at work has ended. `at_once`: what is at work is asked to end, and goes back to
  /// the queue.
  virtual Pending<void> stop(bool at_once = false) = 0;
  /// Invocations at work now; those that wait for others do not count.
  virtual std::size_t working() const noexcept = 0;

  /// Starts, and waits for SIGINT or SIGTERM; then it takes no more, and what is at work ends. At the second one that
  /// is asked to end, and has the time that patience() says for it; from then on the signals do again what they did
  /// before. `started` is called once when the runner takes invocations. Blocks the calling thread; its Caller, if it
  /// has one, turns. Thread-safety: one at a time in a process. Errors: as start(); RunnerError while another runner of
  /// the process waits for signals. Source: pynenc BaseRunner.run.
  RunEnd run(const std::function<void()>& started = {});

protected:
  /// After the second signal of run(): how long what is at work may take to end.
  virtual std::chrono::milliseconds patience() const noexcept;
};

/// Whether this process executes invocations for a runner of the application: its store is that runner's.
/// Thread-safety: any thread. Errors: none. Source: –
CALLER_API bool in_worker(std::string_view app_id) noexcept;

/// In a process that was started by a runner of `app` it executes invocations and never returns; else it does nothing.
/// To be called in main() when all tasks are known. Such a process is known by its last argument,
/// `--caller-task-worker=` and the application's name, which a program that reads its arguments leaves out. Standard
/// input and output are the runner's; SIGINT and SIGTERM are ignored, as the runner decides what they mean. Errors:
/// none. Thread-safety: the main thread. Source: –
CALLER_API void worker_main(const App& app);

}  // namespace caller::task
