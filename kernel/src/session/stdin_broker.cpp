#include "session/stdin_broker.hpp"

#include <algorithm>
#include <utility>

#include "protocol/error.hpp"

namespace caller::kernel {

void StdinBroker::ask(const Request& request, const std::string& prompt, bool password, Done done) {
  if (!request) throw KernelError(KernelErrc::no_request, "input was asked for outside any cell");
  if (!field<bool>(request->content, "allow_stdin", false))
    throw KernelError(KernelErrc::stdin_not_allowed,
                      "input was asked for, but this client does not allow it (allow_stdin)");
  // The wait stands before the question leaves, so that no answer can be too early.
  const std::lock_guard lock(mutex_);
  waits_.push_back({request, {}, std::move(done)});
  try {
    waits_.back().message_id = send_(request, {{"prompt", prompt}, {"password", password}});
  } catch (...) {
    waits_.pop_back();
    throw;
  }
}

bool StdinBroker::reply(const Message& answer) {
  Wait found;
  {
    const std::lock_guard lock(mutex_);
    const auto parent = field<std::string>(answer.parent_header, "msg_id", "");
    const auto it = std::find_if(waits_.begin(), waits_.end(), [&](const Wait& w) {
      return parent.empty() ? w.request->idents == answer.idents : w.message_id == parent;
    });
    if (it == waits_.end()) return false;
    found = std::move(*it);
    waits_.erase(it);
  }
  found.done(field<std::string>(answer.content, "value", ""));
  return true;
}

template <class Match>
void StdinBroker::cancel_if(Match match) {
  std::list<Wait> gone;
  {
    const std::lock_guard lock(mutex_);
    for (auto it = waits_.begin(); it != waits_.end();) {
      const auto next = std::next(it);
      if (match(*it)) gone.splice(gone.end(), waits_, it);
      it = next;
    }
  }
  for (Wait& w : gone) w.done(std::nullopt);
}

void StdinBroker::cancel(const Request& request) {
  cancel_if([&](const Wait& w) { return w.request == request; });
}

void StdinBroker::cancel_all() {
  cancel_if([](const Wait&) { return true; });
}

std::size_t StdinBroker::waiting() {
  const std::lock_guard lock(mutex_);
  return waits_.size();
}

}  // namespace caller::kernel
