#include "link.hpp"

// Asio's symbols stay in this library: another version of it in the program would be another program's code.
#define BOOST_ASIO_DISABLE_VISIBILITY 1
#include <hiredis/hiredis.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/write.hpp>
#include <cstdlib>
#include <optional>
#include <random>

#include <caller/asio.hpp>
#include <caller/task/error.hpp>

namespace caller::task::redis {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using Socket = asio::generic::stream_protocol::socket;
using Endpoint = asio::generic::stream_protocol::endpoint;
using boost::system::error_code;

namespace {

constexpr milliseconds kFirstPause{10}, kLongestPause{1000}, kConnecting{5000};

Reply converted(const redisReply& r) {
  Reply out;
  switch (r.type) {
    case REDIS_REPLY_INTEGER:
      out.kind = Reply::Kind::integer;
      out.integer = r.integer;
      break;
    case REDIS_REPLY_ARRAY:
      out.kind = Reply::Kind::list;
      out.list.reserve(r.elements);
      for (std::size_t i = 0; i < r.elements; ++i) out.list.push_back(converted(*r.element[i]));
      break;
    case REDIS_REPLY_NIL:
      break;
    default:
      out.kind = r.type == REDIS_REPLY_ERROR ? Reply::Kind::error : Reply::Kind::text;
      out.text.assign(r.str, static_cast<std::size_t>(r.len));
  }
  return out;
}

struct FreeReader {
  void operator()(redisReader* r) const { redisReaderFree(r); }
};
struct FreeReply {
  void operator()(redisReply* r) const { freeReplyObject(r); }
};

}  // namespace

std::string command_bytes(const std::vector<std::string_view>& arguments) {
  std::vector<const char*> texts;
  std::vector<std::size_t> sizes;
  for (const auto& a : arguments) {
    texts.push_back(a.data() ? a.data() : "");
    sizes.push_back(a.size());
  }
  char* made = nullptr;
  const int n = redisFormatCommandArgv(&made, static_cast<int>(texts.size()), texts.data(), sizes.data());
  if (n < 0) throw std::bad_alloc();
  const std::unique_ptr<char, decltype(&redisFreeCommand)> owner(made, &redisFreeCommand);
  return std::string(made, static_cast<std::size_t>(n));
}

struct Link::Session {
  Caller loop;
  Socket socket{loop.executor()};
  std::unique_ptr<redisReader, FreeReader> reader{redisReaderCreate()};
  std::array<char, 16384> chunk;
  std::string out, writing;
  bool flushing = false;

