// The store in Redis: every step a script (scripts.cpp), every wait a message.
#include <caller/task/redis.hpp>
#include <caller/task/store.hpp>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <unordered_map>

#include <caller/caller.hpp>

#include "../app.hpp"
#include "answer.hpp"
#include "client.hpp"
#include "scripts.hpp"

namespace caller::task {

namespace redis {

namespace {

using std::chrono::microseconds;
using std::chrono::nanoseconds;
using Strings = std::vector<std::string>;

}  // namespace

/// Its client's callbacks use it; they end before it does.
class RedisStore final : public Store {
public:
  RedisStore(const RedisOptions& options, const std::string& app_id, nanoseconds patience)
      : prefix_("caller:{" + escaped(app_id) + "}:"),
        name_(detail::new_uuid().substr(0, 13)),
        again_for_(std::chrono::ceil<std::chrono::milliseconds>(
                       std::clamp<nanoseconds>(patience, nanoseconds::zero(), std::chrono::hours(24))) +
                   std::chrono::seconds(10)),
        client_(std::make_unique<Client>(parse_address(options), patience)) {
    client_->start({[this](const std::string& channel) { subscribed(channel); },
                    [this](const std::string& channel, const std::string& m) { message(channel, m); }});
    client_->subscribe(prefix_ + "all");
    client_->subscribe(prefix_ + "c:" + name_);
  }

  ~RedisStore() override {
    {
      const std::lock_guard lock(shared_->mutex);
      shared_->store = nullptr;
    }
    if (client_->is_here()) {  // the last handle went in one of our callbacks: this thread cannot wait for itself
      client_->mute();
      std::thread([client = std::move(client_)] { client->stop(); }).detach();
    } else {
      client_->stop();
    }
    std::unordered_map<std::string, Waiting> left;
    {
      const std::lock_guard lock(mutex_);
      left.swap(ends_);
    }
    for (const auto& [id, waiting] : left)
      waiting.fail(std::make_exception_ptr(
          StateBackendError("the store of tasks was closed before invocation " + id + " ended")));
  }

  std::string description() const override { return client_->address().shown; }

  Pending<std::vector<Added>> add(std::vector<NewInvocation> calls) override {
    Strings a;
    a.reserve(calls.size() * 14);
    for (auto& c : calls) append(a, std::move(c));
    return step<std::vector<Added>>(scripts().add, std::move(a), [n = calls.size()](Answer& answer) {
      std::vector<Added> out(n);
      const bool refused = answer.what() == "refused";
      std::size_t i = refused ? answer.number<std::size_t>() : 0;
      for (; answer.more() && i < n; ++i) {
        out[i].id = answer.text();
        const std::string how = answer.text();
        out[i].reused = how != "new";
        out[i].refused = how == "refused";
        out[i].call_id = expanded(answer.text());
        out[i].args = answer.text();
      }
      return out;
    });
  }

  Pending<std::vector<InvocationRecord>> take(std::string runner, std::size_t most, std::vector<std::string> queues,
                                              bool begin) override {
    Pending<std::vector<InvocationRecord>> p;
    take_some(p, to_take(std::move(runner), most, std::move(queues), begin));
    return p;
  }

  Pending<void> change(Change c) override {
    Pending<void> p;
    const Changing what{c.id, c.runner, c.to};
    Strings a = to_change(c);
    if (!c.data.empty() || !c.then.empty()) a.push_back(packed(c.data));
    for (auto& call : c.then) append(a, std::move(call));
    client_->run(scripts().change, prefix_, std::move(a),
                 [this, p, what](Reply* reply, const std::exception_ptr& error) { changed(p, what, reply, error); });
    return p;
  }

  ChangeAndTake change_and_take(Change c, std::size_t most, std::vector<std::string> queues) override {
    if (!c.data.empty() || !c.then.empty()) return Store::change_and_take(std::move(c), most, std::move(queues));
    ChangeAndTake next;
    const Changing what{c.id, c.runner, c.to};
    Strings take = to_take(c.runner, most, std::move(queues), true), a = to_change(c);
    take[2] = token();
    asks(what.runner);
    a.insert(a.end(), take.begin(), take.end());
    client_->run(scripts().next, prefix_, std::move(a),
                 [this, next, what, take = std::move(take)](Reply* reply, const std::exception_ptr& error) mutable {
                   if (error || reply->list.size() < 2) {
                     changed(next.changed, what, reply, error);
                     return took(next.taken, std::move(take), reply, error);
                   }
                   Reply first, second;
                   first.kind = second.kind = Reply::Kind::list;
                   auto& parts = reply->list;
                   std::size_t n = 0;
                   const std::string& text = parts[1].text;
                   std::from_chars(text.data(), text.data() + text.size(), n);
                   const auto middle = parts.begin() + static_cast<std::ptrdiff_t>(std::min(2 + n, parts.size()));
                   first.list.assign(std::make_move_iterator(parts.begin() + 2), std::make_move_iterator(middle));
                   second.list.assign(std::make_move_iterator(middle), std::make_move_iterator(parts.end()));
                   changed(next.changed, what, &first, nullptr);
                   took(next.taken, std::move(take), &second, nullptr);
                 });
    return next;
  }

