// Interrupt checks that cost little: passes for the optimiser of cells. Internal to this folder.
#pragma once

#include <llvm/Passes/PassBuilder.h>

namespace caller::kernel {

/// Adds the passes to the pipelines that `builder` makes from here on:
///
/// - What a check may do to memory is nothing a cell could see, so values stay in registers across it.
/// - An innermost loop that counts gets a second version without checks for when it is short; the loops around it
/// check.
/// - A function that calls itself is inlined into itself, as g++ does; its copies check nothing.
void add_loop_checks(llvm::PassBuilder& builder);

}  // namespace caller::kernel
