// Which lines of a cell are magics and which are C++.
#pragma once

#include <string>
#include <vector>

namespace caller::kernel {

/// One magic line of a cell.
struct MagicLine {
  std::string name;  ///< `time` of `%time x`; `!` for a command, `?` and `??` for a question, however it was written
  std::string arguments;
  bool whole_cell = false;  ///< `%%name`: `body` is the rest of the cell
  std::string body;
  int line = 0;  ///< from 1
};

/// A cell taken apart: its magics in order, then its C++ code with blank lines in their place.
struct SplitCell {
  std::vector<MagicLine> magics;
  std::string code;
};

/// Takes the magics off the top of a cell.
///
/// Magics stand before the C++ code: the leading lines that are blank, `//` comments, `%name …`, `!command`, `?name`
/// or `??name`, `%name?`, and as the last of all `name?` or `name??`. The first line of any other form begins the code,
/// and nothing after it is a magic: there a `%` or `!` can be C++ (an operator at the start of a continued line, text
/// of a raw string). `%%name` counts only as the first of the leading lines that is not blank or a comment. A cell that
/// is an expression beginning with `!` is written in parentheses.
///
/// Thread-safety: any thread.
/// Errors: none.
/// Source: IPython input transformations; differs: only at the top.
SplitCell split_magics(const std::string& cell);

}  // namespace caller::kernel
