#include <doctest/doctest.h>

#include <sys/wait.h>
#include <unistd.h>
#include <future>
#include <mutex>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "protocol/wire.hpp"
#include "protocol/zmq_io.hpp"
#include "support/temporary_folder.hpp"

using namespace caller::kernel;

namespace {

Frames receive_all(zmq::socket_t& socket) {
  Frames out;
  for (bool more = true; more;) {
    zmq::message_t part;
    REQUIRE(socket.recv(part));
    out.push_back(part.to_string());
    more = part.more();
  }
  return out;
}

void send_all(zmq::socket_t& socket, const Frames& frames) {
  for (std::size_t i = 0; i < frames.size(); ++i)
    socket.send(zmq::buffer(frames[i]), i + 1 < frames.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
}

struct Peer {
  zmq::context_t context;
  zmq::socket_t make(zmq::socket_type type, const std::string& endpoint, const char* identity = nullptr) {
    zmq::socket_t s(context, type);
    s.set(zmq::sockopt::linger, 0);
    s.set(zmq::sockopt::rcvtimeo, 10'000);
    if (identity) s.set(zmq::sockopt::routing_id, identity);
    if (type == zmq::socket_type::sub) s.set(zmq::sockopt::subscribe, "");
    s.connect(endpoint);
    return s;
  }
};

// Every message comes back on its channel; a subscription is welcomed by its topic.
struct Echo {
  ConnectionInfo info;
  std::unique_ptr<ZmqIo> io;
  explicit Echo(ConnectionInfo where = {}) : info(std::move(where)) {
    io =
        std::make_unique<ZmqIo>(info, ZmqIo::Handlers{[this](Channel c, Frames f) { io->send(c, std::move(f)); },
                                                      [](const std::string& topic) { return Frames{topic, "welcome"}; },
                                                      {}});
    io->start();
  }
};

}  // namespace

TEST_CASE("random ports are filled in and every channel carries frames byte for byte (10)") {
  Echo echo;
  Peer peer;
  const std::string binary("\0\xff\x01", 3);
  for (const int port : {echo.info.shell_port, echo.info.control_port, echo.info.stdin_port}) {
    REQUIRE(port > 0);
    auto dealer = peer.make(zmq::socket_type::dealer, echo.info.endpoint(port), "me");
    send_all(dealer, {"a", binary, ""});
    CHECK(receive_all(dealer) == Frames{"a", binary, ""});
  }
}

TEST_CASE("the heartbeat answers request and dealer sockets (62)") {
  Echo echo;
  Peer peer;
  auto req = peer.make(zmq::socket_type::req, echo.info.endpoint(echo.info.hb_port));
  for (int i = 0; i < 3; ++i) {
    send_all(req, {"ping"});
    CHECK(receive_all(req) == Frames{"ping"});
  }
}

TEST_CASE("every subscription gets its welcome before later messages (52)") {
  Echo echo;
  Peer peer;
  for (int i = 0; i < 2; ++i) {
    auto sub = peer.make(zmq::socket_type::sub, echo.info.endpoint(echo.info.iopub_port));
    CHECK(receive_all(sub) == Frames{"", "welcome"});
    echo.io->send(Channel::iopub, {"topic", "text"});
    CHECK(receive_all(sub) == Frames{"topic", "text"});
  }
}

TEST_CASE("a client that comes back under its identity takes the connection over") {
  Echo echo;
  Peer first, second;
  const std::string where = echo.info.endpoint(echo.info.shell_port);
  auto old_one = first.make(zmq::socket_type::dealer, where, "same");
  send_all(old_one, {"1"});
  CHECK(receive_all(old_one) == Frames{"1"});
  auto new_one = second.make(zmq::socket_type::dealer, where, "same");
  send_all(new_one, {"2"});
  CHECK(receive_all(new_one) == Frames{"2"});
}

TEST_CASE("200 000 messages leave in order and none is lost (53)") {
  ConnectionInfo info;
  ZmqIo io(info, {[](Channel, Frames) {}, [](const std::string& topic) { return Frames{topic}; }, {}});
  io.start();
  Peer peer;
  auto sub = peer.make(zmq::socket_type::sub, info.endpoint(info.iopub_port));
  sub.set(zmq::sockopt::rcvhwm, 0);
  CHECK(receive_all(sub) == Frames{""});
  for (int i = 0; i < 200'000; ++i) io.send(Channel::iopub, {std::to_string(i)});
  bool ordered = true;
  for (int i = 0; i < 200'000 && ordered; ++i) ordered = receive_all(sub) == Frames{std::to_string(i)};
  CHECK(ordered);
}

TEST_CASE("messages queued before stop still arrive") {
  ConnectionInfo info;
  ZmqIo io(info, {[](Channel, Frames) {}, [](const std::string& topic) { return Frames{topic}; }, {}});
  io.start();
  Peer peer;
  auto sub = peer.make(zmq::socket_type::sub, info.endpoint(info.iopub_port));
  receive_all(sub);
  for (int i = 0; i < 1000; ++i) io.send(Channel::iopub, {"last"});
  io.stop();
  io.send(Channel::iopub, {"too late"});
  for (int i = 0; i < 1000; ++i) CHECK(receive_all(sub) == Frames{"last"});
}

TEST_CASE("ipc sockets work (63)") {
  const caller::test::TemporaryFolder dir;
  ConnectionInfo where;
  where.transport = "ipc";
  where.ip = dir.file("k");
  int port = 0;
  for (int* p : {&where.shell_port, &where.control_port, &where.stdin_port, &where.iopub_port, &where.hb_port})
    *p = ++port;
  Echo echo(where);
  Peer peer;
  auto dealer = peer.make(zmq::socket_type::dealer, where.endpoint(1));
  send_all(dealer, {"over ipc"});
  CHECK(receive_all(dealer) == Frames{"over ipc"});
}

TEST_CASE("a port that is taken is an error that names the endpoint") {
  Echo echo;
  ConnectionInfo same = echo.info;
  try {
    ZmqIo second(same, {});
    FAIL("no error");
  } catch (const KernelError& e) {
    CHECK(e.code() == KernelErrc::bind);
    CHECK(std::string(e.what()).find(echo.info.endpoint(echo.info.shell_port)) != std::string::npos);
  }
}

TEST_CASE("the end of the watched process is reported once (66)") {
  int hold[2];
  REQUIRE(pipe(hold) == 0);
  const pid_t child = fork();
  if (child == 0) {
    close(hold[1]);
    char c;
    _exit(read(hold[0], &c, 1) == 0 ? 0 : 1);
  }
  close(hold[0]);
  std::promise<void> died;
  ConnectionInfo info;
  ZmqIo io(info, {{}, {}, [&] { died.set_value(); }}, child);
  io.start();
  close(hold[1]);  // ends the child
  auto future = died.get_future();
  CHECK(future.wait_for(std::chrono::seconds(10)) == std::future_status::ready);
  waitpid(child, nullptr, 0);
}
