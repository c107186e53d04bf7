// What changes for all later cells: flags, include folders, libraries, and forgetting it all. And what there is.
#include <dlfcn.h>
#include <link.h>

#include <clang/Basic/DiagnosticIDs.h>
#include <clang/Lex/Preprocessor.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <stdexcept>

#include "clang_interpreter.hpp"

namespace caller::kernel {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFlags = "Cell [-1]";  // where macros of flags are defined

// Where the dynamic linker looks by itself.
std::vector<std::string> linker_directories() {
  std::vector<std::string> out;
  void* self = dlopen(nullptr, RTLD_LAZY);
  Dl_serinfo size{};
  if (!self || dlinfo(self, RTLD_DI_SERINFOSIZE, &size) != 0) return out;
  std::vector<std::max_align_t> memory(size.dls_size / sizeof(std::max_align_t) + 1);
  auto* info = reinterpret_cast<Dl_serinfo*>(memory.data());
  if (dlinfo(self, RTLD_DI_SERINFOSIZE, info) == 0 && dlinfo(self, RTLD_DI_SERINFO, info) == 0)
    for (unsigned i = 0; i < info->dls_cnt; ++i) {
      const std::string path = info->dls_serpath[i].dls_name;
      if (std::find(out.begin(), out.end(), path) == out.end()) out.push_back(path);
    }
  dlclose(self);
  return out;
}

// The development name `libx.so` may be a linker script: the libraries it names are what is to be loaded.
std::vector<std::string> named_by_script(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string magic(4, '\0');
  std::vector<std::string> out;
  if (!in.read(magic.data(), 4) || magic ==
                                       "\x7f"
                                       "ELF")
    return out;
  in.seekg(0);
  bool comment = false;
  for (std::string word; in >> word;) {
    if (word == "/*") comment = true;
    if (!comment && word.find(".so") != std::string::npos) out.push_back(word);
    if (word.ends_with("*/")) comment = false;
  }
  return out;
}

// libx.so, else the highest libx.so.N, as packages without development files have it.
std::string library_in(const std::string& dir, const std::string& name) {
  std::error_code error;
  const std::string plain = "lib" + name + ".so";
  if (fs::exists(fs::path(dir) / plain, error)) return (fs::path(dir) / plain).string();
  std::string best;
  const auto higher = [](const std::string& a, const std::string& b) {
    return a.size() != b.size() ? a.size() > b.size() : a > b;
  };
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    const std::string file = it->path().filename().string();
    if (file.starts_with(plain + ".") && (best.empty() || higher(file, best))) best = file;
  }
  return best.empty() ? "" : (fs::path(dir) / best).string();
}

std::string reason() {
  const char* text = dlerror();
  return text ? text : "unknown reason";
}

// "-DX=1" or "-D X=1": the value of the flag `name`, and whether the next word was used.
bool value_of(const std::vector<std::string>& flags, std::size_t& i, const std::string& name, std::string& value) {
  const std::string& flag = flags[i];
  if (!flag.starts_with(name)) return false;
  value = flag.substr(name.size());
  if (value.empty() && i + 1 < flags.size()) value = flags[++i];
  if (value.empty()) throw std::runtime_error("the flag " + name + " needs a value");
  return true;
}

// What a macro flag stands for in source text.
std::string definition(const std::string& value) {
  const auto at = value.find('=');
  const std::string name = value.substr(0, at);
  if (name.empty() || name.find_first_of("\n\r") != std::string::npos || value.find('\n') != std::string::npos)
    throw std::runtime_error("-D" + value + " is no macro definition");
  return "#define " + name + " " + (at == std::string::npos ? "1" : value.substr(at + 1)) + "\n";
}

// The type as a user would write it: not by way of the helpers that a cell's own `auto` was written with.
std::string type_name(clang::QualType type, const clang::ASTContext& ast) {
  const auto policy = ast.getPrintingPolicy();
  std::string text = type.getAsString(policy);
  while (text.find("decltype(") != std::string::npos || text.find("kernel::detail::") != std::string::npos ||
         text.find("caller_exposed_") != std::string::npos) {
    const clang::QualType next = type.getSingleStepDesugaredType(ast);
    if (next == type) return type.getCanonicalType().getAsString(policy);  // below a reference or pointer
    type = next;
    text = type.getAsString(policy);
  }
  return text;
}

}  // namespace

