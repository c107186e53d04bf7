#include "sources.hpp"

#include <clang/AST/DeclCXX.h>
#include <clang/AST/DeclTemplate.h>
#include <clang/AST/ExprConcepts.h>
#include <clang/AST/RecursiveASTVisitor.h>
#include <clang/Basic/SourceManager.h>
#include <clang/Lex/Lexer.h>
#include <clang/Lex/MacroInfo.h>
#include <clang/Lex/Preprocessor.h>
#include <llvm/ADT/DenseSet.h>
#include <llvm/ADT/StringExtras.h>
#include <llvm/Support/SHA256.h>

#include <algorithm>
#include <set>
#include <string_view>

namespace caller::kernel {
namespace {

using clang::dyn_cast;
using llvm::isa;

bool is_conditional(std::string_view directive) {
  const auto from = directive.find_first_not_of("#% \t");
  if (from == std::string_view::npos) return false;
  const auto word = directive.substr(from);
  return word.starts_with("if") || word.starts_with("el") || word.starts_with("endif");
}

// Functions that a library finds by the types of their arguments only: nothing in a cell need name them.
bool is_customisation(const clang::FunctionDecl* f) {
  if (f->isOverloadedOperator()) return true;
  const auto* name = f->getIdentifier();
  if (!name) return false;
  static constexpr std::string_view kNames[] = {
      "caller_task_fields", "task_encode", "task_decode", "tube_encode", "tube_decode", "begin", "end", "swap", "get",
      "hash_value",         "to_string"};
  const std::string_view text(name->getName().data(), name->getName().size());
  return std::find(std::begin(kNames), std::end(kNames), text) != std::end(kNames);
}

const clang::TagDecl* tag_of(clang::QualType type) {
  for (;;) {
    const clang::QualType inside = type->getPointeeType();
    if (inside.isNull()) break;
    type = inside;
  }
  const auto* tag = type->getAsTagDecl();
  return tag ? dyn_cast<clang::TagDecl>(tag->getCanonicalDecl()) : nullptr;
}

}  // namespace

void Sources::add(Engine& engine, const CompileRequest& request, const Engine::Parsed& parsed,
                  const std::vector<PiecePlace>& places) {
  if (places.empty() || parsed.file.isInvalid()) return;
  if (!cell_ || unit_ != request.unit) {
    unit_ = request.unit;
    cell_ = std::make_shared<Cell>();
    cell_->number = request.number;
    cell_->code = request.code;
  }
  const std::size_t first = pieces_.size();
  for (const PiecePlace& p : places) {
    Piece piece;
    piece.cell = cell_;
    piece.begin = p.begin;
    piece.end = p.end;
    piece.directive = p.directive;
    piece.open = p.open;
    piece.file = parsed.file;
    piece.text_begin = p.text_begin;
    piece.text_end = p.text_end;
    if (p.directive && is_conditional(std::string_view(request.code).substr(p.begin, p.end - p.begin)))
      cell_->conditional = true;
    pieces_.push_back(std::move(piece));
  }
  files_[parsed.file] = {first, pieces_.size()};
  if (parsed.unit) collect(parsed.unit, engine.ci().getSourceManager(), parsed.file);
}

void Sources::collect(clang::DeclContext* context, const clang::SourceManager& sources, clang::FileID file) {
  for (clang::Decl* d : context->noload_decls()) {
    const auto place = sources.getExpansionLoc(d->getLocation());
    if (place.isInvalid() || sources.getFileID(place) != file) continue;
    if (isa<clang::NamespaceDecl>(d) || isa<clang::LinkageSpecDecl>(d))
      collect(llvm::cast<clang::DeclContext>(d), sources, file);
    else if (const auto piece = at(sources, place))
      pieces_[*piece].declarations.push_back(d);
  }
}

std::optional<std::size_t> Sources::at(const clang::SourceManager& sources, clang::SourceLocation place) const {
  const auto [file, offset] = sources.getDecomposedExpansionLoc(place);
  const auto found = files_.find(file);
  if (found == files_.end()) return std::nullopt;
  for (std::size_t i = found->second.first; i < found->second.last; ++i)
    if (offset >= pieces_[i].text_begin && offset < pieces_[i].text_end) return i;
  return std::nullopt;
}

/// Everything that is reached from one declaration.
class Closure : public clang::RecursiveASTVisitor<Closure> {
  using Base = clang::RecursiveASTVisitor<Closure>;

public:
  Closure(const Sources& all, Engine& engine) : all_(all), engine_(engine), sources_(engine.ci().getSourceManager()) {
    for (const auto* d : engine.shadow().visible()) visible_.insert(d->getCanonicalDecl());
  }

