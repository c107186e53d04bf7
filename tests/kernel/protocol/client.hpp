// A Jupyter client for tests, and the kernel process it talks to.
#pragma once

#include <doctest/doctest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <deque>
#include <map>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "protocol/connection.hpp"
#include "protocol/wire.hpp"
#include "support/temporary_folder.hpp"

extern char** environ;

namespace caller::kernel::test {

/// A message as a client sees it.
struct Received {
  json header, parent, metadata, content;
  Frames buffers;
  std::string type() const { return header.at("msg_type"); }
  std::string parent_id() const { return field<std::string>(parent, "msg_id", ""); }
};
using Messages = std::vector<Received>;

/// A kernel process on ipc sockets in a folder of its own.
struct KernelProcess {
  caller::test::TemporaryFolder dir;
  ConnectionInfo info;
  pid_t pid = -1;
  int status = 0;

  explicit KernelProcess(std::vector<std::string> extra_env = {}) {
    info.transport = "ipc";
    info.ip = dir.file("k");
    info.key = "a-key";
    int port = 0;
    for (int* p : {&info.shell_port, &info.control_port, &info.stdin_port, &info.iopub_port, &info.hb_port})
      *p = ++port;
    write_connection_file(info, dir.file("c.json"));
    std::vector<char*> env;
    for (char** e = environ; *e; ++e) env.push_back(*e);
    for (auto& e : extra_env) env.push_back(e.data());
    env.push_back(nullptr);
    std::string program = CALLER_FAKE_KERNEL, file = dir.file("c.json"), history = dir.file("history");
    char* arguments[] = {program.data(), file.data(), history.data(), nullptr};
    REQUIRE(posix_spawn(&pid, program.c_str(), nullptr, nullptr, arguments, env.data()) == 0);
  }
  ~KernelProcess() {
    if (pid > 0) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
  }
  /// Waits for the end of the process; its exit code, or -1 when a signal ended it.
  int wait() {
    REQUIRE(waitpid(pid, &status, 0) == pid);
    pid = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
};

class Client {
public:
  explicit Client(const ConnectionInfo& info, const std::string& identity = "client")
      : info_(info),
        identity_(identity),
        signer_(info.key),
        shell(make(zmq::socket_type::dealer, info.shell_port, identity)),
        control(make(zmq::socket_type::dealer, info.control_port, identity)),
        input(make(zmq::socket_type::dealer, info.stdin_port, identity)),
        iopub(make(zmq::socket_type::sub, info.iopub_port, "")),
        heartbeat(make(zmq::socket_type::req, info.hb_port, "")) {
    CHECK(receive(iopub).type() == "iopub_welcome");
  }

  zmq::socket_t& socket(Channel c) { return c == Channel::shell ? shell : c == Channel::control ? control : input; }

  /// Sends a request and returns its id.
  std::string send(Channel channel, const std::string& type, const json& content = json::object(),
                   const json& metadata = json::object(), const std::string& subshell = "", const Frames& buffers = {},
                   const json& parent = json::object()) {
    json header = {{"msg_id", identity_ + std::to_string(++count_)},
                   {"msg_type", type},
                   {"session", "s"},
                   {"username", "u"},
                   {"date", utc_now()},
                   {"version", "5.5"}};
    if (!subshell.empty()) header["subshell_id"] = subshell;
    headers_[header["msg_id"]] = header;
    Frames frames = signed_frames(header.dump(), parent.dump(), metadata.dump(), content.dump());
    frames.insert(frames.end(), buffers.begin(), buffers.end());
    send_frames(socket(channel), frames);
    return header["msg_id"];
  }

  std::string execute(const std::string& code, json more = json::object(), const json& metadata = json::object(),
                      const std::string& subshell = "") {
    json content = {{"code", code}, {"allow_stdin", true}};
    content.update(more);
    return send(Channel::shell, "execute_request", content, metadata, subshell);
  }

  Frames signed_frames(const std::string& a, const std::string& b, const std::string& c, const std::string& d) const {
    return {"<IDS|MSG>", signer_.sign({a, b, c, d}), a, b, c, d};
  }

