// One debugging, from attach to its end, and whose turn it is to talk to lldb-dap in it. For the Debugger's sources.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "adapter.hpp"
#include "debugger.hpp"
#include "stub.hpp"

namespace caller::kernel::debugger {

inline constexpr std::uint32_t kSeed = 0xC70F6907;  // any number will do; clients are told
inline constexpr const char* kSuffix = ".cpp";
inline constexpr std::chrono::seconds kRequestLimit{60};  // an expression of the user's may take its time

inline json failure(const std::string& why) { return {{"success", false}, {"message", why}}; }
inline json success(json body = json::object()) { return {{"success", true}, {"body", std::move(body)}}; }

struct Debugger::Session {
  std::unique_ptr<Stub> stub;  // destroyed after the adapter
  std::unique_ptr<Adapter> adapter;
  json capabilities;
  Pending<void> initialized;
  bool attaching = false;
  std::atomic<unsigned> objects{0};

  // Guarded by the debugger's mutex.
  bool running = false;  // what lldb believes
  bool quiet = false;    // it stands only because we wanted to talk to it
  std::optional<Pending<void>> on_stop, on_go;
  std::optional<Pending<void>> last_turn;
};

/// The right to talk; given on when it goes.
class Debugger::Turn {
public:
  explicit Turn(Pending<void> end) : end_(std::move(end)) {}
  Turn(Turn&& other) noexcept : end_(std::exchange(other.end_, std::nullopt)) {}
  Turn& operator=(Turn&&) = delete;
  ~Turn() {
    if (end_) end_->set_result();
  }

  const Pending<void>& end() const { return *end_; }
  /// Gives it on as soon as that one is done.
  void follow(const Pending<void>& before) {
    before.add_done_callback([end = *std::exchange(end_, std::nullopt)](PendingBase) { end.set_result(); });
  }

private:
  std::optional<Pending<void>> end_;
};

}  // namespace caller::kernel::debugger
