#include "consumer.hpp"

#include <clang/AST/Attr.h>
#include <clang/AST/DeclCXX.h>

#include "shadow.hpp"

namespace caller::kernel {

void CellConsumer::Initialize(clang::ASTContext& context) {
  safepoints.start(context);
  next_->Initialize(context);
}

namespace {

// Constants of a cell that are computed when it runs: clang takes those of incremental input for inline variables,
// which are computed before all else, or when something first uses them. This attribute, which means nothing else here,
// makes ordinary variables of them.
void keep_constants_in_order(clang::DeclContext* space) {
  for (auto* d : space->decls()) {
    auto* v = llvm::dyn_cast<clang::VarDecl>(d);
    if (!v || !v->hasInit() || v->isConstexpr() || v->isInline() || !v->getType().isConstQualified()) continue;
    if (v->getType()->isDependentType() || v->getInit()->isValueDependent() || v->isInvalidDecl()) continue;
    if (v->hasConstantInitialization() || v->hasAttr<clang::DLLExportAttr>()) continue;
    v->addAttr(clang::DLLExportAttr::CreateImplicit(v->getASTContext()));
  }
}

}  // namespace

void CellConsumer::begin_unit() {
  safepoints.begin_unit();
  loaded_before_ = loaded_.size();
}

void CellConsumer::announce_loaded() {
  for (std::size_t i = 0; i < loaded_before_; ++i) next_->HandleTopLevelDecl(clang::DeclGroupRef(loaded_[i]));
}

void CellConsumer::look(clang::Decl* d) {
  safepoints.visit(d);
  if (auto* ns = llvm::dyn_cast<clang::NamespaceDecl>(d)) {
    if (is_cell_namespace(ns)) {
      keep_constants_in_order(ns);
      if (cell_block) cell_block(ns);
    } else {  // a named namespace of the user's: cell namespaces are inside
      for (auto* x : ns->decls())
        if (llvm::isa<clang::NamespaceDecl>(x)) look(x);
    }
  }
}

bool CellConsumer::HandleTopLevelDecl(clang::DeclGroupRef group) {
  for (auto* d : group) look(d);
  return generate ? next_->HandleTopLevelDecl(group) : true;
}
void CellConsumer::HandleInlineFunctionDefinition(clang::FunctionDecl* d) {
  safepoints.visit(d);
  if (generate) next_->HandleInlineFunctionDefinition(d);
}
void CellConsumer::HandleInterestingDecl(clang::DeclGroupRef group) {
  for (auto* d : group) {
    safepoints.visit_loaded(d);
    // What is defined within a class is found through the class.
    auto* f = llvm::dyn_cast<clang::FunctionDecl>(d);
    if (f && !f->isDependentContext() && !f->getLexicalDeclContext()->isRecord()) loaded_.push_back(f);
  }
  if (generate) next_->HandleInterestingDecl(group);
}
void CellConsumer::HandleTranslationUnit(clang::ASTContext& context) {
  if (generate) next_->HandleTranslationUnit(context);
}
void CellConsumer::HandleTagDeclDefinition(clang::TagDecl* d) {
  if (generate) next_->HandleTagDeclDefinition(d);
}
void CellConsumer::HandleTagDeclRequiredDefinition(const clang::TagDecl* d) {
  if (generate) next_->HandleTagDeclRequiredDefinition(d);
}
void CellConsumer::HandleCXXImplicitFunctionInstantiation(clang::FunctionDecl* d) {
  if (generate) next_->HandleCXXImplicitFunctionInstantiation(d);
}
void CellConsumer::CompleteTentativeDefinition(clang::VarDecl* d) {
  if (generate) next_->CompleteTentativeDefinition(d);
}
void CellConsumer::CompleteExternalDeclaration(clang::DeclaratorDecl* d) {
  if (generate) next_->CompleteExternalDeclaration(d);
}
void CellConsumer::AssignInheritanceModel(clang::CXXRecordDecl* d) {
  if (generate) next_->AssignInheritanceModel(d);
}
void CellConsumer::HandleCXXStaticMemberVarInstantiation(clang::VarDecl* d) {
  if (generate) next_->HandleCXXStaticMemberVarInstantiation(d);
}
void CellConsumer::HandleVTable(clang::CXXRecordDecl* d) {
  if (generate) next_->HandleVTable(d);
}

}  // namespace caller::kernel