void ClangInterpreter::add_include_path(const std::string& dir) {
  compiler().engine().add_include_path(dir);
  copy_.reset();
  options_.flags.push_back("-I" + dir);
}

void ClangInterpreter::load_library(const std::string& name) {
  load(name);
  if (std::find(loaded_.begin(), loaded_.end(), name) == loaded_.end()) loaded_.push_back(name);
}

void ClangInterpreter::load(const std::string& name) {
  const auto load = [](const std::string& path) {
    const auto parts = named_by_script(path);
    for (const auto& part : parts)
      if (!dlopen(part.c_str(), RTLD_NOW | RTLD_GLOBAL)) return false;
    return !parts.empty() || dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL) != nullptr;
  };
  const auto refuse = [&](const std::string& why) {
    throw std::runtime_error("library " + name + " was not loaded: " + why);
  };
  if (name.find('/') != std::string::npos) {
    if (!load(name)) refuse(reason());
    return;
  }
  std::vector<std::string> places = library_dirs_;
  for (const auto& d : linker_directories()) places.push_back(d);
  if (name.find(".so") != std::string::npos) {  // the name of a file
    std::string path = name;
    for (const auto& dir : library_dirs_)
      if (path == name && fs::exists(fs::path(dir) / name)) path = (fs::path(dir) / name).string();
    if (load(path)) return;
    const std::string why = reason();
    std::string tried;
    for (const auto& p : places) tried += "\n  " + p;
    refuse(why + "; looked in" + tried);
  }
  for (const auto& dir : places)
    if (const std::string path = library_in(dir, name); !path.empty()) {
      if (!load(path)) refuse(reason());
      return;
    }
  std::string tried;
  for (const auto& p : places) tried += "\n  " + p;
  refuse("there is no lib" + name + ".so, nor a version of it, in" + tried);
}

std::vector<std::string> ClangInterpreter::add_flags(const std::vector<std::string>& flags, bool lenient) {
  std::vector<std::string> unused, taken, directories;
  std::vector<std::function<void()>> actions;
  std::string text;
  Engine& engine = compiler().engine();
  auto& diagnostics = engine.ci().getDiagnostics();
  const auto group = [&](const std::string& name) {
    if (name == "all" || name == "extra" || name == "everything") return;
    llvm::SmallVector<clang::diag::kind, 8> members;
    if (diagnostics.getDiagnosticIDs()->getDiagnosticsInGroup(clang::diag::Flavor::WarningOrError, name, members))
      throw std::runtime_error("there is no warning " + name);
  };
  const auto set = [&](const std::string& name, clang::diag::Severity severity) {
    diagnostics.setSeverityForGroup(clang::diag::Flavor::WarningOrError, name, severity);
  };
  for (std::size_t i = 0; i < flags.size(); ++i) {
    const std::size_t first = i;
    const std::string& flag = flags[i];
    std::string value;
    if (flag == "-pthread" || flag == "-rdynamic" || flag == "-g") {
      unused.push_back(flag);
      continue;
    } else if (flag.starts_with("-Wl,")) {
      unused.push_back(flag);
      continue;
    } else if (value_of(flags, i, "-D", value)) {
      text += definition(value);
    } else if (value_of(flags, i, "-U", value)) {
      text += "#undef " + value + "\n";
    } else if (value_of(flags, i, "-isystem", value) || value_of(flags, i, "-I", value)) {
      if (!fs::is_directory(value)) throw std::runtime_error("no such directory: " + value);
      actions.push_back([&engine, value, system = flag.starts_with("-is")] { engine.add_include_path(value, system); });
    } else if (value_of(flags, i, "-L", value)) {
      if (!fs::is_directory(value)) throw std::runtime_error("no such directory: " + value);
      directories.push_back(value);
    } else if (value_of(flags, i, "-l", value)) {
      actions.push_back([this, value] { load(value); });
    } else if (flag.size() == 3 && flag.starts_with("-O") && flag[2] >= '0' && flag[2] <= '3') {
      actions.push_back([this, level = flag[2] - '0'] { options_.optimisation = level; });
    } else if (flag == "-w") {
      actions.push_back([&] { diagnostics.setIgnoreAllWarnings(true); });
    } else if (flag == "-Werror" || flag == "-Wno-error") {
      actions.push_back([&, on = flag == "-Werror"] { diagnostics.setWarningsAsErrors(on); });
    } else if (flag.starts_with("-Werror=")) {
      group(value = flag.substr(8));
      actions.push_back([&, value] { diagnostics.setDiagnosticGroupWarningAsError(value, true); });
    } else if (flag.starts_with("-Wno-")) {
      group(value = flag.substr(5));
      actions.push_back([&, value] { set(value, clang::diag::Severity::Ignored); });
    } else if (flag.starts_with("-W") && flag.size() > 2) {
      group(value = flag.substr(2));
      actions.push_back([&, value] { set(value, clang::diag::Severity::Warning); });
    } else if (lenient) {
      unused.push_back(flag);
      continue;
    } else {
      throw std::runtime_error("the flag " + flag +
                               " cannot change while the kernel runs; known are -D, -U, -I, -isystem, -L, -l, -O0 to "
                               "-O3, -W and -w, all others must be given when the kernel is installed (--cxxflags)");
    }
    for (std::size_t k = first; k <= i; ++k) taken.push_back(flags[k]);
  }
  library_dirs_.insert(library_dirs_.end(), directories.begin(), directories.end());
  copy_.reset();  // it would know nothing of all that
  for (const auto& act : actions) act();
  if (!text.empty()) {
    CompileOptions options;
    options.number = -1;  // kFlags
    const auto made = compile(text, options);
    if (const auto* error = std::get_if<CellError>(&made)) throw std::runtime_error(error->evalue);
  }
  options_.flags.insert(options_.flags.end(), taken.begin(), taken.end());
  return unused;
}

