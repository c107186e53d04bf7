// A small HTTP client over a plain socket, which can also do what no client should.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

struct Answer {
  int status = 0;  // 0: the connection was closed without one
  std::map<std::string, std::string> headers;
  std::string body;
};

/// One connection to the loopback. What takes longer than a minute is a failure of the test.
class Wire {
public:
  explicit Wire(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in place{};
    place.sin_family = AF_INET;
    place.sin_port = htons(port);
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd_, reinterpret_cast<const sockaddr*>(&place), sizeof place) != 0)
      throw std::runtime_error("nobody listens there");
  }
  Wire(Wire&& other) noexcept : fd_(std::exchange(other.fd_, -1)), got_(std::move(other.got_)) {}
  Wire& operator=(Wire&&) = delete;
  ~Wire() {
    if (fd_ >= 0) ::close(fd_);
  }

  /// False: the other side takes nothing any more.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }

  /// Up to and with `mark`; empty: the connection ended before.
  std::string until(std::string_view mark) {
    for (;;) {
      const std::size_t at = got_.find(mark);
      if (at != std::string::npos) return take(at + mark.size());
      if (!receive()) return {};
    }
  }
  std::string exactly(std::size_t n) {
    while (got_.size() < n)
      if (!receive()) return {};
    return take(n);
  }
  std::string rest() {
    while (receive()) {
    }
    return take(got_.size());
  }

  Answer answer(bool with_body = true) {
    Answer out;
    std::string head = until("\r\n\r\n");
    if (head.size() < 12) return out;
    out.status = std::atoi(head.c_str() + 9);
    std::size_t at = head.find("\r\n") + 2;
    while (at + 2 < head.size()) {
      const std::size_t end = head.find("\r\n", at), colon = head.find(": ", at);
      out.headers[head.substr(at, colon - at)] = head.substr(colon + 2, end - colon - 2);
      at = end + 2;
    }
    const auto length = out.headers.find("Content-Length");
    if (with_body && length != out.headers.end()) out.body = exactly(std::stoul(length->second));
    return out;
  }

private:
  std::string take(std::size_t n) {
    std::string out = got_.substr(0, n);
    got_.erase(0, n);
    return out;
  }
  bool receive() {
    pollfd p{fd_, POLLIN, 0};
    if (::poll(&p, 1, 60'000) != 1) throw std::runtime_error("nothing was said for a minute");
    std::array<char, 65536> chunk;
    const ssize_t n = ::recv(fd_, chunk.data(), chunk.size(), 0);
    if (n <= 0) return false;
    got_.append(chunk.data(), static_cast<std::size_t>(n));
    return true;
  }

  int fd_;
  std::string got_;
};

using Headers = std::vector<std::pair<std::string, std::string>>;

/// `Host` is the loopback's unless it is given; an empty one: there is none.
inline std::string request_text(std::uint16_t port, std::string_view method, std::string_view target,
                                const Headers& headers = {}, std::string_view body = {}) {
  std::string text = std::string(method) + " " + std::string(target) + " HTTP/1.1\r\n";
  bool has_host = false;
  for (const auto& [name, value] : headers) {
    has_host = has_host || name == "Host";
    if (name != "Host" || !value.empty()) text += name + ": " + value + "\r\n";
  }
  if (!has_host) text += "Host: 127.0.0.1:" + std::to_string(port) + "\r\n";
  if (!body.empty() || method == "POST") text += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  text += "\r\n";
  text += body;
  return text;
}

inline Answer ask(std::uint16_t port, std::string_view method, std::string_view target, const Headers& headers = {},
                  std::string_view body = {}) {
  Wire wire(port);
  wire.send(request_text(port, method, target, headers, body));
  return wire.answer(method != "HEAD");
}
