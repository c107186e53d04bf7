#include "safepoints.hpp"

#include <clang/AST/Expr.h>
#include <clang/AST/ExprCXX.h>
#include <clang/AST/RecursiveASTVisitor.h>
#include <clang/AST/Stmt.h>
#include <clang/AST/StmtCXX.h>
#include <clang/Basic/SourceManager.h>

#include <algorithm>
#include <cstdint>
#include <optional>

namespace caller::kernel {
namespace {

/// Does a function, as far as one can see, call itself, be it through others? Mutual recursion goes through something
/// that is only declared yet, through a member of the same class, or (in a lambda) through anything.
class RecursionFinder : public clang::RecursiveASTVisitor<RecursionFinder> {
public:
  RecursionFinder(const clang::FunctionDecl* f, const clang::SourceManager& sources)
      : function_(f->getCanonicalDecl()), member_(llvm::dyn_cast<clang::CXXMethodDecl>(f)), sources_(sources) {}
  bool VisitCallExpr(clang::CallExpr* call) {
    const clang::FunctionDecl* callee = call->getDirectCallee();
    if (!callee) return true;
    const auto* method = llvm::dyn_cast<clang::CXXMethodDecl>(callee);
    const bool same_class =
        member_ && method && method->getParent()->getCanonicalDecl() == member_->getParent()->getCanonicalDecl();
    const bool to_come = !callee->isFromASTFile() && !callee->getBuiltinID() && !callee->isDefined() &&
                         !sources_.isInSystemHeader(callee->getLocation());
    const bool in_lambda = member_ && member_->getParent()->isLambda() && !callee->getBuiltinID();
    found = callee->getCanonicalDecl() == function_ || same_class || to_come || in_lambda;
    return !found;
  }
  bool TraverseLambdaExpr(clang::LambdaExpr*) { return true; }  // a function of its own
  bool found = false;

private:
  const clang::FunctionDecl* function_;
  const clang::CXXMethodDecl* member_;
  const clang::SourceManager& sources_;
};

class LoopVisitor : public clang::RecursiveASTVisitor<LoopVisitor> {
public:
  LoopVisitor(SafepointInserter& inserter, clang::ASTContext& context, llvm::DenseSet<const clang::Stmt*>& wrapped)
      : inserter_(inserter), context_(context), wrapped_(wrapped) {}
  bool shouldVisitTemplateInstantiations() const { return false; }
  bool shouldVisitImplicitCode() const { return false; }

  bool VisitForStmt(clang::ForStmt* s) { return wrap(s); }
  bool VisitWhileStmt(clang::WhileStmt* s) { return wrap(s); }
  bool VisitDoStmt(clang::DoStmt* s) { return wrap(s); }
  bool VisitCXXForRangeStmt(clang::CXXForRangeStmt* s) { return wrap(s); }
  bool TraverseForStmt(clang::ForStmt* s) {
    return repeated(turns_of(s), [&] { return RecursiveASTVisitor::TraverseForStmt(s); });
  }
  bool TraverseCXXForRangeStmt(clang::CXXForRangeStmt* s) {
    return repeated(turns_of(s), [&] { return RecursiveASTVisitor::TraverseCXXForRangeStmt(s); });
  }
  bool TraverseWhileStmt(clang::WhileStmt* s) {
    return repeated(kMany, [&] { return RecursiveASTVisitor::TraverseWhileStmt(s); });
  }
  bool TraverseDoStmt(clang::DoStmt* s) {
    return repeated(kMany, [&] { return RecursiveASTVisitor::TraverseDoStmt(s); });
  }
  bool VisitLabelStmt(clang::LabelStmt* s) {  // a loop made of goto comes by here
    inserter_.saw_repetition();
    if (quiet_ || !wrapped_.insert(s).second) return true;
    if (clang::Stmt* check = inserter_.call(s->getIdentLoc())) {
      clang::Stmt* parts[] = {check, s->getSubStmt()};
      s->setSubStmt(
          clang::CompoundStmt::Create(context_, parts, clang::FPOptionsOverride(), s->getIdentLoc(), s->getEndLoc()));
    }
    return true;
  }