  std::set<std::size_t> of(const std::vector<const clang::NamedDecl*>& declarations) {
    for (const clang::NamedDecl* d : declarations) use(d);
    for (;;) {
      while (!waiting_.empty()) {
        const std::size_t piece = waiting_.back();
        waiting_.pop_back();
        visit(piece);
      }
      const std::size_t before = needed_.size();
      add_unnamed();
      if (needed_.size() == before) return needed_;
    }
  }

  bool shouldVisitTemplateInstantiations() const { return true; }
  bool shouldVisitImplicitCode() const { return true; }

  bool VisitDeclRefExpr(clang::DeclRefExpr* e) {
    use(e->getDecl());
    use(e->getFoundDecl());
    return true;
  }
  bool VisitMemberExpr(clang::MemberExpr* e) {
    use(e->getMemberDecl());
    return true;
  }
  bool VisitCXXConstructExpr(clang::CXXConstructExpr* e) {
    use(e->getConstructor());
    return true;
  }
  bool VisitOverloadExpr(clang::OverloadExpr* e) {
    for (const clang::NamedDecl* d : e->decls()) use(d);
    return true;
  }
  bool VisitConceptSpecializationExpr(clang::ConceptSpecializationExpr* e) {
    use(e->getNamedConcept());
    return true;
  }
  bool VisitTypeLoc(clang::TypeLoc place) {
    const clang::Type* type = place.getTypePtr();
    if (const auto* t = dyn_cast<clang::TypedefType>(type)) use(t->getDecl());
    if (const auto* t = dyn_cast<clang::UsingType>(type)) use(t->getFoundDecl());
    if (const auto* t = dyn_cast<clang::TagType>(type)) use(t->getDecl());
    if (const auto* t = dyn_cast<clang::InjectedClassNameType>(type)) use(t->getDecl());
    if (const auto* t = dyn_cast<clang::TemplateSpecializationType>(type)) use(t->getTemplateName());
    if (const auto* t = dyn_cast<clang::DeducedTemplateSpecializationType>(type)) use(t->getTemplateName());
    if (const auto* t = dyn_cast<clang::AutoType>(type)) use(t->getTypeConstraintConcept());
    return true;
  }
  bool TraverseNestedNameSpecifierLoc(clang::NestedNameSpecifierLoc place) {
    if (place) use(place.getNestedNameSpecifier()->getAsNamespaceAlias());
    return Base::TraverseNestedNameSpecifierLoc(place);
  }
  // Of a namespace its beginning: it must be there to be named, and what is used of it is found by itself.
  bool VisitUsingDirectiveDecl(clang::UsingDirectiveDecl* d) {
    touch(d->getNominatedNamespace()->getFirstDecl()->getLocation());
    return true;
  }
  bool VisitNamespaceAliasDecl(clang::NamespaceAliasDecl* d) {
    touch(d->getNamespace()->getFirstDecl()->getLocation());
    return true;
  }
  bool VisitFunctionDecl(clang::FunctionDecl* f) {
    for (const auto* d : f->redecls()) touch(d->getLocation());
    return true;
  }
  bool VisitVarDecl(clang::VarDecl* v) {
    for (const auto* d : v->redecls()) touch(d->getLocation());
    return true;
  }
  bool VisitTagDecl(clang::TagDecl* d) {
    types_.insert(d->getCanonicalDecl());
    for (const auto* other : d->redecls()) touch(other->getLocation());
    const auto* record = dyn_cast<clang::CXXRecordDecl>(d);
    if (!record) return true;
    for (const clang::Decl* member : record->decls())  // what is defined outside
      for (const clang::Decl* other : member->redecls()) touch(other->getLocation());
    return true;
  }
  bool VisitClassTemplateDecl(clang::ClassTemplateDecl* t) {
    for (const auto* s : t->specializations())
      if (s->isExplicitSpecialization()) touch(s->getLocation());
    llvm::SmallVector<clang::ClassTemplatePartialSpecializationDecl*, 4> partial;
    t->getPartialSpecializations(partial);
    for (const auto* s : partial) touch(s->getLocation());
    return true;
  }
  bool VisitFunctionTemplateDecl(clang::FunctionTemplateDecl* t) {
    for (const auto* s : t->specializations())
      if (s->getTemplateSpecializationKind() == clang::TSK_ExplicitSpecialization) touch(s->getLocation());
    return true;
  }

private:
  void use(clang::TemplateName name) {
    if (const auto* shadow = name.getAsUsingShadowDecl()) use(shadow);
    use(name.getAsTemplateDecl());
  }
  void use(const clang::NamedDecl* d) {
    if (!d || !seen_.insert(d).second) return;
    for (const auto* c = d->getDeclContext(); c; c = c->getParent())
      if (c->isNamespace()) namespaces_.insert(c->getPrimaryContext());
    if (const auto* shadow = dyn_cast<clang::UsingShadowDecl>(d)) {
      use(shadow->getTargetDecl());
      if (const auto* by = shadow->getIntroducer()) touch(by->getLocation());
    }
    if (d->isFromASTFile()) return;
    for (const clang::Decl* other : d->redecls()) touch(other->getLocation());
  }
  void touch(clang::SourceLocation place) {
    place = sources_.getExpansionLoc(place);
    while (place.isValid()) {
      if (sources_.isLoadedSourceLocation(place)) return;  // in the prelude
      if (const auto piece = all_.at(sources_, place)) return need(*piece);
      place = sources_.getIncludeLoc(sources_.getFileID(place));
    }
  }
  void need(std::size_t piece) {
    if (needed_.insert(piece).second) waiting_.push_back(piece);
  }