  Pending<InvocationRecord> get(std::string id) override {
    return step<InvocationRecord>(scripts().get, {std::move(id)}, [](Answer& a) { return a.record(); });
  }

  Pending<std::vector<HistoryEntry>> history(std::string id) override {
    return step<std::vector<HistoryEntry>>(scripts().history, {std::move(id)}, [](Answer& a) {
      std::vector<HistoryEntry> out;
      while (a.more()) {
        HistoryEntry e;
        e.status = a.status();
        e.owner = a.text();
        e.at = a.time();
        out.push_back(std::move(e));
      }
      return out;
    });
  }

  Pending<void> ended(std::string id) override { return wait_for_end(std::move(id), &Waiting::ends); }
  Pending<InvocationRecord> final_record(std::string id) override {
    return wait_for_end(std::move(id), &Waiting::records);
  }
  std::vector<Pending<InvocationRecord>> final_records(const std::vector<std::string>& ids) override {
    constexpr std::size_t kPart = 500;
    std::vector<Pending<InvocationRecord>> out(ids.size());
    {
      const std::lock_guard lock(mutex_);
      for (std::size_t i = 0; i < ids.size(); ++i) await_locked(ends_[ids[i]].records, out[i]);
    }
    for (std::size_t from = 0; from < ids.size(); from += kPart) {
      const std::size_t n = std::min(kPart, ids.size() - from);
      Strings a(ids.begin() + static_cast<std::ptrdiff_t>(from), ids.begin() + static_cast<std::ptrdiff_t>(from + n));
      Strings part = a;
      a.insert(a.begin(), name_);
      client_->run(scripts().await_all, prefix_, std::move(a),
                   [this, part = std::move(part)](Reply* reply, const std::exception_ptr& error) {
                     have_ended(part, reply, error);
                   });
    }
    return out;
  }

  Pending<std::vector<InvocationRecord>> list(Selection s, std::size_t offset, std::size_t most) override {
    // The server's times are whole microseconds.
    const auto since = [](const std::optional<Time>& t) {
      return t ? std::to_string(std::chrono::ceil<microseconds>(t->time_since_epoch()).count()) : std::string();
    };
    const char* const kind = !s.parent_id.empty() ? "p" : !s.workflow_id.empty() ? "w" : "";
    Pending<std::vector<InvocationRecord>> p;
    Strings a{std::move(s.task_id),
              s.status ? std::to_string(static_cast<int>(*s.status)) : "",
              std::to_string(offset),
              std::to_string(std::min<std::size_t>(most, 1'000'000)),
              kind,
              *kind == 'p' ? std::move(s.parent_id) : s.workflow_id,
              std::move(s.before),
              since(s.from),
              since(s.until),
              "",
              "",
              *kind == 'p' ? std::move(s.workflow_id) : std::string()};
    list_some(p, std::move(a), std::make_shared<std::vector<InvocationRecord>>());
    return p;
  }

  Pending<std::vector<std::pair<Status, std::size_t>>> counts() override {
    return step<std::vector<std::pair<Status, std::size_t>>>(scripts().counts, {}, [](Answer& a) {
      std::map<Status, std::size_t> found;
      while (a.more()) {
        const Status s = a.status();
        if (const auto n = a.number(); n > 0) found[s] = static_cast<std::size_t>(n);
      }
      return std::vector<std::pair<Status, std::size_t>>(found.begin(), found.end());
    });
  }

  Pending<void> wait_for(std::string waiter, std::vector<std::string> ids) override {
    ids.insert(ids.begin(), std::move(waiter));
    return step<void>(scripts().wait_for, std::move(ids), [](Answer&) {});
  }
  Pending<void> check_cycle(std::string parent_id, std::string task_id, std::string call_id) override {
    return step<void>(scripts().check_cycle, {std::move(parent_id), std::move(task_id), compact(call_id)},
                      [](Answer&) {});
  }

