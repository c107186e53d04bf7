// A cell as tokens: enough of C++'s lexical grammar to find where declarations and statements begin and end.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace caller::kernel {

struct Token {
  enum class Kind { identifier, number, string, character, punctuator, directive };
  Kind kind = Kind::punctuator;
  std::string_view text;  ///< points into the code; a directive is its whole logical line
  std::size_t begin = 0;  ///< byte offset
  std::size_t end = 0;
  std::size_t match = 0;     ///< of a bracket: index of its partner, `kUnmatched` without one
  bool alternative = false;  ///< `and`, `or`, `not`, …: an operator spelt as a word

  static constexpr std::size_t kUnmatched = static_cast<std::size_t>(-1);
  bool is(std::string_view t) const noexcept { return text == t; }
};

/// The tokens of `code`, comments dropped, brackets paired. The views point into `code`.
struct TokenList {
  std::vector<Token> tokens;
  bool open_comment = false;   ///< the code ends inside /* */
  bool open_string = false;    ///< a raw string is not closed by the end
  bool bad_string = false;     ///< an ordinary string or character is not closed on its line
  bool open_bracket = false;   ///< a bracket is not closed by the end
  bool stray_bracket = false;  ///< a closing bracket without its opening one
  bool open_line = false;      ///< the last line ends in a backslash
  std::size_t depth = 0;       ///< brackets open at the end
};

TokenList tokenize(std::string_view code);

}  // namespace caller::kernel
