// The shared state behind a Channel: a queue of blocks of slots. The protocol:
//
//   tail      the place of the next value (in steps of kOne) and two marks. A producer takes a place by one
//             compare-and-swap, writes its slot and sets `full`. Nothing else is shared between producers and the
//             receiver while values flow: the receiver looks at `tail` only when its slot is not full.
//   blocks    each has one place more than slots. Who takes the last slot puts in the next block, and moves `tail` over
//             the extra place, before it fills its slot; others wait for that. `tail_block` belongs to the lap that
//             `tail` is in, so a producer that read an older one fails to take a place. The receiver frees a block
//             when it has emptied it: its producers are through with it once their slots are full.
//   kIdle     left by a receiver that found `tail` at its own place and sleeps. Who replaces it (a producer, close(),
//             or the receiver itself, which gives up) is the only one to wake it, once.
//   kClosed   no place is given any more.
//   kicks     who took the mark uses `waiting` until `kicks_done` rises: a receiver whose frame dies waits for that.
//   strides   a receiver at the heels of a producer reads the line of the cache that is being written, which then
//             changes hands for each value. So once in a while it looks a stride ahead: where that slot is not full it
//             stays back for a moment, in which the producer gets so far that they no longer meet.
//   under way a place is taken and its slot not yet full. The receiver does not sleep then, but looks again in its next
//             turn, as nobody would wake it.
#pragma once

#include <atomic>
#include <bit>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>

#include <caller/detail/memory.hpp>
#include <caller/detail/state.hpp>
#include <caller/export.hpp>
#include <caller/pending.hpp>

namespace caller::detail {

/// Who receives, while it sleeps. `wake` may free it.
struct ChannelReceiver {
  void (*wake)(ChannelReceiver&) noexcept = nullptr;
};

struct ChannelSlot {
  std::atomic<std::uint32_t> full{0};
};

struct ChannelSend;

/// Of a channel with a capacity. All under the mutex.
struct ChannelBounds {
  std::mutex mutex;
  std::size_t capacity;
  std::size_t room;
  ChannelSend *first = nullptr, *last = nullptr;  // wait for room, oldest first
  explicit ChannelBounds(std::size_t n) noexcept : capacity(n), room(n) {}
};

struct ChannelBase {
  using Word = std::uint64_t;
  static constexpr Word kIdle = 1, kClosed = 2, kMarks = 3, kOne = 4;
  /// So many values in a row are received before the receiver looks ahead, and so many times that before the rest of
  /// the loop has its turn: 256 values.
  static constexpr std::uint32_t kStride = 16, kStrides = 16;

  void (*const destroy)(ChannelBase*) noexcept;
  const std::unique_ptr<ChannelBounds> bounds;  // null: unbounded
  std::atomic<std::uint32_t> refs{1};

  // the receiver's
  alignas(128) ChannelSlot* at = nullptr;  // the next value's
  Word head = 0;                           // its place
  void* head_block = nullptr;
  std::uint32_t stride = kStride, strides = kStrides;  // left, of this stride and of this turn
  std::uint32_t unhindered = 0;                        // looks ahead that are left out, as the last wait was in vain
  std::uint32_t kicks_owed = 0;
  std::atomic<bool> receiving{false};  // somebody waits

  // the producers'; `waiting` is written by the receiver before it leaves its mark, and read by who takes that
  alignas(128) std::atomic<Word> tail{0};
  std::atomic<void*> tail_block{nullptr};
  ChannelReceiver* waiting = nullptr;
  std::atomic<std::uint32_t> kicks_done{0};

  CALLER_API ChannelBase(void (*end)(ChannelBase*) noexcept, std::size_t capacity);
  CALLER_API ~ChannelBase();
  ChannelBase(const ChannelBase&) = delete;
  ChannelBase& operator=(const ChannelBase&) = delete;

