// Bytes of arguments and results with their large parts kept apart. Internal to this folder.
//
// What is packed begins with kPacked, which begins no value of JSON and none of CBOR; then a line of JSON, a list of
// [place, hash] for each part; then the rest of the bytes, out of which the parts were taken at their places.
#pragma once

#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <caller/coro.hpp>
#include <caller/task/client_data.hpp>
#include <caller/task/store.hpp>

namespace caller::task::detail {

struct CallBytes;
struct TaskDefinition;

inline constexpr char kPacked = '\xff';

inline bool is_packed(std::string_view bytes) noexcept { return !bytes.empty() && bytes.front() == kPacked; }

/// A part of some bytes.
struct Span {
  std::size_t begin, end;
};

/// What is packed, and what is to be stored for it.
struct Packed {
  std::string bytes;
  std::vector<std::pair<std::string, std::string>> data;  // hash and content
};
/// `parts` are in order and do not overlap; none: nothing changes.
Packed pack(std::string bytes, const std::vector<Span>& parts);

/// Which parts packed bytes refer to; none for others. Errors: SerializationError.
std::vector<std::string> data_of(std::string_view bytes);

/// Of one application. Thread-safety: any thread.
class ClientData {
public:
  explicit ClientData(AppCore& app) : app_(app) {}
  bool is_large(std::size_t size) const noexcept;

  /// What is large of the arguments of a call. `data`: what is to be stored for it is appended.
  std::string packed_args(const TaskDefinition& definition, const CallBytes& call,
                          std::vector<std::pair<std::string, std::string>>& data) const;
  /// Made whole. Errors: StateBackendError when a part is missing; SerializationError.
  std::string unpack(std::string bytes);
  Coro<std::string> async_unpack(std::string bytes);

  // Around the code of a task. That the store is away is not the task's error: it is asked again until it is there, or
  // the task is cancelled. Errors: with which a store answers that is there; PendingCancelled.
  /// unpack() of its arguments.
  std::string args_for_task(std::string_view stored);
  Coro<std::string> async_args_for_task(std::string stored);
  /// Puts a large result into the store.
  std::string packed_result(std::string bytes) const;
  Coro<std::string> async_packed_result(std::string bytes) const;

private:
  struct Kept {
    std::string hash, content;
  };
  void warn(const std::string& what, std::size_t size) const;
  template <class F>
  std::string insist(F ask) const;
  template <class F>
  Coro<std::string> async_insist(F ask) const;
  Packed whole_result(std::string bytes) const;
  std::string put_result(const Packed& packed) const;
  Coro<std::string> async_put_result(const Packed& packed) const;
  bool find(const std::string& hash, std::string& content);
  void keep(const std::string& hash, const std::string& content);

  AppCore& app_;
  std::mutex mutex_;
  std::list<Kept> kept_;  // the last used first
  std::unordered_map<std::string_view, std::list<Kept>::iterator> by_hash_;
  std::size_t size_ = 0;
};

}  // namespace caller::task::detail
