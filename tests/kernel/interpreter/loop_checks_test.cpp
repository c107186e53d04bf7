#include "interpreter/loop_checks.hpp"

#include <doctest/doctest.h>

#include <llvm/Analysis/LoopInfo.h>
#include <llvm/AsmParser/Parser.h>
#include <llvm/IR/Dominators.h>
#include <llvm/IR/Instructions.h>
#include <llvm/IR/LLVMContext.h>
#include <llvm/IR/Module.h>
#include <llvm/Support/SourceMgr.h>

#include <memory>
#include <string>

using namespace caller::kernel;

namespace {

std::unique_ptr<llvm::Module> optimised(llvm::LLVMContext& context, const std::string& text) {
  llvm::SMDiagnostic error;
  auto module = llvm::parseAssemblyString(text, error, context);
  REQUIRE_MESSAGE(module, error.getMessage().str());
  llvm::PassBuilder builder;
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager graphs;
  llvm::ModuleAnalysisManager modules;
  add_loop_checks(builder);
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(graphs);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, graphs, modules);
  builder.buildPerModuleDefaultPipeline(llvm::OptimizationLevel::O2).run(*module, modules);
  return module;
}

bool looks(const llvm::Instruction& i) {
  const auto* load = llvm::dyn_cast<llvm::LoadInst>(&i);
  return load && load->getPointerOperand()->getName() == "caller_interrupt_pending";
}

// Checks that a loop makes outside of the loops within it.
int own_checks(const llvm::Loop& loop, const llvm::LoopInfo& loops) {
  int n = 0;
  for (const auto* block : loop.blocks())
    for (const auto& i : *block) {
      n += loops.getLoopFor(block) == &loop && looks(i);
    }
  return n;
}

// As the compiler of cells makes it: a check is a look at the counter, and a call on the way that is hardly ever taken.
std::string check(const std::string& at, const std::string& next) {
  return "  %p" + at + " = load i32, ptr @caller_interrupt_pending\n  %q" + at + " = icmp ne i32 %p" + at +
         ", 0\n  br i1 %q" + at + ", label %slow" + at + ", label %" + next + "\nslow" + at +
         ":\n  call void @caller_safepoint()\n  br label %" + next + "\n";
}

const std::string kDeclared = "@caller_interrupt_pending = external global i32\ndeclare void @caller_safepoint()\n";

}  // namespace

TEST_CASE("a loop without end keeps its check when the loop inside of it, which counts, loses its own") {
  llvm::LLVMContext context;
  const auto module = optimised(
      context,
      kDeclared + "define void @wait(ptr %data, i32 %n, ptr %go) {\nentry:\n  br label %outer\n" +
          "outer:\n  br label %inner\n" + "inner:\n  %i = phi i32 [0, %outer], [%j, %body]\n" + check("1", "body") +
          "body:\n  %at = getelementptr i32, ptr %data, i32 %i\n  store atomic i32 %i, ptr %at monotonic, align 4\n" +
          "  %j = add nuw i32 %i, 1\n  %more = icmp ult i32 %j, %n\n  br i1 %more, label %inner, label %after\n" +
          "after:\n" + check("2", "latch") +
          "latch:\n  %g = load atomic i32, ptr %go monotonic, align 4\n  %on = icmp eq i32 %g, 0\n" +
          "  br i1 %on, label %outer, label %done\ndone:\n  ret void\n}\n");
  llvm::DominatorTree dominators(*module->getFunction("wait"));
  const llvm::LoopInfo loops(dominators);
  int without_end = 0;
  for (const auto* loop : loops.getLoopsInPreorder())
    if (!loop->isInnermost()) {
      ++without_end;
      CHECK(own_checks(*loop, loops) >= 1);
    }
  CHECK(without_end >= 1);
}

TEST_CASE("in a loop of one piece a second check on the heels of the first is taken out") {
  llvm::LLVMContext context;
  const auto module =
      optimised(context, kDeclared + "define void @wait(ptr %go) {\nentry:\n  br label %loop\nloop:\n" +
                             check("1", "middle") + "middle:\n" + check("2", "latch") +
                             "latch:\n  %g = load atomic i32, ptr %go monotonic, align 4\n  %on = icmp eq i32 %g, 0\n" +
                             "  br i1 %on, label %loop, label %done\ndone:\n  ret void\n}\n");
  int checks = 0;
  for (const auto& block : *module->getFunction("wait"))
    for (const auto& i : block) checks += looks(i);
  CHECK(checks == 1);
}
