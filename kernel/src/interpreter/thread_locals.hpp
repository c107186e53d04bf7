// Thread-local variables as cells see them. Internal to this folder.
//
// Cells are compiled with emulated thread-local storage: for each variable there is a control block, `__emutls_v.` and
// its name, and code asks __emutls_get_address for the calling thread's copy. Storage of cells' own variables is made
// here. A library has real thread-local variables, under their own names: for one that a cell uses, a control block is
// made that leads there.
#pragma once

#include <string>
#include <string_view>

namespace caller::kernel {

/// What the name of a variable's control block begins with.
inline constexpr std::string_view kThreadLocal = "__emutls_v.";

/// As the compiler lays it out.
struct EmulatedTls;

/// __emutls_get_address: the calling thread's copy of a variable.
///
/// Thread-safety: any thread.
/// Errors: none.
/// Source: libgcc's emutls.c; differs: variables of libraries.
void* thread_local_address(EmulatedTls* control);

/// The control block of a library's thread-local variable of this name (as mangled), for ever; null if no library that
/// symbols are looked for in has one. A variable that is not thread-local is none.
///
/// Thread-safety: any thread.
/// Errors: none.
/// Source: none.
EmulatedTls* thread_local_of_library(const std::string& name);

}  // namespace caller::kernel
