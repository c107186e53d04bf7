// Which lines of a cell are magics. What is C++ stays, on its own line.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "magics/split.hpp"
#include "protocol/words.hpp"

using namespace caller::kernel;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string cell(reinterpret_cast<const char*>(data), size);
  const SplitCell split = split_magics(cell);
  const auto lines = 1 + std::count(cell.begin(), cell.end(), '\n');
  int last = 0;
  for (const MagicLine& magic : split.magics) {
    if (magic.name.empty() || magic.line <= last || magic.line > lines) std::abort();
    if (magic.whole_cell && split.magics.size() != 1) std::abort();
    last = magic.line;
    try {
      (void)split_words(magic.arguments);
    } catch (const std::invalid_argument&) {  // a quote that is never closed
    }
  }
  if (split.magics.empty() && split.code != cell) std::abort();
  const bool whole = !split.magics.empty() && split.magics[0].whole_cell;
  if (!whole && std::count(split.code.begin(), split.code.end(), '\n') != lines - 1) std::abort();
  return 0;
}
