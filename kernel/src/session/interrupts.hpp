// Which thread runs whose code, so that the right code can be interrupted.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include <caller/caller.hpp>

#include "interpreter/interrupt.hpp"

namespace caller::kernel {

/// A thread that runs cells. It may be gone while a cell or a timer still refers to this.
///
/// `base` stands below all other scopes of the thread and ends with it. It is asked only while a coroutine of a cell
/// computes: between two resumes there is no scope that could be asked, and a request left over would meet the
/// kernel's own code.
struct RunThread {
  explicit RunThread(Caller c) : base(std::in_place), caller(std::move(c)) {}

  std::mutex mutex;  // of all but `caller`
  std::optional<interrupt::Scope> base;
  const Caller caller;
  std::vector<interrupt::Scope*> plain;  // of plain segments and handlers, innermost last
  bool probed = false;                   // the loop has not turned since it was asked to
};

/// All threads that run cells, and how to interrupt what computes there.
///
/// What merely awaits is cancelled through its Pending, never here.
///
/// Thread-safety: any thread.
/// Errors: none.
/// Source: none.
class Interrupts {
public:
  /// `control` runs the delayed part: a loop that does not turn within kPatience computes.
  static constexpr std::chrono::milliseconds kPatience{50};
  explicit Interrupts(Caller control) : control_(std::move(control)) {}

  /// The calling thread's entry. To be called before any scope of the thread; a Caller must run there.
  std::shared_ptr<RunThread> enter();

  /// Lets signals through to the calling thread: without them nothing ends a blocked call. Not on the main thread.
  static void take_signals();

  /// Plain code of a cell runs in the calling thread while this lives.
  class Plain {
  public:
    explicit Plain(std::shared_ptr<RunThread> thread);
    ~Plain();
    void request() noexcept { scope_.request(); }
    Plain(const Plain&) = delete;
    Plain& operator=(const Plain&) = delete;

  private:
    std::shared_ptr<RunThread> thread_;
    interrupt::Scope scope_;
  };

  void break_thread(const std::shared_ptr<RunThread>& thread);
  void break_all();

private:
  std::mutex mutex_;
  std::vector<std::weak_ptr<RunThread>> threads_;
  Caller control_;
};

}  // namespace caller::kernel
