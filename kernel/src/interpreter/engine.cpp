#include "engine.hpp"

#include <clang/AST/DeclContextInternals.h>
#include <clang/AST/ExternalASTSource.h>
#include <clang/Basic/SourceManager.h>
#include <clang/Frontend/TextDiagnosticPrinter.h>
#include <clang/Interpreter/Interpreter.h>
#include <clang/Lex/HeaderSearch.h>
#include <clang/Lex/Preprocessor.h>
#include <clang/Lex/PreprocessorOptions.h>
#include <llvm/IR/DiagnosticHandler.h>
#include <llvm/IR/DiagnosticInfo.h>
#include <llvm/IR/DiagnosticPrinter.h>
#include <llvm/Support/raw_ostream.h>

#include <stdexcept>

#include "consumer.hpp"

namespace caller::kernel {

// The usual action tears everything down at the end of its input; this one only sets it up.
class Engine::Action final : public clang::ASTFrontendAction {
public:
  explicit Action(Engine& engine) : engine_(engine) {}
  clang::TranslationUnitKind getTranslationUnitKind() override { return clang::TU_Incremental; }
  std::unique_ptr<clang::ASTConsumer> CreateASTConsumer(clang::CompilerInstance& ci, llvm::StringRef) override {
    std::unique_ptr<clang::CodeGenerator> codegen(
        clang::CreateLLVMCodeGen(ci.getDiagnostics(), "cell_0", &ci.getVirtualFileSystem(), ci.getHeaderSearchOpts(),
                                 ci.getPreprocessorOpts(), ci.getCodeGenOpts(), *engine_.context_.getContext()));
    engine_.codegen_ = codegen.get();
    auto consumer = std::make_unique<CellConsumer>(std::move(codegen));
    engine_.consumer_ = consumer.get();
    return consumer;
  }
  void ExecuteAction() override {
    auto& ci = getCompilerInstance();
    ci.getPreprocessor().enableIncrementalProcessing();
    ci.getPreprocessor().EnterMainSourceFile();
    ci.createSema(getTranslationUnitKind(), nullptr);
  }

private:
  Engine& engine_;
};

namespace {

struct ParserRunsAway {};

// Collects the text of diagnostics and says of which kind the errors were.
class Collector final : public clang::DiagnosticConsumer {
public:
  explicit Collector(const clang::DiagnosticOptions& base) : stream(text), printer(stream, options(base)) {
    stream.enable_colors(true);
  }
  void BeginSourceFile(const clang::LangOptions& lang, const clang::Preprocessor* pp) override {
    printer.BeginSourceFile(lang, pp);
  }
  void EndSourceFile() override { printer.EndSourceFile(); }
  void HandleDiagnostic(clang::DiagnosticsEngine::Level level, const clang::Diagnostic& info) override {
    DiagnosticConsumer::HandleDiagnostic(level, info);
    if (level >= clang::DiagnosticsEngine::Error &&
        clang::DiagnosticIDs::getCategoryNameFromID(clang::DiagnosticIDs::getCategoryNumberForDiag(info.getID()))
            .contains("Parse"))
      parse_issue = true;
    printer.HandleDiagnostic(level, info);
  }
  // Asked for each error, also for those no longer shown. At the end of its input the incremental parser may report the
  // same missing bracket for ever; then it is left by the only way there is.
  bool IncludeInDiagnosticCounts() const override {
    if (++asked_ > kTooMany) throw ParserRunsAway();
    return true;
  }
  static clang::DiagnosticOptions* options(const clang::DiagnosticOptions& base) {
    auto* o = new clang::DiagnosticOptions(base);  // counted by the printer
    o->ShowColors = true;
    o->ShowPresumedLoc = true;
    return o;
  }

