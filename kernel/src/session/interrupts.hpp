// Which thread runs whose code, so that the right code can be interrupted.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include <caller/caller.hpp>

#include "interpreter/faults.hpp"
#include "interpreter/interrupt.hpp"
#include "protocol/message.hpp"

namespace caller::kernel {

/// A thread that runs cells, or a loop on which cells may run something. It may be gone while a cell or a timer still
/// refers to this.
///
/// `base` stands below all other scopes of the thread and ends with it. It is asked only while something computes:
/// between two turns of the loop there is nothing that could be asked, and a request left over would meet the kernel's
/// own code.
struct RunThread {
  RunThread();

  std::mutex mutex;  // of all that follows
  std::optional<interrupt::Scope> base;
  const faults::LoopTurns* turns = nullptr;  // of its loop; valid while there is `base`
  std::optional<Caller> caller;              // instead, where turns are not counted
  std::vector<void*> plain;                  // Interrupts::Plain, innermost last; only the thread itself changes it
  bool probed = false;                       // the loop has not turned since it was asked to
  Request whom;                              // `base` was asked for; its address is not given to another one
  std::optional<Moment> older;               // … for anybody who came before this
  std::atomic<unsigned> asks{0};             // how often `base` was asked
};

/// All threads that run code of cells, and how to interrupt what computes there.
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
  /// The patience of a reminder with what deals with a request: so long in a handler, or in destructors.
  static constexpr std::chrono::milliseconds kLastPatience{2000};
  /// `embedded`: signals of the program are for the program's own threads, in this process from now on.
  explicit Interrupts(Caller control, bool embedded = false);

  const Caller& control() const noexcept { return control_; }

  /// The calling thread's entry; it runs cells. To be called before any scope of the thread; a Caller must run there.
  std::shared_ptr<RunThread> enter();

  /// The calling thread begins to run a loop. What a cell runs on it can be interrupted from now on.
  void watch(const faults::LoopTurns& turns);

  /// The calling thread runs a loop that is the kernel's only, also when it works for a cell.
  static void exempt_this_thread();

  /// Lets signals through to the calling thread: without them nothing ends a blocked call. Not on the main thread.
  /// In a program with an embedded kernel only those of faults and the kernel's own.
  static void take_signals();

  /// Plain code of the cell that is the current work runs in the calling thread while this lives. Where it waits, code
  /// of others may run within.
  class Plain {
  public:
    explicit Plain(std::shared_ptr<RunThread> thread);
    ~Plain();
    void request() noexcept { scope_.request(); }
    const Request& whose() const noexcept { return whose_; }
    /// A loop turns within. Where nobody counts the turns: always.
    bool waits() const noexcept { return !thread_->turns || thread_->turns->depth.load() > depth_; }
    Plain(const Plain&) = delete;
    Plain& operator=(const Plain&) = delete;

  private:
    friend class Interrupts;
    std::shared_ptr<RunThread> thread_;
    const Request whose_;
    const int depth_;
    interrupt::Scope scope_;
    Request guest_;  // its address is not given to another one
  };

  /// Interrupts what computes for `whom` on any thread.
  void break_one(const Request& whom) { break_all({whom, {}}); }
  /// Interrupts what computes for anybody whose request came before this.
  void break_older(Moment asked) { break_all({nullptr, std::move(asked)}); }

  /// Interrupts what computes for `whom`, who was told to stop and has not ended: it could not be reached then, as it
  /// waited for its turn, or in the middle of others. Does not disturb what deals with an interrupt already; if it is
  /// `last`, only for kLastPatience.
  void remind(const Request& whom, bool last) {
    break_all({whom, {}, last ? kLastPatience : std::chrono::milliseconds::zero()});
  }

private:
  struct Meant {
    Request whom;                                         // null: anybody …
    Moment asked;                                         // … who came before this
    std::optional<std::chrono::milliseconds> patience{};  // of a reminder
    bool includes(const Request& one) const { return whom ? whom == one : !one || asked.comes_after(*one); }
  };
  void break_all(const Meant& meant);
  void add(const std::shared_ptr<RunThread>& thread);
  void break_thread(const std::shared_ptr<RunThread>& thread, const Meant& meant);
  void break_turn(const std::shared_ptr<RunThread>& thread, const Meant& meant, void* within);
  /// The scope that was asked, if any.
  static interrupt::Scope* ask(RunThread& thread, const Meant& meant, void* within);

  std::mutex mutex_;
  std::vector<std::weak_ptr<RunThread>> threads_;
  Caller control_;
};

}  // namespace caller::kernel
