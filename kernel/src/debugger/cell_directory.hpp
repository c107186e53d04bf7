// The folder in which the debugger finds the text of cells, one for each process.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

namespace caller::detail {
class OwnedFolder;
}

namespace caller::kernel::debugger {

/// A folder that goes with this, for this user only. A file in it is locked as long as the process lives, however it
/// ends.
///
/// Thread-safety: unsafe. Errors: std::system_error when it cannot be made. Source: ipykernel's get_tmp_directory.
class CellDirectory {
public:
  CellDirectory() noexcept;
  ~CellDirectory();
  /// Its path, which ends in a slash; made when it is first asked for.
  const std::string& path();
  void remove() noexcept;

private:
  std::unique_ptr<caller::detail::OwnedFolder> folder_;
  std::string path_;
};

/// Removes the folders in `where` whose processes have gone without doing so: those of this user whose lock nobody
/// holds. One without a lock is left for an hour: it may be in the making.
///
/// Thread-safety: any thread. Errors: none; what cannot be removed stays. Source: none.
void remove_left_directories(const std::filesystem::path& where) noexcept;

}  // namespace caller::kernel::debugger