  // glibc declares these two as if nothing could leave them (blocking_calls.cpp): without landing pads around the call
  // no destructor would run.
  bool VisitDeclRefExpr(clang::DeclRefExpr* e) {
    auto* const f = llvm::dyn_cast<clang::FunctionDecl>(e->getDecl());
    if (!f || !f->getIdentifier() || (f->getName() != "wait3" && f->getName() != "wait4") || !f->isExternC())
      return true;
    if (!may_throw(f))
      f->setType(context_.getFunctionTypeWithExceptionSpec(
          f->getType(), clang::FunctionProtoType::ExceptionSpecInfo(clang::EST_None)));
    return true;
  }

  bool VisitCoroutineBodyStmt(clang::CoroutineBodyStmt* s) {
    inserter_.saw_repetition();
    inserter_.keep(s);
    return true;
  }

  bool TraverseFunctionDecl(clang::FunctionDecl* f) {
    return function(f, [&] { return RecursiveASTVisitor::TraverseFunctionDecl(f); });
  }
  bool TraverseCXXMethodDecl(clang::CXXMethodDecl* f) {
    return function(f, [&] { return RecursiveASTVisitor::TraverseCXXMethodDecl(f); });
  }
  bool TraverseCXXConstructorDecl(clang::CXXConstructorDecl* f) {
    return function(f, [&] { return RecursiveASTVisitor::TraverseCXXConstructorDecl(f); });
  }
  bool TraverseCXXConversionDecl(clang::CXXConversionDecl* f) {
    return function(f, [&] { return RecursiveASTVisitor::TraverseCXXConversionDecl(f); });
  }
  bool TraverseCXXDestructorDecl(clang::CXXDestructorDecl* f) {
    return function(f, [&] { return RecursiveASTVisitor::TraverseCXXDestructorDecl(f); });
  }
  bool TraverseLambdaExpr(clang::LambdaExpr* l) {
    return function(l->getCallOperator(), [&] { return RecursiveASTVisitor::TraverseLambdaExpr(l); });
  }
  bool TraverseFunctionTemplateDecl(clang::FunctionTemplateDecl*) { return true; }  // instances come one by one
  bool TraverseClassTemplateDecl(clang::ClassTemplateDecl*) { return true; }
  bool TraverseClassTemplatePartialSpecializationDecl(clang::ClassTemplatePartialSpecializationDecl*) { return true; }

private:
  static bool may_throw(const clang::FunctionDecl* f) {
    const auto* type = f->getType()->getAs<clang::FunctionProtoType>();
    if (!type) return false;
    const auto spec = type->getExceptionSpecType();
    if (clang::isUnresolvedExceptionSpec(spec)) return !llvm::isa<clang::CXXDestructorDecl>(f);
    return spec != clang::EST_BasicNoexcept && spec != clang::EST_NoexceptTrue && spec != clang::EST_DynamicNone &&
           spec != clang::EST_NoThrow;
  }

  bool is_of_library(const clang::FunctionDecl* f) const {
    if (const auto* pattern = f->getTemplateInstantiationPattern(); pattern && pattern->isFromASTFile()) return true;
    return context_.getSourceManager().isInSystemHeader(f->getLocation());
  }
  // The function that the kernel puts around a cell's statements, or one out of a library.
  bool is_statements(const clang::FunctionDecl* f) const { return is_of_library(f) || is_cells_statements(f); }

  template <class Traverse>
  bool function(clang::FunctionDecl* f, Traverse traverse) {
    if (f->isConsteval() || f->isDependentContext()) return true;
    if (f->doesThisDeclarationHaveABody() && !f->isImplicit() && !is_statements(f)) inserter_.saw_repetition();
    const bool outer = quiet_;
    const std::uint64_t outer_turns = turns_;
    quiet_ = !may_throw(f) && is_of_library(f);
    turns_ = 1;
    const bool result = traverse();
    if (!quiet_) guard_recursion(f);
    quiet_ = outer;
    turns_ = outer_turns;
    return result;
  }

  static bool is_cells_statements(const clang::FunctionDecl* f) {
    return f->getIdentifier() && f->getName().starts_with("__caller_s");
  }

