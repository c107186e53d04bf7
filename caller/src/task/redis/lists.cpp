// What there is: one invocation, its history, lists, numbers.
#include "store.hpp"

#include <algorithm>
#include <iterator>
#include <map>

namespace caller::task::redis {

Pending<InvocationRecord> RedisStore::get(std::string id) {
  return step<InvocationRecord>(scripts().get, {std::move(id)}, [](Answer& a) { return a.record(); });
}

Pending<std::vector<HistoryEntry>> RedisStore::history(std::string id) {
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

Pending<std::vector<InvocationRecord>> RedisStore::list(Selection s, std::size_t offset, std::size_t most) {
  // The server's times are whole microseconds.
  const auto since = [](const std::optional<Time>& t) {
    return t ? std::to_string(std::chrono::ceil<std::chrono::microseconds>(t->time_since_epoch()).count())
             : std::string();
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

void RedisStore::list_some(Pending<std::vector<InvocationRecord>> p, Strings a,
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

Pending<std::vector<std::pair<Status, std::size_t>>> RedisStore::counts() {
  return step<std::vector<std::pair<Status, std::size_t>>>(scripts().counts, {}, [](Answer& a) {
    std::map<Status, std::size_t> found;
    while (a.more()) {
      const Status s = a.status();
      if (const auto n = a.number(); n > 0) found[s] = static_cast<std::size_t>(n);
    }
    return std::vector<std::pair<Status, std::size_t>>(found.begin(), found.end());
  });
}

}  // namespace caller::task::redis
