// Redefinition: what a newer cell declares hides what older cells called the same. Internal to this folder.
#pragma once

#include <clang/AST/DeclCXX.h>
#include <clang/AST/DeclarationName.h>
#include <llvm/ADT/DenseMap.h>
#include <llvm/ADT/SmallVector.h>

namespace clang {
class Sema;
}

namespace caller::kernel {

/// Invariant: of all declarations of one name in cell namespaces with the same parent, those visible are the newest
/// one, and of functions every overload's newest.
class Shadow {
public:
  /// `block` is one `inline namespace __cell_N { … }` just parsed: hides what it redefines.
  void declared(clang::Sema& sema, clang::NamespaceDecl* block);

  /// Hides everything that cells declared.
  void reset(clang::Sema& sema);

  /// Everything visible that cells declared, oldest first.
  const llvm::SmallVector<clang::NamedDecl*, 0>& visible() const { return order_; }

private:
  void add(clang::Sema& sema, clang::NamedDecl* d);
  void hide(clang::Sema& sema, clang::NamedDecl* old);

  // Keyed by name; the entries say which parent they belong to.
  llvm::DenseMap<clang::DeclarationName, llvm::SmallVector<clang::NamedDecl*, 2>> by_name_;
  llvm::SmallVector<clang::NamedDecl*, 0> order_;
};

/// True for the inline namespace of a cell.
bool is_cell_namespace(const clang::DeclContext* context);

}  // namespace caller::kernel
