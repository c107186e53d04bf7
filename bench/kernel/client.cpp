#include "client.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cmath>
#include <fstream>
#include <sstream>

extern char** environ;

namespace bench {
namespace fs = std::filesystem;
using namespace std::chrono_literals;

double quantile(std::vector<double> values, double q) {
  if (values.empty()) throw std::runtime_error("nothing was measured");
  std::sort(values.begin(), values.end());
  const auto at = static_cast<std::size_t>(std::ceil(q * static_cast<double>(values.size()))) - 1;
  return values[std::min(at, values.size() - 1)];
}

namespace {

std::vector<int> free_ports(int n) {
  std::vector<int> sockets, ports;
  for (int i = 0; i < n; ++i) {
    const int s = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof a;
    if (::bind(s, reinterpret_cast<sockaddr*>(&a), length) != 0 ||
        ::getsockname(s, reinterpret_cast<sockaddr*>(&a), &length) != 0)
      throw std::runtime_error("no free port");
    sockets.push_back(s);
    ports.push_back(ntohs(a.sin_port));
  }
  for (const int s : sockets) ::close(s);
  return ports;
}

zmq::socket_t open(zmq::context_t& context, zmq::socket_type type, const std::string& endpoint,
                   const std::string& identity) {
  zmq::socket_t s(context, type);
  s.set(zmq::sockopt::linger, 0);
  s.set(zmq::sockopt::reconnect_ivl, 1);  // a kernel that starts is met as soon as it listens
  s.set(zmq::sockopt::rcvhwm, 0);
  s.set(zmq::sockopt::sndhwm, 0);
  if (!identity.empty()) s.set(zmq::sockopt::routing_id, identity);
  if (type == zmq::socket_type::sub) s.set(zmq::sockopt::subscribe, "");
  s.connect(endpoint);
  return s;
}

}  // namespace

Process::Process(const std::vector<std::string>& command) {
  std::string name = (fs::temp_directory_path() / "kernel-bench-XXXXXX").string();
  if (!::mkdtemp(name.data())) throw std::runtime_error("no temporary directory");
  dir_ = name;
  const auto ports = free_ports(5);
  info.key = "a-key-of-the-benchmark";
  info.shell_port = ports[0];
  info.control_port = ports[1];
  info.stdin_port = ports[2];
  info.iopub_port = ports[3];
  info.hb_port = ports[4];
  const std::string file = (dir_ / "connection.json").string();
  caller::kernel::write_connection_file(info, file);
  std::vector<std::string> words = command;
  std::vector<char*> argv, env;
  for (auto& word : words) {
    if (word == "{connection_file}") word = file;
    argv.push_back(word.data());
  }
  argv.push_back(nullptr);
  // Nothing of the user's is read or written: no history, no profile.
  std::vector<std::string> own = {"HOME=" + name,          "IPYTHONDIR=" + name,       "XDG_STATE_HOME=" + name,
                                  "XDG_DATA_HOME=" + name, "JUPYTER_DATA_DIR=" + name, "CALLER_KERNEL_TEST_COMMS=1"};
  for (char** e = environ; *e; ++e)
    if (std::none_of(own.begin(), own.end(),
                     [&](auto& o) { return std::string(*e).starts_with(o.substr(0, o.find('=') + 1)); }))
      env.push_back(*e);
  for (auto& o : own) env.push_back(o.data());
  env.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  const std::string log = (dir_ / "log").string();
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_CREAT | O_WRONLY | O_APPEND, 0600);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  started = Clock::now();
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  posix_spawnattr_setpgroup(&attributes, 0);
  const int failed = ::posix_spawnp(&pid, argv[0], &actions, &attributes, argv.data(), env.data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (failed) throw std::runtime_error("cannot start " + words[0]);
}

Process::~Process() {
  if (pid > 0) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
  std::error_code ignored;
  fs::remove_all(dir_, ignored);
}

double Process::wait_end(std::chrono::milliseconds limit) {
  const auto begin = Clock::now();
  while (Clock::now() - begin < limit) {
    if (::waitpid(pid, nullptr, WNOHANG) == pid) {
      pid = -1;
      return ms_since(begin);
    }
    ::usleep(200);
  }
  return -1;
}

// The processes in which a kernel compiles are no children of it, but in its group.
std::vector<std::string> Process::group() const {
  std::vector<std::string> out;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream in(entry.path() / "stat");
    std::string text((std::istreambuf_iterator<char>(in)), {});
    if (text.find(')') == std::string::npos) continue;
    std::istringstream rest(text.substr(text.rfind(')') + 2));
    std::string state, parent, group;
    rest >> state >> parent >> group;
    if (group == std::to_string(pid)) out.push_back(name);
  }
  return out;
}

double Process::memory() const {
  double kib = 0;
  const auto add = [&](const std::string& process) {
    std::ifstream in("/proc/" + process + "/smaps_rollup");
    for (std::string line; std::getline(in, line);)
      if (line.rfind("Pss:", 0) == 0) kib += std::stod(line.substr(4));
  };
  for (const auto& process : group()) add(process);
  return kib / 1024;
}

