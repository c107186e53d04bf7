// The kernel as a xeus kernel: C++ libraries written for xeus find their comms here.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "protocol/message.hpp"

namespace caller::kernel {

/// Composes the process as a `xeus::xkernel` from an own server and interpreter, and owns its comm manager.
///
/// Nothing xeus sends reaches a socket by itself: what it publishes goes to `publish`, which gives it the parent of the
/// running work (xeus keeps one parent per channel, wrong as soon as two cells run). The core is not thread-safe, so
/// messages enter it under a lock; it is recursive, since a handler may send.
///
/// Thread-safety: any thread. One object per process (xeus registers its interpreter globally).
/// Errors: what a comm's handler throws leaves comm_open, comm_msg and comm_close.
/// Source: xeus 2.4 xkernel, xserver, xinterpreter.
class XeusFace {
public:
  using Publish =
      std::function<void(const std::string& type, const json& content, const json& metadata, Frames buffers)>;
  using KernelInfo = std::function<json()>;

  XeusFace(Publish publish, KernelInfo kernel_info);
  ~XeusFace();
  XeusFace(const XeusFace&) = delete;
  XeusFace& operator=(const XeusFace&) = delete;

  /// An unknown target is answered by comm_close; false then.
  bool comm_open(const Message& request);
  /// False: no comm of that id.
  bool comm_msg(const Message& request);
  bool comm_close(const Message& request);

  /// Makes a comm of somebody else's known to the manager: it stands in comm_info, and who calls it by the manager's
  /// means reaches `message` or `close`. Does not wait for handlers of xeus that run: it is done when they are.
  using Forward = std::function<void(const std::string& data, const std::string& metadata, Frames buffers)>;
  void add(const std::string& id, const std::string& target, Forward message, Forward close);
  void remove(const std::string& id);

  /// `{comm_id: {target_name}}`, of all targets when `target` is empty.
  json comm_info(const std::string& target) const;

  /// A target for tests that sends every message back, buffers and metadata included.
  void register_echo_target(const std::string& name);

private:
  struct State;
  class Entered;
  std::unique_ptr<State> state_;
};

}  // namespace caller::kernel
