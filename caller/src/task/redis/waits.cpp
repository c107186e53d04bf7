// Who waits for whom, and for which end.
#include "store.hpp"

#include <algorithm>

namespace caller::task::redis {

Pending<void> RedisStore::wait_for(std::string waiter, std::vector<std::string> ids) {
  ids.insert(ids.begin(), std::move(waiter));
  return step<void>(scripts().wait_for, std::move(ids), [](Answer&) {});
}

Pending<void> RedisStore::check_cycle(std::string parent_id, std::string task_id, std::string call_id) {
  return step<void>(scripts().check_cycle, {std::move(parent_id), std::move(task_id), compact(call_id)},
                    [](Answer&) {});
}

template <class T>
Pending<T> RedisStore::wait_for_end(std::string id) {
  Pending<T> p;
  {
    const std::lock_guard lock(mutex_);
    ends_[id].add(p);
  }
  ask_for_end(std::move(id), !std::is_void_v<T>);
  return p;
}

Pending<void> RedisStore::ended(std::string id) { return wait_for_end<void>(std::move(id)); }

Pending<InvocationRecord> RedisStore::final_record(std::string id) {
  return wait_for_end<InvocationRecord>(std::move(id));
}

std::vector<Pending<InvocationRecord>> RedisStore::final_records(const std::vector<std::string>& ids) {
  constexpr std::size_t kPart = 500;
  std::vector<Pending<InvocationRecord>> out(ids.size());
  {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < ids.size(); ++i) ends_[ids[i]].add(out[i]);
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

void RedisStore::ask_for_end(std::string id, bool with_record) {
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
void RedisStore::have_ended(const Strings& ids, Reply* reply, std::exception_ptr error) {
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
void RedisStore::end(const std::string& id, std::optional<InvocationRecord> record, const std::exception_ptr& error) {
  Awaiting waiting;
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
void RedisStore::end_with(const std::string& message) {
  try {
    std::string_view rest = std::string_view(message).substr(1);
    const std::string id(cut(rest));
    end(id, record_of(id, rest, {}, {}));
  } catch (const StateBackendError&) {  // no message of ours
  }
}

}  // namespace caller::task::redis
