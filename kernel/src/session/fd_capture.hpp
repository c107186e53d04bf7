// What reaches file descriptors 1 and 2, from anywhere in the process and from its children.
#pragma once

#include <functional>
#include <mutex>
#include <string_view>
#include <thread>

namespace caller::kernel {

/// Replaces descriptors 1 and 2 by pipes and hands over what is written to them.
///
/// `drain` delivers everything written before the call, so that a cell's text precedes its idle status. Delivery
/// happens under one lock, in the order of each pipe.
///
/// Thread-safety: drain: any thread, except from within the sink.
/// Errors: std::system_error from the constructor when the system has no descriptors left.
/// Source: ipykernel OutStream `watchfd`; differs: drained exactly, not by a delay.
class FdCapture {
public:
  /// Called with descriptor 1 or 2 and the bytes.
  using Sink = std::function<void(int fd, std::string_view bytes)>;

  explicit FdCapture(Sink sink);
  ~FdCapture();
  FdCapture(const FdCapture&) = delete;
  FdCapture& operator=(const FdCapture&) = delete;

  void drain();

  /// The descriptor as it was before the capture.
  int original(int fd) const noexcept { return saved_[fd - 1]; }

private:
  void read_some(int index, std::size_t limit);
  void run();

  Sink sink_;
  int saved_[2] = {-1, -1};
  int pipes_[2] = {-1, -1};  // read ends
  int wake_ = -1;
  std::mutex reading_;
  std::thread thread_;
};

}  // namespace caller::kernel
