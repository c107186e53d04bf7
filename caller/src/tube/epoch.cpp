#include <algorithm>

#include <caller/tube/epoch.hpp>

namespace caller::tube {

std::optional<Epoch> Epoch::parent() const {
  if (path_.empty()) return std::nullopt;
  return Epoch(root_, {path_.begin(), path_.end() - 1});
}

std::vector<Epoch> Epoch::parents() const {
  std::vector<Epoch> found;
  for (std::optional<Epoch> p = parent(); p; p = p->parent()) found.push_back(*p);
  return found;
}

std::optional<EpochSegment> Epoch::leaf() const {
  if (path_.empty()) return std::nullopt;
  return path_.back();
}

std::vector<Epoch> Epoch::make_subepochs(std::string_view node, std::uint64_t n) const {
  std::vector<Epoch> made;
  made.reserve(n);
  for (std::uint64_t i = 0; i < n; ++i) made.push_back(*this / EpochSegment{std::string(node), i});
  return made;
}

Epoch Epoch::operator/(EpochSegment segment) const {
  Epoch inner = *this;
  inner.path_.push_back(std::move(segment));
  return inner;
}

bool Epoch::is_within(const Epoch& outer) const noexcept {
  return root_ == outer.root_ && path_.size() >= outer.path_.size() &&
         std::equal(outer.path_.begin(), outer.path_.end(), path_.begin());
}

std::string Epoch::str() const {
  std::string text = std::to_string(root_);
  for (const EpochSegment& s : path_) text += "/" + s.node + "." + std::to_string(s.index);
  return text;
}

}  // namespace caller::tube
