// The one thread that owns every ZMQ socket of the kernel.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "protocol/connection.hpp"
#include "protocol/message.hpp"

namespace caller::kernel {

/// Sockets of a kernel: shell, control and stdin (ROUTER), iopub (XPUB), heartbeat (echo).
///
/// libzmq sockets belong to one thread; here it is the I/O thread, which sleeps in `zmq_poll` on all of them and on an
/// event descriptor. `send` only queues and wakes it. What is queued for one channel leaves in the order of the calls.
/// Shell is read as soon as somebody has subscribed to iopub, or a second after its first message.
///
/// Thread-safety: send: any thread. The rest: the owner's thread.
/// With CURVE keys every socket is a CURVE server: a peer that does not know the public key gets no message and is not
/// heard. Sockets of ipc are their owner's alone.
///
/// Errors: KernelError(bind) from the constructor, naming the endpoint; KernelError(connection_file) for CURVE keys
/// that cannot be used. Source: ipykernel's IOPubThread and heartbeat; differs: one thread for all sockets, no
/// edge-triggered descriptors.
class ZmqIo {
public:
  struct Handlers {
    /// A multipart message of shell, control or stdin; called in the I/O thread, must not block.
    std::function<void(Channel, Frames)> received;
    /// A new subscription to `topic`: the frames of its welcome, sent before anything later. Called in the I/O thread.
    std::function<Frames(const std::string& topic)> welcome;
    /// The process named by `watch_pid` has ended. Called once, in the I/O thread.
    std::function<void()> parent_died;
  };

  /// Binds all sockets; ports that were 0 are filled in.
  ZmqIo(ConnectionInfo& info, Handlers handlers, int watch_pid = 0);
  ~ZmqIo();
  ZmqIo(const ZmqIo&) = delete;
  ZmqIo& operator=(const ZmqIo&) = delete;

  /// Starts receiving. Messages that arrived since the constructor are delivered.
  void start();

  /// Queues frames for a channel; after stop() they are dropped.
  void send(Channel channel, Frames frames);

  /// Sends what is queued, closes the sockets (each lingers at most a second) and ends the thread. Repeated calls do
  /// nothing.
  void stop();

private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Makes SIGINT and SIGPIPE harmless in this process. Handlers that do nothing are used rather than SIG_IGN, since
/// programs started from a cell would inherit that.
///
/// Thread-safety: call before threads start.
/// Errors: none.
/// Source: ipykernel `pre_handler_hook`.
void neutralise_signals();

}  // namespace caller::kernel
