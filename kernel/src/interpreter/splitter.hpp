// A cell cut into its top-level pieces, each known to be a directive, a declaration or a statement.
//
// Purely lexical, so that it also works on text that does not compile, and on any thread. Where C++ needs to know
// whether a name is a type (`A * b;`), the names of known variables decide, and what a user most likely means.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "tokens.hpp"

namespace caller::kernel {

struct Chunk {
  enum class Kind { directive, declaration, statement };
  Kind kind = Kind::statement;
  std::size_t first = 0, last = 0;  ///< tokens [first, last)
  std::size_t begin = 0, end = 0;   ///< bytes [begin, end)
  bool terminated = false;          ///< ends in `;` or in the `}` of a body
  bool expression = false;          ///< a statement that is one expression
  bool function = false;            ///< a function definition (or what looks like one)
  bool class_like = false;          ///< begins with class, struct, union, enum (after template and attributes)
  bool names_space = false;         ///< `namespace X { … }`
  bool ambiguous = false;           ///< a declaration only by the look of it
  bool awaits = false;              ///< has a co_await outside of functions and lambdas
};

/// True when the name is known to be a variable or function rather than a type.
using IsValue = std::function<bool(std::string_view)>;

/// Cuts tokens [from, to) of `list`; `declarations_only` inside a namespace body.
std::vector<Chunk> split(const TokenList& list, std::string_view code, const IsValue& is_value, std::size_t from = 0,
                         std::size_t to = static_cast<std::size_t>(-1), bool declarations_only = false);

/// True when the `[` at token `i` begins a lambda.
bool begins_lambda(const std::vector<Token>& tokens, std::size_t i);

/// The token after the body of the lambda that begins at `i`; `to` when it has none.
std::size_t after_lambda(const std::vector<Token>& tokens, std::size_t i, std::size_t to);

/// The token after `template <…>` (or `<…>`) whose `<` is token `i`; `i` when it does not close.
std::size_t after_angles(const std::vector<Token>& tokens, std::size_t i, std::size_t to);

/// Calls `visit(i)` for each token of [from, to) that is not inside a lambda's, local class's or function's body;
/// `visit` is called with the index of each lambda introducer too.
void visit_own_tokens(const std::vector<Token>& tokens, std::size_t from, std::size_t to,
                      const std::function<void(std::size_t)>& visit);

}  // namespace caller::kernel
