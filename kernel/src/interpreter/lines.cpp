#include "lines.hpp"

#include <llvm/DebugInfo/DWARF/DWARFContext.h>
#include <llvm/Demangle/Demangle.h>
#include <llvm/ExecutionEngine/JITLink/JITLink.h>
#include <llvm/ExecutionEngine/Orc/Debugging/DebugInfoSupport.h>
#include <llvm/ExecutionEngine/Orc/ObjectLinkingLayer.h>

#include <map>
#include <mutex>
#include <utility>

namespace caller::kernel {
namespace {

constexpr const char* kCell = "Cell [";  // how the names of cells' sources begin

/// The function as the user wrote it; empty for the statements of a cell.
std::string readable_function(const std::string& linkage) {
  if (linkage == llvm::DILineInfo::BadString) return "?";
  std::string name = llvm::demangle(linkage);
  for (auto at = name.find("__cell_"); at != std::string::npos; at = name.find("__cell_", at)) {
    const auto end = name.find("::", at);
    if (end == std::string::npos) break;
    name.erase(at, end + 2 - at);
  }
  for (const char* suffix : {" (.resume)", " (.destroy)", " (.cleanup)", " [clone .resume]", ".resume"})
    if (const auto at = name.find(suffix); at != std::string::npos) name.erase(at);
  for (const char* ours : {"__caller_", "caller_entry", "caller_coroutine", "__cxx_global_var_init", "_GLOBAL__sub_I"})
    if (name.find(ours) != std::string::npos) return {};
  return name;
}

bool executable(const llvm::jitlink::Section& section) {
  using llvm::orc::MemProt;
  return (static_cast<unsigned>(section.getMemProt()) & static_cast<unsigned>(MemProt::Exec)) != 0;
}

}  // namespace

struct Lines::State {
  struct Range {
    std::uint64_t end;
    std::size_t module;
  };
  struct Module {
    llvm::StringMap<std::unique_ptr<llvm::MemoryBuffer>> sections;  // below what reads them
    std::unique_ptr<llvm::DWARFContext> context;
  };
  std::mutex mutex;
  std::map<std::uint64_t, Range> ranges;           // by begin
  std::map<std::uint64_t, std::string> functions;  // symbols, by where they begin
  std::vector<Module> modules;
};

class Lines::Plugin final : public llvm::orc::ObjectLinkingLayer::Plugin {
public:
  explicit Plugin(std::shared_ptr<State> state) : state_(std::move(state)) {}

  void modifyPassConfig(llvm::orc::MaterializationResponsibility&, llvm::jitlink::LinkGraph& graph,
                        llvm::jitlink::PassConfiguration& passes) override {
    if (!graph.findSectionByName(".debug_line")) return;
    passes.PrePrunePasses.push_back(llvm::orc::preserveDebugSections);
    passes.PostFixupPasses.push_back([state = state_](llvm::jitlink::LinkGraph& g) { return keep(*state, g); });
  }
  llvm::Error notifyFailed(llvm::orc::MaterializationResponsibility&) override { return llvm::Error::success(); }
  llvm::Error notifyRemovingResources(llvm::orc::JITDylib&, llvm::orc::ResourceKey) override {
    return llvm::Error::success();
  }
  void notifyTransferringResources(llvm::orc::JITDylib&, llvm::orc::ResourceKey, llvm::orc::ResourceKey) override {}

private:
  static llvm::Error keep(State& state, llvm::jitlink::LinkGraph& graph) {
    auto made = llvm::orc::createDWARFContext(graph);
    if (!made) {  // then there are no lines
      llvm::consumeError(made.takeError());
      return llvm::Error::success();
    }
    const std::lock_guard lock(state.mutex);
    for (auto& section : graph.sections()) {
      if (!executable(section)) continue;
      const llvm::jitlink::SectionRange range(section);
      if (range.empty()) continue;
      const std::uint64_t begin = range.getStart().getValue(), end = range.getEnd().getValue();
      // Memory of a cell that was taken back may be used again.
      auto it = state.ranges.lower_bound(begin);
      if (it != state.ranges.begin() && std::prev(it)->second.end > begin) --it;
      while (it != state.ranges.end() && it->first < end) it = state.ranges.erase(it);
      state.ranges[begin] = {end, state.modules.size()};
      state.functions.erase(state.functions.lower_bound(begin), state.functions.lower_bound(end));
      // Small tables name only what was inlined.
      for (const auto* symbol : section.symbols())
        if (symbol->isCallable() && symbol->hasName())
          state.functions[symbol->getAddress().getValue()] = symbol->getName().str();
    }
    state.modules.push_back({std::move(made->second), std::move(made->first)});
    return llvm::Error::success();
  }

  std::shared_ptr<State> state_;
};

Lines::Lines() : state_(std::make_shared<State>()) {}
Lines::~Lines() = default;

void Lines::watch(llvm::orc::LLJIT& jit) {
  if (auto* layer = llvm::dyn_cast<llvm::orc::ObjectLinkingLayer>(&jit.getObjLinkingLayer()))
    layer->addPlugin(std::make_shared<Plugin>(state_));
}

std::vector<Place> Lines::places(const void* address) const {
  const auto at = reinterpret_cast<std::uint64_t>(address);
  std::vector<Place> out;
  const std::lock_guard lock(state_->mutex);
  auto it = state_->ranges.upper_bound(at);
  if (it == state_->ranges.begin() || (--it)->second.end <= at) return out;
  using Kind = llvm::DILineInfoSpecifier;
  const auto info = state_->modules[it->second.module].context->getInliningInfoForAddress(
      {at, llvm::object::SectionedAddress::UndefSection},
      Kind(Kind::FileLineInfoKind::RawValue, Kind::FunctionNameKind::ShortName));
  const auto function = state_->functions.upper_bound(at);
  const std::string compiled = function == state_->functions.begin() ? "" : std::prev(function)->second;
  for (std::uint32_t i = 0; i < info.getNumberOfFrames(); ++i) {
    const auto& frame = info.getFrame(i);
    const auto name = frame.FileName.rfind(kCell);
    if (name == std::string::npos || frame.Line == 0) continue;
    const bool inlined = i + 1 < info.getNumberOfFrames();
    out.push_back(
        {frame.FileName.substr(name), frame.Line, readable_function(inlined ? frame.FunctionName : compiled)});
  }
  return out;
}

}  // namespace caller::kernel
