#include "jit.hpp"

#include <llvm/Demangle/Demangle.h>
#include <llvm/ExecutionEngine/Orc/CompileUtils.h>
#include <llvm/ExecutionEngine/Orc/ExecutionUtils.h>
#include <llvm/IR/Constants.h>
#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/Instructions.h>
#include <llvm/Support/DynamicLibrary.h>
#include <llvm/Support/TargetSelect.h>
#include <unwind.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>

#include "debug_objects.hpp"

namespace caller::kernel {
namespace {

struct ExitHandler {
  void (*fn)(void*);
  void* argument;
};
std::mutex exit_mutex;
std::vector<ExitHandler>& exit_handlers() {
  static auto* v = new std::vector<ExitHandler>;
  return *v;
}
int register_exit(void (*fn)(void*), void* argument, void*) {
  std::lock_guard lock(exit_mutex);
  exit_handlers().push_back({fn, argument});
  return 0;
}

// Thread-local variables of cells: one control block per variable, made by the compiler, storage per thread from here.
struct EmulatedTls {
  std::size_t size;
  std::size_t align;
  std::uintptr_t index;  // the runtime's; 0 until first used
  void* initial;
};
struct TlsBlocks {
  std::vector<std::pair<void*, std::size_t>> blocks;
  ~TlsBlocks() {
    for (auto& b : blocks) std::free(b.first);
  }
};
thread_local TlsBlocks tls_blocks;
void* emulated_tls(EmulatedTls* control) {
  static std::mutex mutex;
  static std::uintptr_t next = 0;
  std::uintptr_t index = __atomic_load_n(&control->index, __ATOMIC_ACQUIRE);
  if (!index) {
    std::lock_guard lock(mutex);
    if (!control->index) __atomic_store_n(&control->index, ++next, __ATOMIC_RELEASE);
    index = control->index;
  }
  auto& blocks = tls_blocks.blocks;
  if (blocks.size() < index) blocks.resize(index);
  auto& slot = blocks[index - 1].first;
  if (!slot) {
    const std::size_t align = std::max(control->align, sizeof(void*));
    slot = std::aligned_alloc(align, (control->size + align - 1) / align * align);
    if (control->initial)
      std::memcpy(slot, control->initial, control->size);
    else
      std::memset(slot, 0, control->size);
  }
  return slot;
}

template <class T>
T take(llvm::Expected<T> value, const char* what) {
  if (value) return std::move(*value);
  throw LinkError(std::string(what) + ": " + llvm::toString(value.takeError()));
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

// Code that runs once is generated the quick way: there the time of generating is all that counts.
class Compiler final : public llvm::orc::IRCompileLayer::IRCompiler {
public:
  explicit Compiler(llvm::orc::JITTargetMachineBuilder builder)
      : IRCompiler(llvm::orc::irManglingOptionsFromTargetOptions(builder.getOptions())),
        good_machine_(take(builder.createTargetMachine(), "the code generator does not start")),
        quick_machine_(take(builder.setCodeGenOptLevel(llvm::CodeGenOptLevel::None).createTargetMachine(),
                            "the code generator does not start")),
        good_(*good_machine_),
        quick_(*quick_machine_) {}
  llvm::Expected<std::unique_ptr<llvm::MemoryBuffer>> operator()(llvm::Module& module) override {
    return Optimiser::runs_once(module) ? quick_(module) : good_(module);
  }

private:
  std::unique_ptr<llvm::TargetMachine> good_machine_, quick_machine_;
  llvm::orc::SimpleCompiler good_, quick_;
};

// JITLink's, which LLJIT takes by itself on this machine; LLVM is built without run-time type information.
llvm::orc::ObjectLinkingLayer& linking_layer(llvm::orc::LLJIT& jit) {
  return static_cast<llvm::orc::ObjectLinkingLayer&>(jit.getObjLinkingLayer());
}

}  // namespace

Jit::Jit() {
  static std::once_flag once;
  std::call_once(once, [] {
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
    llvm::InitializeNativeTargetAsmParser();
  });
  llvm::orc::LLJITBuilder builder;
  auto machine = take(llvm::orc::JITTargetMachineBuilder::detectHost(), "the processor is not known");
  // Where no code may be reached there is a trap, not whatever lies behind.
  machine.getOptions().TrapUnreachable = true;
  builder.setJITTargetMachineBuilder(std::move(machine));
  builder.setCompileFunctionCreator([](llvm::orc::JITTargetMachineBuilder how)
                                        -> llvm::Expected<std::unique_ptr<llvm::orc::IRCompileLayer::IRCompiler>> {
    return std::make_unique<Compiler>(std::move(how));
  });
  builder.setPlatformSetUp(llvm::orc::setUpInactivePlatform);
  jit_ = take(builder.create(), "the code generator does not start");
  lines_.watch(*jit_);
  auto& es = jit_->getExecutionSession();
  es.setErrorReporter([this](llvm::Error e) { reported_ += llvm::toString(std::move(e)) + "\n"; });
  debug_objects_ = std::make_shared<DebugObjects>();
  linking_layer(*jit_).addPlugin(debug_objects_);
  define("__cxa_atexit", reinterpret_cast<void*>(&register_exit));
  define("__emutls_get_address", reinterpret_cast<void*>(&emulated_tls));
}

Jit::~Jit() = default;

void Jit::define(const std::string& symbol, void* address) {
  auto& es = jit_->getExecutionSession();
  llvm::orc::SymbolMap map;
  map[es.intern(symbol)] = {llvm::orc::ExecutorAddr::fromPtr(address), llvm::JITSymbolFlags::Exported};
  if (auto e = jit_->getMainJITDylib().define(llvm::orc::absoluteSymbols(std::move(map))))
    throw LinkError(llvm::toString(std::move(e)));
}

void Jit::optimise(clang::CompilerInstance& ci, llvm::Module& module, int level, bool once) {
  optimiser_.run(ci, module, level, once);
}

llvm::orc::ResourceTrackerSP Jit::add(clang::CompilerInstance& ci, std::unique_ptr<llvm::Module> module,
                                      const llvm::orc::ThreadSafeContext& context, const std::string& entry,
                                      int optimisation, bool once) {
  make_entry(*module, entry);
  optimise(ci, *module, optimisation, once);
  mark_terminate_handlers(*module);
  auto tracker = jit_->getMainJITDylib().createResourceTracker();
  if (auto e = jit_->addIRModule(tracker, llvm::orc::ThreadSafeModule(std::move(module), context))) {
    const std::string text = llvm::toString(std::move(e));
    if (auto r = tracker->remove()) llvm::consumeError(std::move(r));
    throw LinkError(text);
  }
  return tracker;
}

void* Jit::lookup(const std::string& symbol) {
  reported_.clear();
  auto found = jit_->lookupLinkerMangled(symbol);
  if (found) {
    // The first search of new unwind tables sorts them, and allocates memory for that. A handler of faults may be the
    // first to search, with the heap's lock held: so it is done now, by an address that stands in none of them.
    (void)_Unwind_FindEnclosingFunction(reinterpret_cast<void*>(std::uintptr_t{1}));
    return found->toPtr<void*>();
  }
  std::string text;
  std::set<std::string> missing;
  llvm::handleAllErrors(
      found.takeError(),
      [&](const llvm::orc::SymbolsNotFound& e) {
        for (const auto& s : e.getSymbols()) missing.insert(llvm::demangle((*s).str()));
        text += e.message();
      },
      [&](const llvm::ErrorInfoBase& e) { text += e.message() + "\n"; });
  if (!reported_.empty()) text = reported_;  // the cause; what look-up says is only that it failed
  throw LinkError(text, {missing.begin(), missing.end()});
}

void Jit::keep_debug_objects(bool on) { debug_objects_->keep(on); }
std::vector<DebugObject> Jit::take_debug_objects() { return debug_objects_->take(); }

void Jit::run_exit_handlers() noexcept {
  for (;;) {
    ExitHandler h{};
    {
      std::lock_guard lock(exit_mutex);
      if (exit_handlers().empty()) return;
      h = exit_handlers().back();
      exit_handlers().pop_back();
    }
    try {
      h.fn(h.argument);
    } catch (...) {  // a destructor that throws must not stop the others
    }
  }
}

}  // namespace caller::kernel
