// What the processes that share a database have of each other: turns, and wake-ups. Internal to this folder.
#pragma once

#include <ctime>
#include <string>
#include <utility>
#include <vector>

namespace caller::task::sqlite {

/// A file descriptor that is closed.
class Fd {
public:
  explicit Fd(int fd = -1) noexcept : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd();
  int get() const noexcept { return fd_; }

private:
  int fd_;
};

/// The folder beside the database: a socket of each process, and two files that are locked.
///
/// A message says only that there is something to see; who gets it looks into the database. So one that is lost because
/// others wait already is no loss. The socket of a process that is gone refuses, and is removed by who notices.
/// Thread-safety: one thread. Errors: StateBackendError from the constructor.
class Neighbours {
public:
  explicit Neighbours(const std::string& folder);
  ~Neighbours();
  Neighbours(const Neighbours&) = delete;
  Neighbours& operator=(const Neighbours&) = delete;

  /// Readable when another process has news.
  int socket() const noexcept { return socket_.get(); }
  void drain() noexcept;
  /// Wakes the others.
  void tell() noexcept;

  /// The right to write, in the order of asking: who waits has the first lock, so who has just written must queue
  /// behind. The kernel takes the locks back from a process that dies.
  class Turn {
  public:
    explicit Turn(Neighbours& all);
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

  private:
    int fd_;
  };

private:
  void look_around() noexcept;

  std::string name_;
  Fd folder_, next_, turn_, socket_;
  std::vector<std::string> others_;
  timespec seen_{};  // the folder's time when others_ was read
};

}  // namespace caller::task::sqlite
