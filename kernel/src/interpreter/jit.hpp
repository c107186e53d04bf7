// Linking of cells into the process. Internal to this folder.
#pragma once

#include <llvm/ExecutionEngine/Orc/LLJIT.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "interpreter.hpp"
#include "lines.hpp"

namespace caller::kernel {

class CellMemory;
class DebugObjects;

/// A module could not be linked. `missing` are the demangled names not found.
struct LinkError : std::runtime_error {
  explicit LinkError(const std::string& text, std::vector<std::string> names = {})
      : std::runtime_error(text), missing(std::move(names)) {}
  std::vector<std::string> missing;
};

/// A symbol as its declaration says it: demangled, and without what the name of a thread-local variable has more.
std::string spoken(const std::string& symbol);

/// Thread-safety: one thread at a time; the code it gives may run on any thread meanwhile.
class Jit {
public:
  Jit();
  ~Jit();

  /// Adds an object (ELF), which is linked when one of its symbols is looked up. The tracker undoes it. Throws
  /// LinkError.
  llvm::orc::ResourceTrackerSP add(const std::string& object);

  /// The address of a symbol (as mangled); throws LinkError when it, or something it needs, is missing.
  void* lookup(const std::string& symbol);
  void define(const std::string& symbol, void* address);

  /// Keeps what is linked from here on, with its debug information, for `take_debug_objects`.
  void keep_debug_objects(bool on);
  std::vector<DebugObject> take_debug_objects();

  /// Runs the destructors that the cells' objects of static storage registered, newest first.
  void run_exit_handlers() noexcept;

  const Lines& lines() const { return lines_; }

private:
  Lines lines_;
  std::shared_ptr<DebugObjects> debug_objects_;
  CellMemory* memory_ = nullptr;  // jit_'s
  std::unique_ptr<llvm::orc::LLJIT> jit_;
  std::string reported_;  // what went wrong below the last look-up
};

}  // namespace caller::kernel
