// Timers of one loop: a 4-ary heap of small entries that never touches the nodes it sorts; a crowd that is due at once
// is sorted at once.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
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
///
/// When most of a large heap is due, its due entries move to `crowd_`, sorted, the next one at the end. They are due
/// before all that is added later. Invariant: the last entry there has a node, too.
class TimerHeap {
public:
  bool empty() const noexcept { return heap_.empty() && crowd_.empty(); }
  std::size_t size() const noexcept { return heap_.size() + crowd_.size() - dead_; }
  std::int64_t next() const noexcept { return first().when; }

  void add(TimerNode& node) {
    if (free_ == TimerNode::kIdle || heap_.size() == heap_.capacity()) [[unlikely]]
      make_room();
    if (heap_.size() == heap_.capacity()) __builtin_unreachable();
    const std::uint32_t slot = free_;
    free_ = slots_[slot].next_free;
    slots_[slot].node = &node;
    node.position = slot;
    const Entry e{node.when, sequence_++, slot};
    heap_.push_back(e);
    sift_up(heap_.size() - 1, e);
  }

  void remove(TimerNode& node) noexcept {
    if (node.position == TimerNode::kIdle) return;
    if (node.position & kInBatch) {
      batch_[std::exchange(node.position, TimerNode::kIdle) & ~kInBatch] = nullptr;
      return;
    }
    const std::uint32_t slot = std::exchange(node.position, TimerNode::kIdle);
    if (!heap_.empty() && heap_.back().slot == slot) {  // added last, and later than the others, as guards often are
      give_back(slot);
      heap_.pop_back();
      if (heap_.empty()) [[unlikely]]
        prune_apart();
      return;
    }
    leave_empty(slot);
  }

