#include "debug_objects.hpp"

#include <llvm/Object/ELFObjectFile.h>

#include <set>
#include <utility>

namespace caller::kernel {
namespace {

// Sections of one name became one when the object was linked; which part of it lies where is not known any more.
std::set<std::string> names_used_once(llvm::MemoryBufferRef object) {
  std::set<std::string> once, more;
  auto file = llvm::object::ObjectFile::createELFObjectFile(object);
  if (!file) {
    llvm::consumeError(file.takeError());
    return once;
  }
  for (const auto& section : (*file)->sections()) {
    auto name = section.getName();
    if (!name) {
      llvm::consumeError(name.takeError());
      continue;
    }
    if (!once.insert(name->str()).second) more.insert(name->str());
  }
  for (const auto& name : more) once.erase(name);
  return once;
}

}  // namespace

std::vector<DebugObject> DebugObjects::take() { return std::exchange(done_, {}); }

void DebugObjects::notifyMaterializing(llvm::orc::MaterializationResponsibility& responsibility,
                                       llvm::jitlink::LinkGraph&, llvm::jitlink::JITLinkContext&,
                                       llvm::MemoryBufferRef object) {
  if (on_) linking_[&responsibility].elf = object.getBuffer().str();
}

void DebugObjects::modifyPassConfig(llvm::orc::MaterializationResponsibility& responsibility, llvm::jitlink::LinkGraph&,
                                    llvm::jitlink::PassConfiguration& passes) {
  if (!on_) return;
  passes.PostAllocationPasses.push_back([this, key = &responsibility](llvm::jitlink::LinkGraph& graph) {
    const auto it = linking_.find(key);
    if (it == linking_.end()) return llvm::Error::success();
    const auto known = names_used_once(llvm::MemoryBufferRef(it->second.elf, "cell"));
    for (auto& section : graph.sections()) {
      const llvm::jitlink::SectionRange range(section);
      const std::string name = section.getName().str();
      if (!range.empty() && section.getMemLifetime() != llvm::orc::MemLifetime::NoAlloc && known.count(name))
        it->second.sections.emplace_back(name, range.getStart().getValue());
    }
    return llvm::Error::success();
  });
}

llvm::Error DebugObjects::notifyEmitted(llvm::orc::MaterializationResponsibility& responsibility) {
  if (auto node = linking_.extract(&responsibility)) done_.push_back(std::move(node.mapped()));
  return llvm::Error::success();
}

llvm::Error DebugObjects::notifyFailed(llvm::orc::MaterializationResponsibility& responsibility) {
  linking_.erase(&responsibility);
  return llvm::Error::success();
}

}  // namespace caller::kernel
