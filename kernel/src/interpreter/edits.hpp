// The small changes a cell's text needs to be a translation unit's, and what can be read off its tokens.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "splitter.hpp"

namespace caller::kernel {

struct Edit {
  std::size_t begin, end;  ///< bytes of the cell
  std::string text;        ///< what stands there instead
};
using Edits = std::vector<Edit>;  ///< by position, not overlapping

Edits merged(Edits a, Edits b);
std::string apply(const std::string& code, std::size_t begin, std::size_t end, const Edits& edits);

/// Names that the tokens declare as variables or functions at their top level.
std::set<std::string> names_of_values(const std::vector<Token>& tokens);

/// The index of the name a declaration declares; `last` of the chunk when none is seen.
std::size_t declared_name(const std::vector<Token>& tokens, const Chunk& c);

/// Explicit specialisations, definitions of members, and using directives belong to the enclosing namespace.
bool belongs_outside(const std::vector<Token>& tokens, const Chunk& c);

/// `static` at namespace scope would hide the name from later cells' code.
Edits static_edits(const std::vector<Token>& tokens, const Chunk& c);

/// Only the global `main` may end without a return; a cell's own is inside of a namespace.
Edits main_edits(const std::vector<Token>& tokens, const Chunk& c);

/// `const` variables would be made anew for every cell that uses them, were they not external.
bool needs_extern(const std::vector<Token>& tokens, const Chunk& c);

/// Captures of names that are global here: `[x]` becomes `[x = x]`; at namespace scope capture defaults go.
Edits capture_edits(const std::vector<Token>& tokens, std::size_t first, std::size_t last, bool namespace_scope);

/// The function, by its name, that `x.task(f, …)` gives away, where token `i` is that `task`. An empty name: none.
struct FunctionName {
  std::string name;
  std::size_t begin = 0, end = 0;  ///< bytes of the name
  std::size_t from = 0;            ///< where what stands before it begins, a `&` or `::`
};
FunctionName function_given(const std::vector<Token>& tokens, std::size_t i, std::size_t last);

/// The parts of `T x = init`, `T x(init)`, `T x{init}` and `auto [a, b] = init`.
struct LateParts {
  bool ok = false;
  bool bindings = false;
  std::size_t name = 0;  ///< token of the name, or of the `[` of bindings
  std::size_t init_first = 0, init_last = 0;
  char init_open = '=';  ///< `=`, `(` or `{`
};
LateParts late_parts(const std::vector<Token>& tokens, const Chunk& c);
std::string late_type(const std::string& code, const std::vector<Token>& tokens, const Chunk& c, const LateParts& p,
                      const std::string& init);
std::string late_bindings(const std::string& code, const std::vector<Token>& tokens, const LateParts& p);

}  // namespace caller::kernel
