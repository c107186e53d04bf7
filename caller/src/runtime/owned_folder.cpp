#include "owned_folder.hpp"

#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <system_error>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace caller::detail {

namespace fs = std::filesystem;

namespace {

constexpr const char* kLock = ".lock";
constexpr std::time_t kMaking = 3600;  // seconds

/// Holds the lock of a folder; none: errno says why.
Descriptor locked(const fs::path& folder, int flags) {
  const int fd = ::open((folder / kLock).c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
  if (fd < 0) return {};
  struct stat status{};
  // Whoever removes a folder holds its lock: it may be gone by the time it is had.
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0 && ::fstat(fd, &status) == 0 && status.st_nlink > 0) return Descriptor(fd);
  const int kept = errno;
  ::close(fd);
  errno = kept;
  return {};
}

void remove_if_left(const fs::path& folder) {
  struct stat status{};
  if (::lstat(folder.c_str(), &status) != 0 || !S_ISDIR(status.st_mode) || status.st_uid != ::geteuid()) return;
  const Descriptor lock = locked(folder, 0);
  if (!lock && (errno != ENOENT || ::time(nullptr) - status.st_mtime < kMaking)) return;
  std::error_code ignored;
  fs::remove_all(folder, ignored);
}

}  // namespace

OwnedFolder::OwnedFolder(const fs::path& where, std::string_view begin) {
  for (int tries = 0; path_.empty(); ++tries) {
    std::string name = (where / (std::string(begin) + "XXXXXX")).string();
    if (!::mkdtemp(name.data()))
      throw std::system_error(errno, std::generic_category(), "cannot make a folder in " + where.string());
    lock_ = locked(name, O_CREAT);
    if (lock_ || tries == 10) path_ = name;  // without a lock it stays if the process is killed
  }
}

void OwnedFolder::remove() noexcept {
  if (path_.empty()) return;
  std::error_code ignored;
  fs::remove_all(path_, ignored);
  lock_.reset();
  path_.clear();
}

void remove_left_folders(const fs::path& where, std::string_view begin) noexcept {
  try {
    for (const fs::directory_entry& entry : fs::directory_iterator(where))
      if (entry.path().filename().string().starts_with(begin)) remove_if_left(entry.path());
  } catch (const std::exception&) {  // perhaps the next process can
  }
}

}  // namespace caller::detail
