// What options of the command line must be, with a sentence for what is not.
#pragma once

#include <CLI/CLI.hpp>
#include <charconv>
#include <limits>
#include <string>
#include <vector>

namespace caller::kernel::cli {

inline CLI::Validator whole_number(unsigned long long most = std::numeric_limits<unsigned long long>::max()) {
  return CLI::Validator(
      [most](std::string& text) -> std::string {
        unsigned long long n = 0;
        const char* const end = text.data() + text.size();
        const auto [stop, error] = std::from_chars(text.data(), end, n);
        if (error == std::errc() && stop == end && n <= most) return {};
        const bool bounded = most != std::numeric_limits<unsigned long long>::max();
        return "expected a whole number " + (bounded ? "from 0 to " + std::to_string(most) : "of at least 0") +
               ", found \"" + text + "\"";
      },
      "");
}

/// One of the words, which `--help` lists.
inline CLI::Validator one_of(const std::vector<std::string>& words) {
  std::string all, listed;
  for (std::size_t i = 0; i < words.size(); ++i) {
    all += (i == 0 ? "" : i + 1 < words.size() ? ", " : " or ") + words[i];
    listed += (i ? "," : "") + words[i];
  }
  return CLI::Validator(
      [words, all](std::string& text) -> std::string {
        for (const std::string& word : words)
          if (word == text) return {};
        return "expected " + all + ", found \"" + text + "\"";
      },
      "{" + listed + "}");
}

}  // namespace caller::kernel::cli
