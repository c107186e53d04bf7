#include "transport.hpp"

#include <array>
#include <atomic>
#include <system_error>
#include <utility>

namespace caller::tube::detail {

namespace fs = std::filesystem;

namespace {
constexpr std::size_t kPathLimit = 107;  // of a socket's file, without the final zero
constexpr std::size_t kCopyBelow = 1024;
constexpr const char* kBegin = "caller-tube-";

/// A message's bytes, until ZeroMQ's thread lets go of them. That this thread sees them whole is ZeroMQ's doing; the
/// flag says so to a sanitizer, too, which does not look inside of ZeroMQ.
struct Kept {
  std::string bytes;
  std::atomic<bool> handed_over{false};
};

[[noreturn]] void fail(const std::string& what, const std::string& endpoint, const zmq::error_t& e) {
  throw Error(Errc::process_lost, "cannot " + what + " " + endpoint + ": " + e.what());
}
}  // namespace

Map Meeting::as_map() const {
  return Map{{"transport", transport == Transport::ipc ? "ipc" : "tcp"},
             {"folder", folder.string()},
             {"public_key", public_key},
             {"secret_key", secret_key}};
}
Meeting Meeting::from_map(const Map& map) {
  return {map.at("transport").as<std::string>() == "tcp" ? Transport::tcp : Transport::ipc,
          map.at("folder").as<std::string>(), map.at("public_key").as<std::string>(),
          map.at("secret_key").as<std::string>()};
}

Meeting make_meeting(Transport transport, caller::detail::OwnedFolder& folder) {
  Meeting m;
  m.transport = transport;
  if (transport == Transport::tcp) {
    std::array<char, 41> open{}, secret{};
    if (::zmq_has("curve") == 0 || ::zmq_curve_keypair(open.data(), secret.data()) != 0)
      throw Error(Errc::invalid_specification, "tcp needs a libzmq that can encrypt (CURVE); this one cannot");
    m.public_key = open.data();
    m.secret_key = secret.data();
    return m;
  }
  std::error_code error;
  fs::path base = fs::temp_directory_path(error);
  if (error || base.string().size() + 32 > kPathLimit) base = "/tmp";
  folder = caller::detail::OwnedFolder(base, kBegin);
  m.folder = folder.path();
  return m;
}

void remove_left_meetings(const Meeting& meeting) noexcept {
  if (!meeting.folder.empty()) caller::detail::remove_left_folders(meeting.folder.parent_path(), kBegin);
}

zmq::socket_t make_socket(zmq::context_t& context, zmq::socket_type type) {
  zmq::socket_t s(context, type);
  s.set(zmq::sockopt::sndhwm, 0);
  s.set(zmq::sockopt::rcvhwm, 0);
  s.set(zmq::sockopt::linger, 0);
  if (type == zmq::socket_type::router) s.set(zmq::sockopt::router_mandatory, 1);
  return s;
}

std::string listen(zmq::socket_t& socket, const Meeting& meeting, const std::string& name, const std::string& address) {
  std::string endpoint;
  if (meeting.transport == Transport::ipc) {
    endpoint = "ipc://" + (meeting.folder / name).string();
  } else {
    // Who does not know the public key cannot even greet; all who know it are equal.
    socket.set(zmq::sockopt::curve_server, 1);
    socket.set(zmq::sockopt::curve_secretkey, meeting.secret_key);
    const bool six = address.find(':') != std::string::npos;
    socket.set(zmq::sockopt::ipv6, six ? 1 : 0);
    endpoint = "tcp://" + (six ? "[" + address + "]" : address) + ":*";
  }
  try {
    socket.bind(endpoint);
  } catch (const zmq::error_t& e) {
    fail("listen at", endpoint, e);
  }
  return socket.get(zmq::sockopt::last_endpoint);
}

void connect(zmq::socket_t& socket, const Meeting& meeting, const std::string& endpoint) {
  if (meeting.transport == Transport::tcp) {
    socket.set(zmq::sockopt::curve_serverkey, meeting.public_key);
    socket.set(zmq::sockopt::curve_publickey, meeting.public_key);
    socket.set(zmq::sockopt::curve_secretkey, meeting.secret_key);
    if (endpoint.find('[') != std::string::npos) socket.set(zmq::sockopt::ipv6, 1);
  }
  try {
    socket.connect(endpoint);
  } catch (const zmq::error_t& e) {
    fail("connect to", endpoint, e);
  }
}

zmq::message_t taken(std::string& bytes) {
  if (bytes.size() < kCopyBelow) {
    zmq::message_t m(bytes.data(), bytes.size());
    bytes.clear();
    return m;
  }
  auto* kept = new Kept{std::move(bytes)};
  bytes = std::string();
  char* const data = kept->bytes.data();
  const std::size_t size = kept->bytes.size();
  kept->handed_over.store(true, std::memory_order_release);
  return {data, size,
          [](void*, void* hint) {
            auto* done = static_cast<Kept*>(hint);
            if (done->handed_over.load(std::memory_order_acquire)) delete done;
          },
          kept};
}

std::string_view view(const zmq::message_t& message) {
  return {static_cast<const char*>(message.data()), message.size()};
}

}  // namespace caller::tube::detail