  void ref() noexcept { refs.fetch_add(1, std::memory_order_relaxed); }
  void unref() noexcept {
    if (refs.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy(this);
  }
  bool closed() const noexcept { return tail.load(std::memory_order_acquire) & kClosed; }
  bool full() const noexcept { return at->full.load(std::memory_order_acquire); }
  /// The next value is there, and the receiver that asks may have it without waiting.
  bool may_go_on() const noexcept {
    return !receiving.load(std::memory_order_acquire) && full() && !cancellation_due();
  }
  /// Nothing is there, and nothing under way.
  bool empty() const noexcept { return (tail.load(std::memory_order_acquire) & ~kMarks) == head; }
  void check_alone(const char* operation) const {
    if (receiving.load(std::memory_order_acquire)) [[unlikely]]
      refuse(operation);
  }

  CALLER_API void wake() noexcept;  // by who took the mark
  CALLER_API bool close() noexcept;
  [[noreturn]] CALLER_API static void refuse(const char* operation);
  /// A value was received: the oldest waiting sender takes its place.
  CALLER_API void give_room() noexcept;
  /// Lets waiting senders in while there is room. Errors: std::bad_alloc; they still wait then.
  CALLER_API void let_in();
  /// The next value is there. Errors: of let_in().
  CALLER_API bool ready();
  /// Waits for the producers to get ahead, two microseconds.
  CALLER_API void stay_back(const ChannelSlot& ahead) noexcept;
  /// Waits for a slot that is under way.
  CALLER_API void await_slot() const noexcept;
  /// Blocks until something can be received, or never will. Errors: TimedOut, PendingCancelled, receiver_exists.
  CALLER_API void block(std::optional<Duration> timeout);
};

/// A coroutine waiting in receive(). Holds a reference on the channel from its suspension to its end.
struct ChannelWait : Suspension, ChannelReceiver {
  ChannelBase& channel;
  bool marked = false;  // left the mark; else it looks again by itself
  bool holds = false;
  explicit ChannelWait(ChannelBase& c) noexcept : channel(c) {}
  ChannelWait(const ChannelWait&) = delete;
  ChannelWait& operator=(const ChannelWait&) = delete;
  ~ChannelWait() {
    if (holds) [[unlikely]]
      release();
  }
  CALLER_API bool suspend(std::coroutine_handle<> h);
  CALLER_API void resumed() noexcept;

private:
  CALLER_API void release() noexcept;
};

/// A coroutine waiting for room. Holds a reference on the channel from its suspension to its end.
struct ChannelSend : Suspension {
  ChannelBase& channel;
  ChannelSend *older, *newer;  // while linked
  /// Puts the value into the channel: `sent`, `must_wake`. Errors: std::bad_alloc.
  void (*const hand_over)(ChannelSend&);
  bool linked = false;     // under the mutex
  bool sent = false;       // written before it is resumed
  bool must_wake = false;  // hand_over took the receiver's mark
  bool holds = false;
  ChannelSend(ChannelBase& c, void (*give)(ChannelSend&)) noexcept : channel(c), hand_over(give) {}
  ChannelSend(const ChannelSend&) = delete;
  ChannelSend& operator=(const ChannelSend&) = delete;
  ~ChannelSend() {
    if (holds) [[unlikely]]
      release();
  }
  /// Sends at once, if that is possible; true when the outcome is known. Errors: std::bad_alloc.
  CALLER_API bool attempt();
  CALLER_API bool suspend(std::coroutine_handle<> h);

private:
  bool attempt_locked();
  bool unlink() noexcept;
  static bool detach_send(Suspension* s) noexcept;
  CALLER_API void release() noexcept;
};

template <class T>
struct ChannelState final : ChannelBase {
  static_assert(std::is_object_v<T> && std::is_nothrow_destructible_v<T> && std::is_move_constructible_v<T>,
                "a Channel carries objects that can be moved and destroyed without an error: no references, no void");
  static_assert(alignof(T) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__, "over-aligned values are not supported");

  /// A value that is large, or may throw when it is moved, has a block of its own: filling a slot cannot fail.
  struct Free {
    void operator()(T* p) const noexcept {
      p->~T();
      deallocate(p, sizeof(T));
    }
  };
  static constexpr bool kInSlot = std::is_nothrow_move_constructible_v<T> && sizeof(T) <= 64;
  using Stored = std::conditional_t<kInSlot, T, std::unique_ptr<T, Free>>;
  template <class U>
  static Stored store(U&& value) {
    if constexpr (kInSlot) {
      return Stored(std::forward<U>(value));
    } else {
      struct Raw {
        void* p = allocate(sizeof(T));
        ~Raw() {
          if (p) deallocate(p, sizeof(T));
        }
      } raw;
      T* const made = ::new (raw.p) T(std::forward<U>(value));
      raw.p = nullptr;
      return Stored(made);
    }
  }

  struct Slot : ChannelSlot {
    alignas(Stored) unsigned char bytes[sizeof(Stored)];
    Stored& stored() noexcept { return *std::launder(reinterpret_cast<Stored*>(bytes)); }
    T& value() noexcept {
      if constexpr (kInSlot)
        return stored();
      else
        return *stored();
    }
  };
  static constexpr std::size_t kLap = std::bit_floor(kBlockSizes.back() / sizeof(Slot));
  static constexpr std::size_t kSlots = kLap - 1;
  struct Block {
    Block* next = nullptr;  // written before the last slot is filled
    Slot slots[kSlots];
  };
  static_assert(sizeof(Block) <= kBlockSizes.back() && kSlots > 1);

