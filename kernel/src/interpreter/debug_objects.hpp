// Keeps the objects that the JIT links, so that a debugger can read their debug information. Internal to this folder.
#pragma once

#include <llvm/ExecutionEngine/Orc/ObjectLinkingLayer.h>

#include <map>
#include <vector>

#include "interpreter.hpp"

namespace caller::kernel {

/// While switched on, every object that is linked is kept with the addresses its sections were given.
///
/// Thread-safety: `keep` and `take` by the thread that links.
class DebugObjects final : public llvm::orc::ObjectLinkingLayer::Plugin {
public:
  void keep(bool on) { on_ = on; }
  std::vector<DebugObject> take();

  void modifyPassConfig(llvm::orc::MaterializationResponsibility& responsibility, llvm::jitlink::LinkGraph& graph,
                        llvm::jitlink::PassConfiguration& passes) override;
  void notifyMaterializing(llvm::orc::MaterializationResponsibility& responsibility, llvm::jitlink::LinkGraph& graph,
                           llvm::jitlink::JITLinkContext& context, llvm::MemoryBufferRef object) override;
  llvm::Error notifyEmitted(llvm::orc::MaterializationResponsibility& responsibility) override;
  llvm::Error notifyFailed(llvm::orc::MaterializationResponsibility& responsibility) override;
  llvm::Error notifyRemovingResources(llvm::orc::JITDylib&, llvm::orc::ResourceKey) override {
    return llvm::Error::success();
  }
  void notifyTransferringResources(llvm::orc::JITDylib&, llvm::orc::ResourceKey, llvm::orc::ResourceKey) override {}

private:
  bool on_ = false;
  std::map<const llvm::orc::MaterializationResponsibility*, DebugObject> linking_;
  std::vector<DebugObject> done_;
};

}  // namespace caller::kernel
