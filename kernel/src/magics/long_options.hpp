// The options of a magic's line that have names: `--name value`, `--name=value`.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "magics/magics.hpp"

namespace caller::kernel::magics {

/// One after the other: `while (o.next()) … o.word() … o.value()`.
class LongOptions {
public:
  /// `magic`: as the user writes it. Throws by usage() for a quotation that does not end.
  LongOptions(const MagicLine& line, const std::string& magic);
  /// False: there is no word any more.
  bool next();
  /// The word, which need not be an option, without `=value`.
  const std::string& word() const noexcept { return word_; }
  /// What stands behind its `=`, or else the next word, which then does not come again. None: there is nothing.
  std::optional<std::string> value();
  /// It has a value behind a `=` that nobody has asked for.
  bool has_value() const noexcept { return given_.has_value(); }

private:
  std::vector<std::string> words_;
  std::size_t at_ = 0;
  std::string word_;
  std::optional<std::string> given_;
};

/// `a, b, c`.
std::string joined(const std::vector<std::string>& words);

}  // namespace caller::kernel::magics