  static Block* make_block() { return ::new (allocate(sizeof(Block))) Block; }
  static void free_block(Block* b) noexcept { deallocate(b, sizeof(Block)); }

  explicit ChannelState(std::size_t capacity)
      : ChannelBase([](ChannelBase* c) noexcept { delete static_cast<ChannelState*>(c); }, capacity) {
    Block* const b = make_block();
    head_block = b;
    at = &b->slots[0];
    tail_block.store(b, std::memory_order_relaxed);
  }
  ~ChannelState() {
    while (full()) {
      slot().stored().~Stored();
      advance();
    }
    free_block(static_cast<Block*>(head_block));
  }
  ChannelState(const ChannelState&) = delete;
  ChannelState& operator=(const ChannelState&) = delete;

  enum class Push : unsigned char { closed, done, must_wake };
  /// Errors: std::bad_alloc; nothing has happened then, and `value` is as it was.
  Push push(Stored& value) {
    Word t = tail.load(std::memory_order_acquire);
    Block* fresh = nullptr;
    for (;;) {
      auto* const b = static_cast<Block*>(tail_block.load(std::memory_order_acquire));
      const std::size_t place = t / kOne % kLap;
      if ((t & kClosed) || place >= kSlots - 1) [[unlikely]] {
        if (t & kClosed) {
          if (fresh) free_block(fresh);
          return Push::closed;
        }
        if (place == kSlots) {  // the next block is being put in
          std::this_thread::yield();
          t = tail.load(std::memory_order_acquire);
          continue;
        }
        if (!fresh) fresh = make_block();
      }
      if (!tail.compare_exchange_weak(t, (t & ~kIdle) + kOne, std::memory_order_acq_rel, std::memory_order_acquire))
        continue;
      if (place == kSlots - 1) [[unlikely]] {
        b->next = fresh;
        tail_block.store(std::exchange(fresh, nullptr), std::memory_order_release);
        tail.fetch_add(kOne, std::memory_order_release);
      }
      Slot& s = b->slots[place];
      ::new (static_cast<void*>(s.bytes)) Stored(std::move(value));
      s.full.store(1, std::memory_order_release);
      if (fresh) [[unlikely]]
        free_block(fresh);
      return t & kIdle ? Push::must_wake : Push::done;
    }
  }

  bool send(T&& value) {
    auto&& stored = store_ref(std::move(value));
    Push how = Push::closed;
    if (!bounds) [[likely]] {
      how = push(stored);
    } else {
      const std::lock_guard lock(bounds->mutex);
      if (bounds->room == 0 || bounds->first) return false;
      how = push(stored);
      if (how != Push::closed) --bounds->room;
    }
    if (how == Push::must_wake) [[unlikely]]
      wake();
    return how != Push::closed;
  }

  /// At the end of a stride. True: the next one has begun, with the value that is there.
  bool next_stride() noexcept {
    if (!may_go_on() || stride != 0 || strides == 0) return false;
    --strides;
    stride = kStride - 1;
    const std::size_t left = kSlots - 1 - head / kOne % kLap;  // after this one, in its block
    const Slot& ahead = (&slot())[left < kStride ? left : kStride];
    if (!ahead.full.load(std::memory_order_acquire)) stay_back(ahead);
    return true;
  }

  /// The next value, if it is there. Errors: what moving it throws; it stays where it is.
  std::optional<T> take() {
    std::optional<T> value;  // returned in place: a move could throw when the value is out already
    if (full()) [[likely]] {
      value.emplace(std::move(slot().value()));
      slot().stored().~Stored();
      advance();
      if (bounds) [[unlikely]]
        give_room();
    }
    return value;
  }

private:
  static decltype(auto) store_ref(T&& value) {
    if constexpr (kInSlot)
      return static_cast<T&>(value);
    else
      return store(std::move(value));
  }
  Slot& slot() noexcept { return static_cast<Slot&>(*at); }
  void advance() noexcept {
    head += kOne;
    at = &slot() + 1;
    if (head / kOne % kLap != kSlots) [[likely]]
      return;
    auto* const b = static_cast<Block*>(head_block);
    head += kOne;
    head_block = b->next;
    at = &b->next->slots[0];
    free_block(b);
  }
};

}  // namespace caller::detail
