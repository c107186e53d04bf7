// Interrupt checks in loops. Internal to this folder.
#pragma once

#include <clang/AST/ASTContext.h>
#include <clang/AST/Decl.h>
#include <clang/AST/StmtCXX.h>
#include <llvm/ADT/DenseMap.h>
#include <llvm/ADT/DenseSet.h>

#include <vector>

namespace caller::kernel {

/// Adds a call of `caller::kernel::detail::safepoint()` to the body of every loop, in the syntax tree: there the
/// generator still makes the landing pads that destructors need. Labels get one too, for loops made of `goto`, and so
/// do functions that may call themselves. Functions that may not throw are left alone.
class SafepointInserter {
public:
  void start(clang::ASTContext& context) { context_ = &context; }
  void visit(clang::Decl* d);

  /// A function out of the precompiled header.
  void visit_loaded(clang::Decl* d);
  /// From here on instances of function templates out of it are noted, for `check_loaded_functions`, which reads their
  /// bodies and adds checks to them as to a cell's. To be called before code is generated.
  void check_loaded() { checks_loaded_ = true; }
  void check_loaded_functions();

  /// clang 19's generator takes the return value out of a coroutine's syntax tree and does not put it back; the next
  /// module that needs the coroutine would crash it. To be called between modules.
  void mend_coroutines();
  void keep(clang::CoroutineBodyStmt* s);

  /// Nothing that was visited since `begin_unit` runs more than once in a cell: no loop, no function of the cell's.
  void begin_unit() { repeats_ = false; }
  bool runs_once() const { return !repeats_; }
  void saw_repetition() { repeats_ = true; }

  /// A new call expression, or null while the prelude does not declare the function.
  clang::Stmt* call(clang::SourceLocation where);
  /// The check itself must not check.
  bool is_target(const clang::FunctionDecl* f);

private:
  clang::FunctionDecl* target();
  clang::ASTContext* context_ = nullptr;
  clang::FunctionDecl* target_ = nullptr;
  bool repeats_ = false;
  bool checks_loaded_ = false;
  std::vector<clang::FunctionDecl*> loaded_;
  llvm::DenseSet<const clang::Decl*> done_;
  llvm::DenseSet<const clang::Stmt*> wrapped_;
  llvm::DenseMap<clang::ReturnStmt*, clang::Expr*> coroutines_;
};

}  // namespace caller::kernel
