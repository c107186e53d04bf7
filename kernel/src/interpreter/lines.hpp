// From the addresses of cells' code to their lines.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <llvm/ExecutionEngine/Orc/LLJIT.h>

#include "exceptions.hpp"

namespace caller::kernel {

/// Keeps the line tables of what the JIT links. They are read when somebody asks, so linking pays for a copy only.
///
/// Thread-safety: any thread.
class Lines {
public:
  Lines();
  ~Lines();

  /// From here on, what `jit` links is known.
  void watch(llvm::orc::LLJIT& jit);

  /// The places of cells that an instruction stands for, innermost first: functions that were inlined have one each.
  std::vector<Place> places(const void* address) const;

private:
  class Plugin;
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace caller::kernel
