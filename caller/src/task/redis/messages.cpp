// What the server tells of, and who is told here.
#include "store.hpp"

#include <algorithm>
#include <functional>

namespace caller::task::redis {

std::shared_ptr<void> RedisStore::listen(std::string runner, Listener listener) {
  std::uint64_t token = 0;
  const bool values = listener.value != nullptr;
  {
    const std::lock_guard lock(mutex_);
    token = ++last_token_;
    listeners_.emplace(token, std::pair(runner, std::move(listener)));
    held_.try_emplace(runner);
  }
  client_->subscribe(prefix_ + "news");
  client_->subscribe(prefix_ + "r:" + runner);
  if (values) client_->subscribe(prefix_ + "v");
  return std::shared_ptr<void>(nullptr, [self = shared_, token](void*) {
    const std::lock_guard alive(self->mutex);
    if (self->store) self->store->forget(token);
  });
}

void RedisStore::forget(std::uint64_t token) {
  const std::lock_guard lock(mutex_);
  const auto it = listeners_.find(token);
  const std::string runner = it->second.first;
  listeners_.erase(it);
  const bool others =
      std::any_of(listeners_.begin(), listeners_.end(), [&](const auto& l) { return l.second.first == runner; });
  if (!others) {
    client_->unsubscribe(prefix_ + "r:" + runner);
    auto gone = held_.extract(runner);
    if (!gone.empty() && !gone.mapped().given.empty()) {  // too late
      Strings a{runner, "", "all"};
      for (const auto& r : gone.mapped().given) gone.mapped().ids.erase(r.id);
      for (const auto& [id, steps] : gone.mapped().ids) a.push_back(id);
      ask_for_requests(std::move(a));
    }
  }
  if (listeners_.empty()) client_->unsubscribe(prefix_ + "news");
  if (std::none_of(listeners_.begin(), listeners_.end(),
                   [](const auto& l) { return l.second.second.value != nullptr; }))
    client_->unsubscribe(prefix_ + "v");
}

/// The client's thread: what came before may have been missed.
void RedisStore::subscribed(const std::string& channel) {
  if (channel == prefix_ + "c:" + name_) {
    Strings ids, with_record;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& [id, waiting] : ends_) (waiting.records.empty() ? ids : with_record).push_back(id);
    }
    for (auto& id : ids) ask_for_end(std::move(id), false);
    for (auto& id : with_record) ask_for_end(std::move(id), true);
  } else if (channel == prefix_ + "news") {
    release();
  } else if (channel == prefix_ + "v") {
    tell_of_value({});
  } else if (channel.starts_with(prefix_ + "r:")) {
    const std::string runner = channel.substr(prefix_.size() + 2);
    bool again = false;
    {
      const std::lock_guard lock(mutex_);
      const auto it = held_.find(runner);
      if (it != held_.end()) again = std::exchange(it->second.subscribed, true);
      if (again) {
        it->second.compare = true;  // the server may have forgotten what it was told last
        it->second.offer.clear();   // what it gave is lost
      }
    }
    ask_for_requests({runner, "", ""});
    compare(runner);
    tell_of_work();
  }
}

void RedisStore::message(const std::string& channel, const std::string& m) {
  if (m.empty()) return;
  if (channel == prefix_ + "v") return tell_of_value(m);
  if (channel == prefix_ + "news") {
    if (m[0] == 'w') tell_of_work();
    if (m[0] == 'd') release();
  } else if (channel == prefix_ + "all") {
    Strings ids;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& [id, waiting] : ends_) ids.push_back(id);
    }
    for (const auto& id : ids) end(id);
    tell_of_value({});
  } else if (channel == prefix_ + "c:" + name_) {
    if (m[0] == 'M')
      end_with(m);
    else
      end(m.substr(1));
  } else if (channel.starts_with(prefix_ + "r:")) {
    const std::string runner = channel.substr(prefix_.size() + 2);
    if (m[0] == 'h')
      given(runner, m);
    else
      cancelled(runner, m.substr(1));
  }
}

/// Calls `what` of the listeners that `wants` names, by runner and listener: without the mutex, as they may do
/// anything.
template <class F, class Wants, class... A>
void RedisStore::tell(F Listener::* what, Wants wants, const A&... arguments) {
  std::vector<F> calls;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [token, l] : listeners_)
      if (l.second.*what && wants(l.first, l.second)) calls.push_back(l.second.*what);
  }
  for (const auto& call : calls) call(arguments...);
}

void RedisStore::tell_of_work() {
  {
    const std::lock_guard lock(mutex_);
    for (auto& [runner, held] : held_) held.told = true;
  }
  tell(&Listener::work, [](const std::string&, const Listener&) { return true; });
}

void RedisStore::tell_of_work(const std::string& runner) {
  tell(&Listener::work, [&](const std::string& whose, const Listener&) { return whose == runner; });
}

/// Empty: of any.
void RedisStore::tell_of_value(const std::string& key) {
  const auto watches = [&](const std::string&, const Listener& l) { return key.empty() || key.starts_with(l.values); };
  tell(&Listener::value, watches, key);
}

void RedisStore::cancelled(const std::string& runner, const std::string& id) {
  tell(&Listener::cancelled, [&](const std::string& whose, const Listener&) { return whose == runner; }, id);
}

}  // namespace caller::task::redis