  std::string text;
  llvm::raw_string_ostream stream;
  clang::TextDiagnosticPrinter printer;
  bool parse_issue = false;

private:
  static constexpr unsigned kTooMany = 20000;
  mutable unsigned asked_ = 0;
};

// Errors of code generation (a wrong `asm`); LLVM's own handler ends the process.
class BackendErrors final : public llvm::DiagnosticHandler {
public:
  explicit BackendErrors(std::string& text) : text_(text) {}
  bool handleDiagnostics(const llvm::DiagnosticInfo& info) override {
    if (info.getSeverity() != llvm::DS_Error) return true;
    llvm::raw_string_ostream stream(text_);
    llvm::DiagnosticPrinterRawOStream printer(stream);
    info.print(printer);
    stream << "\n";
    return true;
  }

private:
  std::string& text_;
};

}  // namespace

Engine::Engine(const std::vector<std::string>& args) : context_(std::make_unique<llvm::LLVMContext>()) {
  context_.getContext()->setDiagnosticHandler(std::make_unique<BackendErrors>(backend_errors_));
  std::vector<const char*> argv;
  for (const auto& a : args) argv.push_back(a.c_str());
  clang::IncrementalCompilerBuilder builder;
  builder.SetCompilerArgs(argv);
  auto made = builder.CreateCpp();
  if (!made) throw std::runtime_error("clang does not start: " + llvm::toString(made.takeError()));
  ci_ = std::move(*made);
  auto& diagnostics = ci_->getDiagnostics();
  Collector collector(ci_->getDiagnosticOpts());
  diagnostics.setClient(&collector, false);
  action_ = std::make_unique<Action>(*this);
  auto& inputs = ci_->getFrontendOpts().Inputs;
  if (inputs.empty() || !action_->BeginSourceFile(*ci_, inputs[0]))
    throw std::runtime_error("clang does not start: " + collector.text);
  if (auto e = action_->Execute()) throw std::runtime_error("clang does not start: " + llvm::toString(std::move(e)));
  if (diagnostics.hasErrorOccurred()) {
    collector.stream.flush();
    throw std::runtime_error("clang does not start: " + collector.text);
  }
  consumer_->cell_block = [this](clang::NamespaceDecl* block) { shadow_.declared(sema(), block); };
  parser_ = std::make_unique<clang::Parser>(ci_->getPreprocessor(), ci_->getSema(), false);
  parser_->Initialize();
  // From here on the bodies that come out of the precompiled header reach the code generator.
  if (auto* external = ast().getExternalSource()) external->StartTranslationUnit(consumer_);
  diagnostics.setClient(new clang::IgnoringDiagConsumer, true);
}

Engine::~Engine() {
  parser_.reset();
  if (action_) action_->EndSourceFile();
}

bool Engine::enter(clang::FileID file) {
  auto& pp = ci_->getPreprocessor();
  return !pp.EnterSourceFile(file, nullptr,
                             ci_->getSourceManager().getLocForStartOfFile(ci_->getSourceManager().getMainFileID()));
}

bool Engine::parse_declarations() {
  auto& s = sema();
  clang::Sema::GlobalEagerInstantiationScope global(s, true);
  clang::Sema::LocalEagerInstantiationScope local(s);
  if (parser_->getCurToken().is(clang::tok::annot_repl_input_end) || parser_->getCurToken().is(clang::tok::eof)) {
    parser_->ConsumeAnyToken();
    parser_->ExitScope();
    s.CurContext = nullptr;
    parser_->EnterScope(clang::Scope::DeclScope);
    s.ActOnTranslationUnitScope(parser_->getCurScope());
  }
  clang::Parser::DeclGroupPtrTy group;
  clang::Sema::ModuleImportState import;
  for (bool end = parser_->ParseFirstTopLevelDecl(group, import); !end; end = parser_->ParseTopLevelDecl(group, import))
    if (group) consumer_->HandleTopLevelDecl(group.get());
  if (!ci_->getDiagnostics().hasErrorOccurred()) {
    for (auto* d : s.WeakTopLevelDecls()) consumer_->HandleTopLevelDecl(clang::DeclGroupRef(d));
  }
  local.perform();
  global.perform();
  // What has been looked at would be looked at again at the end of each unit: all of the precompiled header's.
  s.DeleteExprs.clear();
  return !ci_->getDiagnostics().hasErrorOccurred();
}

Engine::Parsed Engine::parse(const std::string& text, const std::string& name) {
  Parsed out;
  auto& diagnostics = ci_->getDiagnostics();
  Collector collector(ci_->getDiagnosticOpts());
  diagnostics.Reset(/*soft=*/true);
  diagnostics.setClient(&collector, false);
  collector.BeginSourceFile(ci_->getLangOpts(), &ci_->getPreprocessor());

  auto buffer = llvm::MemoryBuffer::getMemBufferCopy(text + "\n", name);
  auto& sm = ci_->getSourceManager();
  const auto file =
      sm.createFileID(std::move(buffer), clang::SrcMgr::C_User, 0, 0, sm.getLocForStartOfFile(sm.getMainFileID()));
  out.file = file;
  ast().addTranslationUnitDecl();
  out.unit = ast().getTranslationUnitDecl();
  consumer_->begin_unit();
  try {
    out.ok = enter(file) && parse_declarations();
  } catch (const ParserRunsAway&) {  // clang's state is lost; this is a child process, or the caller wanted no net
    out.parse_issue = true;
    collector.stream.flush();
    out.text = "error: the cell ends where the compiler expects more\n" + collector.text;
    diagnostics.setClient(new clang::IgnoringDiagConsumer, true);
    return out;
  }
  if (out.ok && consumer_->generate) {
    // What runs once gains nothing from being inlined: the bodies of library functions need not even be generated.
    auto& options = ci_->getCodeGenOpts();
    const auto level = options.OptimizationLevel;
    const bool implied = options.DisableO0ImplyOptNone;
    if (quick && consumer_->safepoints.runs_once()) {
      options.OptimizationLevel = 0;
      options.DisableO0ImplyOptNone = true;
      out.quick = true;
    } else {
      consumer_->announce_loaded();
    }
    consumer_->safepoints.check_loaded_functions();
    consumer_->HandleTranslationUnit(ast());
    options.OptimizationLevel = level;
    options.DisableO0ImplyOptNone = implied;
    out.ok = !diagnostics.hasErrorOccurred();
  }
  if (consumer_->generate) {
    out.module.reset(codegen_->ReleaseModule());
    consumer_->safepoints.mend_coroutines();
    codegen_->StartModule("cell_" + std::to_string(++units_), *context_.getContext());
  }
  if (!out.ok) out.module.reset();
  collector.EndSourceFile();
  collector.stream.flush();
  out.text = std::move(collector.text);
  out.parse_issue = collector.parse_issue;
  diagnostics.Reset(/*soft=*/true);
  diagnostics.setClient(new clang::IgnoringDiagConsumer, true);
  return out;
}

void Engine::debug(const std::string& name, const std::string& path) {
  auto& options = ci_->getCodeGenOpts();
  if (path.empty() && !usual_) return;
  if (!usual_) usual_ = options;
  options = *usual_;
  if (path.empty()) {
    usual_.reset();
  } else {
    options.OptimizationLevel = 0;
    options.setInlining(clang::CodeGenOptions::OnlyAlwaysInlining);
    options.setFramePointer(clang::CodeGenOptions::FramePointerKind::All);
    // All types: without the debug information of libstdc++ a string would have no members.
    options.setDebugInfo(llvm::codegenoptions::FullDebugInfo);
    options.DwarfVersion = 4;
    options.DebugCompilationDir = "/";
    options.DebugPrefixMap.emplace_back(name, path);
  }
  // The generator takes its options when it begins a module.
  codegen_->ReleaseModule();
  codegen_->StartModule("cell_" + std::to_string(++units_), *context_.getContext());
}

void Engine::check_loaded() { consumer_->safepoints.check_loaded(); }

void Engine::syntax_only() { consumer_->generate = false; }

void Engine::add_include_path(const std::string& dir, bool system) {
  auto entry = ci_->getFileManager().getOptionalDirectoryRef(dir);
  if (!entry) throw std::runtime_error("no such directory: " + dir);
  ci_->getPreprocessor().getHeaderSearchInfo().AddSearchPath(
      clang::DirectoryLookup(*entry, system ? clang::SrcMgr::C_System : clang::SrcMgr::C_User, false),
      /*isAngled=*/true);
}

void Engine::close_files() {
  llvm::SmallVector<clang::OptionalFileEntryRef, 0> files;
  ci_->getFileManager().GetUniqueIDMapping(files);
  for (const auto& file : files)
    if (file) file->getFileEntry().closeFile();
}

void Engine::complete(const std::string& text, unsigned line, unsigned column, clang::CodeCompleteConsumer& consumer) {
  auto& diagnostics = ci_->getDiagnostics();
  diagnostics.Reset(true);
  diagnostics.setClient(new clang::IgnoringDiagConsumer, true);
  consumer_->generate = false;
  sema().CodeCompletion().CodeCompleter = &consumer;
  auto& sm = ci_->getSourceManager();
  auto file = ci_->getFileManager().getVirtualFileRef("<completion>", static_cast<off_t>(text.size()), 0);
  sm.overrideFileContents(file, llvm::MemoryBuffer::getMemBufferCopy(text));
  const auto id = sm.createFileID(file, sm.getLocForStartOfFile(sm.getMainFileID()), clang::SrcMgr::C_User);
  if (ci_->getPreprocessor().SetCodeCompletionPoint(file, line, column)) return;
  if (enter(id)) parse_declarations();
}

}  // namespace caller::kernel
