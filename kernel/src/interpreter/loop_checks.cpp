#include "loop_checks.hpp"

#include <llvm/ADT/PostOrderIterator.h>
#include <llvm/Analysis/AssumptionCache.h>
#include <llvm/Analysis/LoopInfo.h>
#include <llvm/Analysis/ScalarEvolution.h>
#include <llvm/Analysis/ScalarEvolutionExpressions.h>
#include <llvm/IR/CFG.h>
#include <llvm/IR/Dominators.h>
#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/Instructions.h>
#include <llvm/IR/IntrinsicInst.h>
#include <llvm/IR/Module.h>
#include <llvm/Transforms/Scalar/LICM.h>
#include <llvm/Transforms/Scalar/LoopPassManager.h>
#include <llvm/Transforms/Scalar/SimpleLoopUnswitch.h>
#include <llvm/Transforms/Scalar/SimplifyCFG.h>
#include <llvm/Transforms/Utils/BasicBlockUtils.h>
#include <llvm/Transforms/Utils/Cloning.h>
#include <llvm/Transforms/Utils/LoopSimplify.h>
#include <llvm/Transforms/Utils/ScalarEvolutionExpander.h>

namespace caller::kernel {
namespace {

constexpr const char* kPending = "caller_interrupt_pending";
constexpr const char* kCheck = "caller_safepoint";
constexpr const char* kInlinedCheck = "_ZN6caller6kernel6detail9safepointEv";  // before anything is inlined
constexpr std::uint64_t kShort = 1u << 26;  // instructions that a loop may run without looking, some ten milliseconds
constexpr unsigned kRecursionSize = 600;    // instructions that a function may grow to by being inlined into itself
constexpr unsigned kRecursionDepth = 8;

llvm::LoadInst* looks(llvm::Instruction& i) {
  auto* load = llvm::dyn_cast<llvm::LoadInst>(&i);
  return load && load->getPointerOperand()->getName() == kPending ? load : nullptr;
}

bool calls(const llvm::Instruction& i, llvm::StringRef name) {
  const auto* call = llvm::dyn_cast<llvm::CallBase>(&i);
  return call && call->getCalledFunction() && call->getCalledFunction()->getName() == name;
}

// The check throws or does nothing that a cell could see.
struct DescribeCheck : llvm::PassInfoMixin<DescribeCheck> {
  llvm::PreservedAnalyses run(llvm::Module& m, llvm::ModuleAnalysisManager&) {
    if (auto* f = m.getFunction(kCheck)) {
      f->setOnlyAccessesInaccessibleMemory();
      f->addFnAttr(llvm::Attribute::Cold);
    }
    return llvm::PreservedAnalyses::none();
  }
};

// A check on the heels of another: a function that checks was inlined. In each turn of a loop the first one stays.
struct RepeatedChecks : llvm::PassInfoMixin<RepeatedChecks> {
  llvm::PreservedAnalyses run(llvm::Function& f, llvm::FunctionAnalysisManager& analyses) {
    if (!f.getParent()->getNamedValue(kPending)) return llvm::PreservedAnalyses::all();
    const auto& loops = analyses.getResult<llvm::LoopAnalysis>(f);
    llvm::SmallVector<llvm::LoadInst*, 8> repeated;
    llvm::DenseMap<const llvm::BasicBlock*, bool> checked;  // at the end of a block; none yet where the way leads back
    for (auto* block : llvm::ReversePostOrderTraversal<llvm::Function*>(&f)) {
      bool now = !llvm::pred_empty(block) && llvm::all_of(llvm::predecessors(block), [&](auto* before) {
        const auto* loop = loops.getLoopFor(before);  // one that ends here may lose its check, as it is short
        return checked.lookup(before) && (!loop || loop->contains(block));
      });
      for (auto& i : *block) {
        if (auto* load = looks(i)) {
          if (now) repeated.push_back(load);
          now = true;
        } else if (llvm::isa<llvm::CallBase>(i) && !llvm::isa<llvm::IntrinsicInst>(i)) {
          now = calls(i, kCheck);
        }
      }
      checked[block] = now;
    }
    for (auto* load : repeated) {
      load->replaceAllUsesWith(llvm::ConstantInt::get(load->getType(), 0));
      load->eraseFromParent();
    }
    return repeated.empty() ? llvm::PreservedAnalyses::all() : llvm::PreservedAnalyses::none();
  }
};

// The same number with divisors that are never zero; where one is, the loop may go on for ever.
struct Divisors : llvm::SCEVRewriteVisitor<Divisors> {
  using SCEVRewriteVisitor::SCEVRewriteVisitor;
  const llvm::SCEV* visitUDivExpr(const llvm::SCEVUDivExpr* e) {
    const auto* divisor = visit(e->getRHS());
    if (!llvm::isa<llvm::SCEVConstant>(divisor)) {
      found.push_back(divisor);
      divisor = SE.getUMaxExpr(divisor, SE.getOne(divisor->getType()));
    }
    return SE.getUDivExpr(visit(e->getLHS()), divisor);
  }
  llvm::SmallVector<const llvm::SCEV*, 2> found;
};

// Can it be computed at the end of the block, whatever the values are?
bool computable(const llvm::SCEV* e, llvm::ScalarEvolution& scalars, llvm::BasicBlock* block) {
  return scalars.dominates(e, block) && !llvm::SCEVExprContains(e, [&](const llvm::SCEV* part) {
           if (const auto* turn = llvm::dyn_cast<llvm::SCEVAddRecExpr>(part)) return !turn->isAffine();
           const auto* division = llvm::dyn_cast<llvm::SCEVUDivExpr>(part);
           return division && !scalars.isKnownNonZero(division->getRHS());
         });
}

// A number of turns: `whole`, or `whole / step` where that would have to be divided, which takes longer than many a
// loop.
struct Turns {
  static Turns of(const llvm::SCEV* count, llvm::ScalarEvolution& scalars) {
    const auto* rest = count;
    if (const auto* sum = llvm::dyn_cast<llvm::SCEVAddExpr>(count)) {  // a turn more or less is no matter
      llvm::SmallVector<const llvm::SCEV*, 4> parts;
      for (const auto* part : sum->operands())
        if (scalars.getUnsignedRangeMax(part).ugt(1)) parts.push_back(part);
      if (parts.size() == 1) rest = parts.front();
    }
    const auto* quotient = llvm::dyn_cast<llvm::SCEVUDivExpr>(rest);
    if (!quotient || llvm::isa<llvm::SCEVConstant>(quotient->getRHS())) return {count, nullptr};
    return {quotient->getLHS(), quotient->getRHS()};
  }
  const llvm::SCEV* whole = nullptr;
  const llvm::SCEV* step = nullptr;
};

struct ShortLoops : llvm::PassInfoMixin<ShortLoops> {
  llvm::PreservedAnalyses run(llvm::Function& f, llvm::FunctionAnalysisManager& analyses) {
    if (!f.getParent()->getNamedValue(kPending)) return llvm::PreservedAnalyses::all();
    auto& loops = analyses.getResult<llvm::LoopAnalysis>(f);
    auto& scalars = analyses.getResult<llvm::ScalarEvolutionAnalysis>(f);
    auto& dominators = analyses.getResult<llvm::DominatorTreeAnalysis>(f);
    bool changed = false;
    for (auto* loop : loops.getLoopsInPreorder())
      if (loop->isInnermost()) changed |= shorten(*loop, loops, scalars, dominators);
    return changed ? llvm::PreservedAnalyses::none() : llvm::PreservedAnalyses::all();
  }

private:
  static bool shorten(llvm::Loop& loop, llvm::LoopInfo& loops, llvm::ScalarEvolution& scalars,
                      llvm::DominatorTree& dominators) {
    auto* before = loop.getLoopPreheader();
    auto* latch = loop.getLoopLatch();
    if (!before || !latch) return false;
    llvm::SmallVector<llvm::LoadInst*, 4> checks;
    std::uint64_t size = 0;
    for (auto* block : loop.blocks())
      for (auto& i : *block) {
        ++size;
        if (auto* load = looks(i)) checks.push_back(load);
        const auto* call = llvm::dyn_cast<llvm::CallBase>(&i);
        if (!call || calls(i, kCheck) || llvm::isa<llvm::IntrinsicInst>(i)) continue;
        if (!call->doesNotThrow() || !call->hasFnAttr(llvm::Attribute::WillReturn)) return false;
        size += 50;  // a function of the mathematical library
      }
    if (checks.empty()) return false;

    // Any exit that is tried at each turn bounds their number.
    Turns turns;
    Divisors divisors(scalars);
    llvm::SmallVector<llvm::BasicBlock*, 4> exits;
    loop.getExitingBlocks(exits);
    for (auto* exit : exits) {
      if (!dominators.dominates(exit, latch)) continue;
      const auto* count = scalars.getExitCount(&loop, exit);
      if (llvm::isa<llvm::SCEVCouldNotCompute>(count)) continue;
      if (!count->getType()->isIntegerTy() || scalars.getTypeSizeInBits(count->getType()) > 64) continue;
      Divisors own(scalars);
      Turns found = Turns::of(count, scalars);
      found.whole = own.visit(found.whole);
      if (found.step) own.found.push_back(found.step = own.visit(found.step));
      if (!computable(found.whole, scalars, before) || (found.step && !computable(found.step, scalars, before)))
        continue;
      turns = found;
      divisors.found = std::move(own.found);
      break;
    }
    if (!turns.whole) return false;
    auto* type = turns.whole->getType();
    auto* end = before->getTerminator();
    llvm::SCEVExpander expander(scalars, loop.getHeader()->getModule()->getDataLayout(), "turns");
    llvm::IRBuilder<> b(end);
    llvm::Value* is_long = b.getFalse();
    if (type->getIntegerBitWidth() > 16) {
      auto* whole = expander.expandCodeFor(turns.whole, type, end);
      llvm::Value* limit = llvm::ConstantInt::get(type, std::max<std::uint64_t>(kShort / size, 1));
      llvm::Value* beyond = b.getFalse();  // more than any number
      if (turns.step) {
        auto* product = b.CreateBinaryIntrinsic(llvm::Intrinsic::umul_with_overflow,
                                                expander.expandCodeFor(turns.step, type, end), limit);
        limit = b.CreateExtractValue(product, 0);
        beyond = b.CreateExtractValue(product, 1);
      }
      is_long = b.CreateAnd(b.CreateICmpUGT(whole, limit, "long"), b.CreateNot(beyond));
    }
    for (const auto* divisor : divisors.found) {
      auto* value = expander.expandCodeFor(divisor, divisor->getType(), end);
      is_long = b.CreateOr(is_long, b.CreateIsNull(value));
    }
    for (auto* load : checks) {
      // if (long) pending = load;  as a branch around the load, which unswitching then takes out of the loop
      auto* head = load->getParent();
      auto* look = llvm::SplitBlock(head, load->getIterator(), &dominators, &loops);
      auto* rest = llvm::SplitBlock(look, std::next(load->getIterator()), &dominators, &loops);
      auto* pending = llvm::PHINode::Create(load->getType(), 2, "pending", rest->begin());
      load->replaceAllUsesWith(pending);
      pending->addIncoming(load, look);
      pending->addIncoming(llvm::ConstantInt::get(load->getType(), 0), head);
      auto* old = head->getTerminator();
      llvm::BranchInst::Create(look, rest, is_long, old->getIterator());
      old->eraseFromParent();
    }
    scalars.forgetLoop(&loop);
    dominators.recalculate(*before->getParent());
    return true;
  }
};

struct InlineRecursion : llvm::PassInfoMixin<InlineRecursion> {
  llvm::PreservedAnalyses run(llvm::Module& m, llvm::ModuleAnalysisManager&) {
    llvm::SmallVector<llvm::Function*, 8> functions;
    for (auto& f : m)
      if (!f.isDeclaration() && !f.hasAvailableExternallyLinkage() && !f.isVarArg() &&
          !f.hasFnAttribute(llvm::Attribute::NoInline) && !f.hasFnAttribute(llvm::Attribute::OptimizeNone) &&
          !f.hasFnAttribute(llvm::Attribute::PresplitCoroutine))
        functions.push_back(&f);
    bool changed = false;
    for (auto* f : functions) changed |= inline_into_itself(*f);
    return changed ? llvm::PreservedAnalyses::none() : llvm::PreservedAnalyses::all();
  }

private:
  static llvm::SmallVector<llvm::CallBase*, 4> own_calls(llvm::Function& f) {
    llvm::SmallVector<llvm::CallBase*, 4> out;
    for (auto& block : f)
      for (auto& i : block)
        if (auto* call = llvm::dyn_cast<llvm::CallBase>(&i); call && call->getCalledFunction() == &f)
          out.push_back(call);
    return out;
  }

