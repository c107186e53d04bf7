#include "clang_interpreter.hpp"

#include <dlfcn.h>

#include <clang/AST/DeclLookups.h>
#include <clang/AST/DeclTemplate.h>
#include <clang/AST/GlobalDecl.h>
#include <llvm/IR/GlobalVariable.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <regex>
#include <stdexcept>

#include "completeness.hpp"
#include "exceptions.hpp"
#include "prelude.hpp"
#include "sandbox.hpp"

namespace caller::kernel {
namespace {

constexpr std::chrono::minutes kCheckLimit{10};

std::string without_colour(const std::string& text) {
  static const std::regex colour("\033\\[[0-9;]*m");
  return std::regex_replace(text, colour, "");
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  std::size_t b = 0;
  while (b < text.size()) {
    auto e = text.find('\n', b);
    if (e == std::string::npos) e = text.size();
    out.push_back(text.substr(b, e - b));
    b = e + 1;
  }
  return out;
}

clang::VarDecl* find_variable(clang::TranslationUnitDecl* unit, clang::ASTContext& ast, const std::string& space,
                              const std::string& name) {
  clang::VarDecl* found = nullptr;
  for (auto* d : unit->decls())
    if (auto* ns = llvm::dyn_cast<clang::NamespaceDecl>(d); ns && ns->getName() == space)
      for (auto* x : ns->decls())
        if (auto* v = llvm::dyn_cast<clang::VarDecl>(x); v && v->getIdentifier() && v->getName() == name) found = v;
  (void)ast;
  return found;
}

}  // namespace

// Nobody reads a line of a diagnostic to its end that is longer than a page, and std::regex recurses for each
// character.
static std::string shortened(const std::string& text) {
  constexpr std::size_t kLine = 2000;
  std::string out;
  for (const std::string& line : lines_of(text)) {
    std::size_t end = std::min(line.size(), kLine);
    while (end < line.size() && end > 0 && (static_cast<unsigned char>(line[end]) & 0xc0) == 0x80) --end;
    out += line.substr(0, end) + (end < line.size() ? "…\n" : "\n");
  }
  if (!out.empty() && text.back() != '\n') out.pop_back();
  return out;
}

std::string readable(std::string text) {
  text = shortened(text);
  static const std::regex place("Cell \\[(-?[0-9]+)\\]:([0-9]+):([0-9]+):");
  static const std::regex space("__cell_[0-9]+::");
  for (const std::string_view from = "In file included from <<< inputs >>>:1:\n";
       ;) {  // where the compiler thinks cells come from
    const auto at = text.find(from);
    if (at == std::string::npos) break;
    text.erase(at, from.size());
  }
  // What is wrong with the text around the cell is only an echo of what is wrong inside.
  std::string kept;
  bool echo = false;
  for (const auto& line : lines_of(text)) {
    const std::string plain = without_colour(line);
    static const std::regex begins(
        "^(.+:[0-9]+:[0-9]+: (fatal )?(error|warning|note|remark): |In file included from )");
    if (std::regex_search(plain, begins))
      echo = plain.rfind("<cell>:", 0) == 0 || plain.rfind("<<< inputs >>>:", 0) == 0;
    if (!echo) kept += line + "\n";
  }
  if (!kept.empty() && text.back() != '\n') kept.pop_back();
  if (kept.find("error") != std::string::npos || text.find("error") == std::string::npos) text = std::move(kept);
  text = std::regex_replace(text, place, "Cell [$1], line $2, column $3:");
  return std::regex_replace(text, space, "");
}

ClangInterpreter::ClangInterpreter(InterpreterOptions options) : options_(std::move(options)) {
  const Prelude prelude = find_prelude(options_);
  std::vector<std::string> args = prelude.args;
  args.push_back("-ferror-limit=6");  // one wrong call of a library template is worth a hundred otherwise
  // What is wrong shall fault where it is, and not be optimised into something else.
  for (const char* f : {"-fno-delete-null-pointer-checks", "-fsanitize=integer-divide-by-zero",
                        "-fsanitize-trap=integer-divide-by-zero"})
    args.push_back(f);
  if (options_.lines) args.push_back("-gline-tables-only");
  for (const auto& f : options_.flags) args.push_back(f);
  const auto note = [&](const std::string& line) {
    if (options_.log) options_.log(line);
  };
  jit_ = std::make_unique<Jit>();
  if (!prelude.pch.empty()) {
    auto with = args;
    with.push_back("-include-pch");
    with.push_back(prelude.pch);
    try {
      engine_ = std::make_unique<Engine>(with);
      if (!dlopen(prelude.library.c_str(),
                  RTLD_LAZY | RTLD_GLOBAL)) {  // it holds inline functions whose callees libstdc++ keeps to itself
        note(std::string("the prelude's code does not load, cells start slowly: ") + dlerror());
        engine_.reset();
      }
    } catch (const std::runtime_error& e) {
      note(std::string("the precompiled prelude cannot be used, cells start slowly: ") + without_colour(e.what()));
    }
  } else {
    note("there is no precompiled prelude, cells start slowly");
  }
  if (!engine_) {
    engine_ = std::make_unique<Engine>(args);
    auto parsed = engine_->parse("#include <caller/kernel/prelude.hpp>\n", "prelude");
    if (!parsed.ok) throw std::runtime_error("the prelude does not compile:\n" + parsed.text);
    jit_->add(engine_->ci(), std::move(parsed.module), engine_->context(), "caller_entry_prelude",
              options_.optimisation, false);
    reinterpret_cast<void (*)()>(jit_->lookup("caller_entry_prelude"))();
  }
  engine_->quick = options_.isolate;  // what is missing then must be found out before
  if (options_.warm_up) warm_up();
}

void ClangInterpreter::warm_up() {
  // The declarations of the precompiled header are read when first looked at; a child's reading would be lost with it.
  const Assembly assembly = assemble(
      "{ std::string s(\"x\"); std::vector<int> v{1}; v.push_back(2); std::vector<std::string> w{s}; for (auto& x : w) "
      "x += s; std::map<std::string, int> m; m[s] = 1;\n"
      "std::cout << s << v.size() << 1.5 << std::endl; auto p = std::make_unique<int>(3); auto q = "
      "std::make_shared<int>(3); std::function<int()> f = [p = *p] { return p; }; }\n"
      "co_await caller::Coro<void>();",
      assemble_options({}));
  auto linked = link(assembly, {});
  (void)linked;
  if (auto* space = engine_->sema().getStdNamespace())
    for (auto names : space->getPrimaryContext()->lookups()) (void)names;
  for (auto names : engine_->ast().getTranslationUnitDecl()->getPrimaryContext()->lookups()) (void)names;
}

ClangInterpreter::~ClangInterpreter() { jit_->run_exit_handlers(); }

AssembleOptions ClangInterpreter::assemble_options(const CompileOptions& options) {
  AssembleOptions a;
  a.unit = ++unit_;
  a.number = options.number;
  a.show_result = options.show_result;
  a.is_value = [this](std::string_view name) {
    for (auto* d : engine_->shadow().visible())
      if (d->getIdentifier() && d->getName() == llvm::StringRef(name.data(), name.size()))
        return llvm::isa<clang::ValueDecl>(d);
    return false;
  };
  return a;
}

std::vector<std::string> ClangInterpreter::undefined_symbols(
    const std::vector<std::unique_ptr<llvm::Module>>& modules) {
  std::set<std::string> defined, wanted;
  for (const auto& m : modules)
    for (auto& g : m->global_values()) {
      std::string name = g.getName().str();
      if (!name.empty() && name[0] == '\1') name.erase(0, 1);
      if (name.rfind("llvm.", 0) == 0 || name == "__dso_handle") continue;
      if (g.isThreadLocal()) name = "__emutls_v." + name;
      if (!g.isDeclarationForLinker())
        defined.insert(name);
      else if (g.isDeclaration() && !g.use_empty() && !g.hasExternalWeakLinkage())
        wanted.insert(name);
    }
  std::vector<std::string> out;
  for (const auto& name : wanted) {
    if (defined.count(name) || dlsym(RTLD_DEFAULT, name.c_str())) continue;
    try {
      jit_->lookup(name);
    } catch (const LinkError& e) {
      out.insert(out.end(), e.missing.begin(), e.missing.end());
      if (e.missing.empty()) out.push_back(name);
    }
  }
  return out;
}

// Whether there is a name in the text that nobody has mistyped. Looking for names like it costs its length for each of
// the some ten thousand that are known: minutes for one of a megabyte.
static bool has_endless_name(const std::string& text) {
  constexpr std::size_t kLongest = 512;
  std::size_t length = 0;
  for (const char c : text) {
    length = std::isalnum(static_cast<unsigned char>(c)) || c == '_' ? length + 1 : 0;
    if (length > kLongest) return true;
  }
  return false;
}

ClangInterpreter::Check ClangInterpreter::check_here(const Assembly& assembly) {
  Check out;
  for (const auto& stage : assembly.stages)
    if (has_endless_name(stage.text)) engine_->ci().getLangOpts().SpellChecking = false;  // this process ends anyway
  std::vector<std::unique_ptr<llvm::Module>> modules;
  for (const auto& stage : assembly.stages) {
    auto parsed = engine_->parse(stage.text, "cell");
    out.text += parsed.text;
    out.parse_issue |= parsed.parse_issue;
    if (!parsed.ok) return out;
    place_late_variables(stage, parsed.unit, unit_);
    if (parsed.module) modules.push_back(std::move(parsed.module));
  }
  out.missing = undefined_symbols(modules);
  if (!out.missing.empty()) {  // perhaps only code that is never reached wants them
    for (auto& m : modules) jit_->optimise(engine_->ci(), *m, options_.optimisation, false);
    out.missing = undefined_symbols(modules);
    out.must_optimise = out.missing.empty();
  }
  out.ok = out.missing.empty();
  return out;
}

ClangInterpreter::Check ClangInterpreter::check(const Assembly& assembly, const std::stop_token& stop) {
  Check out;
  const auto result = in_child(
      [&] {
        const Check c = check_here(assembly);
        Packer p;
        p << std::size_t(c.ok) << c.text << std::size_t(c.parse_issue) << std::size_t(c.must_optimise)
          << c.missing.size();
        for (const auto& m : c.missing) p << m;
        return p.take();
      },
      kCheckLimit, stop);
  switch (result.status) {
    case SandboxResult::Status::done: {
      Unpacker u(result.data);
      out.ok = u.number();
      out.text = u.text();
      out.parse_issue = u.number();
      out.must_optimise = u.number();
      for (auto n = u.number(); n; --n) out.missing.push_back(u.text());
      break;
    }
    case SandboxResult::Status::unavailable:
      out.ok = true;
      break;  // then it is compiled without a net
    case SandboxResult::Status::timed_out:
      out.text = "error: the compiler did not finish in time\n";
      break;
    case SandboxResult::Status::stopped:
      out.text = "error: the compiler was interrupted\n";
      break;
    case SandboxResult::Status::crashed:
      out.text = "error: the compiler crashed on this cell (signal " + std::to_string(result.signal) +
                 "); nothing of it was run\n";
      break;
  }
  return out;
}

CellError ClangInterpreter::error_of(const Check& check, const CompileOptions& options) const {
  CellError e;
  if (!check.missing.empty()) {
    e.ename = "LinkError";
    for (const auto& m : check.missing) e.evalue += (e.evalue.empty() ? "undefined symbol: " : ", ") + m;
    e.evalue = readable(e.evalue);
    e.traceback.push_back("Cell [" + std::to_string(options.number) + "]: \033[0;31m" + e.ename + "\033[0m");
    for (const auto& m : check.missing) e.traceback.push_back("  declared, but defined nowhere: " + readable(m));
    return e;
  }
  e.ename = "CompileError";
  e.traceback = lines_of(readable(check.text));
  static const std::regex first("(?:Cell \\[-?[0-9]+\\], (line [0-9]+, column [0-9]+): )?(?:fatal )?error: (.*)");
  for (const auto& line : e.traceback) {
    const std::string plain = without_colour(line);
    std::smatch m;
    if (!std::regex_search(plain, m, first)) continue;
    std::string where = m[1].str();
    static const std::regex inside("Cell \\[-?[0-9]+\\], (line [0-9]+, column [0-9]+): note: in ");
    if (where.empty())  // an error inside of a library: the line of the cell that led there
      for (const auto& later : e.traceback) {
        const std::string text = without_colour(later);
        std::smatch n;
        if (!std::regex_search(text, n, inside)) continue;
        where = n[1].str();
        break;
      }
    e.evalue = m[2].str() + (where.empty() ? "" : " (" + where + ")");
    break;
  }
  if (e.evalue.empty()) e.evalue = "the cell does not compile";
  if (e.traceback.empty()) e.traceback.push_back("\033[0;31m" + e.ename + "\033[0m: " + e.evalue);
  return e;
}

void ClangInterpreter::place_late_variables(const Stage& stage, clang::TranslationUnitDecl* unit, unsigned number) {
  for (const auto& late : stage.late) {
    auto& ast = engine_->ast();
    auto* v = find_variable(unit, ast, kCellNamespace + std::to_string(number), late.name);
    if (!v || v->getType()->isIncompleteType()) continue;
    const bool reference = v->getType()->isReferenceType();
    const auto size =
        reference ? sizeof(void*) : static_cast<std::size_t>(ast.getTypeSizeInChars(v->getType()).getQuantity());
    const auto align = reference ? sizeof(void*) : static_cast<std::size_t>(ast.getDeclAlign(v).getQuantity());
    const auto rounded = std::max<std::size_t>(align, 16);
    void* memory = std::aligned_alloc(rounded, (std::max<std::size_t>(size, 1) + rounded - 1) / rounded * rounded);
    std::memset(memory, 0, size);  // never freed: later cells use it
    jit_->define(late.storage, memory);
    jit_->define(engine_->codegen().GetMangledName(clang::GlobalDecl(v)).str(), memory);
  }
}

std::variant<CompiledCell, CellError> ClangInterpreter::link(const Assembly& assembly, const CompileOptions& options) {
  struct Debugging {
    ClangInterpreter& self;
    bool on;
    Debugging(ClangInterpreter& i, const CompileOptions& o) : self(i), on(!o.debug_path.empty()) {
      if (on) self.engine_->quick = false;  // nothing is dropped that a debugger may step into
      self.engine_->debug("Cell [" + std::to_string(o.number) + "]", o.debug_path);
      self.jit_->keep_debug_objects(on);
    }
    ~Debugging() {
      self.engine_->debug({}, {});
      self.jit_->keep_debug_objects(false);
      (void)self.jit_->take_debug_objects();
    }
  } debugging(*this, options);
  CompiledCell cell;
  std::vector<llvm::orc::ResourceTrackerSP> trackers;
  struct Symbols {
    std::string entry, coroutine;
  };
  std::vector<Symbols> symbols;
  const int optimisation = debugging.on ? 0 : options.optimisation >= 0 ? options.optimisation : options_.optimisation;
  try {
    for (const auto& stage : assembly.stages) {
      auto parsed = engine_->parse(stage.text, "cell");
      cell.warnings += readable(parsed.text);
      if (!parsed.ok) {
        for (auto& t : trackers) llvm::consumeError(t->remove());
        Check c;
        c.text = parsed.text;
        return error_of(c, options);
      }
      if (!parsed.module) continue;
      place_late_variables(stage, parsed.unit, unit_);
      Symbols s;
      if (parsed.module->getNamedGlobal("llvm.global_ctors")) s.entry = stage.entry;
      if (!stage.coroutine.empty())
        if (auto* f = parsed.module->getFunction(stage.coroutine); f && !f->isDeclaration())
          s.coroutine = stage.coroutine;
      trackers.push_back(jit_->add(engine_->ci(), std::move(parsed.module), engine_->context(), stage.entry,
                                   optimisation, parsed.quick));
      symbols.push_back(std::move(s));
      // Without any of its own the stage must still be linked: later cells use what it defines.
      jit_->lookup(stage.entry);
      if (const std::string errors = engine_->take_backend_errors(); !errors.empty()) throw LinkError(errors);
    }
    for (const auto& s : symbols) {
      if (!s.entry.empty()) {
        Segment segment;
        segment.run = reinterpret_cast<void (*)()>(jit_->lookup(s.entry));
        cell.segments.push_back(std::move(segment));
      }
      if (!s.coroutine.empty()) {
        Segment segment;
        segment.start = reinterpret_cast<caller::Coro<void> (*)()>(jit_->lookup(s.coroutine));
        cell.segments.push_back(std::move(segment));
      }
    }
  } catch (const LinkError& e) {
    for (auto& t : trackers) llvm::consumeError(t->remove());
    Check c;
    c.missing = e.missing;
    c.text = std::string("error: ") + e.what() + "\n";
    return error_of(c, options);
  }
  if (debugging.on) cell.debug_objects = jit_->take_debug_objects();
  return cell;
}

std::variant<CompiledCell, CellError> ClangInterpreter::compile(const std::string& code,
                                                                const CompileOptions& options) {
  // clang's incremental parser does not come to an end when a bracket is open at the end of its input.
  if (const std::string wrong = unbalanced(code, options.number); !wrong.empty()) {
    Check c;
    c.text = wrong;
    return error_of(c, options);
  }
  AssembleOptions how = assemble_options(options);
  Assembly assembly = assemble(code, how);
  CompileOptions linking = options;
  if (options_.isolate) {
    Check checked = check(assembly, options.stop);
    if (!checked.missing.empty() && !options.stop.stop_requested()) {
      engine_->quick = false;  // perhaps a library function whose code is nowhere but in its header
      checked = check(assembly, options.stop);
    }
    struct Restore {
      Engine& engine;
      ~Restore() { engine.quick = true; }
    } restore{*engine_};
    if (!checked.ok && assembly.ambiguous && !options.stop.stop_requested()) {
      // `A * b;` looked like a declaration; perhaps it is a product.
      how.ambiguous_is_expression = true;
      Assembly other = assemble(code, how);
      if (Check again = check(other, options.stop); again.ok) {
        assembly = std::move(other);
        checked = std::move(again);
      }
    }
    if (!checked.ok) return error_of(checked, options);
    if (checked.must_optimise) linking.debug_path.clear();  // better without a debugger than not at all
  }
  if (options.stop.stop_requested()) {  // from here on nothing can be taken back
    Check c;
    c.text = "error: the compiler was interrupted\n";
    return error_of(c, options);
  }
  return link(assembly, linking);
}

CellError ClangInterpreter::describe_current_exception(int cell_number) {
  return describe_exception(cell_number, [this](const void* address) { return jit_->lines().places(address); });
}

Completeness ClangInterpreter::is_complete(const std::string& code) {
  Completeness out = lexical_completeness(code);
  if (out.status != Completeness::Status::complete || tokenize(code).tokens.empty()) return out;
  const Assembly assembly = assemble(code, assemble_options({}));
  const auto result = in_child(
      [&] {
        engine_->syntax_only();
        for (const auto& stage : assembly.stages)
          if (auto p = engine_->parse(stage.text, "cell"); !p.ok)
            return std::string(p.parse_issue ? "invalid" : "complete");
        return std::string("complete");
      },
      std::chrono::seconds(2));
  if (result.status == SandboxResult::Status::done && result.data == "invalid")
    out.status = Completeness::Status::invalid;
  return out;
}

std::unique_ptr<Interpreter> make_clang_interpreter(InterpreterOptions options) {
  return std::make_unique<ClangInterpreter>(std::move(options));
}

}  // namespace caller::kernel
