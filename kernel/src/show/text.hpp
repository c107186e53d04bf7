// Text as pages and terminals want it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace caller::kernel::show {

/// Safe in the content and in quoted attributes of HTML and SVG.
std::string escape(std::string_view text);

/// The columns of a terminal that UTF-8 text takes; control characters count as none.
std::size_t width(std::string_view text);

/// At most `columns` wide; what is longer ends in `…`.
std::string shorten(std::string_view text, std::size_t columns);

/// Line breaks and other control characters as a space.
std::string one_line(std::string_view text);

}  // namespace caller::kernel::show