  void visit(std::size_t index) {
    const Sources::Piece& piece = all_.pieces_[index];
    macros(index);
    for (clang::Decl* d : piece.declarations) TraverseDecl(d);
    if (piece.cell->conditional)
      for (std::size_t i = 0; i < all_.pieces_.size(); ++i)
        if (all_.pieces_[i].cell == piece.cell && all_.pieces_[i].directive) need(i);
  }

  // The macros that its text uses, as they were then.
  void macros(std::size_t index) {
    const Sources::Piece& piece = all_.pieces_[index];
    auto& preprocessor = engine_.ci().getPreprocessor();
    const llvm::StringRef text = sources_.getBufferData(piece.file);
    const auto begin = sources_.getLocForStartOfFile(piece.file);
    clang::Lexer lexer(begin, engine_.ci().getLangOpts(), text.begin(), text.begin() + piece.text_begin, text.end());
    lexer.SetKeepWhitespaceMode(false);
    for (clang::Token token; !lexer.LexFromRawLexer(token);) {
      if (sources_.getFileOffset(token.getLocation()) >= piece.text_end) return;
      if (token.isNot(clang::tok::raw_identifier)) continue;
      const auto* name = preprocessor.getIdentifierInfo(token.getRawIdentifier());
      if (!name->hadMacroDefinition()) continue;
      for (auto* m = preprocessor.getLocalMacroDirectiveHistory(name); m; m = m->getPrevious()) {
        if (sources_.isLoadedSourceLocation(m->getLocation())) break;
        const auto where = origin(m->getLocation());
        if (!where) break;
        if (*where > index) continue;
        need(*where);
        break;
      }
    }
  }
  // The piece of a cell that a place is in, or is included by.
  std::optional<std::size_t> origin(clang::SourceLocation place) const {
    for (place = sources_.getExpansionLoc(place); place.isValid();
         place = sources_.getIncludeLoc(sources_.getFileID(place)))
      if (const auto piece = all_.at(sources_, place)) return piece;
    return std::nullopt;
  }

