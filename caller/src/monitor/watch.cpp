#include "watch.hpp"

#include <nlohmann/json.hpp>

#include <caller/error.hpp>

namespace caller::monitor {

namespace {

/// An event as it is sent. `data` has no line's end.
std::string event(std::uint64_t id, std::string_view kind, const std::string& data) {
  std::string out = "id: " + std::to_string(id) + "\nevent: ";
  out += kind;
  out += "\ndata: " + data + "\n\n";
  return out;
}

}  // namespace

void Watch::watching(std::size_t n) {
  watchers_ = n;
  if (n == 0) {
    look_soon();
    return;
  }
  if (running_) return;
  running_ = true;
  told_ = false;
  feed_.forget();  // what was known when nobody watched may be long past
  (void)loop_.call_soon(&Watch::run, shared_from_this());
}

void Watch::look_soon() { std::exchange(soon_, Pending<void>()).set_result(); }

Coro<void> Watch::run(std::shared_ptr<Watch> self) {
  while (self->watchers_ > 0) {
    Pending<void> soon = self->soon_;
    Coro<Look> looking = look(self);
    Look found = co_await std::move(looking);
    self->tell(std::move(found));
    WaitOptions how;
    how.timeout = self->interval_;
    how.protect = true;
    (void)co_await soon.async_wait_done(how);
  }
  self->running_ = false;
}

Coro<Watch::Look> Watch::look(std::shared_ptr<Watch> self) {
  Look out;
  try {
    Coro<Api::State> asking = Api::state(self->api_);
    Api::State state = co_await std::move(asking);
    out.json = std::move(state.json);
    out.digest = std::move(state.digest);
  } catch (const PendingCancelled&) {
    throw;
  } catch (const TimedOut&) {
    out.trouble = "the store does not answer";
  } catch (const std::exception& e) {
    out.trouble = e.what();
  }
  co_return out;
}

void Watch::tell(Look found) {
  if (!found.trouble.empty()) {
    if (told_ && found.trouble == trouble_) return;
    trouble_ = std::move(found.trouble);
    const nlohmann::json data = error_json("StateBackendError", trouble_)["error"];
    feed_.publish(event(feed_.version() + 1, "trouble", dumped(data)));
  } else {
    if (told_ && trouble_.empty() && found.digest == digest_) return;
    trouble_.clear();
    digest_ = std::move(found.digest);
    feed_.publish(event(feed_.version() + 1, "state", found.json));
  }
  told_ = true;
}

}  // namespace caller::monitor
