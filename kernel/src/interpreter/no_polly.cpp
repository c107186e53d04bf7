// Debian's static LLVM asks every program for Polly, an extension of loop optimisation that is a package of its own.
// Cells do without it: this answers that there is nothing to register.
#include <llvm/Passes/PassPlugin.h>

llvm::PassPluginLibraryInfo getPollyPluginInfo() {
  return {LLVM_PLUGIN_API_VERSION, "none", LLVM_VERSION_STRING, [](llvm::PassBuilder&) {}};
}
