// Processes: started, watched, ended.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sys/types.h>

namespace caller::tube::detail {

/// The argument that makes a program a worker, and the descriptor its channel has there.
inline constexpr const char* kWorkerArgument = "--caller-tube-node";
inline constexpr int kChannel = 3;

/// A descriptor that closes itself.
class Descriptor {
public:
  Descriptor() noexcept = default;
  explicit Descriptor(int fd) noexcept : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() { reset(); }
  void reset() noexcept;
  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }

private:
  int fd_ = -1;
};

/// A child process. Its end is seen at once by whoever polls watch(); it ends when this one does, or when the channel
/// is closed.
class Child {
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
  /// Starts `command` (looked up in PATH) with the argument above, and sends it `setup` over the channel.
  /// Errors: std::system_error with the program's name.
  static Child start(const std::vector<std::string>& command, std::string_view setup);

  int pid() const noexcept { return pid_; }
  int watch() const noexcept { return watch_.get(); }
  bool alive() const noexcept { return pid_ > 0 && !ended_; }
  /// Whether it has ended; its status is known then.
  bool ended() noexcept;
  /// Waits for it to leave by itself.
  void leave(std::chrono::milliseconds timeout) noexcept { (void)(pid_ == 0 || wait_for(timeout)); }
  /// Closes the channel and waits; after `timeout` it is killed.
  void stop(std::chrono::milliseconds timeout) noexcept;
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

/// The worker's program: `caller-tube-node` beside this library or in PATH.
std::string find_worker();

/// Reads everything of the setup from the channel. Errors: std::runtime_error.
std::string read_setup(int channel);

}  // namespace caller::tube::detail
