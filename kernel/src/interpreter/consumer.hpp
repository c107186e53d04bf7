// What sees every declaration before code is generated for it. Internal to this folder.
#pragma once

#include <clang/AST/ASTConsumer.h>
#include <clang/CodeGen/ModuleBuilder.h>

#include <functional>
#include <memory>
#include <vector>

#include "safepoints.hpp"

namespace caller::kernel {

/// Forwards to clang's code generator after adding interrupt checks; reports each finished cell namespace.
class CellConsumer final : public clang::ASTConsumer {
public:
  explicit CellConsumer(std::unique_ptr<clang::CodeGenerator> next) : next_(std::move(next)) {}

  std::function<void(clang::NamespaceDecl*)> cell_block;
  SafepointInserter safepoints;
  bool generate = true;
  clang::CodeGenerator& codegen() { return *next_; }

  void begin_unit();
  /// Of the functions that were read out of the precompiled header for earlier units, the generator of this one has
  /// never heard: it would call them, and inline nothing of them.
  void announce_loaded();

  void Initialize(clang::ASTContext& context) override;
  bool HandleTopLevelDecl(clang::DeclGroupRef group) override;
  void HandleInlineFunctionDefinition(clang::FunctionDecl* d) override;
  void HandleInterestingDecl(clang::DeclGroupRef group) override;
  void HandleTranslationUnit(clang::ASTContext& context) override;
  void HandleTagDeclDefinition(clang::TagDecl* d) override;
  void HandleTagDeclRequiredDefinition(const clang::TagDecl* d) override;
  void HandleCXXImplicitFunctionInstantiation(clang::FunctionDecl* d) override;
  void CompleteTentativeDefinition(clang::VarDecl* d) override;
  void CompleteExternalDeclaration(clang::DeclaratorDecl* d) override;
  void AssignInheritanceModel(clang::CXXRecordDecl* d) override;
  void HandleCXXStaticMemberVarInstantiation(clang::VarDecl* d) override;
  void HandleVTable(clang::CXXRecordDecl* d) override;

private:
  void look(clang::Decl* d);
  std::unique_ptr<clang::CodeGenerator> next_;
  std::vector<clang::FunctionDecl*> loaded_;
  std::size_t loaded_before_ = 0;  // this unit
};

}  // namespace caller::kernel