  void close() noexcept {
    error_code ignored;
    socket.close(ignored);
  }
  /// Errors: StateBackendError when the bytes are no replies.
  std::optional<Reply> next() {
    void* raw = nullptr;
    if (redisReaderGetReply(reader.get(), &raw) != REDIS_OK)
      throw StateBackendError("what answers there does not speak Redis's protocol: " + std::string(reader->errstr));
    if (!raw) return std::nullopt;
    const std::unique_ptr<redisReply, FreeReply> reply(static_cast<redisReply*>(raw));
    return converted(*reply);
  }
};

void Link::write(std::string_view bytes) {
  if (!session_) return;
  session_->out.append(bytes);
  if (std::exchange(session_->flushing, true)) return;
  (void)session_->loop.call_soon([session = session_] { return flush(session); });
}

Coro<void> Link::flush(std::shared_ptr<Session> s) {
  error_code failed;
  while (!s->out.empty() && !failed) {
    s->writing.clear();
    s->writing.swap(s->out);
    co_await asio::async_write(s->socket, asio::buffer(s->writing), asio::redirect_error(use_pending, failed));
  }
  if (failed) s->close();  // whoever reads finds out
  s->flushing = false;
}

void Link::drop() noexcept {
  if (session_) session_->close();
}

/// Empty when it is connected, else why not.
Coro<std::string> Link::connect(std::shared_ptr<Link> self, std::shared_ptr<Session> s) {
  std::vector<Endpoint> places;
  error_code failed;
  if (!self->address_.path.empty()) {
    places.emplace_back(asio::local::stream_protocol::endpoint(self->address_.path));
  } else {
    asio::ip::tcp::resolver resolver(s->loop.executor());
    const auto found = co_await resolver.async_resolve(self->address_.host, self->address_.port,
                                                       asio::redirect_error(use_pending, failed));
    if (failed) co_return failed.message();
    for (const auto& entry : found) places.emplace_back(entry.endpoint());
  }
  for (const Endpoint& place : places) {
    s->close();
    failed = {};
    const Pending<void> connecting = s->socket.async_connect(place, asio::redirect_error(use_pending, failed));
    WaitOptions how;
    how.timeout = kConnecting;
    const bool in_time = co_await connecting.async_wait_done(how);
    if (!in_time) {
      s->close();
      WaitOptions end;
      end.shield = true;
      (void)co_await connecting.async_wait_done(end);
      failed = asio::error::timed_out;
    }
    if (failed) continue;
    if (self->address_.path.empty()) {
      error_code ignored;
      s->socket.set_option(asio::ip::tcp::no_delay(true), ignored);
      s->socket.set_option(asio::socket_base::keep_alive(true), ignored);
    }
    co_return std::string();
  }
  co_return failed.message();
}

Coro<Trouble> Link::converse(std::shared_ptr<Link> self, std::shared_ptr<Session> s) {
  const Address& address = self->address_;
  const std::string at = "Redis at " + address.shown;
  Trouble trouble;
  std::string problem = co_await connect(self, s);
  if (!problem.empty()) {
    trouble.text = at + " cannot be reached: " + problem + "; start redis-server there or correct the address";
    co_return trouble;
  }
  const std::string database = std::to_string(address.database);
  int greetings = 1;
  if (!address.password.empty() || !address.user.empty()) {
    std::vector<std::string_view> auth{"AUTH"};
    if (!address.user.empty()) auth.push_back(address.user);
    auth.push_back(address.password);
    s->out += command_bytes(auth);
    ++greetings;
  }
  if (address.database != 0) {
    s->out += command_bytes({"SELECT", database});
    ++greetings;
  }
  s->out += command_bytes({"PING"});
  s->flushing = true;
  co_await flush(s);
  for (;;) {
    error_code failed;
    const std::size_t n =
        co_await s->socket.async_read_some(asio::buffer(s->chunk), asio::redirect_error(use_pending, failed));
    if (failed) {
      trouble.text = at + (trouble.was_up ? " is gone: " : " closed the connection: ") + failed.message() +
                     "; see whether the server runs, and its log";
      co_return trouble;
    }
    redisReaderFeed(s->reader.get(), s->chunk.data(), n);
    try {
      while (auto reply = s->next()) {
        if (greetings == 0) {
          self->events_.reply(std::move(*reply));
          continue;
        }
        if (reply->kind == Reply::Kind::error) {
          trouble.refused =
              !reply->text.starts_with("LOADING") && reply->text.find("max number of clients") == std::string::npos;
          trouble.text = at + " does not let us in: " + reply->text +
                         (trouble.refused ? "; correct user, password or database in the address" : "");
          break;
        }
        if (--greetings == 0) {
          trouble.was_up = true;
          self->session_ = s;
          self->events_.up();
        }
      }
    } catch (const StateBackendError& e) {
      trouble.text = at + ": " + e.what();
    }
    if (!trouble.text.empty()) co_return trouble;
  }
}

Coro<void> Link::run(std::shared_ptr<Link> self) {
  milliseconds pause = kFirstPause;
  std::minstd_rand random(std::random_device{}());
  for (;;) {
    const auto session = std::make_shared<Session>();
    Trouble trouble = co_await converse(self, session);
    session->close();
    self->session_.reset();
    if (trouble.was_up) pause = kFirstPause;
    self->events_.down(trouble);
    // Not all clients of a server that comes back at once.
    const std::chrono::microseconds wait(pause.count() * std::uniform_int_distribution<int>(500, 1000)(random));
    co_await sleep_for(wait);
    pause = std::min(pause * 2, kLongestPause);
  }
}

}  // namespace caller::task::redis
