#include "words.hpp"

#include <algorithm>
#include <cctype>
#include <utility>

namespace caller::tube::detail {

namespace {

/// Edit distance in which two neighbours that changed places count once; beyond `most` it stops.
std::size_t distance(std::string_view a, std::string_view b, std::size_t most) {
  if (a.size() > b.size()) std::swap(a, b);
  if (b.size() - a.size() > most) return most + 1;
  std::vector<std::size_t> two(a.size() + 1), before(a.size() + 1), now(a.size() + 1);
  for (std::size_t i = 0; i <= a.size(); ++i) before[i] = i;
  const auto same = [](char x, char y) {
    return std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y));
  };
  for (std::size_t j = 1; j <= b.size(); ++j) {
    now[0] = j;
    std::size_t best = j;
    for (std::size_t i = 1; i <= a.size(); ++i) {
      now[i] = std::min({before[i] + 1, now[i - 1] + 1, before[i - 1] + (same(a[i - 1], b[j - 1]) ? 0 : 1)});
      if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]))
        now[i] = std::min(now[i], two[i - 2] + 1);
      best = std::min(best, now[i]);
    }
    if (best > most) return most + 1;
    std::swap(two, before);
    std::swap(before, now);
  }
  return before[a.size()];
}

std::string_view last_part(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? name : name.substr(dot + 1);
}

}  // namespace

std::vector<std::string> nearest(std::string_view name, const std::vector<std::string>& candidates, std::size_t limit) {
  std::vector<std::pair<std::size_t, std::string>> found;
  const std::size_t most = std::max<std::size_t>(2, std::min<std::size_t>(name.size(), 64) / 3);
  for (const std::string& candidate : candidates) {
    std::size_t d = distance(name, candidate, most);
    // A name without its package is near as well.
    if (!name.empty() && last_part(candidate) == last_part(name)) d = std::min<std::size_t>(d, 1);
    if (d <= most) found.emplace_back(d, candidate);
  }
  std::sort(found.begin(), found.end());
  std::vector<std::string> words;
  for (const auto& [d, word] : found) {
    if (words.size() == limit || d > found.front().first + 1) break;
    words.push_back(word);
  }
  return words;
}

std::string did_you_mean(std::string_view name, const std::vector<std::string>& candidates) {
  const std::vector<std::string> words = nearest(name, candidates);
  if (words.empty()) return {};
  std::string text = "; did you mean ";
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += i + 1 == words.size() ? " or " : ", ";
    text += "\"" + words[i] + "\"";
  }
  return text + "?";
}

std::string listed(const std::vector<std::string>& words) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += i + 1 == words.size() ? " and " : ", ";
    text += words[i];
  }
  return text;
}

}  // namespace caller::tube::detail
