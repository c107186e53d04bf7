// Words that are near: what an error offers instead of a name that does not exist.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace caller::tube::detail {

/// Those of `candidates` that look like `name`, nearest first, at most `limit`.
std::vector<std::string> nearest(std::string_view name, const std::vector<std::string>& candidates,
                                 std::size_t limit = 3);
/// `; did you mean "x" or "y"?`, or nothing.
std::string did_you_mean(std::string_view name, const std::vector<std::string>& candidates);
/// `a, b and c`.
std::string listed(const std::vector<std::string>& words);

}  // namespace caller::tube::detail
