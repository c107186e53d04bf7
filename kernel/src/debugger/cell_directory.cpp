#include "debugger/cell_directory.hpp"

#include "runtime/owned_folder.hpp"

namespace caller::kernel::debugger {

namespace fs = std::filesystem;

namespace {
constexpr const char* kBegin = "caller-cells-";
}

CellDirectory::CellDirectory() noexcept = default;
CellDirectory::~CellDirectory() = default;

const std::string& CellDirectory::path() {
  if (path_.empty()) {
    folder_ = std::make_unique<caller::detail::OwnedFolder>(fs::temp_directory_path(), kBegin);
    path_ = folder_->path().string() + "/";
  }
  return path_;
}

void CellDirectory::remove() noexcept {
  folder_.reset();
  path_.clear();
}

void remove_left_directories(const fs::path& where) noexcept { caller::detail::remove_left_folders(where, kBegin); }

}  // namespace caller::kernel::debugger
