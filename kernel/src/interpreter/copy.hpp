// A copy of the process that stays: it is asked one thing after the other, and keeps what that changes in it.
//
// Nothing it does can hurt the process, and ending it takes all of that back. It is no child of the process: who counts
// or awaits the children of the process (a cell) never meets it.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "sandbox.hpp"

namespace caller::kernel {

class Copy {
public:
  /// Copies the process as it is now. In the copy `serve` makes an answer of each request; it must not wait for other
  /// threads: there are none. `name` is what tools show. Null when the process cannot be copied.
  /// The copy keeps none of the process's open files and ends with it.
  static std::unique_ptr<Copy> make(const char* name, std::function<std::string(const std::string&)> serve);

  /// Ends it, whatever it does.
  ~Copy();
  Copy(const Copy&) = delete;

  /// One request and its answer. After anything but `done` the copy has ended, or is of no more use.
  /// `unavailable`: it was made in a bad moment, while another thread held what it needs; a new one may do better.
  /// `stop`, requested by any thread, ends it at once.
  SandboxResult ask(const std::string& request, std::chrono::milliseconds limit, const std::stop_token& stop);

private:
  explicit Copy(int fd) : fd_(fd) {}
  void shut();
  bool await_birth(const std::stop_token& stop);

  int fd_;
  bool born_ = false;
};

}  // namespace caller::kernel
