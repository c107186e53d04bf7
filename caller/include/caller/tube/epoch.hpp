// Epochs: which run of a tube an event belongs to.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <caller/export.hpp>

namespace caller::tube {

/// One step into a sub-epoch: the map node that made it, and the index of the item.
struct EpochSegment {
  std::string node;         ///< the map that made the items
  std::uint64_t index = 0;  ///< the number of the item, from 0
  friend auto operator<=>(const EpochSegment&, const EpochSegment&) = default;
};

/// The number of a call of process(), and the path of map items below it: `3`, `3/words.0`, `3/words.0/letters.2`.
///
/// Ordered by number, then along the path, parents before their children.
///
/// Thread-safety: distinct objects: safe; shared objects: unsafe while one changes. Errors: std::bad_alloc.
/// Source: noob Epoch.
class CALLER_API Epoch {
public:
  /// A root epoch.
  explicit Epoch(std::uint64_t root = 0) noexcept : root_(root) {}
  /// What is below a root epoch.
  Epoch(std::uint64_t root, std::vector<EpochSegment> path) : root_(root), path_(std::move(path)) {}

  /// the number of the call of process()
  std::uint64_t root() const noexcept { return root_; }
  /// the items on the way down
  const std::vector<EpochSegment>& path() const noexcept { return path_; }
  /// One more than the steps of the path.
  std::size_t len() const noexcept { return path_.size() + 1; }
  /// no map is around it
  bool is_root() const noexcept { return path_.empty(); }
  /// The epoch around this one; nothing for a root epoch.
  std::optional<Epoch> parent() const;
  /// All epochs around this one, nearest first.
  std::vector<Epoch> parents() const;
  /// The last step of the path; nothing for a root epoch.
  std::optional<EpochSegment> leaf() const;
  /// The sub-epochs of `n` items that `node` maps.
  std::vector<Epoch> make_subepochs(std::string_view node, std::uint64_t n) const;
  /// One step further down.
  Epoch operator/(EpochSegment segment) const;
  bool is_within(const Epoch& outer) const noexcept;  ///< it is `outer` or below it
  std::string str() const;                            ///< as it is written above

  friend std::strong_ordering operator<=>(const Epoch&, const Epoch&) = default;
  friend bool operator==(const Epoch&, const Epoch&) = default;

private:
  std::uint64_t root_;
  std::vector<EpochSegment> path_;
};

}  // namespace caller::tube
