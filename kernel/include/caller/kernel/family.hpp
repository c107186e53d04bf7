// A family tree of things that take time, as a picture.
#pragma once

#include <string>
#include <vector>

#include <caller/export.hpp>

namespace caller::kernel {

/// One line of the picture.
///
/// Units: seconds, from any common moment; negative: not yet. Thread-safety: plain data. Errors: none. Source: none.
struct FamilyMember {
  std::size_t depth = 0;  ///< below the first one; its parent is the last one before it with one less
  std::string label;      ///< its name
  std::string status;     ///< `RUNNING`: shown, and what its colour says
  double called = 0;      ///< when it was asked for
  double began = -1;      ///< when it came to work first
  double ended = -1;      ///< when it was over
  int retries = 0;        ///< how often it was begun again
};

/// The members as a tree, each with the time from its call to its end: waiting pale, at work full. `now` ends what has
/// not ended. Of many siblings of one name some are shown and the rest counted; not more than `most` lines.
///
/// Thread-safety: any thread. Errors: none. Source: pynenc's monitor.
CALLER_API std::string family_svg(const std::vector<FamilyMember>& members, double now, std::size_t most = 60);
/// The same as text.
CALLER_API std::string family_text(const std::vector<FamilyMember>& members, double now, std::size_t most = 60);

/// The colour of a status.
CALLER_API const char* status_colour(const std::string& status) noexcept;

}  // namespace caller::kernel
