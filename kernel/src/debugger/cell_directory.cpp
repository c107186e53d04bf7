#include "debugger/cell_directory.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <system_error>

namespace caller::kernel::debugger {

namespace fs = std::filesystem;

namespace {

constexpr const char* kBegin = "caller-cells-";
constexpr const char* kLock = ".lock";
constexpr std::time_t kMaking = 3600;  // seconds

/// A descriptor that holds the lock, or -1.
int locked(const fs::path& file, int flags) {
  const int fd = ::open(file.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
  if (fd < 0) return -1;
  struct stat status{};
  // Whoever removes a folder holds its lock: it may be gone by the time it is had.
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0 && ::fstat(fd, &status) == 0 && status.st_nlink > 0) return fd;
  const int kept = errno;
  ::close(fd);
  errno = kept;
  return -1;
}

void remove_if_left(const fs::path& folder) {
  struct stat status{};
  if (::lstat(folder.c_str(), &status) != 0 || !S_ISDIR(status.st_mode) || status.st_uid != ::geteuid()) return;
  const int lock = locked(folder / kLock, 0);
  if (lock < 0 && (errno != ENOENT || ::time(nullptr) - status.st_mtime < kMaking)) return;
  std::error_code ignored;
  fs::remove_all(folder, ignored);
  if (lock >= 0) ::close(lock);
}

}  // namespace

const std::string& CellDirectory::path() {
  for (int tries = 0; path_.empty(); ++tries) {
    std::string name = (fs::temp_directory_path() / (std::string(kBegin) + "XXXXXX")).string();
    if (!::mkdtemp(name.data())) throw std::system_error(errno, std::generic_category(), name);
    lock_ = locked(fs::path(name) / kLock, O_CREAT);
    if (lock_ >= 0 || tries == 10) path_ = name + "/";  // without a lock it stays if the process is killed
  }
  return path_;
}

void CellDirectory::remove() noexcept {
  if (path_.empty()) return;
  std::error_code ignored;
  fs::remove_all(path_, ignored);
  if (lock_ >= 0) ::close(lock_);
  lock_ = -1;
  path_.clear();
}

void remove_left_directories(const fs::path& where) noexcept {
  try {
    for (const fs::directory_entry& entry : fs::directory_iterator(where))
      if (entry.path().filename().string().starts_with(kBegin)) remove_if_left(entry.path());
  } catch (const std::exception&) {  // perhaps the next kernel can
  }
}

}  // namespace caller::kernel::debugger
