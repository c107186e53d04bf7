// Who waits for the ends of which invocations.
#include "store.hpp"

#include <algorithm>

namespace caller::task::memory {

namespace {
constexpr std::size_t kAtOnce = 64;  // of many, so that others get their turns
constexpr std::size_t kAhead = 8;    // whose memory is asked for before it is needed

/// Of one that is final.
Ended how(const Record& r) {
  Ended out;
  out.status = r.status;
  out.task_id = r.task_id();
  out.result = r.result;
  if (r.status == Status::failed) out.exception = r.rare->exception;
  return out;
}
}  // namespace

void MemoryStore::note_end(Group& group, std::size_t place, const Record& r) const {
  if (group.whom.index() == 1) {
    group.record = shown(r);
  } else if (group.whom.index() == 2) {
    Ended& one = group.ended.emplace_back();
    if (is_final(r.status))
      one = how(r);
    else  // purged
      one.error = std::make_exception_ptr(InvocationNotFoundError(std::string(r.id())));
    one.place = place;
  } else if (group.whom.index() == 3) {
    group.order.push_back(static_cast<std::uint32_t>(place));
  }
}

/// Those who do not want to know any more are forgotten here.
void MemoryStore::watch(Record& r, Wait& wait) {
  for (Wait** link = &r.waits; *link;) {
    Group& group = *(*link)->group;
    if (&group == wait.group || !group.unwanted()) {
      link = &(*link)->next;
      continue;
    }
    *link = (*link)->next;
    if (--group.left == 0) groups_.erase(group.self);
  }
  Wait** last = &r.waits;
  while (*last) last = &(*last)->next;  // told in the order they came
  *last = &wait;
}

template <class T>
Pending<T> MemoryStore::when_final(std::span<const std::string_view> ids) {
  Pending<T> p;
  std::list<Group> own(1);
  Group& group = own.front();
  group.whom = p;
  group.waits.resize(ids.size());
  group.left = ids.size();
  if constexpr (std::is_same_v<T, std::vector<Ended>>) group.ended.reserve(ids.size());
  std::exception_ptr error;
  {
    std::unique_lock lock(mutex_, std::defer_lock);
    lock_soon(lock);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      Record* const r = find(ids[i]);
      if (r && !is_final(r->status)) {
        group.waits[i] = {&group, i, nullptr};
        watch(*r, group.waits[i]);
        continue;
      }
      --group.left;
      if (r) {
        note_end(group, i, *r);
        continue;
      }
      error = std::make_exception_ptr(InvocationNotFoundError(std::string(ids[i])));
      if constexpr (std::is_same_v<T, std::vector<Ended>>) {
        group.ended.emplace_back().place = i;
        group.ended.back().error = error;
      }
    }
    if (group.left > 0) {
      group.self = own.begin();
      groups_.splice(groups_.end(), own);
      return p;
    }
  }
  if (error && !std::is_same_v<T, std::vector<Ended>>)
    (void)p.set_exception(error);
  else
    group.tell();
  return p;
}

Pending<void> MemoryStore::ended(std::string id) {
  const std::string_view one = id;
  return when_final<void>({&one, 1});
}
Pending<InvocationRecord> MemoryStore::final_record(std::string id) {
  const std::string_view one = id;
  return when_final<InvocationRecord>({&one, 1});
}
Pending<std::vector<Ended>> MemoryStore::all_ended(std::span<const std::string_view> ids) {
  return when_final<std::vector<Ended>>(ids);
}

Pending<std::vector<std::uint32_t>> MemoryStore::ends_of(std::span<const detail::LocalCall* const> calls) {
  Pending<std::vector<std::uint32_t>> p;
  std::list<Group> own(1);
  Group& group = own.front();
  group.whom = p;
  group.waits.resize(calls.size());
  group.order.reserve(calls.size());
  group.left = 1;  // ourselves
  for (std::size_t i = 0; i < calls.size();) {
    std::unique_lock lock(mutex_, std::defer_lock);
    lock_soon(lock);
    if (i == 0) {
      group.self = own.begin();
      groups_.splice(groups_.end(), own);
    }
    for (const std::size_t end = std::min(calls.size(), i + kAtOnce); i < end; ++i) {
      if (i + kAhead < calls.size()) __builtin_prefetch(calls[i + kAhead]);
      Record& r = MemoryStore::own(*calls[i]);
      if (r.ended()) {
        note_end(group, i, r);
        continue;
      }
      group.waits[i] = {&group, i, nullptr};
      ++group.left;
      watch(r, group.waits[i]);
    }
  }
  News news;
  std::unique_lock lock(mutex_);
  if (--group.left == 0) {
    if (!calls.empty()) news.ended.splice(news.ended.end(), groups_, group.self);
  }
  finish(news, lock);
  if (calls.empty()) group.tell();
  return p;
}

void MemoryStore::tell_waits(Record& r, News& news) {
  for (Wait* wait = std::exchange(r.waits, nullptr); wait;) {
    Group& group = *wait->group;
    const std::size_t place = wait->place;
    wait = wait->next;  // the group may go
    note_end(group, place, r);
    if (--group.left == 0) news.ended.splice(news.ended.end(), groups_, group.self);
  }
}

}  // namespace caller::task::memory

caller::task::Ended caller::task::detail::LocalCall::end() const {
  if (!forgotten()) return memory::how(static_cast<const memory::Record&>(*this));
  Ended out;
  out.error = std::make_exception_ptr(InvocationNotFoundError(std::string(id())));
  return out;
}
