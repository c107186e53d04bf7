// Values by key, and data by hash.
#include "store.hpp"

#include <algorithm>

#include "../watch.hpp"

namespace caller::task::memory {

Pending<std::optional<std::string>> MemoryStore::value(std::string key) {
  return with_news<std::optional<std::string>>([&](News&) {
    const Value* const v = find_value(key);
    return v ? std::optional(v->bytes) : std::nullopt;
  });
}

Pending<bool> MemoryStore::set_value(ValueChange c) {
  return with_news<bool>([&](News& news) {
    if (c.key.empty()) throw StateBackendError("a value needs a key");
    forget_values(2);
    const Value* const v = find_value(c.key);
    if (c.expect == ValueChange::If::absent && v) return false;
    if (c.expect == ValueChange::If::equal && !(v && v->bytes == c.expected)) return false;
    if (c.value)
      put_value(c.key, std::move(*c.value), c.lifetime);
    else
      values_.erase(c.key);
    for (NewInvocation& call : c.then) (void)add_one(std::move(call), news);
    news.values.push_back(std::move(c.key));
    return true;
  });
}

Pending<std::vector<std::pair<std::string, std::string>>> MemoryStore::values(std::string prefix, std::string after,
                                                                              std::size_t most) {
  return with_news<std::vector<std::pair<std::string, std::string>>>([&](News&) {
    std::vector<std::pair<std::string, std::string>> out;
    for (auto it = after < prefix ? values_.lower_bound(prefix) : values_.upper_bound(after);
         it != values_.end() && out.size() < most && it->first.starts_with(prefix); ++it)
      if (!it->second.over()) out.emplace_back(it->first, it->second.bytes);
    return out;
  });
}

Pending<void> MemoryStore::put_data(std::string hash, std::string bytes) {
  return with_news<void>([&](News&) {
    Data& d = data_[std::move(hash)];
    d.bytes = std::move(bytes);
    d.unused = Steady::now();
  });
}
Pending<std::optional<std::string>> MemoryStore::data(std::string hash) {
  return with_news<std::optional<std::string>>([&](News&) {
    const auto it = data_.find(hash);
    return it == data_.end() ? std::nullopt : it->second.bytes;
  });
}

const Value* MemoryStore::find_value(const std::string& key) {
  const auto it = values_.find(key);
  return it == values_.end() || it->second.over() ? nullptr : &it->second;
}
void MemoryStore::put_value(const std::string& key, std::string bytes, nanoseconds lifetime) {
  watched_ = watched_ || key.starts_with(kWatchKey);
  Value fresh{std::move(bytes), {}};
  if (lifetime > nanoseconds::zero()) {
    fresh.until = Steady::now() + lifetime;
    value_ends_.emplace(fresh.until, key);
  }
  values_.insert_or_assign(key, std::move(fresh));
}
/// For those who watch its task.
void MemoryStore::keep_change(const Record& r, News& news) {
  const Value* const mask = find_value(std::string(kWatchKey).append(r.task_id()));
  if (!mask || !detail::wants(mask->bytes, r.status)) return;
  std::string key = detail::change_key(r.changed(), r.status, std::string(r.id()));
  put_value(key, detail::packed_text(r.task_id()), kChangeLifetime);
  news.values.push_back(std::move(key));
}
/// Those whose time is over, some of them.
void MemoryStore::forget_values(std::size_t most) {
  const auto steady = Steady::now();
  for (; most > 0 && !value_ends_.empty() && value_ends_.begin()->first <= steady; --most) {
    const auto it = values_.find(value_ends_.begin()->second);
    if (it != values_.end() && it->second.until == value_ends_.begin()->first) values_.erase(it);
    value_ends_.erase(value_ends_.begin());
  }
}
void MemoryStore::refer(Record& r, std::vector<std::string>& hashes) {
  for (std::string& hash : hashes) {
    std::vector<std::string>& known = r.more().data;
    if (std::find(known.begin(), known.end(), hash) != known.end()) continue;
    ++data_[hash].references;
    known.push_back(std::move(hash));
  }
}
void MemoryStore::release(Record& r) {
  if (!r.rare) return;
  for (const std::string& hash : r.rare->data) {
    const auto it = data_.find(hash);
    if (it == data_.end() || it->second.references == 0 || --it->second.references > 0) continue;
    it->second.unused = Steady::now();
    if (!it->second.bytes) data_.erase(it);
  }
}

}  // namespace caller::task::memory
