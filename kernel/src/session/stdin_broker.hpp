// Questions to the user: which request asked, which answer belongs to it.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <string>

#include "protocol/message.hpp"

namespace caller::kernel {

/// Pairs input_request and input_reply for any number of waiting requests.
///
/// An answer is matched by its parent header; clients that send none answer their own oldest question. An answer nobody
/// waits for (the cell was interrupted meanwhile) is dropped.
///
/// Thread-safety: any thread; completions run in the thread that answers or cancels, outside the broker's lock.
/// Errors: ask: KernelError(no_request) outside any cell, KernelError(stdin_not_allowed) when the request forbids
/// input. Source: ipykernel `raw_input`, `getpass`; differs: several cells may wait at once.
class StdinBroker {
public:
  /// Sends an input_request to the client of `parent`; returns the id of the message.
  using Send = std::function<std::string(const Request& parent, const json& content)>;
  /// Receives the line without its end, or nothing when the wait was cancelled.
  using Done = std::function<void(std::optional<std::string>)>;

  explicit StdinBroker(Send send) : send_(std::move(send)) {}

  void ask(const Request& request, const std::string& prompt, bool password, Done done);

  /// Takes an input_reply; false when nobody waits for it.
  bool reply(const Message& answer);

  /// Ends the waits of one request, or of all.
  void cancel(const Request& request);
  void cancel_all();
  std::size_t waiting();

private:
  struct Wait {
    Request request;
    std::string message_id;
    Done done;
  };
  template <class Match>
  void cancel_if(Match match);

  Send send_;
  std::mutex mutex_;
  std::list<Wait> waits_;  // oldest first
};

}  // namespace caller::kernel
