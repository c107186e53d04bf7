// Faulty input. A case is survived when the kernel answers on shell and control afterwards. What is a request all the
// same (rightly signed, a header with id and type) must be answered itself.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <iostream>

#include "figures.hpp"

namespace bench {
using namespace std::chrono_literals;
namespace {

struct Case {
  std::string name;
  std::function<void()> send;
  std::string id;  ///< of the request that must be answered; empty when none must
};

void noise(int port) {
  const int s = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(static_cast<std::uint16_t>(port));
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(s, reinterpret_cast<sockaddr*>(&a), sizeof a) == 0) {
    std::string rubbish = "GET / HTTP/1.1\r\n\r\n";
    for (int i = 0; i < 4000; ++i) rubbish += static_cast<char>(i * 37 % 251);
    (void)!::send(s, rubbish.data(), rubbish.size(), MSG_NOSIGNAL);
  }
  ::close(s);
}

std::vector<Case> cases_of(Client& c, const ConnectionInfo& info) {
  std::vector<Case> out;
  const std::string empty = "{}";
  const auto raw = [&](const std::string& name, Frames frames, const std::string& id = "",
                       Client::Where where = Client::shell) {
    out.push_back({name, [&c, frames = std::move(frames), where] { c.send_raw(where, frames); }, id});
  };
  const Frames good = c.signed_frames(c.header("kernel_info_request").dump(), empty, empty, empty);
  for (std::size_t n = 0; n < good.size(); ++n) {
    Frames part(good.begin(), good.begin() + static_cast<long>(n));
    if (part.empty()) part.push_back("");
    raw(numbered("frames: ", static_cast<int>(n)), part);
    raw(numbered("frames on control: ", static_cast<int>(n)), part, "", Client::control);
  }
  const auto with = [&](std::size_t at, const std::string& text) {
    Frames f = c.signed_frames(c.header("kernel_info_request").dump(), empty, empty, empty);
    f[at] = text;
    return f;
  };
  raw("wrong signature", with(1, std::string(64, '0')));
  raw("short signature", with(1, "abc"));
  raw("no signature", with(1, ""));
  raw("long signature", with(1, std::string(100000, 'a')));
  raw("other delimiter", with(0, "<IDS>"));
  raw("content changed", with(5, "{\"a\":1}"));
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"cut", "{\"a\": "}, {"empty", ""},     {"not UTF-8", "{\"a\": \"\xc3\x28\"}"}, {"a list", "[1]"},
      {"null", "null"},    {"a number", "3"}, {"deep", std::string(100000, '[')},     {"zeros", std::string(10, '\0')}};
  const char* part[] = {"header", "parent", "metadata", "content"};
  for (std::size_t i = 0; i < 4; ++i)
    for (const auto& [name, text] : bad) {
      std::string parts[] = {c.header("kernel_info_request").dump(), empty, empty, empty};
      parts[i] = text;
      raw(std::string(part[i]) + " " + name, c.signed_frames(parts[0], parts[1], parts[2], parts[3]));
    }
  for (const char* field : {"msg_id", "msg_type", "session", "username", "date", "version"})
    for (const json& value :
         {json(7), json(nullptr), json::array({1}), json::object(), json(std::string(100000, 'x'))}) {
      json h = c.header("kernel_info_request");
      const bool id_kept = std::string(field) != "msg_id" && std::string(field) != "msg_type";
      const std::string id = id_kept ? h["msg_id"].get<std::string>() : "";
      h[field] = value;
      raw(std::string(field) + " " + value.dump().substr(0, 8), c.signed_frames(h.dump(), empty, empty, empty), id);
    }
  const auto request = [&](const std::string& type, const json& content) {
    const json h = c.header(type);
    const bool answered = type.rfind("comm_", 0) != 0 || type == "comm_info_request";
    raw(type + " " + content.dump().substr(0, 60), c.signed_frames(h.dump(), empty, empty, content.dump()),
        answered ? h["msg_id"].get<std::string>() : "");
  };
  const std::vector<json> wrong = {json(7), json(nullptr), json::array({1}), json::object({{"a", 1}})};
  for (const json& w : wrong) {
    request("execute_request", {{"code", w}});
    request("execute_request", {{"code", "1"}, {"silent", w}});
    request("execute_request", {{"code", "1"}, {"user_expressions", w}});
    request("execute_request", {{"code", "1"}, {"store_history", w}, {"allow_stdin", w}, {"stop_on_error", w}});
    request("complete_request", {{"code", w}, {"cursor_pos", 0}});
    request("inspect_request", {{"code", w}, {"cursor_pos", w}});
    request("is_complete_request", {{"code", w}});
    request("history_request", {{"hist_access_type", w}, {"n", w}});
    request("history_request", {{"hist_access_type", "range"}, {"session", w}, {"start", w}, {"stop", w}});
    request("comm_open", {{"comm_id", w}, {"target_name", w}});
    request("comm_msg", {{"comm_id", w}, {"data", w}});
    request("comm_info_request", {{"target_name", w}});
    request("interrupt_request", w);
  }
  for (const json& at : {json(-5), json(1000000), json(1e300), json("x"), json(9223372036854775807LL)}) {
    request("complete_request", {{"code", "int x"}, {"cursor_pos", at}});
    request("inspect_request", {{"code", "int x"}, {"cursor_pos", at}});
  }
  request("execute_request", json::object());
  request("complete_request", json::object());
  request("execute_request", {{"code", std::string(5'000'000, ' ')}});
  request("execute_request", {{"code", std::string(3001, '(')}});
  request("execute_request", {{"code", std::string("1\0 + 1", 6)}});
  for (const int port : {info.shell_port, info.control_port, info.stdin_port, info.iopub_port, info.hb_port})
    out.push_back({"noise", [port] { noise(port); }, ""});
  return out;
}

}  // namespace

void measure_faults(const Kernel& k, const Report& report) {
  auto s = std::make_unique<Session>(k);
  const std::size_t total = cases_of(s->client, s->process.info).size();
  std::size_t survived = 0, wanted = 0, answered = 0;
  for (std::size_t i = 0; i < total; ++i) {
    const Case fault = cases_of(s->client, s->process.info).at(i);  // the ids are new
    bool good = true;
    try {
      fault.send();
      if (!fault.id.empty()) {
        ++wanted;
        const auto deadline = Clock::now() + 2s;
        while (!s->client.replies.count(fault.id) && Clock::now() < deadline) s->client.pump(100ms);
        if (s->client.replies.count(fault.id))
          ++answered;
        else
          std::cerr << "not answered: " << fault.name << "\n";
      }
      for (const auto where : {Client::control, Client::shell}) {
        const auto id = s->client.send(where, "kernel_info_request");
        s->client.until([&] { return s->client.replies.count(id) > 0; }, "kernel_info_reply", 5s);
      }
    } catch (const std::exception&) {
      good = false;
    }
    survived += good;
    s->client.forget();
    if (!good) {
      std::cerr << "not survived: " << fault.name << "\n";
      s = std::make_unique<Session>(k);
    }
  }
  report("faults", static_cast<double>(total));
  report("faults_survived", static_cast<double>(survived));
  report("faults_requests", static_cast<double>(wanted));
  report("faults_answered", static_cast<double>(answered));
}

}  // namespace bench
