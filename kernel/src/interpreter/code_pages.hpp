// Gives back what of libraries' code is only there because it was needed once. Internal to this folder.
#pragma once

namespace caller::kernel {

/// Takes the pages of files that the process maps and cannot write (code, constants, the precompiled header) out of its
/// memory; those still needed come back from the system's cache when they are touched next, some milliseconds in all.
/// A compiler that has started holds some hundred MiB of which one cell after the other needs a third.
/// Thread-safety: any thread; others go on meanwhile. Errors: none; without /proc nothing happens.
void give_back_code_pages() noexcept;

}  // namespace caller::kernel
