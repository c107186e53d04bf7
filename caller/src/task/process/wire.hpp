// What a runner and its workers say to each other over a socket pair, and the values in it as bytes.
//
// A frame is its length and kind, then values one after the other, in the machine's own form: both ends have the same
// build of this library, which `hello` proves, as a runner may live on while the file of its worker is replaced.
// Whatever arrives is checked all the same, since a worker executes code that may write anywhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <caller/task/codec.hpp>
#include <caller/task/store.hpp>

namespace caller::task {

CALLER_TASK_FIELDS(NewInvocation, id, task_id, call_id, args, parent_id, queue, priority, delay, registration_key,
                   running_key, reroute, refuse_other_call, workflow_id, data)
CALLER_TASK_FIELDS(Added, id, reused, refused, call_id, args)
CALLER_TASK_FIELDS(InvocationRecord, id, task_id, call_id, args, parent_id, queue, status, owner, priority, retries,
                   created, changed, result, exception, registration_key, running_key, reroute, workflow_id, data)
CALLER_TASK_FIELDS(Selection, task_id, status, parent_id, workflow_id, from, until, before)
CALLER_TASK_FIELDS(HistoryEntry, status, owner, at)
CALLER_TASK_FIELDS(Change, id, to, runner, result, exception, delay, data, then, code_goes_on)
CALLER_TASK_FIELDS(ValueChange, key, expect, expected, value, lifetime, then)
CALLER_TASK_FIELDS(RunnerRecord, id, description, started, last_heartbeat, lease_until)

namespace detail {

enum class Frame : std::uint8_t {
  // From a worker:
  hello,     // its wire_version(): it may be given invocations
  request,   // number, operation of the store, its arguments
  forget,    // number of a request: nobody wants to know any more
  listen,    // number, runner, which values
  unlisten,  // number
  released,  // invocation: its code waits, its slot is free
  wants,     // invocation: its code wants a slot again
  ended,     // the change that the end of an invocation is
  // To a worker:
  run,        // runner, record
  cancel,     // invocation, whether it goes back
  granted,    // invocation: its code has a slot again
  reply,      // number, whether it succeeded, the value or the exception as JSON
  work,       // number of a listener: there may be something to take
  cancelled,  // number of a listener, invocation
  value,      // number of a listener, key
  stop,       // there will be no more
};
inline constexpr Frame kLastFrame = Frame::stop;

/// A size of a frame that nobody sends.
inline constexpr std::uint64_t kLargestFrame = std::uint64_t{1} << 32;

// ---- a class all of whose members are told ----

struct AnyMember {
  template <class T>
  operator T() const noexcept;
};
template <class T, std::size_t... I>
constexpr bool made_of(std::index_sequence<I...>) {
  return requires { T{(void(I), AnyMember())...}; };
}
template <class T, std::size_t N = 1>
constexpr std::size_t members() {
  if constexpr (!made_of<T>(std::make_index_sequence<N>()))
    return N - 1;
  else
    return members<T, N + 1>();
}

// ---- values ----

class Packer {
public:
  explicit Packer(Frame kind) : bytes_(kHead, '\0') { bytes_.push_back(static_cast<char>(kind)); }
  template <class T>
  Packer& put(const T& value) {
    if constexpr (std::is_arithmetic_v<T> || std::is_enum_v<T>) {
      bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    } else if constexpr (IsDuration<T>::value) {
      put(value.count());
    } else if constexpr (IsTimePoint<T>::value) {
      put(value.time_since_epoch().count());
    } else if constexpr (IsOptional<T>::value) {
      put(value.has_value());
      if (value) put(*value);
    } else if constexpr (HasFields<const T>) {
      const auto fields = caller_task_fields(value);
      static_assert(members<T>() == std::tuple_size_v<decltype(fields)>, "a member is missing in CALLER_TASK_FIELDS");
      std::apply([&](const auto&... f) { (put(f.second), ...); }, fields);
    } else if constexpr (IsTuple<T>::value) {
      std::apply([&](const auto&... v) { (put(v), ...); }, value);
    } else if constexpr (std::is_convertible_v<const T&, std::string_view>) {
      const std::string_view text = value;
      put(std::uint64_t{text.size()});
      bytes_.append(text);
    } else {
      put(std::uint64_t{value.size()});
      for (const auto& v : value) put(v);
    }
    return *this;
  }
  /// The frame.
  std::string take() {
    const std::uint64_t size = bytes_.size() - kHead;
    std::memcpy(bytes_.data(), &size, kHead);
    return std::move(bytes_);
  }
  static constexpr std::size_t kHead = sizeof(std::uint64_t);

private:
  std::string bytes_;
};

/// Errors: SerializationError for what cannot be.
class Unpacker {
public:
  explicit Unpacker(std::string_view bytes) : bytes_(bytes) {}
  template <class T>
  T get() {
    if constexpr (std::is_same_v<T, Status>) {
      const auto n = get<std::uint8_t>();
      if (n >= kStatusCount) fail();
      return static_cast<Status>(n);
    } else if constexpr (std::is_same_v<T, bool>) {
      return get<std::uint8_t>() != 0;
    } else if constexpr (std::is_arithmetic_v<T> || std::is_enum_v<T>) {
      T value;
      std::memcpy(&value, some(sizeof value).data(), sizeof value);
      return value;
    } else if constexpr (IsDuration<T>::value) {
      return T(get<typename T::rep>());
    } else if constexpr (IsTimePoint<T>::value) {
      return T(typename T::duration(get<typename T::rep>()));
    } else if constexpr (IsOptional<T>::value) {
      if (!get<bool>()) return std::nullopt;
      return get<typename T::value_type>();
    } else if constexpr (HasFields<T>) {
      T value{};
      std::apply([&](auto... f) { ((f.second = get<std::remove_cvref_t<decltype(f.second)>>()), ...); },
                 caller_task_fields(value));
      return value;
    } else if constexpr (IsTuple<T>::value) {
      return [&]<std::size_t... I>(std::index_sequence<I...>) {
        return T{get<std::remove_cvref_t<std::tuple_element_t<I, T>>>()...};
      }(std::make_index_sequence<std::tuple_size_v<T>>());
    } else if constexpr (std::is_same_v<T, std::string>) {
      return std::string(some(get<std::uint64_t>()));
    } else {
      T out;
      const auto n = get<std::uint64_t>();
      if (n > bytes_.size()) fail();  // each takes a byte at least
      for (std::uint64_t i = 0; i < n; ++i) out.insert(out.end(), get<typename T::value_type>());
      return out;
    }
  }

private:
  std::string_view some(std::uint64_t n) {
    if (n > bytes_.size()) fail();
    const std::string_view out = bytes_.substr(0, n);
    bytes_.remove_prefix(n);
    return out;
  }
  [[noreturn]] static void fail() { throw SerializationError("a frame between a runner and its worker is broken"); }
  std::string_view bytes_;
};

/// Frames out of a stream.
class Deframer {
public:
  /// Where to read into, `n` bytes at most.
  char* room(std::size_t n) {
    bytes_.resize(end_ + n);
    return bytes_.data() + end_;
  }
  void got(std::size_t n) { end_ += n; }
  /// The next one; valid until the next call of any function. Errors: SerializationError.
  std::optional<std::pair<Frame, std::string_view>> next() {
    const std::size_t there = end_ - begin_;
    if (there >= Packer::kHead) {
      std::uint64_t size;
      std::memcpy(&size, bytes_.data() + begin_, sizeof size);
      if (size == 0 || size > kLargestFrame) throw SerializationError("a frame of an impossible size");
      if (there - Packer::kHead >= size) {
        const std::string_view all(bytes_.data() + begin_ + Packer::kHead, size);
        begin_ += Packer::kHead + size;
        const auto kind = static_cast<Frame>(all.front());
        if (kind > kLastFrame) throw SerializationError("a frame of an unknown kind");
        return std::pair(kind, all.substr(1));
      }
    }
    bytes_.erase(0, begin_);
    end_ -= begin_;
    begin_ = 0;
    if (end_ == 0 && bytes_.capacity() > (1u << 20)) bytes_ = {};
    return std::nullopt;
  }

private:
  std::string bytes_;
  std::size_t begin_ = 0, end_ = 0;
};

// ---- operations of a store ----

template <auto F>
struct OperationTag {};
template <auto... F>
struct OperationList {
  static constexpr std::size_t size = sizeof...(F);
  template <auto Which>
  static constexpr std::uint8_t number() {
    std::uint8_t n = 0;
    bool found = false;
    ((found = found || std::is_same_v<OperationTag<F>, OperationTag<Which>>, n += !found), ...);
    return n;
  }
  /// Whether it may take for ever.
  template <auto Which>
  static constexpr bool is_wait() {
    return number<Which>() == number<&Store::ended>() || number<Which>() == number<&Store::final_record>();
  }
};
inline constexpr auto kListRecords =
    static_cast<Pending<std::vector<InvocationRecord>> (Store::*)(Selection, std::size_t, std::size_t)>(&Store::list);
/// Every operation that a worker's store passes on, by number: new ones stand last, and have a name in wire.cpp.
using StoreOperations =
    OperationList<&Store::add, &Store::take, &Store::change, &Store::get, &Store::history, &Store::ended,
                  &Store::final_record, kListRecords, &Store::counts, &Store::wait_for, &Store::check_cycle,
                  &Store::cancel, &Store::heartbeat, &Store::forget_runner, &Store::runners, &Store::recover,
                  &Store::purge, &Store::value, &Store::set_value, &Store::values, &Store::put_data, &Store::data,
                  &Store::code_ended>;

// ---- versions ----

/// A digest of the operations, of all values that cross and of the states: the same where both ends understand each
/// other.
const std::string& wire_version();
/// What is wrong with the version in a `hello`, as the end of a sentence about the worker; empty: nothing.
std::string mismatch_in(Unpacker hello);

}  // namespace detail
}  // namespace caller::task
