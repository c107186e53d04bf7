// clang and what is known of the cells so far: makes linkable code of cells, one after the other. Internal to this
// folder.
//
// It executes nothing and needs nothing of what runs in the process, so a copy of the process can do its work.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "assemble.hpp"
#include "compilation.hpp"
#include "engine.hpp"
#include "generator.hpp"
#include "sources.hpp"

namespace caller::kernel {

/// What is wrong shall fault where it is, and not be optimised into something else.
inline constexpr const char* kCellFlags[] = {"-fno-delete-null-pointer-checks", "-fsanitize=integer-divide-by-zero",
                                             "-fsanitize-trap=integer-divide-by-zero"};

/// Thread-safety: one thread at a time.
class Compiler {
public:
  /// Starts clang with the driver's `args`; throws std::runtime_error with its diagnostics.
  explicit Compiler(const std::vector<std::string>& args) : engine_(args) {}

  /// Compiles a cell; what it declares is known from here on. When it fails, what is left is not what was before: the
  /// compiler should be thrown away.
  Compilation compile(const CompileRequest& request);

  /// The same for a text that is no cell.
  Compilation compile_text(const std::string& text, const std::string& entry, int optimisation);

  /// What the compiler of another process has compiled without an error, for this one to know it, too. Returns the
  /// diagnostics when it fails here, else nothing.
  std::string follow(const CompileRequest& request, const std::vector<FollowedPart>& parts);

  /// The prelude's algorithms as an object whose loops ask for interrupts, to be linked with the rest of the prelude.
  /// Throws std::runtime_error.
  std::string checked_prelude();

  /// What cells leave to the prelude's library, as that says (`kCheckedNames`).
  void set_checked(const char* names) { generator_.set_checked(names); }

  /// How a cell is taken apart here.
  AssembleOptions assemble_options(unsigned unit, int number);

  /// What all of these need, in order to be compiled elsewhere.
  FunctionSource source_of(const std::vector<const clang::NamedDecl*>& declarations) {
    return sources_.source_of(engine_, declarations);
  }

  Engine& engine() { return engine_; }

private:
  class Mode;
  struct Answered {
    std::string key;
    const clang::NamedDecl* declaration;
  };
  std::string answer(Stage& stage, const CompileRequest& request, std::vector<Answered>& answered);
  bool compile_stage(const Stage& stage, const CompileRequest& request, SymbolUse& symbols, Compilation& out);
  std::vector<LateMemory> late_memory(const Stage& stage, clang::TranslationUnitDecl* unit, unsigned number);

  Engine engine_;
  Generator generator_;
  Sources sources_;
};

/// What a name means now, looked up as a cell would. `found` becomes the declaration of what can be called by it.
Declared declared(Engine& engine, const std::string& name, const std::vector<std::string>& methods,
                  const clang::NamedDecl** found = nullptr);

}  // namespace caller::kernel
