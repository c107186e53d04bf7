#include "jit.hpp"

#include <llvm/Demangle/Demangle.h>
#include <llvm/ExecutionEngine/JITLink/JITLink.h>
#include <llvm/ExecutionEngine/Orc/EPCEHFrameRegistrar.h>
#include <llvm/ExecutionEngine/Orc/ObjectLinkingLayer.h>
#include <unwind.h>

#include <cstdint>
#include <mutex>
#include <set>

#include "cell_memory.hpp"
#include "debug_objects.hpp"
#include "generator.hpp"
#include "thread_locals.hpp"

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

template <class T>
T take(llvm::Expected<T> value, const char* what) {
  if (value) return std::move(*value);
  throw LinkError(std::string(what) + ": " + llvm::toString(value.takeError()));
}

// What no function needs is left out of the unwind tables, too; the entries behind it keep their alignment, and four
// bytes of padding look like the tables' end. So they are all put at the multiples of four that their sizes are.
class TablesWithoutGaps final : public llvm::orc::ObjectLinkingLayer::Plugin {
public:
  void modifyPassConfig(llvm::orc::MaterializationResponsibility&, llvm::jitlink::LinkGraph&,
                        llvm::jitlink::PassConfiguration& passes) override {
    passes.PostPrunePasses.push_back([](llvm::jitlink::LinkGraph& graph) {
      if (auto* tables = graph.findSectionByName(".eh_frame"))
        for (auto* block : tables->blocks()) {
          block->setAlignment(4);
          block->setAlignmentOffset(0);
        }
      return llvm::Error::success();
    });
  }
  llvm::Error notifyFailed(llvm::orc::MaterializationResponsibility&) override { return llvm::Error::success(); }
  llvm::Error notifyRemovingResources(llvm::orc::JITDylib&, llvm::orc::ResourceKey) override {
    return llvm::Error::success();
  }
  void notifyTransferringResources(llvm::orc::JITDylib&, llvm::orc::ResourceKey, llvm::orc::ResourceKey) override {}
};

// What cells ask of thread-local variables that libraries have.
class ThreadLocalsOfLibraries final : public llvm::orc::DefinitionGenerator {
public:
  llvm::Error tryToGenerate(llvm::orc::LookupState&, llvm::orc::LookupKind, llvm::orc::JITDylib& cells,
                            llvm::orc::JITDylibLookupFlags, const llvm::orc::SymbolLookupSet& wanted) override {
    llvm::orc::SymbolMap found;
    for (const auto& [symbol, flags] : wanted) {
      llvm::StringRef name = *symbol;
      if (!name.consume_front(kThreadLocal)) continue;
      if (auto* control = thread_local_of_library(name.str()))
        found[symbol] = {llvm::orc::ExecutorAddr::fromPtr(control), llvm::JITSymbolFlags::Exported};
    }
    if (found.empty()) return llvm::Error::success();
    return cells.define(llvm::orc::absoluteSymbols(std::move(found)));
  }
};

// As made above; LLVM is built without run-time type information.
llvm::orc::ObjectLinkingLayer& linking_layer(llvm::orc::LLJIT& jit) {
  return static_cast<llvm::orc::ObjectLinkingLayer&>(jit.getObjLinkingLayer());
}

}  // namespace

std::string spoken(const std::string& symbol) {
  llvm::StringRef name = symbol;
  name.consume_front(kThreadLocal);
  return llvm::demangle(name.str());
}

Jit::Jit() {
  llvm::orc::LLJITBuilder builder;
  builder.setJITTargetMachineBuilder(machine_of_cells());
  builder.setPlatformSetUp(llvm::orc::setUpInactivePlatform);
  builder.setObjectLinkingLayerCreator(
      [this](llvm::orc::ExecutionSession& es,
             const llvm::Triple&) -> llvm::Expected<std::unique_ptr<llvm::orc::ObjectLayer>> {
        auto memory = std::make_unique<CellMemory>();
        memory_ = memory.get();
        auto layer = std::make_unique<llvm::orc::ObjectLinkingLayer>(es, std::move(memory));
        auto unwind_tables = llvm::orc::EPCEHFrameRegistrar::Create(es);
        if (!unwind_tables) return unwind_tables.takeError();
        layer->addPlugin(std::make_unique<llvm::orc::EHFrameRegistrationPlugin>(es, std::move(*unwind_tables)));
        return layer;
      });
  jit_ = take(builder.create(), "the code generator does not start");
  linking_layer(*jit_).addPlugin(std::make_shared<TablesWithoutGaps>());
  lines_.watch(*jit_);
  auto& es = jit_->getExecutionSession();
  es.setErrorReporter([this](llvm::Error e) { reported_ += llvm::toString(std::move(e)) + "\n"; });
  debug_objects_ = std::make_shared<DebugObjects>();
  linking_layer(*jit_).addPlugin(debug_objects_);
  define("__cxa_atexit", reinterpret_cast<void*>(&register_exit));
  define("__emutls_get_address", reinterpret_cast<void*>(&thread_local_address));
  jit_->getMainJITDylib().addGenerator(std::make_unique<ThreadLocalsOfLibraries>());
}

Jit::~Jit() = default;

void Jit::define(const std::string& symbol, void* address) {
  auto& es = jit_->getExecutionSession();
  llvm::orc::SymbolMap map;
  map[es.intern(symbol)] = {llvm::orc::ExecutorAddr::fromPtr(address), llvm::JITSymbolFlags::Exported};
  if (auto e = jit_->getMainJITDylib().define(llvm::orc::absoluteSymbols(std::move(map))))
    throw LinkError(llvm::toString(std::move(e)));
}

llvm::orc::ResourceTrackerSP Jit::add(const std::string& object) {
  auto tracker = jit_->getMainJITDylib().createResourceTracker();
  if (auto e = jit_->addObjectFile(tracker, llvm::MemoryBuffer::getMemBufferCopy(object, "cell"))) {
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
    // first to search, with the heap's lock held: so it is done now, by an address that stands in none of them. By the
    // highest: they are looked through from above, and a long session has many.
    (void)_Unwind_FindEnclosingFunction(reinterpret_cast<void*>(UINTPTR_MAX));
    return found->toPtr<void*>();
  }
  std::string text;
  std::set<std::string> missing;
  llvm::handleAllErrors(
      found.takeError(),
      [&](const llvm::orc::SymbolsNotFound& e) {
        for (const auto& s : e.getSymbols()) missing.insert(spoken((*s).str()));
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
