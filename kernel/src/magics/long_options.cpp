#include "magics/long_options.hpp"

#include <stdexcept>
#include <utility>

#include "magics/functions.hpp"
#include "protocol/words.hpp"

namespace caller::kernel::magics {

LongOptions::LongOptions(const MagicLine& line, const std::string& magic) {
  try {
    words_ = split_words(line.arguments);
  } catch (const std::invalid_argument& e) {
    usage(magic + ": " + e.what());
  }
}

bool LongOptions::next() {
  given_.reset();
  if (at_ == words_.size()) return false;
  word_ = words_[at_++];
  if (const std::size_t at = word_.find('='); word_.starts_with("--") && at != std::string::npos) {
    given_ = word_.substr(at + 1);
    word_.resize(at);
  }
  return true;
}

std::optional<std::string> LongOptions::value() {
  if (given_) return std::exchange(given_, std::nullopt);
  if (at_ == words_.size()) return std::nullopt;
  return words_[at_++];
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& w : words) out += (out.empty() ? "" : ", ") + w;
  return out;
}

}  // namespace caller::kernel::magics
