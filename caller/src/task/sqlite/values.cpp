// Values by key, and who is told of them; data by hash.
#include <algorithm>

#include "../watch.hpp"
#include "ledger.hpp"

namespace caller::task::sqlite {

namespace {
constexpr std::int64_t kChangesKept = 1000;  // of values: more at once are told as one of any
}  // namespace

bool Ledger::set_value(const ValueChange& c, News& news) {
  if (c.key.empty()) throw StateBackendError("a value needs a key");
  if (c.expect != ValueChange::If::anything) {
    const auto v = read_value(db_, c.key);
    if (c.expect == ValueChange::If::absent ? v.has_value() : v != c.expected) return false;
  }
  forget_values(2);
  if (c.value)
    put_value(c.key, *c.value, c.lifetime);
  else
    db_.run("DELETE FROM value WHERE key = ?1", Blob{c.key});
  if (c.key.starts_with(kWatchKey)) read_watches();
  tell_value(c.key, news);
  for (const NewInvocation& call : c.then) (void)add_one(call, news);
  return true;
}

void Ledger::put_value(const std::string& key, const std::string& bytes, nanoseconds lifetime) {
  db_.run(
      "INSERT INTO value(key, value, until) VALUES(?1, ?2, ?3) "
      "ON CONFLICT(key) DO UPDATE SET value = excluded.value, until = excluded.until",
      Blob{key}, Blob{bytes},
      lifetime > nanoseconds::zero() ? std::optional<std::int64_t>(stamp() + lifetime.count()) : std::nullopt);
}

void Ledger::tell_value(const std::string& key, News& news) {
  db_.run("INSERT INTO value_change(key) VALUES(?1)", Blob{key});
  const std::int64_t seq = db_.last_row();
  db_.run("DELETE FROM value_change WHERE seq <= ?1", seq - kChangesKept);
  news.values.emplace_back(seq, key);
}

void Ledger::read_watches() {
  watches_.clear();
  constexpr std::size_t kAtOnce = 1000;
  const std::string prefix(kWatchKey);
  for (std::string after;;) {
    const auto some = read_values(db_, prefix, after, kAtOnce);
    for (const auto& [key, mask] : some) watches_.emplace(key.substr(prefix.size()), mask);
    if (some.size() < kAtOnce) return;
    after = some.back().first;
  }
}

void Ledger::keep_change(const std::string& id, const std::string& task_id, Status status, std::int64_t at,
                         News& news) {
  const auto it = watches_.find(task_id);
  if (it == watches_.end() || !detail::wants(it->second, status)) return;
  const std::string key = detail::change_key(Time(nanoseconds(at)), status, id);
  put_value(key, detail::packed_text(task_id), kChangeLifetime);
  tell_value(key, news);
}

/// Those whose time is over.
void Ledger::forget_values(std::int64_t most) {
  db_.run(
      "DELETE FROM value WHERE rowid IN "
      "(SELECT rowid FROM value WHERE until IS NOT NULL AND until <= ?1 ORDER BY until LIMIT ?2)",
      stamp(), most);
}

void Ledger::put_data(const std::string& hash, const std::string& bytes) {
  db_.run(
      "INSERT INTO data(hash, named, unused) VALUES(?1, 0, ?2) "
      "ON CONFLICT(hash) DO UPDATE SET unused = iif(named = 0, excluded.unused, NULL)",
      Blob{hash}, stamp());
  db_.run("INSERT OR REPLACE INTO data_bytes SELECT number, ?2 FROM data WHERE hash = ?1", Blob{hash}, Blob{bytes});
}

/// Those that `named` does not have yet are added to it.
void Ledger::name_data(const std::vector<std::string>& hashes, std::vector<std::string>& named) {
  for (const std::string& hash : hashes) {
    if (std::find(named.begin(), named.end(), hash) != named.end()) continue;
    db_.run(
        "INSERT INTO data(hash, named) VALUES(?1, 1) ON CONFLICT(hash) DO UPDATE SET named = named + 1, unused = NULL",
        Blob{hash});
    named.push_back(hash);
  }
}

void Ledger::release_data(const std::string& packed) {
  for (const std::string& hash : hashes(packed))
    db_.run("UPDATE data SET named = max(named - 1, 0), unused = iif(named <= 1, ?2, NULL) WHERE hash = ?1", Blob{hash},
            stamp());
}

}  // namespace caller::task::sqlite
