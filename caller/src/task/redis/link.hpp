// One connection to a Redis server, kept up: made again with growing pauses whenever it is lost. Internal to this
// folder.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include <caller/caller.hpp>

#include "address.hpp"

namespace caller::task::redis {

/// What the server answers.
struct Reply {
  enum class Kind { text, error, integer, list, nothing };
  Kind kind = Kind::nothing;
  std::string text;
  long long integer = 0;
  std::vector<Reply> list;
};

/// A command as its bytes.
std::string command_bytes(const std::vector<std::string_view>& arguments);

/// Why there is no connection.
struct Trouble {
  std::string text;      ///< for people, one sentence
  bool refused = false;  ///< the server does not want us: the next time will be the same
  bool was_up = false;   ///< it was lost; else it could not be made
};

/// What becomes of a connection. All of it happens on the thread of the Caller.
struct LinkEvents {
  std::function<void()> up;
  std::function<void(Reply&&)> reply;
  std::function<void(const Trouble&)> down;
};

/// Thread-safety: the thread of the Caller that runs it, but for write(). Errors: come as Trouble.
class Link : public std::enable_shared_from_this<Link> {
public:
  Link(Address address, LinkEvents events) : address_(std::move(address)), events_(std::move(events)) {}
  /// Until it is cancelled, on a Caller of a backend that can run Asio.
  static Coro<void> run(std::shared_ptr<Link> self);
  /// Any thread: written there and then if the system takes it, else by the loop. Nothing while it is not up.
  void write(std::string_view bytes);
  /// It is made again.
  void drop() noexcept;

private:
  struct Session;
  struct Closing;
  static Coro<Trouble> converse(std::shared_ptr<Link> self, std::shared_ptr<Session> session);
  static Coro<Trouble> connect(std::shared_ptr<Link> self, std::shared_ptr<Session> session);
  static Coro<Trouble> greet(std::shared_ptr<Link> self, std::shared_ptr<Session> session);
  static Coro<void> flush(std::shared_ptr<Session> session);

  const Address address_;
  const LinkEvents events_;
  std::shared_ptr<Session> session() const;
  void set_session(std::shared_ptr<Session> session);
  mutable std::mutex mutex_;
  std::shared_ptr<Session> session_;  // while it is up
};

}  // namespace caller::task::redis
