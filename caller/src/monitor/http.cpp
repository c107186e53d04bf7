#include "http.hpp"

// Asio's symbols stay in this library: another version of it in the program would be another program's code.
#define BOOST_ASIO_DISABLE_VISIBILITY 1
#include <array>
#include <atomic>
#include <optional>
#include <set>
#include <string_view>
#include <system_error>

#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/error.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/status.hpp>
#include <boost/beast/http/string_body.hpp>

#include <caller/asio.hpp>

namespace caller::monitor {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;

HttpServer::~HttpServer() = default;

namespace {

/// What every answer says: only the page's own files may be loaded, run, framed or read, and nothing is kept.
constexpr std::string_view kHeaders =
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for "
    "'script'\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "X-Frame-Options: DENY\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Cross-Origin-Opener-Policy: same-origin\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n"
    "Cache-Control: no-store\r\n";

std::string head(const Response& response, bool keep_alive) {
  std::string out = "HTTP/1.1 " + std::to_string(response.status) + " ";
  const auto reason = http::obsolete_reason(static_cast<http::status>(response.status));
  out.append(reason.data(), reason.size());
  out += "\r\nContent-Type: " + response.content_type + "\r\n";
  out += kHeaders;
  for (const auto& [name, value] : response.more) out += name + ": " + value + "\r\n";
  if (!response.events) out += "Content-Length: " + std::to_string(response.body.size()) + "\r\n";
  out += keep_alive && !response.events ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
  return out;
}

Response plain(int status, std::string_view text) {
  return {status, "text/plain; charset=utf-8", std::string(text) + "\n", {}, false};
}

struct Connection {
  explicit Connection(tcp::socket&& socket) : stream(std::move(socket)) {}
  beast::tcp_stream stream;
  beast::flat_buffer buffer;
  std::string writing;
  bool gone = false;
};
using ConnectionPtr = std::shared_ptr<Connection>;

/// What to say about a request that could not be read; none: nobody listens any more.
std::optional<Response> complaint(const error_code& failed) {
  if (failed == http::error::end_of_stream || failed == http::error::partial_message) return std::nullopt;
  if (failed == http::error::header_limit || failed == http::error::buffer_overflow)
    return plain(431, "the request's head is too large");
  if (failed == http::error::body_limit) return plain(413, "the request's body is too large");
  if (failed.category() == make_error_code(http::error::bad_method).category())
    return plain(400, "that is no HTTP request: " + failed.message());
  return std::nullopt;
}

class Server final : public HttpServer {
public:
  Server(Caller loop, Limits limits, HttpHooks hooks, Feed& feed)
      : loop_(std::move(loop)), limits_(limits), hooks_(std::move(hooks)), feed_(feed), acceptor_(loop_.executor()) {}

  std::uint16_t listen(const std::string& address, std::uint16_t port) override {
    error_code failed;
    const tcp::endpoint place(asio::ip::make_address(address), port);
    const auto check = [&](const char* what) {
      if (!failed) return;
      std::string text = std::string(what) + " " + address + ", port " + std::to_string(port);
      if (failed == asio::error::address_in_use)
        text += " (end what serves there, or choose another port; 0 is one that is free)";
      throw std::system_error(std::error_code(failed.value(), std::generic_category()), text);
    };
    acceptor_.open(place.protocol(), failed);
    check("cannot open");
    acceptor_.set_option(tcp::acceptor::reuse_address(true), failed);
    acceptor_.bind(place, failed);
    check("cannot serve on");
    acceptor_.listen(128, failed);
    check("cannot listen on");
    const std::uint16_t bound = acceptor_.local_endpoint().port();
    auto self = std::static_pointer_cast<Server>(shared_from_this());
    (void)loop_.call_soon(&Server::accept, std::move(self));
    return bound;
  }