  /// Takes out nodes due at `now`, earliest first, and calls `act(node)` for each; `act` may remove other nodes. Not
  /// all of a crowd, so that what they queue is still in the processor's cache when it runs: true when more are due.
  template <class F>
  bool fire_due(std::int64_t now, F&& act) noexcept {
    if (crowd_.empty() && crowded(now)) gather(now);
    std::uint32_t n = 0;
    while (n < batch_.size() && !empty() && first().when <= now) {
      TimerNode* const node = slots_[first().slot].node;
      // Its neighbours are what the node is part of. By the time they are needed they are here.
      for (int line = 0; line < 4; ++line) __builtin_prefetch(reinterpret_cast<const char*>(node) - line * 64, 1);
      batch_[n++] = node;
      drop_first();
    }
    for (std::uint32_t i = 0; i < n; ++i) batch_[i]->position = kInBatch | i;
    for (std::uint32_t i = 0; i < n; ++i) {
      TimerNode* const node = std::exchange(batch_[i], nullptr);
      if (!node) continue;  // removed by one before
      node->position = TimerNode::kIdle;
      act(*node);
    }
    return !empty() && next() <= now;
  }
  TimerNode* pop() noexcept {
    TimerNode* const node = slots_[first().slot].node;
    node->position = TimerNode::kIdle;
    drop_first();
    return node;
  }
  template <class F>
  void for_each(F&& f) const {
    for (const auto* entries : {&crowd_, &heap_})
      for (const Entry& e : *entries)
        if (TimerNode* node = slots_[e.slot].node) f(*node);
  }

private:
  static constexpr std::size_t kFewDead = 64;
  static constexpr std::size_t kCrowd = 512;           // as many timers are worth a sort of their own
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
    TimerNode* node = nullptr;
    std::uint32_t next_free;
  };

  // Apart, so that what is common needs no registers to be saved for what is not.
  [[gnu::noinline]] void make_room() {
    if (free_ == TimerNode::kIdle) {
      constexpr std::size_t kMore = 16;
      const std::size_t n = slots_.size();
      slots_.resize(n + kMore);
      for (std::size_t i = n + kMore; i-- > n;) give_back(static_cast<std::uint32_t>(i));
    }
    if (heap_.size() == heap_.capacity()) heap_.reserve(std::max<std::size_t>(8, heap_.capacity() * 2));
  }
  [[gnu::noinline]] void leave_empty(std::uint32_t slot) noexcept {
    slots_[slot].node = nullptr;
    ++dead_;
    if (dead_ > kFewDead && dead_ * 2 > heap_.size() + crowd_.size()) compact();
    prune();
  }
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
  const Entry& first() const noexcept {
    return crowd_.empty() || (!heap_.empty() && heap_.front() < crowd_.back()) ? heap_.front() : crowd_.back();
  }
  void drop_first() noexcept {
    if (&first() == heap_.data()) {
      drop_top();
    } else {
      give_back(crowd_.back().slot);
      crowd_.pop_back();
    }
    prune();
  }
  [[gnu::noinline]] void prune_apart() noexcept { prune(); }
  void prune() noexcept {
    while (!crowd_.empty() && !slots_[crowd_.back().slot].node) {
      --dead_;
      give_back(crowd_.back().slot);
      crowd_.pop_back();
    }
    while (!heap_.empty() && !slots_[heap_.front().slot].node) {
      --dead_;
      drop_top();
    }
    if (crowd_.empty() && crowd_.capacity() > 0) crowd_ = {};
    if (empty()) {  // so that no table of free slots stays behind what has been a crowd
      slots_.clear();
      free_ = TimerNode::kIdle;
    }
  }
  void compact() noexcept {
    const auto forget_dead = [this](const Entry& e) {
      if (slots_[e.slot].node) return false;
      give_back(e.slot);
      return true;
    };
    std::erase_if(heap_, forget_dead);
    std::erase_if(crowd_, forget_dead);
    dead_ = 0;
    make_heap();
  }
  void make_heap() noexcept {
    for (std::size_t i = heap_.size() / 4 + 1; i-- > 0;)
      if (i < heap_.size()) sift_down(i, heap_[i]);
  }

  /// Are there many, and most of a sample of them due?
  bool crowded(std::int64_t now) const noexcept {
    constexpr std::size_t kSample = 8;
    const std::size_t n = heap_.size();
    if (n < kCrowd || heap_.front().when > now) return false;
    std::size_t due = 0;
    for (std::size_t i = 1; i <= kSample; ++i) due += heap_[n * i / (kSample + 1)].when <= now ? 1 : 0;
    return due * 2 > kSample;
  }
  /// Moves the due entries to `crowd_`; without the memory for it all stays as it is.
  void gather(std::int64_t now) noexcept {
    std::vector<Entry> due, other;
    try {
      due.reserve(heap_.size());
      other.resize(heap_.size());
    } catch (...) {
      return;
    }
    std::erase_if(heap_, [&](const Entry& e) {
      if (e.when > now) return false;
      due.push_back(e);
      return true;
    });
    make_heap();
    other.resize(due.size());
    sort_latest_first(due, other);
    crowd_ = std::move(due);
    prune();
  }
  /// By their times, a digit after the other, least significant first; then those of equal times by their numbers.
  static void sort_latest_first(std::vector<Entry>& entries, std::vector<Entry>& other) noexcept {
    constexpr int kBits = 11;
    constexpr std::uint64_t kDigits = std::uint64_t{1} << kBits;
    std::int64_t least = entries.front().when, most = least;
    for (const Entry& e : entries) {
      least = std::min(least, e.when);
      most = std::max(most, e.when);
    }
    const auto rank = [most](const Entry& e) {  // the latest first
      return static_cast<std::uint64_t>(most) - static_cast<std::uint64_t>(e.when);
    };
    const int bits = std::bit_width(static_cast<std::uint64_t>(most) - static_cast<std::uint64_t>(least));
    if (bits > 4 * kBits || entries.size() < kCrowd) {  // few, or far apart
      std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return b < a; });
      return;
    }
    for (int shift = 0; shift < bits; shift += kBits) {
      std::array<std::uint32_t, kDigits> place{};
      for (const Entry& e : entries) ++place[(rank(e) >> shift) & (kDigits - 1)];
      std::uint32_t sum = 0;
      for (std::uint32_t& p : place) sum += std::exchange(p, sum);
      for (const Entry& e : entries) other[place[(rank(e) >> shift) & (kDigits - 1)]++] = e;
      entries.swap(other);
    }
    for (auto begin = entries.begin(); begin != entries.end();) {
      auto end = begin + 1;
      while (end != entries.end() && end->when == begin->when) ++end;
      if (end - begin > 1) std::sort(begin, end, [](const Entry& a, const Entry& b) { return b < a; });
      begin = end;
    }
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
  std::vector<Entry> crowd_;
  std::vector<Slot> slots_;
  std::uint32_t free_ = TimerNode::kIdle;
  std::size_t dead_ = 0;  // between the two, or one load of both would wait for the stores of each
  std::uint32_t sequence_ = 0;
};

}  // namespace caller::detail
