// Timers of one loop: a 4-ary heap of small entries that never touches the nodes it sorts.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
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
    slots_[node.position].node = nullptr;
    node.position = TimerNode::kIdle;
    ++dead_;
    if (dead_ > kFewDead && dead_ * 2 > heap_.size()) compact();
    prune();
  }

  /// The earliest node due at `now`, taken out; null when none is.
  TimerNode* pop_due(std::int64_t now) noexcept {
    if (heap_.empty() || heap_.front().when > now) return nullptr;
    return pop();
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

  struct Entry {
    std::int64_t when;
    std::uint32_t sequence;
    std::uint32_t slot;
    bool operator<(const Entry& o) const noexcept {
      // The numbers run round; those of equal times are never half of them apart.
      return when != o.when ? when < o.when : static_cast<std::int32_t>(sequence - o.sequence) < 0;
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
  void sift_down(std::size_t i, Entry e) noexcept {
    const std::size_t n = heap_.size();
    for (;;) {
      const std::size_t first = i * 4 + 1;
      if (first >= n) break;
      std::size_t least = first;
      for (std::size_t k = first + 1; k < std::min(first + 4, n); ++k)
        if (heap_[k] < heap_[least]) least = k;
      if (!(heap_[least] < e)) break;
      heap_[i] = heap_[least];
      i = least;
    }
    heap_[i] = e;
  }

  std::vector<Entry> heap_;
  std::vector<Slot> slots_;
  std::uint32_t free_ = TimerNode::kIdle;
  std::uint32_t sequence_ = 0;
  std::size_t dead_ = 0;
};

}  // namespace caller::detail
