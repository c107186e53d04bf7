// Runners, what they have, and what is lost, due or forgotten.
#include "store.hpp"

#include <algorithm>

namespace caller::task::redis {

Pending<void> RedisStore::heartbeat(RunnerRecord told, nanoseconds lease) {
  const std::string runner = told.id;
  return step<void>(scripts().heartbeat, {std::move(told.id), std::move(told.description), micros(lease)},
                    [this, runner](Answer&) { compare(runner); });
}

Pending<void> RedisStore::forget_runner(std::string runner) {
  return step<void>(scripts().forget_runner, {std::move(runner)}, [](Answer&) {});
}

Pending<std::vector<RunnerRecord>> RedisStore::runners() {
  return step<std::vector<RunnerRecord>>(scripts().runners, {}, [](Answer& a) {
    std::vector<RunnerRecord> out;
    while (a.more()) {
      RunnerRecord r;
      r.id = a.text();
      r.description = a.text();
      r.started = a.time();
      r.last_heartbeat = a.time();
      r.lease_until = a.time();
      out.push_back(std::move(r));
    }
    return out;
  });
}

Pending<std::vector<std::string>> RedisStore::recover(nanoseconds max_pending) {
  return step<std::vector<std::string>>(scripts().recover, {micros(max_pending)}, [](Answer& a) {
    Strings out;
    while (a.more()) out.push_back(a.text());
    return out;
  });
}

Pending<std::size_t> RedisStore::purge(std::optional<nanoseconds> older_than, nanoseconds data_grace) {
  Pending<std::size_t> p;
  purge_some(p, {older_than ? micros(*older_than) : std::string(), micros(data_grace)}, 0);
  return p;
}

void RedisStore::purge_some(Pending<std::size_t> p, Strings ages, std::size_t before) {
  client_->run(scripts().purge, prefix_, ages, [this, p, ages, before](Reply* reply, std::exception_ptr error) {
    std::size_t n = before;
    if (!error) {
      try {
        Answer answer(*reply);
        check(answer);
        n += answer.number<std::size_t>();
        if (answer.number() == 1 && !p.done()) return purge_some(p, ages, n);
      } catch (...) {
        error = std::current_exception();
      }
    }
    if (error)
      p.set_exception(error);
    else
      p.set_result(n);
  });
}

/// Whoever runs invocations keeps the time of what is due: all of them, so that nobody is needed.
void RedisStore::release() {
  const std::uint64_t mine = ++release_;
  client_->run(scripts().release, prefix_, {}, [this, mine](Reply* reply, const std::exception_ptr& error) {
    if (mine != release_) return;
    nanoseconds wait = std::chrono::seconds(1);
    if (!error) {
      try {
        Answer answer(*reply);
        const auto us = answer.number();
        if (us < 0) return;
        wait = std::chrono::microseconds(us);
      } catch (const StateBackendError&) {  // later
      }
    }
    (void)client_->loop().call_later(std::max<nanoseconds>(wait, std::chrono::milliseconds(1)),
                                     [this, mine, shared = shared_] {
                                       if (shared->is_open() && mine == release_) release();
                                     });
  });
}

void RedisStore::asks(const std::string& runner) {
  const std::lock_guard lock(mutex_);
  if (const auto it = held_.find(runner); it != held_.end()) ++it->second.asking;
}

void RedisStore::has(const std::string& runner, const std::vector<InvocationRecord>& list) {
  {
    const std::lock_guard lock(mutex_);
    const auto it = held_.find(runner);
    if (it == held_.end()) return;
    if (it->second.asking > 0) --it->second.asking;
    for (const auto& r : list) it->second.ids.insert(r.id);
  }
  compare(runner);
}

void RedisStore::no_longer_has(const std::string& runner, const std::string& id, bool failed) {
  const std::lock_guard lock(mutex_);
  const auto it = held_.find(runner);
  if (it == held_.end()) return;
  it->second.ids.erase(id);
  if (failed) it->second.compare = true;  // it gave it up, and the server may not know
}

/// Between its takes, so that nothing is on its way.
void RedisStore::compare(const std::string& runner) {
  const std::lock_guard lock(mutex_);  // also while it is sent: no take comes before it
  const auto it = held_.find(runner);
  if (it == held_.end() || it->second.asking > 0 || !std::exchange(it->second.compare, false)) return;
  Strings a{runner, "all"};
  a.insert(a.end(), it->second.ids.begin(), it->second.ids.end());
  ask_for_requests(std::move(a));
}

void RedisStore::ask_for_requests(Strings a) {
  const std::string runner = a[0];
  client_->run(scripts().requests, prefix_, std::move(a),
               [this, runner](Reply* reply, const std::exception_ptr& error) {
                 if (error) return;
                 try {
                   Answer answer(*reply);
                   while (answer.more()) cancelled(runner, answer.text());
                 } catch (const StateBackendError&) {  // the next request is told of
                 }
               });
}

}  // namespace caller::task::redis