  // ---- loops of few turns: not worth more work than code that runs once
  static constexpr std::uint64_t kFew = 1000, kMany = 1'000'000;

  template <class Traverse>
  bool repeated(std::uint64_t turns, Traverse traverse) {
    const std::uint64_t outer = turns_;
    turns_ = std::min(turns_ * std::min(turns, kMany), kMany);
    const bool result = traverse();
    turns_ = outer;
    return result;
  }

  std::uint64_t turns_of(const clang::CXXForRangeStmt* s) const {
    const clang::Expr* e = s->getRangeInit();
    if (!e || e->isTypeDependent()) return kMany;
    e = e->IgnoreImplicit();
    if (const auto* list = llvm::dyn_cast<clang::CXXStdInitializerListExpr>(e))
      e = list->getSubExpr()->IgnoreImplicit();
    const auto* array = context_.getAsConstantArrayType(e->getType());
    return array ? array->getSize().getLimitedValue(kMany) : kMany;
  }

  // `for (int i = 2; i < 10; ++i)`: as it says, whatever the body does to the variable.
  std::uint64_t turns_of(const clang::ForStmt* s) const {
    const auto* init = llvm::dyn_cast_or_null<clang::DeclStmt>(s->getInit());
    const auto* variable =
        init && init->isSingleDecl() ? llvm::dyn_cast<clang::VarDecl>(init->getSingleDecl()) : nullptr;
    const auto* condition = llvm::dyn_cast_or_null<clang::BinaryOperator>(s->getCond());
    const auto* step = llvm::dyn_cast_or_null<clang::UnaryOperator>(s->getInc());
    if (!variable || !variable->getInit() || !condition || !condition->isComparisonOp() || !step ||
        !step->isIncrementDecrementOp())
      return kMany;
    const auto* left = llvm::dyn_cast<clang::DeclRefExpr>(condition->getLHS()->IgnoreParenImpCasts());
    const auto* stepped = llvm::dyn_cast<clang::DeclRefExpr>(step->getSubExpr()->IgnoreParenImpCasts());
    if (!left || left->getDecl() != variable || !stepped || stepped->getDecl() != variable) return kMany;
    const auto from = constant(variable->getInit()), to = constant(condition->getRHS());
    if (!from || !to) return kMany;
    const std::int64_t way = step->isIncrementOp() ? *to - *from : *from - *to;
    return way < 0 ? kMany : static_cast<std::uint64_t>(way) + 1;
  }

  std::optional<std::int64_t> constant(const clang::Expr* e) const {
    clang::Expr::EvalResult result;
    if (e->isValueDependent() || !e->getType()->isIntegerType() || !e->EvaluateAsInt(result, context_))
      return std::nullopt;
    const auto value = result.Val.getInt().tryExtValue();
    constexpr std::int64_t kLarge = std::int64_t{1} << 32;
    if (!value || *value <= -kLarge || *value >= kLarge) return std::nullopt;
    return *value;
  }

  /// A check at the beginning: without a loop, recursion is what can go on for ever.
  void guard_recursion(clang::FunctionDecl* f) {
    if (!f->doesThisDeclarationHaveABody() || inserter_.is_target(f)) return;
    if (is_cells_statements(f)) return;  // runs once, nobody can call it
    auto* body = llvm::dyn_cast_or_null<clang::CompoundStmt>(f->getBody());
    if (!body || wrapped_.contains(body)) return;
    RecursionFinder finder(f, context_.getSourceManager());
    finder.TraverseStmt(body);
    if (!finder.found) return;
    clang::Stmt* check = inserter_.call(body->getLBracLoc());
    if (!check) return;
    clang::Stmt* parts[] = {check, body};
    auto* guarded = clang::CompoundStmt::Create(context_, parts, clang::FPOptionsOverride(), body->getLBracLoc(),
                                                body->getRBracLoc());
    wrapped_.insert(guarded);
    f->setBody(guarded);
  }

