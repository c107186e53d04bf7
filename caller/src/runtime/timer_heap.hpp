// Timers of one loop: a 4-ary heap of small entries that never touches the nodes it sorts.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <caller/detail/state.hpp>

namespace caller::detail {

/// Owner's thread only. Nodes with equal times fire in the order added.
///
/// A node knows its slot (`position`), an entry of the heap its slot, too; so sorting moves 16 bytes within one array,
/// and taking a node out empties its slot. The entry stays, without a node, until it comes to the top or such entries
/// outnumber the others. Invariant: the entry at the top has a node.
class TimerHeap {
public:
  bool empty() const noexcept { return heap_.empty(); }
  std::size_t size() const noexcept { return heap_.size() - dead_; }
  std::int64_t next() const noexcept { return heap_.front().when; }

  void add(TimerNode& node) {
    if (free_ == TimerNode::kIdle) {
      slots_.push_back({.next_free = TimerNode::kIdle});
      free_ = static_cast<std::uint32_t>(slots_.size() - 1);
    }
    heap_.push_back({});  // before anything changes: this may throw, too
    const std::uint32_t slot = free_;
    free_ = slots_[slot].next_free;
    slots_[slot].node = &node;
    node.position = slot;
    sift_up(heap_.size() - 1, {node.when, sequence_++, slot});
  }

  void remove(TimerNode& node) noexcept {
    if (node.position == TimerNode::kIdle) return;
    if (node.position & kInBatch) {
      batch_[std::exchange(node.position, TimerNode::kIdle) & ~kInBatch] = nullptr;
      return;
    }
    slots_[node.position].node = nullptr;
    node.position = TimerNode::kIdle;
    ++dead_;
    if (dead_ > kFewDead && dead_ * 2 > heap_.size()) compact();
    prune();
  }

  /// Takes out nodes due at `now`, earliest first, and calls `act(node)` for each; `act` may remove other nodes. Not
  /// all of a crowd, so that what they queue is still in the processor's cache when it runs: true when more are due.
  template <class F>
  bool fire_due(std::int64_t now, F&& act) noexcept {
    std::uint32_t n = 0;
    while (n < batch_.size() && !heap_.empty() && heap_.front().when <= now) {
      TimerNode* const node = slots_[heap_.front().slot].node;
      // Its neighbours are what the node is part of. By the time they are needed they are here.
      for (int line = 0; line < 4; ++line) __builtin_prefetch(reinterpret_cast<const char*>(node) - line * 64, 1);
      batch_[n++] = node;
      drop_top();
      prune();
    }
    for (std::uint32_t i = 0; i < n; ++i) batch_[i]->position = kInBatch | i;
    for (std::uint32_t i = 0; i < n; ++i) {
      TimerNode* const node = std::exchange(batch_[i], nullptr);
      if (!node) continue;  // removed by one before
      node->position = TimerNode::kIdle;
      act(*node);
    }
    return !heap_.empty() && heap_.front().when <= now;
  }
  TimerNode* pop() noexcept {
    const std::uint32_t slot = heap_.front().slot;
    TimerNode* const node = slots_[slot].node;
    node->position = TimerNode::kIdle;
    drop_top();
    prune();
    return node;
  }
  template <class F>
  void for_each(F&& f) const {
    for (const Entry& e : heap_)
      if (TimerNode* node = slots_[e.slot].node) f(*node);
  }

private:
  static constexpr std::size_t kFewDead = 64;
  static constexpr std::uint32_t kInBatch = 1u << 31;  // the rest of `position` is a place in `batch_`

  struct Entry {
    std::int64_t when;
    std::uint32_t sequence;
    std::uint32_t slot;
    bool operator<(const Entry& o) const noexcept {  // no branch: nobody could foretell it
      // The numbers run round; those of equal times are never half of them apart.
      const bool earlier_number = static_cast<std::int32_t>(sequence - o.sequence) < 0;
      return (when < o.when) | ((when == o.when) & earlier_number);
    }
  };
  union Slot {
    TimerNode* node;
    std::uint32_t next_free;
  };

  void give_back(std::uint32_t slot) noexcept {
    slots_[slot].next_free = free_;
    free_ = slot;
  }
  void drop_top() noexcept {
    give_back(heap_.front().slot);
    const Entry last = heap_.back();
    heap_.pop_back();
    if (!heap_.empty()) sift_down(0, last);
  }
  void prune() noexcept {
    while (!heap_.empty() && !slots_[heap_.front().slot].node) {
      --dead_;
      drop_top();
    }
    if (heap_.empty()) {  // so that no table of free slots stays behind what has been a crowd
      slots_.clear();
      free_ = TimerNode::kIdle;
    }
  }
  void compact() noexcept {
    std::erase_if(heap_, [this](const Entry& e) {
      if (slots_[e.slot].node) return false;
      give_back(e.slot);
      return true;
    });
    dead_ = 0;
    for (std::size_t i = heap_.size() / 4 + 1; i-- > 0;)
      if (i < heap_.size()) sift_down(i, heap_[i]);
  }

  void sift_up(std::size_t i, Entry e) noexcept {
    while (i > 0) {
      const std::size_t up = (i - 1) / 4;
      if (!(e < heap_[up])) break;
      heap_[i] = heap_[up];
      i = up;
    }
    heap_[i] = e;
  }
  /// The hole goes down to where there are no children, and `e`, most often one of the last, up from there.
  void sift_down(std::size_t i, Entry e) noexcept {
    const std::size_t n = heap_.size();
    Entry* const h = heap_.data();
    const std::size_t top = i;
    std::size_t first = i * 4 + 1;
    while (first + 4 <= n) {
      const std::size_t a = first + (h[first + 1] < h[first] ? 1 : 0);
      const std::size_t b = first + (h[first + 3] < h[first + 2] ? 3 : 2);
      const std::size_t least = h[b] < h[a] ? b : a;
      h[i] = h[least];
      i = least;
      first = i * 4 + 1;
    }
    if (first < n) {
      std::size_t least = first;
      for (std::size_t k = first + 1; k < n; ++k) least = h[k] < h[least] ? k : least;
      h[i] = h[least];
      i = least;
    }
    while (i > top) {
      const std::size_t up = (i - 1) / 4;
      if (!(e < h[up])) break;
      h[i] = h[up];
      i = up;
    }
    h[i] = e;
  }

  std::array<TimerNode*, 64> batch_{};
  std::vector<Entry> heap_;
  std::vector<Slot> slots_;
  std::uint32_t free_ = TimerNode::kIdle;
  std::uint32_t sequence_ = 0;
  std::size_t dead_ = 0;
};

}  // namespace caller::detail
