// Commands to a Redis server from any thread, and messages from it. Internal to this folder.
#pragma once

#include <chrono>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include <caller/caller.hpp>

#include "link.hpp"
#include "scripts.hpp"

namespace caller::task::redis {

/// Two connections on one Caller of its own thread: one for commands, in a pipeline, one for messages.
///
/// A command whose answer was lost with the connection is sent again on the next one: only what may happen twice is
/// sent by it. A server that was never there is an error at once, one that was there is waited for, as long as
/// `patience`.
///
/// Thread-safety: any thread. Errors: StateBackendError, given to `done`.
class Client {
public:
  using Done = std::function<void(Reply* reply, std::exception_ptr error)>;
  struct Events {
    std::function<void(const std::string& channel)> subscribed;  ///< from now on its messages come
    std::function<void(const std::string& channel, const std::string& message)> message;
  };

  Client(Address address, std::chrono::nanoseconds patience);
  /// Before anything else. The events are called on the client's thread.
  void start(Events events);
  /// What is not answered then is an error. Not on the client's thread.
  void stop();

  /// As stop(), on the client's thread: no callback after this one. stop() is still to be called, by another thread.
  void mute();

  /// `done` is called once, on the client's thread.
  void run(const Script& script, std::string key, std::vector<std::string> arguments, Done done);
  void subscribe(std::string channel);
  void unsubscribe(std::string channel);

  const Address& address() const noexcept { return address_; }
  const Caller& loop() const noexcept { return loop_; }
  bool is_here() const noexcept;

private:
  struct Request {
    const Script* script;                // null: the library is to be loaded
    std::vector<std::string> arguments;  // key and arguments
    Done done;
    std::chrono::steady_clock::time_point deadline;
    bool again = false;     // the server did not know the function
    bool repeated = false;  // it was sent to a connection that was lost
  };

  template <class F>
  void on_loop(F f) {
    (void)loop_.post(std::move(f));
  }
  void take_in();
  void write(const Request& request);
  void send_locked(Request request);
  void load_locked();
  void up();
  void reply(Reply&& r);
  void down(const Trouble& trouble);
  void loaded(const Reply& answer);
  void message(Reply&& r);
  void give_up_connection();
  static void fail_all(std::deque<Request> requests, const std::string& text);
  void close();
  std::string closed() const;
  void watch();

  const Address address_;
  const std::chrono::nanoseconds patience_;
  Caller loop_;
  Events events_;
  std::shared_ptr<Link> commands_, messages_;
  std::mutex mutex_;
  std::vector<Request> inbox_;          // for the loop, which sends many together
  std::deque<Request> waiting_, sent_;  // until there is a connection; until there is an answer
  bool posted_ = false, stopped_ = false, up_ = false, watching_ = false;
  // Of the loop's thread:
  std::set<std::string> channels_;
  bool was_ever_up_ = false, messages_up_ = false, muted_ = false;
  std::string last_trouble_;
  std::string refused_;  // why there is no library
};

}  // namespace caller::task::redis