double Process::cpu() const {
  double ticks = 0;  // of the processes and of the children they have waited for
  for (const auto& process : group()) {
    std::ifstream in("/proc/" + process + "/stat");
    std::string text((std::istreambuf_iterator<char>(in)), {});
    if (text.find(')') == std::string::npos) continue;
    std::istringstream rest(text.substr(text.rfind(')') + 2));
    std::vector<std::string> fields;
    for (std::string f; rest >> f;) fields.push_back(f);
    for (int i = 11; i <= 14; ++i) ticks += std::stod(fields.at(static_cast<std::size_t>(i)));
  }
  return ticks * 1000 / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

Client::Client(const ConnectionInfo& info, std::string identity)
    : info_(info),
      identity_(std::move(identity)),
      signer_(info.key),
      shell_(open(context_, zmq::socket_type::dealer, info.endpoint(info.shell_port), identity_)),
      control_(open(context_, zmq::socket_type::dealer, info.endpoint(info.control_port), identity_)),
      iopub_(open(context_, zmq::socket_type::sub, info.endpoint(info.iopub_port), "")) {}

json Client::header(const std::string& type) {
  return {{"msg_id", identity_ + "-" + std::to_string(++count_)},
          {"msg_type", type},
          {"session", identity_},
          {"username", "bench"},
          {"date", caller::kernel::utc_now()},
          {"version", "5.3"}};
}

Frames Client::signed_frames(const std::string& header, const std::string& parent, const std::string& metadata,
                             const std::string& content) const {
  return {"<IDS|MSG>", signer_.sign({header, parent, metadata, content}), header, parent, metadata, content};
}

void Client::send_raw(Where where, const Frames& frames) {
  auto& to = where == shell ? shell_ : control_;
  for (std::size_t i = 0; i < frames.size(); ++i)
    to.send(zmq::buffer(frames[i]), i + 1 < frames.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
}

std::string Client::send(Where where, const std::string& type, const json& content, const Frames& buffers) {
  const json h = header(type);
  Frames frames = signed_frames(h.dump(), "{}", "{}", content.dump());
  frames.insert(frames.end(), buffers.begin(), buffers.end());
  send_raw(where, frames);
  return h["msg_id"];
}

std::string Client::execute(const std::string& code, bool silent) {
  return send(shell, "execute_request",
              {{"code", code},
               {"silent", silent},
               {"store_history", !silent},
               {"user_expressions", json::object()},
               {"allow_stdin", false},
               {"stop_on_error", false}});
}

void Client::take(zmq::socket_t& socket, bool is_iopub) {
  for (;;) {
    Frames frames;
    zmq::message_t part;
    if (!socket.recv(part, zmq::recv_flags::dontwait)) return;
    frames.push_back(part.to_string());
    while (part.more()) {
      (void)socket.recv(part);
      frames.push_back(part.to_string());
    }
    std::size_t at = 0;
    while (at < frames.size() && frames[at] != "<IDS|MSG>") ++at;
    if (at + 5 >= frames.size()) throw std::runtime_error("a message without its parts");
    Message m;
    m.arrived = Clock::now();
    m.type = json::parse(frames[at + 2]).at("msg_type");
    const json parent = json::parse(frames[at + 3]);
    if (const auto id = parent.find("msg_id"); id != parent.end() && id->is_string()) m.parent = *id;
    m.raw = std::move(frames[at + 5]);
    if (!is_iopub) {
      replies.insert_or_assign(m.parent, std::move(m));
      continue;
    }
    ++iopub_messages;
    if (m.type == "status") {
      if (m.raw.find("\"idle\"") != std::string::npos) idle.emplace(m.parent, m.arrived);
    } else if (on_published) {
      on_published(m);
    } else {
      published.push_back(std::move(m));
    }
  }
}

bool Client::pump(std::chrono::milliseconds limit) {
  zmq::pollitem_t items[] = {
      {shell_.handle(), 0, ZMQ_POLLIN, 0}, {control_.handle(), 0, ZMQ_POLLIN, 0}, {iopub_.handle(), 0, ZMQ_POLLIN, 0}};
  if (zmq::poll(items, 3, limit) == 0) return false;
  if (items[0].revents) take(shell_, false);
  if (items[1].revents) take(control_, false);
  if (items[2].revents) take(iopub_, true);
  return true;
}

void Client::until(const std::function<bool()>& done, const char* what, std::chrono::milliseconds limit) {
  const auto deadline = Clock::now() + limit;
  while (!done()) {
    if (Clock::now() > deadline) throw std::runtime_error(std::string("this did not come: ") + what);
    pump(100ms);
  }
}

double Client::finish(const std::string& id, Clock::time_point begin) {
  until([&] { return replies.count(id) && idle.count(id); }, "reply and idle of a cell");
  return std::chrono::duration<double, std::milli>(std::max(replies.at(id).arrived, idle.at(id)) - begin).count();
}

void Client::must(const std::string& code) {
  const auto id = execute(code);
  finish(id, Clock::now());
  const json content = replies.at(id).content();
  if (content.at("status") != "ok") throw std::runtime_error("a cell failed: " + code + "\n" + content.dump());
}

double Client::ask(Where where, const std::string& type, const json& content) {
  const auto begin = Clock::now();
  const auto id = send(where, type, content);
  until([&] { return replies.count(id) > 0; }, type.c_str());
  return std::chrono::duration<double, std::milli>(replies.at(id).arrived - begin).count();
}

void Client::settle() {
  std::vector<std::string> ids;
  until(
      [&] {
        ids.push_back(send(shell, "kernel_info_request"));
        pump(50ms);
        return std::any_of(ids.begin(), ids.end(), [&](auto& id) { return idle.count(id) > 0; });
      },
      "an answer on iopub");
  until([&] { return std::all_of(ids.begin(), ids.end(), [&](auto& id) { return replies.count(id) > 0; }); },
        "kernel_info");
  while (pump(100ms)) {
  }
  forget();
}

std::string Client::text(const std::string& id) const {
  std::string out;
  for (const auto& m : published)
    if (m.type == "stream" && m.parent == id) out += m.content().at("text").get<std::string>();
  return out;
}

void Client::forget() {
  replies.clear();
  idle.clear();
  published.clear();
  iopub_messages = 0;
}

}  // namespace bench
