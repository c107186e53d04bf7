#include "generator.hpp"

#include <llvm/IR/Constants.h>
#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/Instructions.h>
#include <llvm/IR/LegacyPassManager.h>
#include <llvm/Support/TargetSelect.h>
#include <llvm/Support/raw_ostream.h>
#include <llvm/Target/TargetMachine.h>

#include <algorithm>
#include <mutex>
#include <stdexcept>

#include "checked.hpp"
#include "thread_locals.hpp"

namespace caller::kernel {
namespace {

template <class T>
T take(llvm::Expected<T> value) {
  if (value) return std::move(*value);
  throw std::runtime_error("the code generator does not start: " + llvm::toString(value.takeError()));
}

// Functions that must not throw end in a handler for everything that ends the process. Made into an empty exception
// specification, which means the same, it can be told from `catch (...)` in the tables: interrupts look there.
void mark_terminate_handlers(llvm::Module& module) {
  auto* type = llvm::ArrayType::get(llvm::PointerType::getUnqual(module.getContext()), 0);
  for (auto& f : module)
    for (auto& block : f) {
      auto* pad = block.getLandingPadInst();
      if (!pad) continue;
      bool ends = false;
      for (auto& i : block)
        if (auto* c = llvm::dyn_cast<llvm::CallInst>(&i);
            c && c->getCalledFunction() && c->getCalledFunction()->getName() == "__clang_call_terminate")
          ends = true;
      if (!ends) continue;
      auto* marked = llvm::LandingPadInst::Create(pad->getType(), 1, "", pad->getIterator());
      marked->addClause(llvm::ConstantArray::get(type, {}));
      pad->replaceAllUsesWith(marked);
      pad->eraseFromParent();
    }
}

// Turns the list of static initialisers into one function that the kernel calls when the segment runs.
void make_entry(llvm::Module& module, const std::string& entry) {
  auto& context = module.getContext();
  // The compiler takes this one to be near, as it is in a shared object: so each module has its own.
  if (auto* dso = module.getNamedGlobal("__dso_handle"); dso && dso->isDeclaration()) {
    dso->setInitializer(llvm::Constant::getNullValue(dso->getValueType()));
    dso->setLinkage(llvm::GlobalValue::InternalLinkage);
  }
  auto* type = llvm::FunctionType::get(llvm::Type::getVoidTy(context), false);
  auto* f = llvm::Function::Create(type, llvm::GlobalValue::ExternalLinkage, entry, module);
  f->setUWTableKind(llvm::UWTableKind::Default);
  llvm::IRBuilder<> b(llvm::BasicBlock::Create(context, "entry", f));
  if (auto* ctors = module.getNamedGlobal("llvm.global_ctors")) {
    if (auto* list = llvm::dyn_cast<llvm::ConstantArray>(ctors->getInitializer())) {
      std::vector<std::pair<std::uint64_t, llvm::Function*>> calls;
      for (auto& operand : list->operands()) {
        auto* item = llvm::cast<llvm::ConstantStruct>(operand);
        const auto priority = llvm::cast<llvm::ConstantInt>(item->getOperand(0))->getZExtValue();
        if (auto* g = llvm::dyn_cast<llvm::Function>(item->getOperand(1)->stripPointerCasts()))
          calls.emplace_back(priority, g);
      }
      std::stable_sort(calls.begin(), calls.end(), [](auto& x, auto& y) { return x.first < y.first; });
      for (auto& [priority, g] : calls) b.CreateCall(type, g);
    }
    ctors->eraseFromParent();
  }
  b.CreateRetVoid();
}

void note_symbols(const llvm::Module& module, SymbolUse& symbols) {
  for (const auto& g : module.global_values()) {
    std::string name = g.getName().str();
    if (!name.empty() && name[0] == '\1') name.erase(0, 1);
    if (name.rfind("llvm.", 0) == 0 || name == "__dso_handle") continue;
    if (g.isThreadLocal()) name.insert(0, kThreadLocal);
    if (!g.isDeclarationForLinker())
      symbols.defined.insert(std::move(name));
    else if (g.isDeclaration() && !g.use_empty() && !g.hasExternalWeakLinkage())
      symbols.wanted.insert(std::move(name));
  }
}

}  // namespace

llvm::orc::JITTargetMachineBuilder machine_of_cells() {
  static std::once_flag once;
  std::call_once(once, [] {
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
    llvm::InitializeNativeTargetAsmParser();
  });
  auto machine = take(llvm::orc::JITTargetMachineBuilder::detectHost());
  // As the linker wants it, which puts a cell's code anywhere.
  machine.setRelocationModel(llvm::Reloc::PIC_);
  machine.setCodeModel(llvm::CodeModel::Small);
  // Where no code may be reached there is a trap, not whatever lies behind.
  machine.getOptions().TrapUnreachable = true;
  return machine;
}

// The passes that make machine code, which take longer to set up than to run on a small cell. They can be run again:
// each run ends with everything of its module given back.
class Emitter {
public:
  explicit Emitter(llvm::Expected<std::unique_ptr<llvm::TargetMachine>> machine) : machine_(take(std::move(machine))) {
    llvm::MCContext* context = nullptr;
    if (machine_->addPassesToEmitMC(passes_, context, stream_))
      throw std::runtime_error("the code generator does not start: no objects for this machine");
  }
  std::string operator()(llvm::Module& module) {
    passes_.run(module);
    std::string object(object_.data(), object_.size());
    object_.clear();
    return object;
  }

private:
  std::unique_ptr<llvm::TargetMachine> machine_;
  llvm::SmallVector<char, 0> object_;
  llvm::raw_svector_ostream stream_{object_};
  llvm::legacy::PassManager passes_;
};

// Code that runs once is generated the quick way: there the time of generating is all that counts.
struct Generator::Machines {
  Machines() : Machines(machine_of_cells()) {}
  explicit Machines(llvm::orc::JITTargetMachineBuilder builder)
      : good(builder.createTargetMachine()),
        quick(builder.setCodeGenOptLevel(llvm::CodeGenOptLevel::None).createTargetMachine()) {}
  Emitter good, quick;
};

Generator::Generator() = default;
Generator::~Generator() = default;

std::string Generator::object(clang::CompilerInstance& ci, llvm::Module& module, const std::string& entry,
                              int optimisation, bool once, SymbolUse& symbols) {
  if (!machines_) machines_ = std::make_unique<Machines>();
  leave_to_library(module, checked_);
  make_entry(module, entry);
  optimiser_.run(ci, module, optimisation, once);
  mark_terminate_handlers(module);
  note_symbols(module, symbols);
  return Optimiser::runs_once(module) ? machines_->quick(module) : machines_->good(module);
}

std::string Generator::checked_object(clang::CompilerInstance& ci, llvm::Module& module, const std::string& root) {
  if (!machines_) machines_ = std::make_unique<Machines>();
  if (define_checked(module, root).empty()) throw std::runtime_error("nothing of the prelude asks for interrupts");
  optimiser_.run(ci, module, -1, false);
  mark_terminate_handlers(module);
  return machines_->good(module);
}

void Generator::set_checked(const char* names) {
  for (std::string name = names; !name.empty(); name = names) {
    names += name.size() + 1;
    checked_.insert(std::move(name));
  }
}

}  // namespace caller::kernel
