// HTTP/1.1 over Asio and Beast, bounded in everything a client can make large or slow. Internal to this folder.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <caller/caller.hpp>
#include <caller/pending.hpp>

namespace caller::monitor {

struct Request {
  std::string method, target;
  std::string host, origin, fetch_site, fetch_mode, content_type, token;
  bool one_host = true, has_origin = false;
  std::string body;
};

struct Response {
  int status = 200;
  std::string content_type = "application/json";
  std::string body{};
  std::vector<std::pair<std::string, std::string>> more{};  ///< headers
  bool events = false;  ///< instead of the body: what the Feed tells, until somebody closes
};

/// What the watchers are told: always the newest, so a slow one misses steps and never holds anything up.
/// Thread-safety: the loop's thread.
class Feed {
public:
  std::uint64_t version() const noexcept { return version_; }
  const std::string& text() const noexcept { return text_; }
  /// Of one event, as it is sent.
  void publish(std::string text) {
    text_ = std::move(text);
    ++version_;
    wake();
  }
  /// Nothing is known any more: the next watcher waits for what is published next.
  void forget() noexcept { text_.clear(); }
  void wake() { std::exchange(news_, Pending<void>()).set_result(); }
  /// Done at the next publish() or wake().
  const Pending<void>& news() const noexcept { return news_; }

private:
  std::uint64_t version_ = 0;
  std::string text_;
  Pending<void> news_;
};

struct Limits {
  std::size_t connections, header, body;
  std::chrono::milliseconds request, idle, beat{15'000};
};

/// What a server asks of those who made it. Called on the loop's thread.
struct HttpHooks {
  std::function<Coro<Response>(Request)> handle;
  std::function<void(std::size_t)> watching;  ///< so many receive events now
};

/// Thread-safety: the thread of the Caller, unless said otherwise. Errors: see each function.
class HttpServer : public std::enable_shared_from_this<HttpServer> {
public:
  static std::shared_ptr<HttpServer> make(Caller loop, Limits limits, HttpHooks hooks, Feed& feed);
  virtual ~HttpServer();
  /// Binds, and serves from now on. Returns the port. Errors: std::system_error.
  virtual std::uint16_t listen(const std::string& address, std::uint16_t port) = 0;
  virtual void close() = 0;
  /// Any thread.
  virtual std::size_t connections() const noexcept = 0;
  virtual std::size_t watchers() const noexcept = 0;
};

}  // namespace caller::monitor
