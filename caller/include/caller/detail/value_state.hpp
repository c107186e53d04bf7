// The shared state behind a Pending<T>: a PendingState and its value.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include <caller/detail/state.hpp>

namespace caller::detail {

template <class T>
struct ValueState : PendingState {
  using PendingState::PendingState;
  using Stored = std::conditional_t<std::is_reference_v<T>, std::add_pointer_t<T>, T>;
  static_assert(alignof(Stored) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__, "over-aligned results are not supported");
  alignas(Stored) unsigned char storage[sizeof(Stored)];

  /// The value. Errors: those of throw_outcome.
  Stored& outcome() {
    if (throw_outcome(*this)) [[unlikely]]
      return *static_cast<Stored*>(boxed(*this));
    return *own();
  }
  decltype(auto) get() {
    if constexpr (std::is_reference_v<T>)
      return static_cast<T>(*outcome());
    else
      return static_cast<T&>(outcome());
  }
  template <class U>
  static void construct(void* where, U&& v) {
    if constexpr (std::is_reference_v<T>)
      ::new (where) Stored(std::addressof(v));
    else
      ::new (where) Stored(std::forward<U>(v));
  }
  /// By the work, or by who claimed a state without work.
  template <class U>
  void emplace(U&& v) {
    construct(storage, std::forward<U>(v));
    if constexpr (!std::is_trivially_destructible_v<Stored>) has_value = true;
  }
  /// By who claimed a state with work.
  template <class U>
  void emplace_boxed(U&& v) {
    struct Box {
      alignas(Stored) unsigned char bytes[sizeof(Stored)];
    };
    auto box = std::make_unique<Box>();
    construct(box->bytes, std::forward<U>(v));
    set_box(*this, box.release(), [](void* p) noexcept {
      static_cast<Stored*>(p)->~Stored();
      delete static_cast<Box*>(p);
    });
  }
  void destroy_value() noexcept {
    if constexpr (!std::is_trivially_destructible_v<Stored>)
      if (std::exchange(has_value, false)) own()->~Stored();
  }
  /// unref(), for who knows the type.
  void leave_to_others() noexcept {
    if (!last()) return;
    const std::uint8_t block = magazine.load(std::memory_order_relaxed);
    if constexpr (!std::is_trivially_destructible_v<Stored>) {
      if (block == kNoMagazine) [[unlikely]]
        return act(this, OpAct::destroy);
      destroy_value();
    }
    if (!deallocate_quickly(this, block)) [[unlikely]]
      act(this, OpAct::destroy);
  }

private:
  Stored* own() noexcept { return std::launder(reinterpret_cast<Stored*>(storage)); }
};

template <>
struct ValueState<void> : PendingState {
  using PendingState::PendingState;
  void emplace() noexcept {}
  void emplace_boxed() noexcept {}
  void get() { throw_outcome(*this); }
  void destroy_value() noexcept {}
  void leave_to_others() noexcept { unref(); }
};

/// Settles with a value. True: complete() is due.
template <class T, class... U>
bool settle_value(ValueState<T>& s, U&&... value) noexcept {
  const Settle how = settle(s);
  if (how == Settle::store) {
    try {
      s.emplace(std::forward<U>(value)...);
    } catch (...) {
      set_error(s, std::current_exception());
    }
  }
  return how != Settle::lost;
}

/// A Pending with no call behind it.
template <class T>
ValueState<T>* make_plain_state() {
  constexpr auto act = [](Op* op, OpAct) {
    auto* s = static_cast<ValueState<T>*>(op);
    finish_state(*s);
    s->destroy_value();
    std::destroy_at(s);
    deallocate(s, sizeof(ValueState<T>));
  };
  return ::new (allocate(sizeof(ValueState<T>))) ValueState<T>(act, nullptr, 0, 1);
}

}  // namespace caller::detail
