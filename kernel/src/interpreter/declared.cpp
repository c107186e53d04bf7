// What a name means: looked up as a cell would, and described so that code can be written that calls it.
#include <clang/AST/Attr.h>
#include <clang/AST/DeclCXX.h>
#include <clang/AST/DeclTemplate.h>
#include <clang/AST/ExprCXX.h>
#include <clang/Lex/Lexer.h>
#include <clang/Sema/Lookup.h>
#include <clang/Sema/Sema.h>

#include <algorithm>
#include <cctype>
#include <optional>

#include "clang_interpreter.hpp"

namespace caller::kernel {
namespace {

using clang::dyn_cast;

bool is_identifier(const std::string& word) {
  const auto letter = [](char c) {
    const auto u = static_cast<unsigned char>(c);
    return std::isalnum(u) || c == '_' || u >= 0x80;
  };
  return !word.empty() && !std::isdigit(static_cast<unsigned char>(word[0])) &&
         std::all_of(word.begin(), word.end(), letter);
}

std::string place_of(const clang::NamedDecl* d, const clang::ASTContext& ast) {
  const auto p = ast.getSourceManager().getPresumedLoc(d->getLocation());
  if (!p.isValid()) return {};
  const llvm::StringRef file = p.getFilename();
  return file.str() + (file.starts_with("Cell [") ? ", line " : ":") + std::to_string(p.getLine());
}

// Names with the namespaces of cells: what a newer cell calls the same is not meant.
std::string text_of(clang::QualType type, const clang::ASTContext& ast) {
  auto policy = ast.getPrintingPolicy();
  policy.SuppressInlineNamespace = false;
  policy.SuppressUnwrittenScope = false;
  policy.FullyQualifiedName = true;
  return type.getCanonicalType().getAsString(policy);
}

std::string readable_type(clang::QualType type, const clang::ASTContext& ast) {
  return readable(type.getAsString(ast.getPrintingPolicy()));
}

std::string default_of(const clang::ParmVarDecl* p, const clang::ASTContext& ast) {
  if (!p->hasDefaultArg() || p->hasUnparsedDefaultArg() || p->hasUninstantiatedDefaultArg()) return {};
  const auto& sources = ast.getSourceManager();
  const auto range = sources.getExpansionRange(p->getDefaultArgRange());
  return clang::Lexer::getSourceText(range, sources, ast.getLangOpts()).str();
}

void add_signals(const clang::Decl* d, std::vector<std::string>& out) {
  for (const auto* a : d->specific_attrs<clang::AnnotateAttr>()) {
    if (a->getAnnotation() != "signals") continue;
    out.clear();
    for (const clang::Expr* e : a->args()) {
      if (const auto* constant = dyn_cast<clang::ConstantExpr>(e)) e = constant->getSubExpr();
      if (const auto* text = dyn_cast<clang::StringLiteral>(e->IgnoreParenImpCasts()))
        out.push_back(text->getString().str());
    }
  }
}

Callable describe(const clang::FunctionDecl* f, const clang::ASTContext& ast) {
  Callable out;
  if (f->isDeleted()) out.fault = "is deleted";
  if (f->isVariadic()) out.fault = "takes any number of arguments (`...`)";
  for (const clang::ParmVarDecl* p : f->parameters()) {
    Parameter made;
    made.name = p->getIdentifier() ? p->getName().str() : std::string();
    made.type = text_of(p->getType(), ast);
    if (const auto* record = p->getType().getNonReferenceType()->getAsCXXRecordDecl())
      made.class_name = record->getQualifiedNameAsString();
    made.default_text = default_of(p, ast);
    out.parameters.push_back(std::move(made));
  }
  add_signals(f, out.signals);
  return out;
}

Callable faulty(std::string why) {
  Callable out;
  out.fault = std::move(why);
  return out;
}

// The functions a look-up has found, once each; none if something else is among them.
struct Found {
  const clang::FunctionDecl* function;
  clang::AccessSpecifier access;
};
std::optional<std::vector<Found>> functions_of(const clang::LookupResult& found) {
  std::vector<Found> out;
  for (auto i = found.begin(); i != found.end(); ++i) {
    const auto* f = dyn_cast<clang::FunctionDecl>((*i)->getUnderlyingDecl());
    if (!f) return std::nullopt;
    if (std::none_of(out.begin(), out.end(),
                     [&](const Found& x) { return x.function->getCanonicalDecl() == f->getCanonicalDecl(); }))
      out.push_back({f, i.getAccess()});
  }
  return out;
}

// Of overloads that several cells have declared the newest cell's: who changes a function's parameters runs its cell
// again, and its old form stays as an overload.
void keep_newest(std::vector<Found>& found, const Shadow& shadow) {
  const clang::DeclContext* newest = nullptr;
  for (const clang::NamedDecl* d : shadow.visible())
    for (const Found& x : found)
      if (x.function->getCanonicalDecl() == d->getCanonicalDecl()) newest = d->getDeclContext()->getPrimaryContext();
  if (!newest) return;
  std::erase_if(found, [&](const Found& x) { return x.function->getDeclContext()->getPrimaryContext() != newest; });
}

constexpr const char* kTemplate = "is a template: nothing says for which types";
constexpr const char* kOverloaded = "is overloaded: nothing says which one is meant";

Callable the_method(const clang::LookupResult& result, const clang::ASTContext& ast) {
  const auto found = functions_of(result);
  if (!found) {
    for (const clang::NamedDecl* d : result)
      if (llvm::isa<clang::FunctionTemplateDecl>(d->getUnderlyingDecl())) return faulty(kTemplate);
    return faulty("is no function");
  }
  if (found->size() > 1) return faulty(kOverloaded);
  const auto [function, access] = found->front();
  if (access != clang::AS_public && access != clang::AS_none) return faulty("is not public");
  const auto* method = dyn_cast<clang::CXXMethodDecl>(function);
  if (method && method->isStatic()) return faulty("is static");
  if (method && method->getRefQualifier() != clang::RQ_None) return faulty("has a reference qualifier");
  return describe(function->getMostRecentDecl(), ast);
}

// The one way to make an object, copies apart.
Callable the_constructor(clang::CXXRecordDecl* record, clang::Sema& sema, const clang::ASTContext& ast) {
  sema.ForceDeclarationOfImplicitMembers(record);
  if (record->isAbstract()) return faulty("is abstract");
  const clang::CXXConstructorDecl* only = nullptr;
  bool hidden = false;
  for (const clang::CXXConstructorDecl* c : record->ctors()) {
    if (c->isCopyOrMoveConstructor() || c->isDeleted()) continue;
    if (c->getAccess() != clang::AS_public) {
      hidden = true;
      continue;
    }
    if (only) return faulty("has several constructors: nothing says which one is meant");
    only = c;
  }
  for (const clang::Decl* d : record->decls())
    if (const auto* t = dyn_cast<clang::FunctionTemplateDecl>(d);
        t && llvm::isa<clang::CXXConstructorDecl>(t->getTemplatedDecl()))
      return faulty("has a constructor that is a template");
  if (!only) return faulty(hidden ? "has no public constructor" : "has no constructor that could be called");
  return describe(only, ast);
}

}  // namespace

Declared ClangInterpreter::declared(const std::string& name, const std::vector<std::string>& methods) {
  return kernel::declared(compiler().engine(), name, methods);
}

FunctionSource ClangInterpreter::source_of(const std::vector<std::string>& names) {
  std::vector<const clang::NamedDecl*> declarations;
  for (const std::string& name : names) {
    const clang::NamedDecl* declaration = nullptr;
    (void)kernel::declared(compiler().engine(), name, {}, &declaration);
    if (declaration) {
      declarations.push_back(declaration);
      continue;
    }
    FunctionSource out;
    out.fault = "nothing is called " + name + " any more";
    return out;
  }
  FunctionSource out = compiler().source_of(declarations);
  out.flags = options_.flags;
  for (const std::string& library : loaded_) out.flags.push_back("-l" + library);
  return out;
}

Declared declared(Engine& engine, const std::string& name, const std::vector<std::string>& methods,
                  const clang::NamedDecl** declaration) {
  Declared out;
  auto& sema = engine.sema();
  auto& ast = engine.ast();
  clang::DeclContext* context = ast.getTranslationUnitDecl()->getPrimaryContext();
  const auto find = [&](clang::DeclContext* where, const std::string& word) {
    clang::LookupResult result(sema, clang::DeclarationNameInfo(&ast.Idents.get(word), clang::SourceLocation()),
                               clang::Sema::LookupOrdinaryName);
    result.suppressDiagnostics();
    sema.LookupQualifiedName(result, where);
    return result;
  };
  std::vector<std::string> words(1);
  for (std::size_t i = 0; i < name.size(); ++i)
    if (name.compare(i, 2, "::") == 0)
      words.emplace_back(), ++i;
    else
      words.back() += name[i];
  if (words.size() > 1 && words.front().empty()) words.erase(words.begin());
  for (const std::string& word : words)
    if (!is_identifier(word)) return out;
  for (std::size_t i = 0; i + 1 < words.size(); ++i) {
    const clang::LookupResult result = find(context, words[i]);
    if (!result.isSingleResult()) return out;
    clang::NamedDecl* d = result.getFoundDecl()->getUnderlyingDecl();
    if (auto* alias = dyn_cast<clang::NamespaceAliasDecl>(d)) d = alias->getNamespace();
    if (auto* type = dyn_cast<clang::TypedefNameDecl>(d)) d = type->getUnderlyingType()->getAsCXXRecordDecl();
    context = d ? dyn_cast<clang::DeclContext>(d) : nullptr;
    if (!context || (!llvm::isa<clang::NamespaceDecl>(d) && !llvm::isa<clang::CXXRecordDecl>(d))) return out;
    context = context->getPrimaryContext();
  }
  const clang::LookupResult result = find(context, words.back());
  if (result.empty()) return out;
  const clang::NamedDecl* first = (*result.begin())->getUnderlyingDecl();
  out.name = "::";
  for (const std::string& word : words) out.name += (out.name.size() > 2 ? "::" : "") + word;
  for (const clang::DeclContext* c = first->getDeclContext(); c; c = c->getParent())
    if (const auto* space = dyn_cast<clang::NamespaceDecl>(c); space && !space->isInline() && space->getIdentifier())
      out.scope = space->getName().str() + (out.scope.empty() ? "" : "::") + out.scope;
  out.place = place_of(first, ast);
  out.identity = first->getCanonicalDecl();
  if (llvm::isa<clang::FunctionDecl>(first) || llvm::isa<clang::FunctionTemplateDecl>(first)) {
    out.kind = Declared::Kind::function;
    auto found = functions_of(result);
    if (!found) {
      out.call = faulty(kTemplate);
      return out;
    }
    const bool overloaded = found->size() > 1;
    if (overloaded) keep_newest(*found, engine.shadow());
    const clang::FunctionDecl* function = found->front().function;
    if (found->size() > 1 || llvm::isa<clang::CXXMethodDecl>(function)) {
      out.call = faulty(found->size() > 1 ? kOverloaded : "is a member of a class");
      return out;
    }
    out.place = place_of(function, ast);
    out.identity = function->getCanonicalDecl();
    if (declaration) *declaration = function;
    out.expression = "&" + out.name;
    if (overloaded)
      out.expression = "static_cast<" + text_of(ast.getPointerType(function->getType()), ast) + ">(&" + out.name + ")";
    out.call = describe(function->getMostRecentDecl(), ast);
    return out;
  }
  if (const auto* variable = dyn_cast<clang::VarDecl>(first)) {
    const auto* record = variable->getType()->getAsCXXRecordDecl();
    if (record && record->isLambda()) {
      out.kind = Declared::Kind::lambda;
      if (declaration) *declaration = variable;
      out.expression = out.name;
      out.call = record->isGenericLambda() ? faulty("takes arguments of any type (`auto`)")
                                           : describe(record->getLambdaCallOperator(), ast);
      return out;
    }
    out.kind = Declared::Kind::other;
    out.what = "a variable of type " + readable_type(variable->getType(), ast);
    return out;
  }
  const clang::CXXRecordDecl* named = dyn_cast<clang::CXXRecordDecl>(first);
  if (const auto* alias = dyn_cast<clang::TypedefNameDecl>(first))
    named = alias->getUnderlyingType()->getAsCXXRecordDecl();
  if (!named) {
    out.kind = Declared::Kind::other;
    out.what = llvm::isa<clang::ClassTemplateDecl>(first) ? "a class template: nothing says for which types"
               : llvm::isa<clang::NamespaceDecl>(first)   ? "a namespace"
               : llvm::isa<clang::EnumDecl>(first)        ? "an enumeration"
                                                          : "no function or class";
    return out;
  }
  clang::CXXRecordDecl* record = named->getDefinition();
  if (!record) {
    out.kind = Declared::Kind::other;
    out.what = "a class that is declared, but defined nowhere";
    return out;
  }
  out.kind = Declared::Kind::record;
  if (declaration) *declaration = first;
  out.identity = record;
  out.call = the_constructor(record, sema, ast);
  for (const std::string& method : methods) {
    const clang::LookupResult members = find(record, method);
    if (members.empty()) continue;
    Callable& made = out.methods[method] = the_method(members, ast);
    add_signals(record, made.signals);
  }
  return out;
}

}  // namespace caller::kernel
