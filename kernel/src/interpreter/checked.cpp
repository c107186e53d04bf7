#include "checked.hpp"

#include <llvm/IR/Constants.h>
#include <llvm/IR/GlobalVariable.h>
#include <llvm/IR/InstrTypes.h>

namespace caller::kernel {
namespace {

constexpr const char* kSafepoint = "_ZN6caller6kernel6detail9safepointEv";
constexpr const char* kOwn = "_ZN6caller";  // what the prelude calls the algorithms by

bool calls_any(const llvm::Function& f, const std::set<std::string>& names) {
  for (const auto& block : f)
    for (const auto& i : block)
      if (const auto* call = llvm::dyn_cast<llvm::CallBase>(&i))
        if (const auto* callee = call->getCalledFunction(); callee && names.count(callee->getName().str())) return true;
  return false;
}

}  // namespace

std::set<std::string> define_checked(llvm::Module& module, const std::string& root) {
  std::set<std::string> found{kSafepoint};
  for (std::size_t before = 0; before != found.size();) {
    before = found.size();
    for (const auto& f : module)
      if (!f.isDeclaration() && f.getName() != root && !f.getName().starts_with(kOwn) && calls_any(f, found))
        found.insert(f.getName().str());
  }
  found.erase(kSafepoint);
  std::string list;
  for (const std::string& name : found) {
    auto* f = module.getFunction(name);
    f->setLinkage(llvm::GlobalValue::WeakODRLinkage);
    f->setComdat(module.getOrInsertComdat(name));
    list += name;
    list += '\0';
  }
  module.getFunction(root)->setLinkage(llvm::GlobalValue::InternalLinkage);
  auto* text = llvm::ConstantDataArray::getString(module.getContext(), list);  // with a zero of its own
  new llvm::GlobalVariable(module, text->getType(), true, llvm::GlobalValue::ExternalLinkage, text, kCheckedNames);
  // The flags of cells say that symbols are near; in a shared object they may be anybody's.
  for (auto& global : module.global_values())
    if (!global.hasLocalLinkage()) global.setDSOLocal(false);
  return found;
}

void leave_to_library(llvm::Module& module, const std::set<std::string>& names) {
  if (names.empty()) return;
  for (auto& f : module)
    if (f.hasAvailableExternallyLinkage() && names.count(f.getName().str())) f.deleteBody();
}

}  // namespace caller::kernel