  void close() override {
    error_code ignored;
    acceptor_.close(ignored);
    for (Connection* c : open_) {
      c->gone = true;
      c->stream.close();
    }
    feed_.wake();
  }
  std::size_t connections() const noexcept override { return count_.load(std::memory_order_relaxed); }
  std::size_t watchers() const noexcept override { return watchers_.load(std::memory_order_relaxed); }

private:
  /// Counts a connection as long as it is there.
  struct Listed {
    std::shared_ptr<Server> server;
    ConnectionPtr connection;
    Listed(std::shared_ptr<Server> s, ConnectionPtr c) : server(std::move(s)), connection(std::move(c)) {
      server->open_.insert(connection.get());
      server->count_.store(server->open_.size(), std::memory_order_relaxed);
    }
    Listed(const Listed&) = delete;
    Listed& operator=(const Listed&) = delete;
    ~Listed() {
      server->open_.erase(connection.get());
      server->count_.store(server->open_.size(), std::memory_order_relaxed);
    }
  };
  struct Watching {
    std::shared_ptr<Server> server;
    explicit Watching(std::shared_ptr<Server> s) : server(std::move(s)) { change(1); }
    Watching(const Watching&) = delete;
    Watching& operator=(const Watching&) = delete;
    ~Watching() { change(-1); }
    void change(int by) const {
      server->watchers_.store(server->watchers_.load(std::memory_order_relaxed) + static_cast<std::size_t>(by),
                              std::memory_order_relaxed);
      server->hooks_.watching(server->watchers_.load(std::memory_order_relaxed));
    }
  };

  static Coro<void> accept(std::shared_ptr<Server> self) {
    for (;;) {
      error_code failed;
      tcp::socket socket(self->loop_.executor());
      co_await self->acceptor_.async_accept(socket, asio::redirect_error(use_pending, failed));
      if (!self->acceptor_.is_open()) co_return;
      if (failed) {
        // No descriptors, or a client that has gone: what there is goes on being served.
        co_await sleep_for(std::chrono::milliseconds(50));
        continue;
      }
      if (self->open_.size() >= self->limits_.connections) {
        refuse(socket);
        continue;
      }
      error_code ignored;
      socket.set_option(tcp::no_delay(true), ignored);
      auto connection = std::make_shared<Connection>(std::move(socket));
      (void)self->loop_.call_soon(&Server::serve, self, std::move(connection));
    }
  }

  /// One more than we serve. Waits for nothing.
  static void refuse(tcp::socket& socket) {
    error_code ignored;
    socket.non_blocking(true, ignored);
    Response full = plain(503, "too many connections");
    full.more.emplace_back("Retry-After", "1");
    const std::string text = head(full, false) + full.body;
    std::array<char, 4096> unread;
    socket.write_some(asio::buffer(text), ignored);
    socket.read_some(asio::buffer(unread), ignored);  // what is left unread would make the end look like a failure
    socket.shutdown(tcp::socket::shutdown_send, ignored);
  }

  static Coro<bool> write(ConnectionPtr c, std::chrono::milliseconds time) {
    error_code failed;
    c->stream.expires_after(time);
    co_await asio::async_write(c->stream, asio::buffer(c->writing), asio::redirect_error(use_pending, failed));
    co_return !failed;
  }

