// What somebody who wrote a name wrongly may have meant.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace caller::kernel::magics {

/// How many letters differ.
std::size_t distance(const std::string& a, const std::string& b);

/// The one of them that was probably meant; empty: none is like it.
std::string nearest_word(const std::string& word, const std::vector<std::string>& known);

}  // namespace caller::kernel::magics
