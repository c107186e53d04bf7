// Finding the precompiled prelude and the flags cells are compiled with.
#pragma once

#include <string>
#include <vector>

#include "factory.hpp"

namespace caller::kernel {

struct Prelude {
  std::vector<std::string> args;  ///< for the driver, without the prelude itself
  std::string pch;                ///< empty when there is none that can be used
  std::string nodes;              ///< one on top of it, for processes of nodes; empty: there is none
  std::string library;            ///< the code of the precompiled header
};

/// Reads `prelude.args` of the prelude directory; throws std::runtime_error when there is none.
Prelude find_prelude(const InterpreterOptions& options);

}  // namespace caller::kernel
