#include "compiler.hpp"

#include <clang/AST/GlobalDecl.h>
#include <llvm/IR/Module.h>

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <exception>
#include <optional>

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

Compilation Compiler::compile(const CompileRequest& request) {
  Compilation out;
  const Mode mode(engine_, request);
  AssembleOptions how = assemble_options(request.unit, request.number);
  how.show_result = request.show_result;
  how.ambiguous_is_expression = request.ambiguous_is_expression;
  const Assembly assembly = assemble(request.code, how);
  out.ambiguous = assembly.ambiguous;
  SymbolUse symbols;
  for (const auto& stage : assembly.stages)
    if (!compile_stage(stage, request, symbols, out)) return out;
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

std::string Compiler::follow(const CompileRequest& request, const std::vector<std::string>& texts) {
  const Mode mode(engine_, request);
  for (const auto& text : texts)
    if (auto parsed = engine_.parse(text, "cell"); !parsed.ok) return parsed.text.empty() ? "?" : parsed.text;
  return {};
}

}  // namespace caller::kernel