  Pending<bool> cancel(std::string id) override {
    return step<bool>(scripts().cancel, {std::move(id), token()}, [](Answer& a) { return a.number() == 1; });
  }

  Pending<void> heartbeat(RunnerRecord told, nanoseconds lease) override {
    const std::string runner = told.id;
    return step<void>(scripts().heartbeat, {std::move(told.id), std::move(told.description), micros(lease)},
                      [this, runner](Answer&) { compare(runner); });
  }
  Pending<void> forget_runner(std::string runner) override {
    return step<void>(scripts().forget_runner, {std::move(runner)}, [](Answer&) {});
  }
  Pending<std::vector<RunnerRecord>> runners() override {
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

  Pending<std::vector<std::string>> recover(nanoseconds max_pending) override {
    return step<std::vector<std::string>>(scripts().recover, {micros(max_pending)}, [](Answer& a) {
      Strings out;
      while (a.more()) out.push_back(a.text());
      return out;
    });
  }

  Pending<std::size_t> purge(std::optional<nanoseconds> older_than, nanoseconds data_grace) override {
    Pending<std::size_t> p;
    purge_some(p, {older_than ? micros(*older_than) : std::string(), micros(data_grace)}, 0);
    return p;
  }

  Pending<std::optional<std::string>> value(std::string key) override {
    return step<std::optional<std::string>>(scripts().value, {std::move(key)}, &RedisStore::maybe);
  }
  Pending<bool> set_value(ValueChange c) override {
    if (c.key.empty()) {
      Pending<bool> p;
      p.set_exception(StateBackendError("a value needs a key"));
      return p;
    }
    Strings a{std::move(c.key),
              std::to_string(static_cast<int>(c.expect)),
              std::move(c.expected),
              c.value ? "1" : "0",
              c.value ? std::move(*c.value) : std::string(),
              micros(c.lifetime),
              token(),
              std::to_string(again_for_.count())};
    for (auto& call : c.then) append(a, std::move(call));
    return step<bool>(scripts().set_value, std::move(a), [](Answer& answer) { return answer.number() == 1; });
  }
  Pending<std::vector<std::pair<std::string, std::string>>> values(std::string prefix, std::string after,
                                                                   std::size_t most) override {
    std::string end = prefix;  // the first key behind those that begin so
    while (!end.empty() && end.back() == '\xff') end.pop_back();
    if (!end.empty()) end.back() = static_cast<char>(static_cast<unsigned char>(end.back()) + 1);
    return step<std::vector<std::pair<std::string, std::string>>>(
        scripts().values,
        {after < prefix ? "[" + prefix : "(" + after, end.empty() ? "+" : "(" + end,
         std::to_string(std::min<std::size_t>(most, 1'000'000))},
        [](Answer& a) {
          std::vector<std::pair<std::string, std::string>> out;
          while (a.more()) {
            std::string key = a.text();
            out.emplace_back(std::move(key), a.text());
          }
          return out;
        });
  }

  Pending<void> put_data(std::string hash, std::string bytes) override {
    return step<void>(scripts().put_data, {compact(hash), std::move(bytes)}, [](Answer&) {});
  }
  Pending<std::optional<std::string>> data(std::string hash) override {
    return step<std::optional<std::string>>(scripts().data, {compact(hash)}, &RedisStore::maybe);
  }

  std::shared_ptr<void> listen(std::string runner, Listener listener) override {
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

private:
  struct Shared {  // what outlives the store
    std::mutex mutex;
    RedisStore* store;
    bool is_open() {
      const std::lock_guard lock(mutex);
      return store != nullptr;
    }
  };

  // ---- steps ----

  /// Its answer becomes a T by `read`.
  template <class T, class F>
  Pending<T> step(const Script& script, Strings arguments, F read, Status to = {}) {
    Pending<T> p;
    client_->run(script, prefix_, std::move(arguments),
                 [p, read = std::move(read), to](Reply* reply, const std::exception_ptr& error) {
                   settle(p, reply, error, to, read);
                 });
    return p;
  }
  template <class T, class F>
  static void settle(const Pending<T>& p, Reply* reply, std::exception_ptr error, Status to, const F& read) {
    if (!error) {
      try {
        Answer a(*reply);
        check(a, to);
        if constexpr (std::is_void_v<T>) {
          read(a);
          p.set_result();
        } else {
          p.set_result(read(a));
        }
        return;
      } catch (...) {
        error = std::current_exception();
      }
    }
    p.set_exception(std::move(error));
  }
  static std::optional<std::string> maybe(Answer& a) { return a.more() ? std::optional(a.text()) : std::nullopt; }

  /// As a script that adds wants it.
  static void append(Strings& a, NewInvocation&& c) {
    a.push_back(std::move(c.id));
    a.push_back(std::move(c.task_id));
    a.push_back(compact(c.call_id));
    a.push_back(std::move(c.args));
    a.push_back(std::move(c.parent_id));
    a.push_back(std::move(c.queue));
    a.push_back(std::to_string(c.priority));
    a.push_back(micros(c.delay));
    a.push_back(std::move(c.registration_key));
    a.push_back(std::move(c.running_key));
    a.push_back(c.reroute ? "1" : "0");
    a.push_back(c.refuse_other_call ? "1" : "0");
    a.push_back(std::move(c.workflow_id));
    a.push_back(packed(c.data));
  }

  /// Names a step, so that it is done once though it may be asked for twice.
  std::string token() { return name_ + std::to_string(last_step_.fetch_add(1)); }

  // A step that looks at a part only goes on until it has seen all.

  void take_some(Pending<std::vector<InvocationRecord>> p, Strings a) {
    a[2] = token();
    asks(a[0]);
    Strings asked = a;
    client_->run(scripts().take, prefix_, std::move(a),
                 [this, p, asked = std::move(asked)](Reply* reply, const std::exception_ptr& error) mutable {
                   took(p, std::move(asked), reply, error);
                 });
  }
  void took(const Pending<std::vector<InvocationRecord>>& p, Strings asked, Reply* reply, std::exception_ptr error) {
    bool more = false;
    std::vector<InvocationRecord> list;
    if (!error) {
      try {
        Answer answer(*reply);
        check(answer);
        if (answer.what() != "ok")
          throw StateBackendError("Redis at " + client_->address().shown + " cannot take: " + answer.text());
        more = answer.number() == 1;
        list = answer.records();
      } catch (...) {
        error = std::current_exception();
      }
    }
    has(asked[0], list);
    if (error)
      p.set_exception(error);
    else if (more && list.empty() && !p.done())
      take_some(p, std::move(asked));
    else
      p.set_result(std::move(list));
  }

  struct Changing {
    std::string id, runner;
    Status to;
  };
  /// Its arguments without data and calls, which are taken out of it.
  Strings to_change(Change& c) {
    std::string& bytes = c.to == Status::failed ? c.exception : c.result;
    return {std::move(c.id),     std::to_string(static_cast<int>(c.to)),
            std::move(c.runner), std::move(bytes),
            micros(c.delay),     token()};
  }
  void changed(const Pending<void>& p, const Changing& what, Reply* reply, const std::exception_ptr& error) {
    const bool failed = error || reply->list.empty() || reply->list[0].text != "ok";
    if (!is_owned(what.to) || (what.to == Status::running && failed)) no_longer_has(what.runner, what.id, failed);
    settle(p, reply, error, what.to, [](Answer&) {});
  }
  static Strings to_take(std::string runner, std::size_t most, Strings queues, bool begin) {
    Strings a{std::move(runner), std::to_string(std::min<std::size_t>(most, 10'000)), std::string(), begin ? "1" : "0"};
    a.insert(a.end(), std::make_move_iterator(queues.begin()), std::make_move_iterator(queues.end()));
    return a;
  }

  void list_some(Pending<std::vector<InvocationRecord>> p, Strings a,
                 std::shared_ptr<std::vector<InvocationRecord>> found) {
    Strings next = a;
    client_->run(scripts().list, prefix_, std::move(a),
                 [this, p, found, next = std::move(next)](Reply* reply, std::exception_ptr error) mutable {
                   if (!error) {
                     try {
                       Answer answer(*reply);
                       check(answer);
                       next[2] = answer.text();
                       next[9] = answer.text();
                       next[10] = answer.text();
                       auto some = answer.records();
                       next[3] = std::to_string(std::stoull(next[3]) - some.size());
                       found->insert(found->end(), std::make_move_iterator(some.begin()),
                                     std::make_move_iterator(some.end()));
                       if (!next[10].empty() && !p.done()) return list_some(p, std::move(next), found);
                     } catch (...) {
                       error = std::current_exception();
                     }
                   }
                   if (error)
                     p.set_exception(error);
                   else
                     p.set_result(std::move(*found));
                 });
  }

  void purge_some(Pending<std::size_t> p, Strings ages, std::size_t before) {
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

  // ---- messages ----

  /// Who waits for the end of an invocation.
  struct Waiting {
    std::vector<Pending<void>> ends;
    std::vector<Pending<InvocationRecord>> records;
    void fail(const std::exception_ptr& error) const {
      for (const auto& p : ends) p.set_exception(error);
      for (const auto& p : records) p.set_exception(error);
    }
  };

  template <class T>
  static void await_locked(std::vector<Pending<T>>& list, const Pending<T>& p) {
    std::erase_if(list, [](const auto& e) { return e.done(); });  // nobody waits any more
    list.push_back(p);
  }
  template <class T>
  Pending<T> wait_for_end(std::string id, std::vector<Pending<T>> Waiting::* kind) {
    Pending<T> p;
    {
      const std::lock_guard lock(mutex_);
      await_locked(ends_[id].*kind, p);
    }
    ask_for_end(std::move(id), !std::is_void_v<T>);
    return p;
  }

  void ask_for_end(std::string id, bool with_record) {
    Strings a{id, name_, with_record ? "+" : ""};
    client_->run(scripts().await, prefix_, std::move(a),
                 [this, id = std::move(id)](Reply* reply, std::exception_ptr error) {
                   std::optional<InvocationRecord> record;
                   if (!error) {
                     try {
                       Answer answer(*reply);
                       check(answer);
                       if (answer.number() == 0) return;  // a message will come
                       if (answer.more()) record = answer.record();
                     } catch (...) {
                       error = std::current_exception();
                     }
                   }
                   end(id, std::move(record), error);
                 });
  }

  /// The answer for many.
  void have_ended(const Strings& ids, Reply* reply, std::exception_ptr error) {
    if (!error) {
      try {
        Answer answer(*reply);
        check(answer);
        while (answer.more()) {
          const std::string& id = ids.at(answer.number<std::size_t>());
          if (answer.number() == 1)
            end(id, answer.record());
          else
            ask_for_end(id, true);  // says why
        }
        return;
      } catch (const std::exception&) {
        error = std::current_exception();
      }
    }
    for (const auto& id : ids) end(id, {}, error);
  }

  /// Without a record those who want one ask for it.
  void end(const std::string& id, std::optional<InvocationRecord> record = {}, const std::exception_ptr& error = {}) {
    Waiting waiting;
    {
      const std::lock_guard lock(mutex_);
      const auto it = ends_.find(id);
      if (it == ends_.end()) return;
      waiting = std::move(it->second);
      ends_.erase(it);
    }
    if (error) return waiting.fail(error);
    for (const auto& p : waiting.ends) p.set_result();
    for (const auto& p : waiting.records) {
      if (record)
        p.set_result(*record);
      else if (!p.done())
        client_->run(scripts().get, prefix_, {id}, [p](Reply* reply, const std::exception_ptr& failed) {
          settle(p, reply, failed, {}, [](Answer& a) { return a.record(); });
        });
    }
  }

  /// A message with a record.
  void end_with(const std::string& message) {
    try {
      std::string_view rest = std::string_view(message).substr(1);
      const std::string id(cut(rest));
      end(id, record_of(id, rest, {}, {}));
    } catch (const StateBackendError&) {  // no message of ours
    }
  }

  /// The client's thread: what came before may have been missed.
  void subscribed(const std::string& channel) {
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
        if (again) it->second.compare = true;  // the server may have forgotten what it was told last
      }
      ask_for_requests({runner, ""});
      compare(runner);
      tell_of_work();
    }
  }

  void ask_for_requests(Strings a) {
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

  // ---- what our runners have ----

  void asks(const std::string& runner) {
    const std::lock_guard lock(mutex_);
    if (const auto it = held_.find(runner); it != held_.end()) ++it->second.asking;
  }
  void has(const std::string& runner, const std::vector<InvocationRecord>& list) {
    {
      const std::lock_guard lock(mutex_);
      const auto it = held_.find(runner);
      if (it == held_.end()) return;
      if (it->second.asking > 0) --it->second.asking;
      for (const auto& r : list) it->second.ids.insert(r.id);
    }
    compare(runner);
  }
  void no_longer_has(const std::string& runner, const std::string& id, bool failed) {
    const std::lock_guard lock(mutex_);
    const auto it = held_.find(runner);
    if (it == held_.end()) return;
    it->second.ids.erase(id);
    if (failed) it->second.compare = true;  // it gave it up, and the server may not know
  }
  /// Between its takes, so that nothing is on its way.
  void compare(const std::string& runner) {
    const std::lock_guard lock(mutex_);  // also while it is sent: no take comes before it
    const auto it = held_.find(runner);
    if (it == held_.end() || it->second.asking > 0 || !std::exchange(it->second.compare, false)) return;
    Strings a{runner, "all"};
    a.insert(a.end(), it->second.ids.begin(), it->second.ids.end());
    ask_for_requests(std::move(a));
  }

  void message(const std::string& channel, const std::string& m) {
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
      cancelled(channel.substr(prefix_.size() + 2), m.substr(1));
    }
  }

  void tell_of_work() {
    std::vector<std::function<void()>> calls;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& [token, l] : listeners_)
        if (l.second.work) calls.push_back(l.second.work);
    }
    for (const auto& call : calls) call();
  }
  /// Empty: of any.
  void tell_of_value(const std::string& key) {
    std::vector<std::function<void(const std::string&)>> calls;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& [token, l] : listeners_)
        if (l.second.value && (key.empty() || key.starts_with(l.second.values))) calls.push_back(l.second.value);
    }
    for (const auto& call : calls) call(key);
  }
  void cancelled(const std::string& runner, const std::string& id) {
    std::vector<std::function<void(const std::string&)>> calls;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& [token, l] : listeners_)
        if (l.first == runner && l.second.cancelled) calls.push_back(l.second.cancelled);
    }
    for (const auto& call : calls) call(id);
  }
  void forget(std::uint64_t token) {
    const std::lock_guard lock(mutex_);
    const auto it = listeners_.find(token);
    const std::string runner = it->second.first;
    listeners_.erase(it);
    const bool others =
        std::any_of(listeners_.begin(), listeners_.end(), [&](const auto& l) { return l.second.first == runner; });
    if (!others) {
      client_->unsubscribe(prefix_ + "r:" + runner);
      held_.erase(runner);
    }
    if (listeners_.empty()) client_->unsubscribe(prefix_ + "news");
    if (std::none_of(listeners_.begin(), listeners_.end(),
                     [](const auto& l) { return l.second.second.value != nullptr; }))
      client_->unsubscribe(prefix_ + "v");
  }

