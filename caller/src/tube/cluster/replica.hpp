// A core that shares its epochs with those of other processes: a node that lives elsewhere is ready here, too, and ends
// when its values arrive.
#pragma once

#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "../core.hpp"
#include "layout.hpp"
#include "wire.hpp"

namespace caller::tube::detail {

/// Every process has one. All of them resolve the same edges with the same values, so all agree on what is ready, and
/// nobody needs to be asked. What arrives before it is awaited is held; what arrives twice, or for an epoch that was
/// given up, is dropped.
class Replica {
public:
  /// `follows_all`: the inputs of all nodes are known here, so nobody need say that a node was skipped.
  Replica(Core& core, std::vector<std::uint32_t> owner, std::uint32_t self, bool follows_all);

  Instance* begin(std::vector<std::optional<Value>> inputs);
  /// The next node to call here, or the next map or gather whose own process this is. Others are run or awaited.
  bool next(Ready& ready);
  /// Awaits what has become ready elsewhere, so that its values need not be held when they come.
  void advance();
  /// Values of a node of another process. Errors: Error(wrong_type) if they are malformed.
  void arrived(const RecordHead& head, std::string_view values);
  /// Gives up an epoch: nothing more of it runs here. False if it has ended or never began.
  bool give_up(std::uint64_t number, const std::exception_ptr& error);
  /// Gives up all epochs that have not ended and, of those that have not begun, those before `number`.
  std::vector<Instance*> give_up_before(std::uint64_t number, const std::exception_ptr& error);
  /// The epoch is not asked for any more, and its instance is the caller's.
  void forget(Instance* root);
  std::size_t epochs() const noexcept { return epochs_.size(); }
  /// Counts from another number: while no epoch is there.
  void count_from(std::uint64_t number);
  Instance* find(std::uint64_t number) const noexcept;
  RecordHead head_of(const Ready& ready, RecordHead::Kind kind) const;

  /// A node that lives elsewhere is about to run there.
  std::function<void(const Ready&)> on_awaited;
  /// A map or gather that everyone runs failed here, or a callback: the epoch is to be given up. Must be set.
  std::function<void(const Ready&, std::exception_ptr)> on_failed;
  /// Values that cannot be read, of a type that has no codec here. Must be set.
  std::function<void(const RecordHead&, std::exception_ptr)> on_unreadable;
  /// A source of another process has ended in that epoch. Must be set.
  std::function<void(const RecordHead&)> on_ended;
  std::uint64_t received = 0, held_most = 0;

private:
  struct Early {
    RecordHead::Kind kind;
    std::vector<Value> values;
  };
  using Held = std::unordered_map<std::u32string, Early>;
  struct Epoch {
    Instance* root = nullptr;  ///< null: forgotten
    std::unique_ptr<Held> early;
  };
  Epoch* epoch_of(std::uint64_t number) noexcept;
  Instance* instance_of(Instance* root, const RecordHead& head) const;
  void settle(const Ready& ready, RecordHead::Kind kind, std::span<Value> values);
  void read_values(std::uint32_t node, std::string_view bytes);
  void drop_held(Epoch& e) noexcept;

  Core& core_;
  std::vector<std::uint32_t> owner_;
  std::uint32_t self_;
  bool follows_all_;
  std::deque<Epoch> epochs_;  ///< by number, from first_ on
  std::uint64_t first_ = 0;
  std::unordered_map<std::uint64_t, Held> future_;
  std::size_t held_ = 0;
  std::deque<Ready> mine_;     ///< to be called here
  std::vector<Value> values_;  ///< of the record that is read
};

}  // namespace caller::tube::detail
