// The optimisation of cells: LLVM's own pipelines, made once and kept, and what only cells need. Internal to this
// folder.
#pragma once

#include <clang/Frontend/CompilerInstance.h>
#include <llvm/IR/Module.h>

#include <memory>

namespace caller::kernel {

/// Thread-safety: one thread at a time.
class Optimiser {
public:
  Optimiser();
  ~Optimiser();

  /// Optimises a module as `level` (0..3) says; -1 is what the compiler's flags say. Of code that runs only `once` it
  /// is little work, and then library functions are not inlined.
  void run(clang::CompilerInstance& ci, llvm::Module& module, int level, bool once);

  /// Was the module taken for one of code that runs once, and is not worth much work?
  static bool runs_once(const llvm::Module& module);

private:
  struct Pipeline;
  std::unique_ptr<Pipeline> pipelines_[5];  // one a level, and one for what runs once
};

}  // namespace caller::kernel
