// Sockets: how messages get from one process of a cluster to another. ZeroMQ's queues are unbounded here; what bounds
// them is the credit, see ClusterOptions::max_pending.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include <zmq.hpp>

#include <caller/tube/cluster.hpp>

#include "runtime/owned_folder.hpp"

namespace caller::tube::detail {

/// What is needed to meet: made by the runner's process, given to others when they are started.
struct Meeting {
  Transport transport = Transport::ipc;
  std::filesystem::path folder;        ///< of ipc
  std::string public_key, secret_key;  ///< of tcp: whoever knows them belongs here
  Map as_map() const;
  static Meeting from_map(const Map& map);
};
/// With ipc `folder` is made, and holds the sockets.
/// Errors: std::system_error if no folder can be made; Error(invalid_specification) if tcp cannot be encrypted.
Meeting make_meeting(Transport transport, caller::detail::OwnedFolder& folder);
/// Removes the folders of sockets beside this one whose runners were killed together with all their processes. In a
/// process of nodes, so that nobody waits for it. Errors: none.
void remove_left_meetings(const Meeting& meeting) noexcept;

/// A socket of a cluster. `name`: what its file is called (ipc), `address`: where it listens (tcp).
/// Errors: Error(process_lost) with the endpoint and the system's reason.
zmq::socket_t make_socket(zmq::context_t& context, zmq::socket_type type);
std::string listen(zmq::socket_t& socket, const Meeting& meeting, const std::string& name, const std::string& address);
void connect(zmq::socket_t& socket, const Meeting& meeting, const std::string& endpoint);

/// Bytes as a message, without copying large ones. `bytes` is empty afterwards.
zmq::message_t taken(std::string& bytes);
std::string_view view(const zmq::message_t& message);

}  // namespace caller::tube::detail
