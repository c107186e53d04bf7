// Processes that work for this one: started, watched, ended. For the libraries above; no user sees it.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sys/types.h>

#include <caller/export.hpp>

namespace caller::detail {

/// The descriptor that a child's end of the channel has there.
inline constexpr int kChannel = 3;

/// A descriptor that closes itself.
class Descriptor {
public:
  Descriptor() noexcept = default;
  explicit Descriptor(int fd) noexcept : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() { reset(); }
  CALLER_API void reset() noexcept;
  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }

private:
  int fd_ = -1;
};

/// A child process, with a socket pair to it. Its end is seen at once by whoever polls watch(). All children are
/// started by one thread that never ends, so PR_SET_PDEATHSIG means the end of this process.
class CALLER_API Child {
public:
  Child() noexcept = default;
  Child(Child&& other) noexcept { *this = std::move(other); }
  Child& operator=(Child&& other) noexcept {
    std::swap(pid_, other.pid_);
    std::swap(watch_, other.watch_);
    std::swap(channel_, other.channel_);
    std::swap(ended_, other.ended_);
    std::swap(signal_, other.signal_);
    std::swap(exit_code_, other.exit_code_);
    return *this;
  }
  /// Kills it if it runs.
  ~Child();
  /// Starts `command` (looked up in PATH), with no signal blocked or ignored. Errors: std::system_error with the
  /// program's name.
  static Child start(const std::vector<std::string>& command);

  int pid() const noexcept { return pid_; }
  int watch() const noexcept { return watch_.get(); }
  int channel() const noexcept { return channel_.get(); }
  bool alive() const noexcept { return pid_ > 0 && !ended_; }
  /// Whether it has ended; its status is known then.
  bool ended() noexcept;
  /// Waits for it to leave by itself.
  void leave(std::chrono::milliseconds timeout) noexcept { (void)(pid_ == 0 || wait_for(timeout)); }
  /// Closes the channel and waits; after `timeout` it is killed.
  void stop(std::chrono::milliseconds timeout) noexcept;
  void kill() noexcept;
  int signal() const noexcept { return signal_; }
  int exit_code() const noexcept { return exit_code_; }
  /// `was killed by signal 9 (Killed)`, `left with exit code 3`.
  std::string end_text() const;

private:
  bool wait_for(std::chrono::milliseconds timeout) noexcept;
  int pid_ = 0;
  Descriptor watch_, channel_;
  bool ended_ = false;
  int signal_ = 0, exit_code_ = 0;
};

/// Sends all of it, waiting for room. False: the other end has gone.
CALLER_API bool send_all(int socket, std::string_view bytes) noexcept;

}  // namespace caller::detail