std::vector<std::string> ClangInterpreter::flags() { return options_.flags; }

void ClangInterpreter::reset() {
  Engine& engine = compiler().engine();
  copy_.reset();
  engine.shadow().reset(engine.sema());
  // Only what cells themselves defined: a header's guard must stay as long as its declarations do.
  auto& preprocessor = engine.ci().getPreprocessor();
  const auto& sources = engine.ci().getSourceManager();
  std::string text;
  for (const auto& [name, state] : preprocessor.macros(/*IncludeExternalMacros=*/false)) {
    const clang::MacroInfo* macro = preprocessor.getMacroInfo(name);
    if (!macro || macro->isBuiltinMacro()) continue;
    const auto place = sources.getPresumedLoc(macro->getDefinitionLoc());
    if (place.isInvalid()) continue;
    const llvm::StringRef file = place.getFilename();
    if (file.starts_with("Cell [") && !file.starts_with(kFlags)) text += "#undef " + name->getName().str() + "\n";
  }
  if (!text.empty()) (void)engine.parse(text, "reset");
}

std::vector<Interpreter::Symbol> ClangInterpreter::symbols() {
  std::vector<Symbol> out;
  Engine& engine = compiler().engine();
  const auto& ast = engine.ast();
  for (auto* d : engine.shadow().visible()) {
    if (!d->getIdentifier() || d->getName().starts_with("__") || d->getName().starts_with("caller_exposed_")) continue;
    Symbol s;
    s.name = d->getName().str();
    if (auto* f = d->getAsFunction()) {
      s.kind = llvm::isa<clang::FunctionTemplateDecl>(d) ? "function template" : "function";
      s.type = type_name(f->getType(), ast);
    } else if (auto* v = llvm::dyn_cast<clang::VarDecl>(d)) {
      s.kind = "variable";
      s.type = type_name(v->getType(), ast);
    } else if (auto* b = llvm::dyn_cast<clang::BindingDecl>(d)) {
      s.kind = "variable";
      s.type = type_name(b->getType(), ast);
    } else if (llvm::isa<clang::EnumConstantDecl>(d)) {
      s.kind = "enumerator";
    } else if (auto* t = llvm::dyn_cast<clang::TagDecl>(d)) {
      s.kind = t->isEnum() ? "enum" : "class";
    } else if (llvm::isa<clang::ClassTemplateDecl>(d)) {
      s.kind = "class template";
    } else if (auto* n = llvm::dyn_cast<clang::TypedefNameDecl>(d)) {
      s.kind = "alias";
      s.type = type_name(n->getUnderlyingType(), ast);
    } else if (llvm::isa<clang::ConceptDecl>(d)) {
      s.kind = "concept";
    } else if (llvm::isa<clang::TemplateDecl>(d)) {
      s.kind = "template";
    } else {
      s.kind = d->getDeclKindName();
    }
    s.type = readable(s.type);
    out.push_back(std::move(s));
  }
  return out;
}

}  // namespace caller::kernel