  static void send_frames(zmq::socket_t& to, const Frames& frames) {
    for (std::size_t i = 0; i < frames.size(); ++i)
      to.send(zmq::buffer(frames[i]), i + 1 < frames.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
  }

  /// The next message of a socket; checks its signature.
  Received receive(zmq::socket_t& from) {
    Frames frames;
    for (bool more = true; more;) {
      zmq::message_t part;
      REQUIRE(from.recv(part));
      frames.push_back(part.to_string());
      more = part.more();
    }
    std::size_t at = 0;
    while (frames.at(at) != "<IDS|MSG>") ++at;
    CHECK(signer_.verify(frames.at(at + 1),
                         {frames.at(at + 2), frames.at(at + 3), frames.at(at + 4), frames.at(at + 5)}));
    const auto dict = [&](std::size_t i) { return json::parse(frames.at(at + i)); };
    return {dict(2), dict(3), dict(4), dict(5), Frames(frames.begin() + static_cast<long>(at) + 6, frames.end())};
  }

  /// The reply to a request; other replies wait for their turn.
  Received reply(const std::string& id, Channel channel = Channel::shell) {
    while (!replies_.contains(id)) {
      Received m = receive(socket(channel));
      replies_.emplace(m.parent_id(), std::move(m));
    }
    Received m = std::move(replies_.at(id));
    replies_.erase(id);
    CHECK(m.parent == headers_.at(id));
    return m;
  }
  json content(const std::string& id, Channel channel = Channel::shell) { return reply(id, channel).content; }

  /// All iopub messages of a request from busy to idle, in order; those of others wait for their turn.
  Messages published(const std::string& id) {
    while (!idle_.contains(id)) {
      Received m = receive(iopub);
      const std::string parent = m.parent_id();
      if (m.type() == "status" && m.content.at("execution_state") == "idle") idle_.insert({parent, true});
      published_[parent].push_back(std::move(m));
    }
    Messages out = std::move(published_[id]);
    published_.erase(id);
    REQUIRE(out.size() >= 2);
    CHECK(out.front().content == json{{"execution_state", "busy"}});
    CHECK(out.back().content == json{{"execution_state", "idle"}});
    for (const auto& m : out) CHECK(m.parent == headers_.at(id));
    return out;
  }

  /// The next iopub message of a request whose type is `type`.
  Received next(const std::string& id, const std::string& type) {
    for (;;) {
      for (auto& m : published_[id])
        if (m.type() == type) return m;
      Received m = receive(iopub);
      if (m.type() == "status" && m.content.at("execution_state") == "idle") idle_.insert({m.parent_id(), true});
      published_[m.parent_id()].push_back(std::move(m));
    }
  }

  static std::string text(const Messages& messages, const std::string& name = "") {
    std::string out;
    for (const auto& m : messages)
      if (m.type() == "stream" && (name.empty() || m.content.at("name") == name))
        out += m.content.at("text").get<std::string>();
    return out;
  }
  static std::string types(const Messages& messages) {
    std::string out;
    for (const auto& m : messages) out += m.type() + " ";
    return out;
  }

private:
  zmq::socket_t make(zmq::socket_type type, int port, const std::string& identity) {
    zmq::socket_t s(context_, type);
    s.set(zmq::sockopt::linger, 0);
    s.set(zmq::sockopt::rcvtimeo, 15'000);
    s.set(zmq::sockopt::reconnect_ivl, 5);
    s.set(zmq::sockopt::rcvhwm, 0);
    if (!identity.empty()) s.set(zmq::sockopt::routing_id, identity);
    if (type == zmq::socket_type::sub) s.set(zmq::sockopt::subscribe, "");
    s.connect(info_.endpoint(port));
    return s;
  }

  zmq::context_t context_;
  ConnectionInfo info_;
  std::string identity_;
  Signer signer_;
  int count_ = 0;
  std::map<std::string, json> headers_;
  std::map<std::string, Received> replies_;
  std::map<std::string, Messages> published_;
  std::map<std::string, bool> idle_;

public:
  zmq::socket_t shell, control, input, iopub, heartbeat;
};

/// A running kernel with one client.
struct Session {
  KernelProcess kernel;
  Client client{kernel.info};
};

}  // namespace caller::kernel::test
