// From a module to an object that can be linked. Internal to this folder.
#pragma once

#include <clang/Frontend/CompilerInstance.h>
#include <llvm/ExecutionEngine/Orc/JITTargetMachineBuilder.h>
#include <llvm/IR/Module.h>

#include <memory>
#include <set>
#include <string>

#include "optimiser.hpp"

namespace caller::kernel {

/// The names that modules define, and those that they use.
struct SymbolUse {
  std::set<std::string> defined, wanted;
};

/// The machine that cells are generated for and linked on: this one.
llvm::orc::JITTargetMachineBuilder machine_of_cells();

/// Thread-safety: one thread at a time.
class Generator {
public:
  Generator();
  ~Generator();

  /// Optimises `module` and generates its code. Its static initialisers become the function `entry`, which nothing
  /// calls by itself. What it uses and defines is added to `symbols`. Throws std::runtime_error.
  std::string object(clang::CompilerInstance& ci, llvm::Module& module, const std::string& entry, int optimisation,
                     bool once, SymbolUse& symbols);

  /// The object of a module that defines what asks for interrupts (`define_checked`). Throws std::runtime_error.
  std::string checked_object(clang::CompilerInstance& ci, llvm::Module& module, const std::string& root);

  /// Functions that modules leave to the prelude's library, each name ended by a zero, and so is the list.
  void set_checked(const char* names);

private:
  struct Machines;
  Optimiser optimiser_;
  std::set<std::string> checked_;
  std::unique_ptr<Machines> machines_;  // made when first needed: a process that only follows needs none
};

}  // namespace caller::kernel
