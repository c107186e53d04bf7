// What a function of cells is made of.
#pragma once

#include <string>
#include <vector>

namespace caller::kernel {

/// Pieces of a cell, each at its own line.
struct SourceCell {
  int number = 0;
  std::string text;
};
/// All of the cells' text that a function needs: it compiles without the rest of the session. A variable among it
/// begins as it is declared, whatever became of it later.
struct FunctionSource {
  std::string name;  ///< qualified, `mine::f`
  std::string hash;  ///< of the text, in hexadecimal; the same wherever and whenever it is compiled
  std::vector<SourceCell> cells;
  std::vector<std::string> flags;  ///< of the compiler, in force when it was asked for
  std::string fault;               ///< why it cannot be compiled elsewhere; empty: it can
};

}  // namespace caller::kernel