  static Coro<void> serve(std::shared_ptr<Server> self, ConnectionPtr c) {
    const Listed listed(self, c);
    c->buffer.max_size(self->limits_.header + self->limits_.body + 4096);
    for (bool first = true;; first = false) {
      error_code failed;
      if (c->buffer.size() == 0) {
        c->stream.expires_after(first ? self->limits_.request : self->limits_.idle);
        const auto room = c->buffer.prepare(4096);
        const std::size_t n = co_await c->stream.async_read_some(room, asio::redirect_error(use_pending, failed));
        if (failed) co_return;
        c->buffer.commit(n);
      }
      http::request_parser<http::string_body> parser;
      parser.header_limit(static_cast<std::uint32_t>(self->limits_.header));
      parser.body_limit(self->limits_.body);
      c->stream.expires_after(self->limits_.request);
      co_await http::async_read(c->stream, c->buffer, parser, asio::redirect_error(use_pending, failed));
      if (failed) {
        const auto answer = complaint(failed);
        if (answer) {
          c->writing = head(*answer, false) + answer->body;
          (void)co_await write(c, self->limits_.request);
          end(*c);
        }
        co_return;
      }
      const bool keep_alive = parser.get().keep_alive();
      const bool only_head = parser.get().method() == http::verb::head;
      Request request = taken(parser.release());
      Response response = co_await answered(self, std::move(request));
      c->writing = head(response, keep_alive);
      if (!only_head && !response.events) c->writing += response.body;
      const bool written = co_await write(c, self->limits_.request);
      if (!written) co_return;
      if (response.events && !only_head) {
        co_await tell(self, c);
        co_return;
      }
      if (!keep_alive || response.events) {
        end(*c);
        co_return;
      }
    }
  }

  static void end(Connection& c) {
    error_code ignored;
    c.stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
  }

  static Request taken(http::request<http::string_body> message) {
    const auto text = [](auto view) { return std::string(view.data(), view.size()); };
    Request out;
    out.method = text(message.method_string());
    out.target = text(message.target());
    out.host = text(message[http::field::host]);
    out.one_host = message.count(http::field::host) == 1;
    out.has_origin = message.count(http::field::origin) > 0;
    out.origin = text(message[http::field::origin]);
    out.fetch_site = text(message["Sec-Fetch-Site"]);
    out.fetch_mode = text(message["Sec-Fetch-Mode"]);
    out.content_type = text(message[http::field::content_type]);
    out.token = text(message["X-Caller-Token"]);
    out.body = std::move(message.body());
    return out;
  }

  static Coro<Response> answered(std::shared_ptr<Server> self, Request request) {
    try {
      Coro<Response> work = self->hooks_.handle(std::move(request));
      Response response = co_await std::move(work);
      co_return response;
    } catch (const PendingCancelled&) {
      throw;
    } catch (const std::exception& e) {
      co_return plain(500, e.what());
    }
  }

  /// The Feed, until the client has gone or takes nothing for too long.
  static Coro<void> tell(std::shared_ptr<Server> self, ConnectionPtr c) {
    const Watching watching(self);
    c->stream.expires_never();
    (void)self->loop_.call_soon(&Server::notice_end, self, c);
    std::uint64_t told = 0;
    while (!c->gone) {
      Feed& feed = self->feed_;
      if (feed.version() != told && !feed.text().empty()) {
        told = feed.version();
        c->writing = feed.text();
      } else {
        Pending<void> news = feed.news();
        WaitOptions how;
        how.timeout = self->limits_.beat;
        how.protect = true;
        const bool there_is = co_await news.async_wait_done(how);
        if (there_is) continue;
        c->writing = ": still here\n\n";
      }
      const bool written = co_await write(c, self->limits_.request);
      if (!written) break;
    }
    c->stream.close();
  }
  static Coro<void> notice_end(std::shared_ptr<Server> self, ConnectionPtr c) {
    std::array<char, 256> unwanted;
    error_code failed;
    std::size_t total = 0;
    while (!failed && total < 65536) {
      const auto room = asio::buffer(unwanted);
      total += co_await c->stream.async_read_some(room, asio::redirect_error(use_pending, failed));
    }
    c->gone = true;
    self->feed_.wake();
  }

  Caller loop_;
  const Limits limits_;
  const HttpHooks hooks_;
  Feed& feed_;
  tcp::acceptor acceptor_;
  std::set<Connection*> open_;
  std::atomic<std::size_t> count_{0}, watchers_{0};
};

}  // namespace

std::shared_ptr<HttpServer> HttpServer::make(Caller loop, Limits limits, HttpHooks hooks, Feed& feed) {
  return std::make_shared<Server>(std::move(loop), limits, std::move(hooks), feed);
}

}  // namespace caller::monitor
