#include "magics/nearest.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

namespace caller::kernel::magics {

std::size_t distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substitute = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row.back();
}

std::string nearest_word(const std::string& word, const std::vector<std::string>& known) {
  std::string out;
  std::size_t least = std::max<std::size_t>(2, word.size() / 2);
  for (const std::string& k : known)
    if (const std::size_t d = distance(word, k); d < least) {
      least = d;
      out = k;
    }
  return out;
}

}  // namespace caller::kernel::magics