  static bool inline_into_itself(llvm::Function& f) {
    auto sites = own_calls(f);
    if (sites.empty()) return false;
    const unsigned size = f.getInstructionCount();
    llvm::ValueToValueMapTy map;
    auto* once = llvm::CloneFunction(&f, map);  // its calls go to the function itself
    once->setLinkage(llvm::GlobalValue::InternalLinkage);
    once->setComdat(nullptr);
    // The function that it is inlined into has just looked.
    for (auto& i : once->getEntryBlock())
      if (calls(i, kInlinedCheck)) {
        if (auto* invoke = llvm::dyn_cast<llvm::InvokeInst>(&i)) {  // of a function that must not throw
          llvm::BranchInst::Create(invoke->getNormalDest(), invoke->getIterator());
          invoke->getUnwindDest()->removePredecessor(invoke->getParent());
        }
        i.eraseFromParent();
        break;
      }
    bool changed = false;
    for (unsigned depth = 0; depth < kRecursionDepth; ++depth) {
      if (f.getInstructionCount() + sites.size() * size > kRecursionSize) break;
      for (auto* call : sites) {
        call->setCalledFunction(once);
        llvm::InlineFunctionInfo info;
        if (llvm::InlineFunction(*call, info).isSuccess())
          changed = true;
        else
          call->setCalledFunction(&f);
      }
      sites = own_calls(f);
    }
    once->eraseFromParent();
    return changed;
  }
};

}  // namespace

void add_loop_checks(llvm::PassBuilder& builder) {
  builder.registerPipelineStartEPCallback(
      [](llvm::ModulePassManager& passes, llvm::OptimizationLevel) { passes.addPass(DescribeCheck()); });
  builder.registerPipelineEarlySimplificationEPCallback(
      [](llvm::ModulePassManager& passes, llvm::OptimizationLevel level) {
        if (level.getSpeedupLevel() > 1) passes.addPass(InlineRecursion());
      });
  builder.registerVectorizerStartEPCallback([](llvm::FunctionPassManager& passes, llvm::OptimizationLevel level) {
    if (level.getSpeedupLevel() < 2) return;
    passes.addPass(RepeatedChecks());
    passes.addPass(llvm::SimplifyCFGPass());
    passes.addPass(llvm::LoopSimplifyPass());
    passes.addPass(ShortLoops());
    passes.addPass(llvm::createFunctionToLoopPassAdaptor(llvm::SimpleLoopUnswitchPass(/*NonTrivial=*/true), true));
    passes.addPass(llvm::SimplifyCFGPass());
    passes.addPass(llvm::createFunctionToLoopPassAdaptor(llvm::LICMPass(llvm::LICMOptions()), true));
  });
}

}  // namespace caller::kernel
