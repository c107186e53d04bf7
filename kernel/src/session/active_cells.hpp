// The cells that run or await right now, and how they are stopped.
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <caller/pending.hpp>

#include "protocol/message.hpp"
#include "session/interrupts.hpp"
#include "session/stdin_broker.hpp"

namespace caller::kernel {

/// One running cell (or comm handler).
struct ActiveCell {
  enum class Stop { none, interrupt, timeout, shutdown };

  Request request;
  std::atomic<Stop> stop{Stop::none};  ///< why it was told to stop; the first reason stays
  Moment asked;                        ///< when it was; guarded by the registry, as the next two
  PendingBase run;
  std::shared_ptr<RunThread> thread;  ///< where its code runs
  std::string label;                  ///< what it is, for people
  std::optional<std::string> lane;    ///< of a cell that waits for those before it
};
using ActiveCellPtr = std::shared_ptr<ActiveCell>;

/// What became of one request to stop one cell; or of one that found nothing to stop (`reached` empty).
struct StopRecord {
  std::chrono::system_clock::time_point at;
  ActiveCell::Stop why = ActiveCell::Stop::none;
  std::string reached;
  std::optional<std::chrono::steady_clock::duration> took;  ///< none: it has not ended yet
};

/// All running cells of the kernel.
///
/// Stopping works on every kind of wait at once: the mark is seen before each segment, the Pending ends what awaits,
/// the broker ends what waits for input, and Interrupts reaches code that computes. The mark is set first: a segment
/// that begins meanwhile either sees it, or is running when the interrupt comes.
///
/// What could not be reached in that moment (it waits, and what it waits for has just come; another cell computes in
/// its thread) is reminded every kReminder until the cell has ended.
///
/// Thread-safety: any thread.
/// Errors: none.
/// Source: ipykernel `interrupt_request`; differs: all shells and threads at once.
class ActiveCells {
public:
  static constexpr std::chrono::milliseconds kReminder{100};

  ActiveCells(StdinBroker& input, Interrupts& interrupts) : input_(input), interrupts_(interrupts) {}
  ~ActiveCells();
  ActiveCells(const ActiveCells&) = delete;
  ActiveCells& operator=(const ActiveCells&) = delete;

  /// The calling thread is the one that runs the cell. It is born stopped if the latest interrupt was sent after the
  /// cell's request, and met no cell of its lane: whoever sent it saw this one, which waits. `lane`: none, if it waits
  /// for no other cell.
  ActiveCellPtr add(Request request, std::string label, std::optional<std::string> lane);
  /// A handler, which no earlier interrupt is meant for: what it is told must not be lost.
  ActiveCellPtr add_handler(Request request);
  void remove(const ActiveCellPtr& cell);

  /// Names what a stop has to cancel; cancels it at once when the stop came before.
  void set_run(const ActiveCellPtr& cell, PendingBase run);

  /// Stops all of them; by an interrupt those whose requests came before it.
  void stop_all(ActiveCell::Stop why, Moment asked);
  void stop(const ActiveCellPtr& cell, ActiveCell::Stop why);
  /// Stops what runs on a subshell that ends; what begins there still is born stopped, until it is forgotten.
  void stop_subshell(const std::string& id);
  void forget_subshell(const std::string& id);
  /// When the cell was last told to stop.
  Moment asked(const ActiveCell& cell);
  std::size_t size();
  std::vector<std::string> labels();

  /// The latest requests to stop, oldest first, at most kRecords.
  std::vector<StopRecord> records();
  static constexpr std::size_t kRecords = 50;

  /// Called after each stop: what holds threads back lets them go. To be set before any cell.
  void set_let_go(std::function<void()> let_go) { let_go_ = std::move(let_go); }

private:
  ActiveCellPtr make(Request request, std::string label);
  void stop_one(ActiveCell& cell, ActiveCell::Stop why, Moment asked);
  void begin_locked(const ActiveCellPtr& cell);
  void remind_later_locked();
  void remind();

  StdinBroker& input_;
  Interrupts& interrupts_;
  std::function<void()> let_go_ = [] {};
  std::mutex mutex_;
  std::list<ActiveCellPtr> cells_;
  Moment interrupted_;            // the latest interrupt
  std::set<std::string> met_;     // the lanes of which it has met a cell
  std::set<std::string> ending_;  // subshells
  PendingBase reminder_;          // while a cell that was told to stop has not ended
  bool reminds_ = false;          // … and is not through yet
  bool over_ = false;

  struct Entry {
    StopRecord record;
    std::weak_ptr<ActiveCell> cell;
    std::chrono::steady_clock::time_point begin;
  };
  std::deque<Entry> entries_;
  void note_locked(const ActiveCellPtr& cell, ActiveCell::Stop why);
};

}  // namespace caller::kernel
