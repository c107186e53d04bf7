// Runners, what they have, and what is lost, due or forgotten.
#include "store.hpp"

#include <algorithm>
#include <iterator>

namespace caller::task::redis {

Pending<void> RedisStore::heartbeat(RunnerRecord told, nanoseconds lease) {
  const std::string runner = told.id;
  return step<void>(scripts().heartbeat, {std::move(told.id), std::move(told.description), micros(lease)},
                    [this, runner](Answer&) {
                      // Each time: what failed here may have been done there since, and nobody tells of it.
                      {
                        const std::lock_guard lock(mutex_);
                        if (const auto it = held_.find(runner); it != held_.end()) it->second.compare = true;
                      }
                      compare(runner);
                    });
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

/// How it is to be asked, by the take `step`.
std::string RedisStore::asks(const std::string& runner, const std::string& step, bool begin) {
  const std::lock_guard lock(mutex_);
  const auto it = held_.find(runner);
  if (it == held_.end()) return begin ? "1" : "0";  // nobody listens
  it->second.told = false;
  const bool alone = it->second.asking.empty();  // of several only one makes an offer: only the last would stand
  it->second.asking.insert(step);
  if (!begin) return "0";
  if (!alone) return "1";
  return std::exchange(it->second.offered, false) ? "3" + it->second.offer : "2";
}

/// What a take brought; what the runner has had already is taken out of it, and whether there was any is
/// answered. `offers`: it found nothing, and said that the next is to be given.
bool RedisStore::has(const Strings& asked, std::vector<Got>& list, bool offers) {
  const std::string &runner = asked[0], &step = asked[2], &how = asked[3];
  bool twice = false;
  {
    const std::lock_guard lock(mutex_);
    const auto it = held_.find(runner);
    if (it == held_.end()) return false;
    Held& held = it->second;
    held.asking.erase(step);
    twice = std::erase_if(list, [&](const Got& one) { return !held.gets(one.record.id, one.step); }) > 0;
    // What the server gave by the offer that this take withdrew stands in its answer: the message says nothing new.
    if (how.size() > 1 && how.compare(1, std::string::npos, held.offer) == 0) held.offer.clear();
    if (offers) {
      held.offer = step;
      held.offered = true;
    }
  }
  compare(runner);
  return twice;
}

/// The server may have done it all the same, or do it still.
void RedisStore::failed_to_take(const std::string& runner, const std::string& step) {
  {
    const std::lock_guard lock(mutex_);
    const auto it = held_.find(runner);
    if (it == held_.end()) return;
    it->second.asking.erase(step);
    it->second.offer.clear();
    it->second.offered = true;  // it may have made one
    it->second.compare = true;
  }
  compare(runner);
}

/// A message with one that the runner has now. Not if a take has brought it, or if it goes by an offer that stands no
/// more: whether the server then knows that the runner does not have it is to be found out.
void RedisStore::given(const std::string& runner, const std::string& message) {
  constexpr std::chrono::milliseconds kPatience{20};  // until whoever may take it has done so
  std::string id, step;
  try {
    std::string_view rest = std::string_view(message).substr(1);
    id = cut(rest);
    std::string args(cut(rest));
    InvocationRecord record = record_of(id, rest, std::move(args), {}, &step);
    std::unique_lock lock(mutex_);
    const auto it = held_.find(runner);
    if (it == held_.end()) return;
    Held& held = it->second;
    if (step != held.offer && !held.asking.contains(step)) {
      if (held.has(id, step)) return;
      held.compare = true;
      lock.unlock();
      return compare(runner);
    }
    if (!held.gets(id, step)) return;
    if (step == held.offer) held.offered = false;
    held.given.push_back(std::move(record));
  } catch (const StateBackendError&) {  // no message of ours
    return;
  }
  tell_of_work(runner);
  const std::lock_guard lock(mutex_);
  if (const auto it = held_.find(runner); it == held_.end() || it->second.given.empty()) return;
  (void)client_->loop().call_later(kPatience, [this, runner, id, shared = shared_] {
    if (shared->is_open()) give_back(runner, id);
  });
}

/// What the server has given, and has not been taken here yet.
std::vector<InvocationRecord> RedisStore::given_to(const std::string& runner, std::size_t most) {
  std::unique_lock lock(mutex_);
  const auto it = held_.find(runner);
  if (it == held_.end() || it->second.given.empty()) return {};
  auto& given = it->second.given;
  const auto end = given.begin() + static_cast<std::ptrdiff_t>(std::min(most, given.size()));
  std::vector<InvocationRecord> out(std::make_move_iterator(given.begin()), std::make_move_iterator(end));
  given.erase(given.begin(), end);
  const bool more = out.size() < most && it->second.told;
  lock.unlock();
  if (more) tell_of_work(runner);  // this says nothing of what waits
  return out;
}

/// Unless it was taken: the runner has no place for it any more.
void RedisStore::give_back(const std::string& runner, const std::string& id) {
  {
    const std::lock_guard lock(mutex_);
    const auto it = held_.find(runner);
    if (it == held_.end() || std::erase_if(it->second.given, [&](const auto& r) { return r.id == id; }) == 0) return;
    it->second.loses(id, true);
    it->second.offer.clear();
    it->second.compare = true;
  }
  compare(runner);
}

void RedisStore::no_longer_has(const std::string& runner, const std::string& id, bool failed) {
  const std::lock_guard lock(mutex_);
  const auto it = held_.find(runner);
  if (it == held_.end()) return;
  it->second.loses(id, false);
  if (failed) it->second.compare = true;  // it gave it up, and the server may not know
}

/// Before the server is told, so that nothing is compared with what it knows already.
void RedisStore::knows_code(const std::string& runner, const std::string& id, bool goes_on) {
  const std::lock_guard lock(mutex_);
  const auto it = held_.find(runner);
  if (it == held_.end()) return;
  if (goes_on)
    it->second.codes.insert(id);
  else
    it->second.codes.erase(id);
}

/// Between its takes, so that nothing is on its way.
void RedisStore::compare(const std::string& runner) {
  const std::lock_guard lock(mutex_);  // also while it is sent: no take comes before it
  const auto it = held_.find(runner);
  if (it == held_.end() || !it->second.asking.empty() || !std::exchange(it->second.compare, false)) return;
  Strings a{runner, it->second.offer, "all"};
  for (const auto& [id, steps] : it->second.ids) a.push_back(id);
  a.insert(a.end(), it->second.codes.begin(), it->second.codes.end());
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
