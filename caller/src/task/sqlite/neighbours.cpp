#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <utility>

#include <caller/task/error.hpp>

#include "neighbours.hpp"

namespace caller::task::sqlite {

namespace {

[[noreturn]] void fail(const std::string& what) {
  const int error = errno;
  throw StateBackendError(what + ": " + std::strerror(error));
}

/// Through the open folder, as a socket's path must be short.
sockaddr_un address(int folder, const std::string& name) {
  sockaddr_un out{};
  out.sun_family = AF_UNIX;
  std::snprintf(out.sun_path, sizeof out.sun_path, "/proc/self/fd/%d/%s", folder, name.c_str());
  return out;
}

void lock(int fd, int how) {
  while (::flock(fd, how) != 0)
    if (errno != EINTR) fail("cannot lock the task database");
}

constexpr std::size_t kLongest = 64;  // of names of sockets; others are none of ours

}  // namespace

Fd::~Fd() {
  if (fd_ >= 0) ::close(fd_);
}

Neighbours::Neighbours(const std::string& folder) {
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) fail("cannot make " + folder);
  folder_ = Fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder_.get() < 0) fail("cannot open " + folder);
  const auto open_lock = [&](const char* name) {
    Fd fd(::openat(folder_.get(), name, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (fd.get() < 0) fail("cannot open " + folder + "/" + name);
    return fd;
  };
  next_ = open_lock("next");
  turn_ = open_lock("turn");
  socket_ = Fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (socket_.get() < 0) fail("cannot make a socket");
  static std::atomic<unsigned> count{0};
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  name_ = std::to_string(::getpid()) + "-" + std::to_string(now.tv_sec) + "-" + std::to_string(now.tv_nsec) + "-" +
          std::to_string(++count) + ".sock";
  const sockaddr_un mine = address(folder_.get(), name_);
  if (::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&mine), sizeof mine) != 0)
    fail("cannot make a socket in " + folder);
}

Neighbours::~Neighbours() { ::unlinkat(folder_.get(), name_.c_str(), 0); }

void Neighbours::drain() noexcept {
  char byte;
  while (::recv(socket_.get(), &byte, 1, 0) >= 0) {
  }
}

void Neighbours::tell() noexcept {
  look_around();
  for (const std::string& other : others_) {
    const sockaddr_un to = address(folder_.get(), other);
    const ssize_t n =
        ::sendto(socket_.get(), "!", 1, MSG_NOSIGNAL | MSG_DONTWAIT, reinterpret_cast<const sockaddr*>(&to), sizeof to);
    if (n < 0 && errno == ECONNREFUSED) ::unlinkat(folder_.get(), other.c_str(), 0);
  }
}

void Neighbours::look_around() noexcept {
  struct stat now{};
  if (::fstat(folder_.get(), &now) != 0) return;
  if (now.st_mtim.tv_sec == seen_.tv_sec && now.st_mtim.tv_nsec == seen_.tv_nsec) return;
  const int fd = ::openat(folder_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* const entries = fd < 0 ? nullptr : ::fdopendir(fd);
  if (!entries) {
    if (fd >= 0) ::close(fd);
    return;
  }
  others_.clear();
  while (const dirent* entry = ::readdir(entries)) {
    const std::string name = entry->d_name;
    if (name.ends_with(".sock") && name != name_ && name.size() < kLongest) others_.push_back(name);
  }
  ::closedir(entries);
  // The folder's time advances in ticks: another may come within the one that was just seen.
  timespec wall{};
  ::clock_gettime(CLOCK_REALTIME, &wall);
  seen_ = wall.tv_sec - now.st_mtim.tv_sec > 1 ? now.st_mtim : timespec{};
}

Neighbours::Turn::Turn(Neighbours& all) : fd_(all.turn_.get()) {
  lock(all.next_.get(), LOCK_EX);
  try {
    lock(fd_, LOCK_EX);
  } catch (...) {
    ::flock(all.next_.get(), LOCK_UN);
    throw;
  }
  ::flock(all.next_.get(), LOCK_UN);
}
Neighbours::Turn::~Turn() { ::flock(fd_, LOCK_UN); }

}  // namespace caller::task::sqlite
