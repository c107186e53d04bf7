// clang, kept alive: parses one unit after another into one growing AST. Internal to this folder.
//
// clang 19's own Interpreter class is not used: it parses declarations but cannot show them to us before code
// generation, where shadowing and interrupt checks have to act.
#pragma once

#include <clang/AST/ASTConsumer.h>
#include <clang/CodeGen/ModuleBuilder.h>
#include <clang/Frontend/CompilerInstance.h>
#include <clang/Frontend/FrontendAction.h>
#include <clang/Parse/Parser.h>
#include <clang/Sema/Sema.h>
#include <llvm/ExecutionEngine/Orc/ThreadSafeModule.h>
#include <llvm/IR/LLVMContext.h>
#include <llvm/IR/Module.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "shadow.hpp"

namespace caller::kernel {

/// Prefix of the inline namespaces that hold each cell's declarations.
inline constexpr const char* kCellNamespace = "__cell_";

class CellConsumer;

class Engine {
public:
  /// Starts clang with the driver's `args`; throws std::runtime_error with its diagnostics.
  explicit Engine(const std::vector<std::string>& args);
  ~Engine();

  struct Parsed {
    bool ok = false;
    std::string text;          ///< diagnostics, coloured
    bool parse_issue = false;  ///< an error was of grammar, not of meaning
    std::unique_ptr<llvm::Module> module;
    clang::TranslationUnitDecl* unit = nullptr;
    clang::FileID file;
    bool quick = false;  ///< functions of libraries are only declared in the module
  };

  /// Leaves library functions that are linked anyway out of modules whose code runs only once.
  bool quick = true;

  /// Parses one unit and generates its (unoptimised) code. `name` is shown only for text outside of #line.
  Parsed parse(const std::string& text, const std::string& name);

  /// Parses `text` up to a code completion point; for a process that is thrown away afterwards.
  void complete(const std::string& text, unsigned line, unsigned column, clang::CodeCompleteConsumer& consumer);

  /// From here on algorithms out of the precompiled header get checks for interrupts, too.
  void check_loaded();

  /// Gives up code generation of what is parsed from here on; for a process that is thrown away afterwards.
  void syntax_only();

  void add_include_path(const std::string& dir, bool system = false);

  /// Closes the files that were opened and not read yet: who copies the process need not keep them open.
  void close_files();

  /// What is parsed from here on is compiled for a debugger: not optimised, with full debug information, in which the
  /// file `name` is called `path`. An empty path: as usual again.
  void debug(const std::string& name, const std::string& path);

  /// What code generation complained of since the last call.
  std::string take_backend_errors() { return std::exchange(backend_errors_, {}); }

  clang::CompilerInstance& ci() { return *ci_; }
  clang::Sema& sema() { return ci_->getSema(); }
  clang::ASTContext& ast() { return ci_->getASTContext(); }
  clang::CodeGenerator& codegen() { return *codegen_; }
  const llvm::orc::ThreadSafeContext& context() const { return context_; }
  Shadow& shadow() { return shadow_; }

private:
  class Action;
  bool enter(clang::FileID file);
  bool parse_declarations();

  std::string backend_errors_;
  llvm::orc::ThreadSafeContext context_;
  std::unique_ptr<clang::CompilerInstance> ci_;
  std::unique_ptr<Action> action_;
  std::unique_ptr<clang::Parser> parser_;
  clang::CodeGenerator* codegen_ = nullptr;  // owned by the consumer
  CellConsumer* consumer_ = nullptr;         // owned by ci_
  Shadow shadow_;
  unsigned units_ = 0;
  std::optional<clang::CodeGenOptions> usual_;  // set while something is compiled for a debugger
};

}  // namespace caller::kernel
