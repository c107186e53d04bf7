// Folders for temporary files that go with their process, however it ends. For the libraries above; no user sees it.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include <caller/export.hpp>

#include "process.hpp"

namespace caller::detail {

/// A folder that goes with this, for this user only. A file in it is locked as long as the process lives.
class CALLER_API OwnedFolder {
public:
  OwnedFolder() noexcept = default;
  /// A new one in `where`, whose name begins with `begin`. Errors: std::system_error when it cannot be made.
  OwnedFolder(const std::filesystem::path& where, std::string_view begin);
  OwnedFolder(OwnedFolder&& other) noexcept { *this = std::move(other); }
  OwnedFolder& operator=(OwnedFolder&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(lock_, other.lock_);
    return *this;
  }
  ~OwnedFolder() { remove(); }
  /// Empty: there is none.
  const std::filesystem::path& path() const noexcept { return path_; }
  void remove() noexcept;

private:
  std::filesystem::path path_;
  Descriptor lock_;
};

/// Removes the folders in `where` whose names begin with `begin` and whose processes have gone without doing so: those
/// of this user whose lock nobody holds. One without a lock is left for an hour: it may be in the making.
///
/// Thread-safety: any thread. Errors: none; what cannot be removed stays.
CALLER_API void remove_left_folders(const std::filesystem::path& where, std::string_view begin) noexcept;

}  // namespace caller::detail
