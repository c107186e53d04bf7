// Which of the known names is meant by one nobody knows. Internal to tasks.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace caller::task::detail {

/// How many letters differ.
inline std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t best = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = std::exchange(row[j], best);
    }
  }
  return row[b.size()];
}

/// Empty when none is near. `names`: of anything that is like a string.
template <class Names>
std::string nearest(std::string_view word, const Names& names) {
  std::string best;
  std::size_t least = word.size() / 2 + 1;
  for (const auto& name : names)
    if (const std::size_t d = distance(word, name); d < least) {
      least = d;
      best = name;
    }
  return best;
}
/// "; the nearest is x", or nothing.
template <class Names>
std::string nearest_in_words(std::string_view word, const Names& names) {
  const std::string found = nearest(word, names);
  return found.empty() ? "" : "; the nearest is " + found;
}

}  // namespace caller::task::detail
