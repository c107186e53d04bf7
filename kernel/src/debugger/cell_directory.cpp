#include "debugger/cell_directory.hpp"

namespace caller::kernel::debugger {

namespace fs = std::filesystem;

namespace {
constexpr const char* kBegin = "caller-cells-";
}

const std::string& CellDirectory::path() {
  if (path_.empty()) {
    folder_ = caller::detail::OwnedFolder(fs::temp_directory_path(), kBegin);
    path_ = folder_.path().string() + "/";
  }
  return path_;
}

void CellDirectory::remove() noexcept {
  folder_.remove();
  path_.clear();
}

void remove_left_directories(const fs::path& where) noexcept { caller::detail::remove_left_folders(where, kBegin); }

}  // namespace caller::kernel::debugger
