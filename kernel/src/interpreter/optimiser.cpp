// Code generation of clang makes a pipeline of some hundred passes anew for each module, which takes longer than
// running it on a small cell. Here each level's is made once.
#include "optimiser.hpp"

#include <dlfcn.h>

#include <clang/CodeGen/BackendUtil.h>
#include <llvm/MC/TargetRegistry.h>
#include <llvm/Passes/PassBuilder.h>
#include <llvm/Support/CommandLine.h>
#include <llvm/Target/TargetMachine.h>
#include <llvm/Transforms/IPO/AlwaysInliner.h>
#include <llvm/Transforms/IPO/ElimAvailExtern.h>
#include <llvm/Transforms/IPO/GlobalDCE.h>
#include <llvm/Transforms/InstCombine/InstCombine.h>
#include <llvm/Transforms/Scalar/EarlyCSE.h>
#include <llvm/Transforms/Scalar/SROA.h>
#include <llvm/Transforms/Scalar/SimplifyCFG.h>

#include <algorithm>
#include <stdexcept>

#include "loop_checks.hpp"

namespace caller::kernel {
namespace {

constexpr const char* kRunsOnce = "caller.runs_once";
constexpr int kOnce = 4;  // the pipeline of what runs once

std::unique_ptr<llvm::TargetMachine> machine_of(clang::CompilerInstance& ci) {
  const auto& target = ci.getTargetOpts();
  std::string error;
  const auto* found = llvm::TargetRegistry::lookupTarget(target.Triple, error);
  if (!found) throw std::runtime_error(error);
  std::string features;
  for (const auto& f : target.Features) features += (features.empty() ? "" : ",") + f;
  return std::unique_ptr<llvm::TargetMachine>(
      found->createTargetMachine(target.Triple, target.CPU, features, llvm::TargetOptions(), llvm::Reloc::PIC_));
}

// Where a search descends a tree, g++ branches and LLVM selects the next node: that waits for the whole comparison,
// which a guess need not, so a map of strings took 1.35 times as long. Selects that cost no instruction beside them
// stay.
void prefer_branches() {
  [[maybe_unused]] static const bool done = [] {
    const auto& known = llvm::cl::getRegisteredOptions();
    const auto at = known.find("phi-node-folding-threshold");
    return at != known.end() && !at->second->addOccurrence(0, at->first(), "0");
  }();
}

}  // namespace

struct Optimiser::Pipeline {
  Pipeline(clang::CompilerInstance& ci, int which)
      : level(which), machine(machine_of(ci)), library(llvm::Triple(ci.getTargetOpts().Triple)) {
    const auto& options = ci.getCodeGenOpts();
    llvm::PipelineTuningOptions tuning;
    tuning.LoopUnrolling = tuning.LoopInterleaving = options.UnrollLoops;
    tuning.LoopVectorization = options.VectorizeLoop;
    tuning.SLPVectorization = options.VectorizeSLP;
    tuning.MergeFunctions = options.MergeFunctions;
    builder = std::make_unique<llvm::PassBuilder>(machine.get(), tuning);
    functions.registerPass([this] { return llvm::TargetLibraryAnalysis(library); });
    builder->registerModuleAnalyses(modules);
    builder->registerCGSCCAnalyses(graph);
    builder->registerFunctionAnalyses(functions);
    builder->registerLoopAnalyses(loops);
    builder->crossRegisterProxies(loops, functions, graph, modules);
    add_loop_checks(*builder);
    prefer_branches();
  }

  // A pipeline cannot be run twice: the inliner gives its own away.
  llvm::ModulePassManager passes() {
    if (level == 0) return builder->buildO0DefaultPipeline(llvm::OptimizationLevel::O0);
    if (level != kOnce) {
      const llvm::OptimizationLevel levels[] = {llvm::OptimizationLevel::O0, llvm::OptimizationLevel::O1,
                                                llvm::OptimizationLevel::O2, llvm::OptimizationLevel::O3};
      return builder->buildPerModuleDefaultPipeline(levels[level]);
    }
    llvm::ModulePassManager out;
    out.addPass(llvm::AlwaysInlinerPass(false));
    llvm::FunctionPassManager f;
    f.addPass(llvm::SROAPass(llvm::SROAOptions::ModifyCFG));
    f.addPass(llvm::EarlyCSEPass());
    f.addPass(llvm::SimplifyCFGPass());
    f.addPass(llvm::InstCombinePass());
    f.addPass(llvm::SimplifyCFGPass());
    out.addPass(llvm::EliminateAvailableExternallyPass());
    out.addPass(llvm::GlobalDCEPass());
    out.addPass(llvm::createModuleToFunctionPassAdaptor(std::move(f)));
    out.addPass(llvm::GlobalDCEPass());
    return out;
  }

  void run(llvm::Module& m) {
    passes().run(m, modules);
    modules.clear();
    graph.clear();
    functions.clear();
    loops.clear();
  }

  int level;
  std::unique_ptr<llvm::TargetMachine> machine;
  llvm::TargetLibraryInfoImpl library;
  std::unique_ptr<llvm::PassBuilder> builder;
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager graph;
  llvm::ModuleAnalysisManager modules;
};

Optimiser::Optimiser() = default;
Optimiser::~Optimiser() = default;

bool Optimiser::runs_once(const llvm::Module& module) { return module.getNamedMetadata(kRunsOnce) != nullptr; }

void Optimiser::run(clang::CompilerInstance& ci, llvm::Module& module, int level, bool once) {
  auto& options = ci.getCodeGenOpts();
  level = level < 0 ? static_cast<int>(options.OptimizationLevel) : std::min(level, 3);
  using Kind = clang::SanitizerKind;
  if (ci.getLangOpts().Sanitize.hasOneOf(Kind::Address | Kind::Thread | Kind::Memory) ||
      options.hasProfileClangInstr()) {
    // The user's flags ask for more than optimisation: only clang knows all of it.
    const auto saved = options.OptimizationLevel;
    options.OptimizationLevel = static_cast<unsigned>(level);
    clang::EmitBackendOutput(ci.getDiagnostics(), ci.getHeaderSearchOpts(), options, ci.getTargetOpts(),
                             ci.getLangOpts(), ci.getTarget().getDataLayoutString(), &module,
                             clang::Backend_EmitNothing, &ci.getVirtualFileSystem(), nullptr);
    options.OptimizationLevel = saved;
    return;
  }
  if (level > 0 && once) {
    // Bodies that are only there to be inlined are dropped, unless they are nowhere else.
    for (auto& f : module)
      if (f.hasAvailableExternallyLinkage() && !dlsym(RTLD_DEFAULT, f.getName().str().c_str()))
        f.setLinkage(llvm::GlobalValue::LinkOnceODRLinkage);
    level = kOnce;
    module.getOrInsertNamedMetadata(kRunsOnce);
  }
  auto& pipeline = pipelines_[level];
  if (!pipeline) pipeline = std::make_unique<Pipeline>(ci, level);
  pipeline->run(module);
}

}  // namespace caller::kernel
