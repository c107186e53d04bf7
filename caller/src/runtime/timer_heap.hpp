// Timers of one loop: a 4-ary heap whose nodes know their place, so that any of them can be removed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <caller/detail/state.hpp>

namespace caller::detail {

/// Owner's thread only. Nodes with equal times fire in the order added.
class TimerHeap {
public:
  bool empty() const noexcept { return heap_.empty(); }
  std::size_t size() const noexcept { return heap_.size(); }
  std::int64_t next() const noexcept { return heap_.front().when; }

  void add(TimerNode& node) {
    heap_.push_back({});
    sift_up(heap_.size() - 1, {node.when, sequence_++, &node});
  }
  void remove(TimerNode& node) noexcept {
    const std::size_t i = node.position;
    if (i == TimerNode::kIdle) return;
    node.position = TimerNode::kIdle;
    const Entry last = heap_.back();
    heap_.pop_back();
    if (i == heap_.size()) return;
    if (i > 0 && last < heap_[(i - 1) / 4])
      sift_up(i, last);
    else
      sift_down(i, last);
  }
  /// The earliest node due at `now`, taken out; null when none is.
  TimerNode* pop_due(std::int64_t now) noexcept {
    if (heap_.empty() || heap_.front().when > now) return nullptr;
    return pop();
  }
  TimerNode* pop() noexcept {
    TimerNode* node = heap_.front().node;
    remove(*node);
    return node;
  }
  template <class F>
  void for_each(F&& f) const {
    for (const Entry& e : heap_) f(*e.node);
  }

private:
  struct Entry {
    std::int64_t when;
    std::uint64_t sequence;
    TimerNode* node;
    bool operator<(const Entry& o) const noexcept { return when != o.when ? when < o.when : sequence < o.sequence; }
  };
  void place(std::size_t i, const Entry& e) noexcept {
    heap_[i] = e;
    e.node->position = static_cast<std::uint32_t>(i);
  }
  void sift_up(std::size_t i, Entry e) noexcept {
    while (i > 0) {
      const std::size_t up = (i - 1) / 4;
      if (!(e < heap_[up])) break;
      place(i, heap_[up]);
      i = up;
    }
    place(i, e);
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
      place(i, heap_[least]);
      i = least;
    }
    place(i, e);
  }

  std::vector<Entry> heap_;
  std::uint64_t sequence_ = 0;
};

}  // namespace caller::detail