  /// Whoever runs invocations keeps the time of what is due: all of them, so that nobody is needed.
  void release() {
    const std::uint64_t mine = ++release_;
    client_->run(scripts().release, prefix_, {}, [this, mine](Reply* reply, const std::exception_ptr& error) {
      if (mine != release_) return;
      nanoseconds wait = std::chrono::seconds(1);
      if (!error) {
        try {
          Answer answer(*reply);
          const auto us = answer.number();
          if (us < 0) return;
          wait = microseconds(us);
        } catch (const StateBackendError&) {  // later
        }
      }
      (void)client_->loop().call_later(std::max<nanoseconds>(wait, std::chrono::milliseconds(1)),
                                       [this, mine, shared = shared_] {
                                         if (shared->is_open() && mine == release_) release();
                                       });
    });
  }

  const std::string prefix_, name_;
  const std::chrono::milliseconds again_for_;  // a step may be asked for a second time
  std::unique_ptr<Client> client_;
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
  std::mutex mutex_;
  std::unordered_map<std::string, Waiting> ends_;
  std::map<std::uint64_t, std::pair<std::string, Listener>> listeners_;
  struct Held {
    std::set<std::string> ids;
    std::size_t asking = 0;   // takes under way
    bool subscribed = false;  // before
    bool compare = false;     // with what the server says it has
  };
  std::unordered_map<std::string, Held> held_;
  std::uint64_t last_token_ = 0;
  std::atomic<std::uint64_t> last_step_{0};
  std::uint64_t release_ = 0;  // of the client's thread

public:
  void share() { shared_->store = this; }
};

}  // namespace redis

namespace {
std::shared_ptr<Store> made(const RedisOptions& options, const std::string& app_id, std::chrono::nanoseconds patience) {
  if (app_id.empty()) throw ConfigError("app_id: empty");
  auto store = std::make_shared<redis::RedisStore>(options, app_id, patience);
  store->share();
  return store;
}
}  // namespace

std::shared_ptr<Store> make_redis_store(const std::string& url, const std::string& app_id,
                                        std::chrono::nanoseconds patience) {
  RedisOptions options;
  options.url = url;
  return made(options, app_id, patience);
}
std::shared_ptr<Store> make_redis_store(const RedisOptions& options, const std::string& app_id) {
  return made(options, app_id, options.patience);
}

}  // namespace caller::task
