#include "shadow.hpp"

#include <clang/AST/DeclContextInternals.h>
#include <clang/AST/DeclTemplate.h>
#include <clang/Sema/IdentifierResolver.h>
#include <clang/Sema/Sema.h>

#include "clang_interpreter.hpp"

namespace caller::kernel {
namespace {

// The context a name is seen in from outside: the parent of the (inline) cell namespace.
clang::DeclContext* outer(clang::NamedDecl* d) {
  clang::DeclContext* c = d->getDeclContext()->getRedeclContext();
  while (is_cell_namespace(c)) c = c->getParent();
  return c->getPrimaryContext();
}

// The types of two functions differ only in which cell's class of the same name they mean: `int h(S)` defined again
// after `S` was.
bool same_but_for_cells(const clang::FunctionDecl* f, const clang::FunctionDecl* g) {
  const auto text = [](const clang::FunctionDecl* x) {
    auto policy = x->getASTContext().getPrintingPolicy();
    policy.SuppressInlineNamespace = false;
    return x->getType().getCanonicalType().getAsString(policy);
  };
  const std::string a = text(f), b = text(g);
  return a != b && readable(a) == readable(b);
}

void forget(clang::DeclContext* context, clang::NamedDecl* d) {
  auto* map = context->getPrimaryContext()->getLookupPtr();
  if (!map) return;
  auto it = map->find(d->getDeclName());
  if (it == map->end() || it->second.isNull()) return;
  for (clang::NamedDecl* x : it->second.getLookupResult())
    if (x == d) {
      it->second.remove(d);
      break;
    }
  if (it->second.isNull()) map->erase(d->getDeclName());
}

}  // namespace

bool is_cell_namespace(const clang::DeclContext* context) {
  const auto* ns = llvm::dyn_cast_or_null<clang::NamespaceDecl>(context);
  return ns && ns->isInline() && ns->getIdentifier() && ns->getName().starts_with(kCellNamespace);
}

void Shadow::hide(clang::Sema& sema, clang::NamedDecl* old) {
  // Every redeclaration is in the tables under its own pointer or its predecessor's.
  for (auto* r : old->redecls()) {
    auto* d = llvm::cast<clang::NamedDecl>(r);
    for (clang::DeclContext* c = d->getDeclContext(); c; c = c->getParent()) {
      forget(c, d);
      if (!c->isTransparentContext() && !c->isInlineNamespace()) break;
    }
    auto& resolver = sema.IdResolver;
    for (auto i = resolver.begin(d->getDeclName()); i != resolver.end(); ++i)
      if (*i == d) {
        resolver.RemoveDecl(d);
        break;
      }
  }
  if (auto* e = llvm::dyn_cast<clang::EnumDecl>(old); e && !e->isScoped())
    for (auto* c : e->enumerators()) hide(sema, c);
}

void Shadow::add(clang::Sema& sema, clang::NamedDecl* d) {
  if (!d->getDeclName()) return;
  auto& known = by_name_[d->getDeclName()];
  llvm::SmallVector<clang::NamedDecl*, 2> keep;
  for (auto* old : known) {
    if (old->getCanonicalDecl() == d->getCanonicalDecl()) {  // declared again in the same cell
      continue;
    }
    bool stays = outer(old) != outer(d);
    auto* f = d->getAsFunction();
    auto* g = old->getAsFunction();
    if (!stays && f && g && old->getDeclContext()->getPrimaryContext() != d->getDeclContext()->getPrimaryContext())
      stays = sema.IsOverload(f, g, /*UseMemberUsingDeclRules=*/false) && !same_but_for_cells(f, g);
    else if (!stays && old->getDeclContext()->getPrimaryContext() == d->getDeclContext()->getPrimaryContext())
      stays = true;  // one cell's own: overloads, or an error that clang reports
    if (stays) {
      keep.push_back(old);
    } else {
      hide(sema, old);
      llvm::erase(order_, old);
    }
  }
  keep.push_back(d);
  known = std::move(keep);
  llvm::erase(order_, d);
  order_.push_back(d);
}

void Shadow::reset(clang::Sema& sema) {
  for (auto* d : order_) hide(sema, d);
  order_.clear();
  by_name_.clear();
}

void Shadow::declared(clang::Sema& sema, clang::NamespaceDecl* block) {
  llvm::SmallVector<clang::DeclContext*, 4> todo{block};
  while (!todo.empty()) {
    clang::DeclContext* c = todo.pop_back_val();
    for (clang::Decl* d : c->decls()) {
      if (d->isImplicit() || d->isInvalidDecl()) continue;
      if (auto* linkage = llvm::dyn_cast<clang::LinkageSpecDecl>(d)) {
        todo.push_back(linkage);
        continue;
      }
      auto* named = llvm::dyn_cast<clang::NamedDecl>(d);
      if (!named || llvm::isa<clang::UsingDirectiveDecl>(d)) continue;
      // An out-of-line definition is not a new name.
      if (d->getLexicalDeclContext()->getPrimaryContext() != d->getDeclContext()->getPrimaryContext()) continue;
      add(sema, named);
      if (auto* e = llvm::dyn_cast<clang::EnumDecl>(d); e && !e->isScoped())
        for (auto* x : e->enumerators()) add(sema, x);
      if (auto* x = llvm::dyn_cast<clang::DecompositionDecl>(d))
        for (auto* b : x->bindings()) add(sema, b);
    }
  }
}

}  // namespace caller::kernel