  // What nothing names: using directives of namespaces from which something is used, customisations of needed types.
  void add_unnamed() {
    for (std::size_t i = 0; i < all_.pieces_.size(); ++i) {
      if (needed_.count(i)) continue;
      for (clang::Decl* d : all_.pieces_[i].declarations)
        if (concerns(d, i)) {
          need(i);
          break;
        }
    }
  }
  bool concerns(clang::Decl* d, std::size_t index) const {
    if (const auto* u = dyn_cast<clang::UsingDirectiveDecl>(d))
      return !needed_.empty() && index < *needed_.rbegin() &&
             namespaces_.contains(u->getNominatedNamespace()->getPrimaryContext());
    if (const auto* s = dyn_cast<clang::ClassTemplateSpecializationDecl>(d)) {
      for (const auto& argument : s->getTemplateArgs().asArray())
        if (argument.getKind() == clang::TemplateArgument::Type && types_.contains(tag_of(argument.getAsType())))
          return true;
      return false;
    }
    if (const auto* t = dyn_cast<clang::FunctionTemplateDecl>(d)) d = t->getTemplatedDecl();
    const auto* f = dyn_cast<clang::FunctionDecl>(d);
    if (!f || isa<clang::CXXMethodDecl>(f) || !is_customisation(f)) return false;
    if (f->getDeclContext()->isInlineNamespace() && !visible_.contains(f->getCanonicalDecl()) &&
        !f->getDescribedFunctionTemplate())
      return false;  // a later cell has another one
    for (const auto* p : f->parameters())
      if (types_.contains(tag_of(p->getType()))) return true;
    return false;
  }

  const Sources& all_;
  Engine& engine_;
  const clang::SourceManager& sources_;
  llvm::DenseSet<const clang::Decl*> visible_, seen_;
  llvm::DenseSet<const clang::Decl*> types_;
  llvm::DenseSet<const clang::DeclContext*> namespaces_;
  std::set<std::size_t> needed_;
  std::vector<std::size_t> waiting_;
};

FunctionSource Sources::source_of(Engine& engine, const clang::NamedDecl* function) const {
  return source_of(engine, std::vector<const clang::NamedDecl*>{function});
}

FunctionSource Sources::source_of(Engine& engine, const std::vector<const clang::NamedDecl*>& declarations) const {
  FunctionSource out;
  const clang::NamedDecl* const function = declarations.front();
  for (const clang::DeclContext* c = function->getDeclContext(); c; c = c->getParent())
    if (const auto* space = dyn_cast<clang::NamespaceDecl>(c); space && !space->isInline() && space->getIdentifier())
      out.name = space->getName().str() + "::" + out.name;
  out.name += function->getName().str();
  const std::set<std::size_t> needed = Closure(*this, engine).of(declarations);
  if (needed.empty()) {
    out.fault = "it is not defined in a cell";
    return out;
  }
  llvm::SHA256 hash;
  const auto mix = [&hash](std::string_view text) {
    hash.update(llvm::StringRef(text.data(), text.size()));
    hash.update(llvm::StringRef("\0", 1));
  };
  mix(out.name);
  const Cell* cell = nullptr;
  std::size_t line = 0, behind = 0;  // of what was written last
  for (const std::size_t i : needed) {
    const Piece& piece = pieces_[i];
    if (piece.cell.get() != cell) {
      cell = piece.cell.get();
      out.cells.push_back({cell->number, {}});
      line = behind = 0;
    }
    const std::string& code = cell->code;
    const std::string text = code.substr(piece.begin, piece.end - piece.begin);
    mix(text);
    std::string& to = out.cells.back().text;
    const auto its = static_cast<std::size_t>(
        std::count(code.begin(), code.begin() + static_cast<std::ptrdiff_t>(piece.begin), '\n'));
    if (its > line) {
      to.append(its - line, '\n');
      const std::size_t start = code.rfind('\n', piece.begin) + 1;
      for (std::size_t k = start; k < piece.begin; ++k) to += code[k] == '\t' ? '\t' : ' ';
    } else {
      to.append(piece.begin > behind ? piece.begin - behind : 1, ' ');
    }
    to += text;
    if (piece.open) to += ';';
    line = its + static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
    behind = piece.end;
  }
  out.hash = llvm::toHex(hash.final(), /*LowerCase=*/true);
  return out;
}

}  // namespace caller::kernel
