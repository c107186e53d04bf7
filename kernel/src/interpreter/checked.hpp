// Functions of the prelude whose loops ask for interrupts. Internal to this folder.
//
// Algorithms that may run for long cannot be compiled with the prelude as everything else is: clang knows of no
// interrupts. They are compiled as cells are, when the project is built, and linked in place of clang's own.
#pragma once

#include <llvm/IR/Module.h>

#include <set>
#include <string>

namespace caller::kernel {

/// The symbol in the prelude's library that names these functions, each ended by a zero, and so is the list.
inline constexpr const char* kCheckedNames = "caller_prelude_checked";

/// Makes a module, generated with checks in what came out of the precompiled header, the definition of all that ask for
/// interrupts or call what does; `root` is what led there and goes. Also defines `kCheckedNames`. Returns the names.
std::set<std::string> define_checked(llvm::Module& module, const std::string& root);

/// Leaves these functions to the library: inlined, they would ask no more.
void leave_to_library(llvm::Module& module, const std::set<std::string>& names);

}  // namespace caller::kernel
