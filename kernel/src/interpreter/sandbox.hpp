// Work in a copy of the process that is thrown away.
//
// clang's state cannot be rolled back: a half-instantiated template stays half-instantiated. So whatever may fail
// (checking a cell), or leaves traces (completing, inspecting), happens in a forked copy first. A crash of the
// compiler ends the copy only.
#pragma once

#include <chrono>
#include <functional>
#include <stop_token>
#include <string>

namespace caller::kernel {

struct SandboxResult {
  enum class Status { done, crashed, timed_out, stopped, unavailable } status = Status::unavailable;
  int signal = 0;    ///< what ended the child
  std::string data;  ///< what `work` returned
};

/// Runs `work` in a copy of the process and returns its answer. `work` must not wait for other threads: there are none
/// in the copy, and no files of the process (`Engine::close_files`). `stop`, requested by any thread, ends it at once.
/// Thread-safety: any thread. Errors: none; `unavailable` when the process cannot be copied (then nothing has run).
SandboxResult in_child(const std::function<std::string()>& work, std::chrono::milliseconds limit,
                       std::stop_token stop = {});

/// A few strings as one, and back.
class Packer {
public:
  Packer& operator<<(const std::string& s);
  Packer& operator<<(std::size_t n);
  std::string take() { return std::move(data_); }

private:
  std::string data_;
};
class Unpacker {
public:
  explicit Unpacker(const std::string& data) : data_(data) {}
  std::string text();
  std::size_t number();

private:
  const std::string& data_;
  std::size_t at_ = 0;
};

}  // namespace caller::kernel