  template <class Loop>
  bool wrap(Loop* s) {
    if (turns_ > kFew) {
      inserter_.saw_repetition();
    }
    clang::Stmt* body = s->getBody();
    if (!body || quiet_) return true;
    if (!wrapped_.insert(s).second) return true;
    clang::Stmt* check = inserter_.call(body->getEndLoc());
    if (!check) return true;
    clang::Stmt* parts[] = {check, body};
    s->setBody(clang::CompoundStmt::Create(context_, parts, clang::FPOptionsOverride(), body->getBeginLoc(),
                                           body->getEndLoc()));
    return true;
  }

  SafepointInserter& inserter_;
  clang::ASTContext& context_;
  llvm::DenseSet<const clang::Stmt*>& wrapped_;
  bool quiet_ = false;       // inside of a library's function that must not throw: those end
  std::uint64_t turns_ = 1;  // of the loops around, in this function
};

}  // namespace

clang::FunctionDecl* SafepointInserter::target() {
  if (target_) return target_;
  clang::DeclContext* c = context_->getTranslationUnitDecl();
  for (const char* part : {"caller", "kernel", "detail"}) {
    clang::DeclContext* next = nullptr;
    for (auto* d : c->lookup(&context_->Idents.get(part)))
      if (auto* ns = llvm::dyn_cast<clang::NamespaceDecl>(d)) next = ns;
    if (!next) return nullptr;
    c = next;
  }
  for (auto* d : c->lookup(&context_->Idents.get("safepoint")))
    if (auto* f = llvm::dyn_cast<clang::FunctionDecl>(d)) target_ = f;
  return target_;
}

clang::Stmt* SafepointInserter::call(clang::SourceLocation where) {
  auto* f = target();
  if (!f) return nullptr;
  f->markUsed(*context_);
  auto* ref = clang::DeclRefExpr::Create(*context_, clang::NestedNameSpecifierLoc(), clang::SourceLocation(), f, false,
                                         where, f->getType(), clang::VK_LValue);
  auto* decay = clang::ImplicitCastExpr::Create(*context_, context_->getPointerType(f->getType()),
                                                clang::CK_FunctionToPointerDecay, ref, nullptr, clang::VK_PRValue,
                                                clang::FPOptionsOverride());
  return clang::CallExpr::Create(*context_, decay, {}, context_->VoidTy, clang::VK_PRValue, where,
                                 clang::FPOptionsOverride());
}

bool SafepointInserter::is_target(const clang::FunctionDecl* f) {
  const auto* t = target();
  return t && t->getCanonicalDecl() == f->getCanonicalDecl();
}

void SafepointInserter::keep(clang::CoroutineBodyStmt* s) {
  if (auto* r = llvm::dyn_cast_or_null<clang::ReturnStmt>(s->getReturnStmt()); r && r->getRetValue())
    coroutines_.try_emplace(r, r->getRetValue());
}

void SafepointInserter::mend_coroutines() {
  for (auto& [statement, value] : coroutines_)
    if (!statement->getRetValue()) statement->setRetValue(value);
}

void SafepointInserter::visit_loaded(clang::Decl* d) {
  auto* f = llvm::dyn_cast<clang::FunctionDecl>(d);
  if (!f || f->isDependentContext()) return;
  if (checks_loaded_ && !llvm::isa<clang::CXXMethodDecl>(f)) loaded_.push_back(f);
  const auto* type = f->getReturnType()->getAsCXXRecordDecl();
  if (!type || !type->hasDefinition() || type->lookup(&context_->Idents.get("promise_type")).empty()) return;
  if (auto* body = llvm::dyn_cast_or_null<clang::CoroutineBodyStmt>(f->getBody())) keep(body);
}

void SafepointInserter::check_loaded_functions() {
  for (std::size_t i = 0; i < loaded_.size(); ++i)  // a body that is read may bring others
    if (loaded_[i]->getBody() && loaded_[i]->getTemplateInstantiationPattern() && done_.insert(loaded_[i]).second)
      LoopVisitor(*this, *context_, wrapped_).TraverseDecl(loaded_[i]);
  loaded_.clear();
}

void SafepointInserter::visit(clang::Decl* d) {
  if (!context_ || d->isInvalidDecl() || d->isFromASTFile()) return;
  if (!done_.insert(d).second) return;
  LoopVisitor(*this, *context_, wrapped_).TraverseDecl(d);
}

}  // namespace caller::kernel
