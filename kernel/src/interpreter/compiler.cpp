#include "compiler.hpp"

#include "edits.hpp"

#include <clang/AST/GlobalDecl.h>
#include <llvm/IR/Module.h>

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <exception>
#include <optional>
#include <stdexcept>

namespace caller::kernel {
namespace {

clang::VarDecl* find_variable(clang::TranslationUnitDecl* unit, const std::string& space, const std::string& name) {
  clang::VarDecl* found = nullptr;
  for (auto* d : unit->decls())
    if (auto* ns = llvm::dyn_cast<clang::NamespaceDecl>(d); ns && ns->getName() == space)
      for (auto* x : ns->decls())
        if (auto* v = llvm::dyn_cast<clang::VarDecl>(x); v && v->getIdentifier() && v->getName() == name) found = v;
  return found;
}

// Whether there is a name in the text that nobody has mistyped. Looking for names like it costs its length for each of
// the some ten thousand that are known: minutes for one of a megabyte.
bool has_endless_name(const std::string& text) {
  constexpr std::size_t kLongest = 512;
  std::size_t length = 0;
  for (const char c : text) {
    length = std::isalnum(static_cast<unsigned char>(c)) || c == '_' ? length + 1 : 0;
    if (length > kLongest) return true;
  }
  return false;
}

}  // namespace

// What a request changes in clang while it is served.
class Compiler::Mode {
public:
  Mode(Engine& engine, const CompileRequest& request)
      : engine_(engine), spelling_(engine.ci().getLangOpts().SpellChecking), debug_(!request.debug_path.empty()) {
    engine_.quick = request.quick && !debug_;  // nothing is dropped that a debugger may step into
    if (has_endless_name(request.code)) engine_.ci().getLangOpts().SpellChecking = false;
    if (debug_) engine_.debug("Cell [" + std::to_string(request.number) + "]", request.debug_path);
    if (!request.directory.empty() && ::chdir(request.directory.c_str()) != 0) {  // then relative names are not found
    }
  }
  ~Mode() {
    if (debug_) engine_.debug({}, {});
    engine_.ci().getLangOpts().SpellChecking = spelling_;
  }
  Mode(const Mode&) = delete;

private:
  Engine& engine_;
  unsigned spelling_;
  bool debug_;
};

AssembleOptions Compiler::assemble_options(unsigned unit, int number) {
  AssembleOptions a;
  a.unit = unit;
  a.number = number;
  a.is_value = [this](std::string_view name) {
    for (auto* d : engine_.shadow().visible())
      if (d->getIdentifier() && d->getName() == llvm::StringRef(name.data(), name.size()))
        return llvm::isa<clang::ValueDecl>(d);
    return false;
  };
  return a;
}

std::vector<LateMemory> Compiler::late_memory(const Stage& stage, clang::TranslationUnitDecl* unit, unsigned number) {
  std::vector<LateMemory> out;
  for (const auto& late : stage.late) {
    auto& ast = engine_.ast();
    auto* v = find_variable(unit, kCellNamespace + std::to_string(number), late.name);
    if (!v || v->getType()->isIncompleteType()) continue;
    const bool reference = v->getType()->isReferenceType();
    LateMemory memory;
    memory.storage = late.storage;
    memory.symbol = engine_.codegen().GetMangledName(clang::GlobalDecl(v)).str();
    memory.size =
        reference ? sizeof(void*) : static_cast<std::size_t>(ast.getTypeSizeInChars(v->getType()).getQuantity());
    memory.alignment = reference ? sizeof(void*) : static_cast<std::size_t>(ast.getDeclAlign(v).getQuantity());
    out.push_back(std::move(memory));
  }
  return out;
}

bool Compiler::compile_stage(const Stage& stage, const CompileRequest& request, SymbolUse& symbols, Compilation& out) {
  auto parsed = engine_.parse(stage.text, "cell");
  out.text += parsed.text;
  out.parse_issue |= parsed.parse_issue;
  if (!parsed.ok) return false;
  CompiledPart part;
  part.text = stage.text;
  part.pieces = stage.pieces;
  sources_.add(engine_, request, parsed, stage.pieces);
  if (parsed.module) {
    part.entry = stage.entry;
    part.runs = parsed.module->getNamedGlobal("llvm.global_ctors") != nullptr;
    if (!stage.coroutine.empty())
      if (auto* f = parsed.module->getFunction(stage.coroutine); f && !f->isDeclaration())
        part.coroutine = stage.coroutine;
    part.late = late_memory(stage, parsed.unit, request.unit);
    for (const auto& late : part.late) symbols.defined.insert({late.storage, late.symbol});
    std::string errors;
    try {
      part.object = generator_.object(engine_.ci(), *parsed.module, stage.entry,
                                      request.debug_path.empty() ? request.optimisation : 0, parsed.quick, symbols);
    } catch (const std::exception& e) {
      errors = std::string(e.what()) + "\n";
    }
    errors = engine_.take_backend_errors() + errors;
    if (!errors.empty()) {
      out.text += "error: " + errors;
      return false;
    }
  }
  out.parts.push_back(std::move(part));
  return true;
}

// Writes what is known of the functions that the stage gives away in front of it. Returns why some of them cannot be
// given away, as errors.
std::string Compiler::answer(Stage& stage, const CompileRequest& request, std::vector<Answered>& answered) {
  if (declared(engine_, "caller::task::App", {}).kind != Declared::Kind::record) return {};
  std::string text, refused;
  Edits chosen;
  for (const FunctionAsk& ask : stage.asks) {
    const clang::NamedDecl* declaration = nullptr;
    const Declared found = declared(engine_, ask.name, {}, &declaration);
    const bool callable = found.kind == Declared::Kind::function || found.kind == Declared::Kind::lambda;
    std::string why = callable ? found.call.fault : found.what.empty() ? "" : "is " + found.what;
    if (found.kind == Declared::Kind::record) why = "is a class";
    if (why.empty() && callable) {
      text += known_text(request.unit, ask, found);
      answered.push_back({ask.key, declaration});
      // Of overloads that several cells have left the newest is meant; clang would not know.
      if (found.expression.starts_with("static_cast<")) {
        const TokenList list = tokenize(stage.text);
        for (std::size_t i = 0; i < list.tokens.size(); ++i)
          if (const FunctionName f = function_given(list.tokens, i, list.tokens.size()); f.name == ask.name)
            chosen.push_back({f.from, f.end, found.expression});
      }
    } else if (!why.empty()) {
      refused += "\033[1mCell [" + std::to_string(request.number) + "]:" + std::to_string(ask.line) + ":" +
                 std::to_string(ask.column) + ": \033[0;1;31merror: \033[0m" + ask.name +
                 (found.place.empty() ? "" : " (" + found.place + ")") + " cannot be a task: it " + why + "\n";
    }
  }
  chosen = merged(std::move(chosen), {});
  const auto moved = [&](std::size_t place) {
    std::size_t to = place + text.size();
    for (const Edit& e : chosen)
      if (e.end <= place) to += e.text.size() - (e.end - e.begin);
    return to;
  };
  for (PiecePlace& p : stage.pieces) {
    p.text_begin = moved(p.text_begin);
    p.text_end = moved(p.text_end);
  }
  stage.text = text + apply(stage.text, 0, stage.text.size(), chosen);
  return refused;
}

Compilation Compiler::compile(const CompileRequest& request) {
  Compilation out;
  const Mode mode(engine_, request);
  AssembleOptions how = assemble_options(request.unit, request.number);
  how.show_result = request.show_result;
  how.ambiguous_is_expression = request.ambiguous_is_expression;
  Assembly assembly = assemble(request.code, how);
  out.ambiguous = assembly.ambiguous;
  SymbolUse symbols;
  std::vector<Answered> answered;
  for (auto& stage : assembly.stages) {
    const std::string refused = stage.asks.empty() ? std::string() : answer(stage, request, answered);
    if (compile_stage(stage, request, symbols, out)) continue;
    // Of what cannot be a task clang only says that nothing fits.
    if (!refused.empty()) out.text = refused;
    return out;
  }
  for (const Answered& a : answered) out.functions.push_back({a.key, sources_.source_of(engine_, a.declaration)});
  std::set_difference(symbols.wanted.begin(), symbols.wanted.end(), symbols.defined.begin(), symbols.defined.end(),
                      std::back_inserter(out.wanted));
  out.ok = true;
  return out;
}

Compilation Compiler::compile_text(const std::string& text, const std::string& entry, int optimisation) {
  Compilation out;
  CompileRequest request;
  request.quick = false;
  request.optimisation = optimisation;
  const Mode mode(engine_, request);
  SymbolUse symbols;
  Stage stage;
  stage.text = text;
  stage.entry = entry;
  out.ok = compile_stage(stage, request, symbols, out);
  return out;
}

std::string Compiler::checked_prelude() {
  const std::string root = "caller_prelude_checks";
  engine_.quick = false;
  engine_.check_loaded();
  const auto parsed = engine_.parse("extern \"C\" void " + root +
                                        "(std::vector<int>& i, std::vector<double>& d, std::vector<std::string>& s) {\n"
                                        "  caller::kernel::detail::algorithms_in_advance(i, d, s);\n}",
                                    "prelude");
  if (!parsed.ok) throw std::runtime_error(parsed.text);
  return generator_.checked_object(engine_.ci(), *parsed.module, root);
}

std::string Compiler::follow(const CompileRequest& request, const std::vector<FollowedPart>& parts) {
  const Mode mode(engine_, request);
  for (const auto& part : parts) {
    auto parsed = engine_.parse(part.text, "cell");
    if (!parsed.ok) return parsed.text.empty() ? "?" : parsed.text;
    sources_.add(engine_, request, parsed, part.pieces);
  }
  return {};
}

}  // namespace caller::kernel
