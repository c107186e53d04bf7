#include "link.hpp"

// Asio's symbols stay in this library: another version of it in the program would be another program's code.
#define BOOST_ASIO_DISABLE_VISIBILITY 1
#include <hiredis/hiredis.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <cstdlib>
#include <mutex>
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

using TlsStream = asio::ssl::stream<Socket&>;

/// Errors: ConfigError for files that cannot be used.
asio::ssl::context tls_context(const Address& a) {
  asio::ssl::context context(asio::ssl::context::tls_client);
  context.set_options(asio::ssl::context::no_tlsv1 | asio::ssl::context::no_tlsv1_1);
  error_code failed;
  const auto use = [&](const char* what, const std::string& file) {
    if (failed) throw ConfigError(std::string("redis.") + what + ": " + file + " cannot be used: " + failed.message());
  };
  if (a.ca_file.empty())
    context.set_default_verify_paths(failed);
  else
    use("ca_file", (context.load_verify_file(a.ca_file, failed), a.ca_file));
  if (!a.cert_file.empty()) {
    use("cert_file", (context.use_certificate_chain_file(a.cert_file, failed), a.cert_file));
    use("key_file", (context.use_private_key_file(a.key_file, asio::ssl::context::pem, failed), a.key_file));
  }
  context.set_verify_mode(a.verify == RedisVerify::none ? asio::ssl::verify_none : asio::ssl::verify_peer);
  if (a.verify == RedisVerify::full) context.set_verify_callback(asio::ssl::host_name_verification(a.host));
  return context;
}

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
  std::optional<asio::ssl::context> context;
  std::optional<TlsStream> tls;  // over the socket, if the address says so
  std::unique_ptr<redisReader, FreeReader> reader{redisReaderCreate()};
  std::array<char, 16384> chunk;
  std::string writing;
  std::mutex mutex;  // of what follows, and for using the socket in other threads than the loop's
  std::string out;
  bool flushing = false;

  void close() noexcept {
    const std::lock_guard lock(mutex);
    error_code ignored;
    socket.close(ignored);
  }
  /// Any thread. False: it is to be flushed.
  bool write(std::string_view bytes) {
    const std::lock_guard lock(mutex);
    if (out.empty() && !flushing && !tls && socket.is_open()) {
      const auto n = ::send(socket.native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (n == static_cast<ssize_t>(bytes.size())) return true;
      if (n > 0) bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    out.append(bytes);
    return std::exchange(flushing, true);
  }
  /// Into `writing`. False: there is nothing.
  bool take_out() {
    const std::lock_guard lock(mutex);
    writing.clear();
    writing.swap(out);
    flushing = !writing.empty();
    return flushing;
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

namespace {

struct Nothing {};

template <class T>
struct Ended {
  error_code failed;
  T value{};
};

/// Begins an operation of Asio. It keeps what it works on until it has really ended, and has its end to itself: with
/// Boost before 1.77 a waiter that is cancelled or gives up goes before that.
template <class T, class Owner, class Start>
Pending<Ended<T>> begin(const std::shared_ptr<Owner>& owner, Start&& start) {
  Pending<Ended<T>> ended;
  std::forward<Start>(start)(
      [owner, ended](error_code failed, T value = {}) { ended.set_result(Ended<T>{failed, std::move(value)}); });
  return ended;
}

/// What it ended with; the owner is closed when it takes too long.
template <class Owner>
Coro<error_code> in_time(std::shared_ptr<Owner> owner, Pending<Ended<Nothing>> operation) {
  WaitOptions how;
  how.timeout = kConnecting;
  const bool ended = co_await operation.async_wait_done(how);
  if (ended) co_return operation.result().failed;
  owner->close();
  co_return asio::error::timed_out;
}

}  // namespace

std::shared_ptr<Link::Session> Link::session() const {
  const std::lock_guard lock(mutex_);
  return session_;
}
void Link::set_session(std::shared_ptr<Session> s) {
  const std::lock_guard lock(mutex_);
  session_.swap(s);
}

void Link::write(std::string_view bytes) {
  const std::shared_ptr<Session> s = session();
  if (s && !s->write(bytes)) (void)s->loop.call_soon([s] { return flush(s); });
}

Coro<void> Link::flush(std::shared_ptr<Session> s) {
  Ended<std::size_t> written;
  while (!written.failed && s->take_out()) {
    written = co_await begin<std::size_t>(s, [&](auto handler) {
      if (s->tls)
        asio::async_write(*s->tls, asio::buffer(s->writing), std::move(handler));
      else
        asio::async_write(s->socket, asio::buffer(s->writing), std::move(handler));
    });
  }
  if (written.failed) s->close();  // whoever reads finds out
}

void Link::drop() noexcept {
  if (const auto s = session()) s->close();
}

/// Without a text when it is connected.
Coro<Trouble> Link::connect(std::shared_ptr<Link> self, std::shared_ptr<Session> s) {
  std::vector<Endpoint> places;
  error_code failed;
  Trouble trouble;
  if (!self->address_.path.empty()) {
    places.emplace_back(asio::local::stream_protocol::endpoint(self->address_.path));
  } else {
    using Resolver = asio::ip::tcp::resolver;
    Resolver resolver(s->loop.executor());
    const auto found = co_await begin<Resolver::results_type>(
        s, [&](auto handler) { resolver.async_resolve(self->address_.host, self->address_.port, std::move(handler)); });
    if (found.failed) {
      trouble.text = found.failed.message() + "; start redis-server there or correct the address";
      co_return trouble;
    }
    for (const auto& entry : found.value) places.emplace_back(entry.endpoint());
  }
  for (const Endpoint& place : places) {
    s->close();
    failed = co_await in_time(s, begin<Nothing>(s, [&](auto handler) { s->socket.async_connect(place, handler); }));
    if (failed) continue;
    if (self->address_.path.empty()) {
      error_code ignored;
      s->socket.set_option(asio::ip::tcp::no_delay(true), ignored);
      s->socket.set_option(asio::socket_base::keep_alive(true), ignored);
    }
    if (self->address_.tls) trouble = co_await greet(self, s);
    co_return trouble;
  }
  trouble.text = failed.message() + "; start redis-server there or correct the address";
  co_return trouble;
}

/// The handshake of TLS.
Coro<Trouble> Link::greet(std::shared_ptr<Link> self, std::shared_ptr<Session> s) {
  const Address& address = self->address_;
  Trouble trouble;
  std::string wrong_file;
  try {
    s->context.emplace(tls_context(address));
  } catch (const ConfigError& e) {
    wrong_file = e.what();
  }
  if (!wrong_file.empty()) {
    trouble.text = wrong_file;
    trouble.refused = true;
    co_return trouble;
  }
  s->tls.emplace(s->socket, *s->context);
  error_code failed;
  asio::ip::make_address(address.host, failed);
  if (failed) ::SSL_set_tlsext_host_name(s->tls->native_handle(), address.host.c_str());  // not for a mere number
  failed = co_await in_time(
      s, begin<Nothing>(s, [&](auto handler) { s->tls->async_handshake(asio::ssl::stream_base::client, handler); }));
  if (!failed) co_return trouble;
  const long verified = ::SSL_get_verify_result(s->tls->native_handle());
  if (verified != X509_V_OK) {
    trouble.text = std::string("its certificate is not accepted: ") + ::X509_verify_cert_error_string(verified) +
                   "; name the file of its authority as ca_file, or the host as the certificate does";
    trouble.refused = true;
  } else {
    trouble.text = "no TLS is spoken there: " + failed.message() + "; correct the address, or the server's tls-port";
  }
  co_return trouble;
}

Coro<Trouble> Link::converse(std::shared_ptr<Link> self, std::shared_ptr<Session> s) {
  const Address& address = self->address_;
  const std::string at = "Redis at " + address.shown;
  Trouble trouble;
  trouble = co_await connect(self, s);
  if (!trouble.text.empty()) {
    trouble.text = at + " cannot be reached: " + trouble.text;
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
    const auto read = co_await begin<std::size_t>(s, [&](auto handler) {
      if (s->tls)
        s->tls->async_read_some(asio::buffer(s->chunk), std::move(handler));
      else
        s->socket.async_read_some(asio::buffer(s->chunk), std::move(handler));
    });
    if (read.failed) {
      trouble.text = at + (trouble.was_up ? " is gone: " : " closed the connection: ") + read.failed.message() +
                     "; see whether the server runs, and its log";
      co_return trouble;
    }
    redisReaderFeed(s->reader.get(), s->chunk.data(), read.value);
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
          self->set_session(s);
          self->events_.up();
        }
      }
    } catch (const StateBackendError& e) {
      trouble.text = at + ": " + e.what();
    }
    if (!trouble.text.empty()) co_return trouble;
  }
}

/// Its operations end with the frame that began it, also when that is cancelled.
struct Link::Closing {
  explicit Closing(std::shared_ptr<Session> s) : session(std::move(s)) {}
  Closing(const Closing&) = delete;
  Closing& operator=(const Closing&) = delete;
  ~Closing() { session->close(); }
  const std::shared_ptr<Session> session;
};

Coro<void> Link::run(std::shared_ptr<Link> self) {
  milliseconds pause = kFirstPause;
  std::minstd_rand random(std::random_device{}());
  for (;;) {
    Trouble trouble;
    {
      const auto session = std::make_shared<Session>();
      const Closing closing(session);
      trouble = co_await converse(self, session);
    }
    self->set_session(nullptr);
    if (trouble.was_up) pause = kFirstPause;
    self->events_.down(trouble);
    // Not all clients of a server that comes back at once.
    const std::chrono::microseconds wait(pause.count() * std::uniform_int_distribution<int>(500, 1000)(random));
    co_await sleep_for(wait);
    pause = std::min(pause * 2, kLongestPause);
  }
}

}  // namespace caller::task::redis
