// How far a tube is, as the cell that runs it shows it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <caller/tube/tube.hpp>

#include "interpreter/interrupt.hpp"
#include "magics/magics.hpp"

namespace caller::kernel::magics {

/// What the hooks of a runner count, and whether it is to stop.
///
/// Thread-safety: any thread. Errors: check(): PendingCancelled. Source: none.
class TubeWatch {
public:
  TubeWatch(ActiveCellPtr active, const tube::Tube& tube);

  void fired(const std::string& node) noexcept;
  void epoch_ended() noexcept { epochs.fetch_add(1, std::memory_order_relaxed); }
  bool stopped() const noexcept { return active_->stop.load(std::memory_order_relaxed) != ActiveCell::Stop::none; }
  /// Throws when the cell was stopped.
  void check() const;
  /// Interrupts the nodes that run on threads other than the cell's.
  void break_nodes();

  /// While it lives, code of a node runs in the calling thread and can be interrupted. With `awaited` the thread waits
  /// for that call meanwhile, and is interrupted by cancelling it.
  class AtNode {
  public:
    explicit AtNode(TubeWatch& watch, PendingBase awaited = {});
    ~AtNode();
    AtNode(const AtNode&) = delete;
    AtNode& operator=(const AtNode&) = delete;

  private:
    friend class TubeWatch;
    TubeWatch& watch_;
    PendingBase awaited_;
    // Its own, not that of the thread: between two nodes the thread runs what must not be interrupted.
    interrupt::Scope scope_;
  };

  struct Node {
    explicit Node(std::string node) : id(std::move(node)) {}
    std::string id;
    std::atomic<std::uint64_t> fired{0};
  };
  const std::deque<Node>& nodes() const noexcept { return nodes_; }
  std::atomic<std::uint64_t> epochs{0}, events{0}, results{0};

private:
  ActiveCellPtr active_;
  std::deque<Node> nodes_;
  std::unordered_map<std::string_view, Node*> by_id_;  // does not change
  std::mutex mutex_;
  std::vector<AtNode*> at_nodes_;
};

/// The display: shown at once, then at most ten times a second as long as something happens, and in the end.
///
/// Thread-safety: any thread. Errors: none. Source: tqdm; the cell is that of the context in force.
class TubeProgress {
public:
  enum class End { done, source_ended, failed, interrupted };

  TubeProgress(std::shared_ptr<TubeWatch> watch, std::string title, std::optional<std::size_t> total);
  /// Shows what has changed, if it is time to; also passes a stop of the cell on to its nodes.
  void tick();
  void finish(End end);

private:
  void publish(bool update, std::optional<End> end);

  const std::shared_ptr<TubeWatch> watch_;
  const std::string title_, id_;
  const std::optional<std::size_t> total_;
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  std::mutex mutex_;
  std::chrono::steady_clock::time_point shown_{};
  std::uint64_t seen_ = 0;
  bool finished_ = false;
};

/// Calls tick() again and again on the Caller it runs on, until it is cancelled.
Coro<void> keep_ticking(std::shared_ptr<TubeProgress> progress);

}  // namespace caller::kernel::magics
