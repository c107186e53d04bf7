// Where Jupyter keeps the files of this user.
#pragma once

#include <string>

namespace caller::kernel {

/// `$JUPYTER_DATA_DIR`, `$XDG_DATA_HOME/jupyter` or `~/.local/share/jupyter`; empty when there is no home.
///
/// Thread-safety: any thread.
/// Errors: none.
/// Source: jupyter_core `jupyter_data_dir`.
std::string jupyter_data_dir();

/// `$JUPYTER_RUNTIME_DIR`, else `runtime` in the data folder; made for the owner alone where it is missing. Empty when
/// there is no home.
///
/// Thread-safety: any thread.
/// Errors: none.
/// Source: jupyter_core `jupyter_runtime_dir`.
std::string jupyter_runtime_dir();

}  // namespace caller::kernel
